"""AIMv2's vision tower learns pictures of sounds, by naming their classes; what named them is thrown away.

What belongs here: its batches and its loss. What does not: probes on its vectors, which a study learns anew. (AIMv2
itself learnt to continue pictures and captions; naming ten classes takes minutes instead of weeks.)
"""

import random
from typing import Any

import numpy as np

from vlm_audio_pipeline.datasets.esc_classes import ESC10
from vlm_audio_pipeline.demo_models.architectures import build_aimv2
from vlm_audio_pipeline.demo_models.fitting import Say, fit
from vlm_audio_pipeline.demo_models.material import Material, drawing

BATCH = 48


def train_aimv2(material: Material, steps: int, seed: int, say: Say) -> tuple[Any, Any, Any]:
    """Train a new vision tower.

    Args:
        material: clips to learn from.
        steps: batches of 48 pictures.
        seed: of weights and batches.
        say: told how it goes.

    Returns:
        (Aimv2VisionModel, CLIPImageProcessor, the linear head it was trained with).
    """
    import torch
    from torch.nn import functional as F

    torch.manual_seed(seed)
    r = random.Random(seed)
    model, processor = build_aimv2()
    head = torch.nn.Linear(model.config.hidden_size, len(ESC10))
    pictures, classes = torch.from_numpy(material.pictures), torch.from_numpy(material.classes)

    def loss(step: int) -> torch.Tensor:
        chosen = torch.tensor(r.sample(range(len(pictures)), BATCH))
        seen = torch.stack([shifted(pictures[i, drawing(r)], r) for i in chosen])
        out = model(pixel_values=pixels(seen, processor)).last_hidden_state.mean(1)
        return F.cross_entropy(head(out), classes[chosen])

    fit(model, loss, steps, 2e-3, say, also=(head,))
    return model, processor, head


def shifted(picture: Any, r: random.Random) -> Any:
    """Let a clip's picture, (height, width, 3), begin at another moment; what falls off at the end comes first."""
    return picture.roll(r.randrange(picture.shape[1]), 1)


def pixels(pictures: Any, processor: Any) -> Any:
    """Give what the processor gives for pictures that have its size already: (n, 3, height, width) float32.

    Args:
        pictures: (n, height, width, 3) uint8 tensor.
        processor: an image processor; its mean and deviation are used.
    """
    import torch

    mean, deviation = (torch.tensor(v).view(3, 1, 1) for v in (processor.image_mean, processor.image_std))
    return (pictures.permute(0, 3, 1, 2).float() / 255 - mean) / deviation


def aimv2_accuracy(model: Any, processor: Any, head: Any, material: Material, rendering: int = 0) -> float:
    """Give the share of pictures named rightly by the head it was trained with.

    Args:
        model: in float32.
        processor: its processor.
        head: as `train_aimv2` gave it.
        material: clips it was not trained on.
        rendering: which of their pictures.
    """
    import torch

    with torch.no_grad():
        seen = pixels(torch.from_numpy(material.pictures[:, rendering]), processor)
        named = head(model(pixel_values=seen).last_hidden_state.mean(1)).argmax(1).numpy()
    return float(np.mean(named == material.classes))
