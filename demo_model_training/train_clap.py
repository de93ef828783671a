"""Train CLAP to embed a sound close to the sentences that name it.

Belongs here: its batches, its loss and its accuracy. Does not belong here: names and sentences (`material`). Clips of
the same class are not negatives of each other: the targets of a clip are the sentences of all clips of its class
(P. Khosla et al., Supervised contrastive learning, https://arxiv.org/abs/2004.11362).
"""

import random
from typing import Any

import numpy as np

from demo_model_training.architectures import build_clap
from demo_model_training.fitting import Log, fit
from demo_model_training.material import TEMPLATES, Material, label_forms, sentences
from vlm_audio_pipeline.datasets.esc_classes import ESC10

BATCH = 48


def train_clap(material: Material, steps: int, seed: int, log: Log) -> tuple[Any, Any]:
    """Train a new CLAP.

    Args:
        material: training clips.
        steps: batches of 48 clips.
        seed: of weights and batches.
        log: called with the progress.

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

    def choose_sentence(label: str) -> str:
        raw, readable, description = label_forms(label)
        return description if r.random() < 0.15 else r.choice(TEMPLATES).format(r.choice((raw, readable)))

    def loss(_step: int) -> torch.Tensor:
        indices = torch.tensor(r.sample(range(len(mels)), BATCH))
        audio = torch.stack([torch.roll(mels[i], r.randrange(frames), 1) for i in indices])
        audio = audio + 3 * torch.randn(BATCH, 1, 1, 1)  # dB; the level must not reveal the class
        texts = [choose_sentence(ESC10[c]) for c in classes[indices]]
        tokens = processor.tokenizer(texts, padding=True, return_tensors="pt")
        out = model(input_features=audio, is_longer=torch.zeros(BATCH, 1, dtype=torch.bool), **tokens)
        targets = (classes[indices][:, None] == classes[indices][None]).float()
        targets /= targets.sum(1, keepdim=True)
        return (F.cross_entropy(out.logits_per_audio, targets) + F.cross_entropy(out.logits_per_text, targets)) / 2

    fit(model, loss, steps, 1.5e-3, log)
    return model, processor


def clap_accuracy(model: Any, processor: Any, material: Material, form: int = 0) -> float:
    """Return the share of clips whose nearest sentence is that of their class.

    Args:
        model: in float32.
        processor: its processor.
        material: clips that were not in the training.
        form: index into `names`; 2 is the description, which is used without a template.
    """
    import torch

    class_names = [label_forms(label)[form] for label in ESC10]
    texts = class_names if form == 2 else [TEMPLATES[0].format(name) for name in class_names]
    with torch.no_grad():
        tokens = processor.tokenizer(texts, padding=True, return_tensors="pt")
        text_vectors = torch.nn.functional.normalize(model.get_text_features(**tokens).pooler_output, dim=-1)
        correct = 0
        for start in range(0, len(material.mels), 50):
            mels = torch.from_numpy(material.mels[start : start + 50])
            is_longer = torch.zeros(len(mels), 1, dtype=torch.bool)
            vectors = model.get_audio_features(input_features=mels, is_longer=is_longer).pooler_output
            predicted = (vectors @ text_vectors.T).argmax(1).numpy()
            correct += int(np.sum(predicted == material.classes[start : start + 50]))
    return correct / len(material.mels)
