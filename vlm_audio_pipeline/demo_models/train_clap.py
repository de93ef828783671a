"""CLAP learns to put a sound beside the sentences that name it.

What belongs here: its batches, its loss, and how it is held against clips it never heard. What does not: the classes'
names and sentences (`material`). Clips of one class in a batch are no negatives of each other: each is drawn towards
the sentences of all of them (targets as in P. Khosla et al., Supervised contrastive learning,
https://arxiv.org/abs/2004.11362).
"""

import random
from typing import Any

import numpy as np

from vlm_audio_pipeline.datasets.esc_classes import ESC10
from vlm_audio_pipeline.demo_models.architectures import build_clap
from vlm_audio_pipeline.demo_models.fitting import Say, fit
from vlm_audio_pipeline.demo_models.material import TEMPLATES, Material, names, sentences

BATCH = 48


def train_clap(material: Material, steps: int, seed: int, say: Say) -> tuple[Any, Any]:
    """Train a new CLAP.

    Args:
        material: clips to learn from.
        steps: batches of 48 clips.
        seed: of weights and batches.
        say: told how it goes.

    Returns:
        (ClapModel, ClapProcessor).
    """
    import torch
    from torch.nn import functional as F

    torch.manual_seed(seed)
    r = random.Random(seed)
    model, processor = build_clap(sentences())
    mels, classes = torch.from_numpy(material.mels), torch.from_numpy(material.classes)
    frames = mels.shape[2]

    def sentence(label: str) -> str:
        raw, human, description = names(label)
        return description if r.random() < 0.15 else r.choice(TEMPLATES).format(r.choice((raw, human)))

    def loss(step: int) -> torch.Tensor:
        chosen = torch.tensor(r.sample(range(len(mels)), BATCH))
        heard = torch.stack([torch.roll(mels[i], r.randrange(frames), 1) for i in chosen])
        heard = heard + 3 * torch.randn(BATCH, 1, 1, 1)  # dB: the level tells nothing
        texts = processor.tokenizer([sentence(ESC10[c]) for c in classes[chosen]], padding=True, return_tensors="pt")
        out = model(input_features=heard, is_longer=torch.zeros(BATCH, 1, dtype=torch.bool), **texts)
        same = (classes[chosen][:, None] == classes[chosen][None]).float()
        same /= same.sum(1, keepdim=True)
        return (F.cross_entropy(out.logits_per_audio, same) + F.cross_entropy(out.logits_per_text, same)) / 2

    fit(model, loss, steps, 1.5e-3, say)
    return model, processor


def clap_accuracy(model: Any, processor: Any, material: Material, form: int = 0) -> float:
    """Give the share of clips whose class's sentence is the nearest.

    Args:
        model: in float32.
        processor: its processor.
        material: clips it was not trained on.
        form: which of `names` the classes are called by; 2 are descriptions, read as they are.
    """
    import torch

    called = [names(label)[form] for label in ESC10]
    asked = called if form == 2 else [TEMPLATES[0].format(name) for name in called]
    with torch.no_grad():
        texts = processor.tokenizer(asked, padding=True, return_tensors="pt")
        read = torch.nn.functional.normalize(model.get_text_features(**texts).pooler_output, dim=-1)
        right = 0
        for at in range(0, len(material.mels), 50):
            mels = torch.from_numpy(material.mels[at : at + 50])
            longer = torch.zeros(len(mels), 1, dtype=torch.bool)
            heard = model.get_audio_features(input_features=mels, is_longer=longer).pooler_output
            right += int(np.sum((heard @ read.T).argmax(1).numpy() == material.classes[at : at + 50]))
    return right / len(material.mels)
