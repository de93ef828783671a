"""Train AIMv2's vision tower on images of sounds, by classifying them with a linear head that is not saved.

Belongs here: its batches and its loss. (AIMv2 itself was trained to continue images and captions, which takes
weeks; learning ten classes takes minutes.)
"""

import random
from typing import Any

import numpy as np

from demo_model_training.architectures import build_aimv2
from demo_model_training.fitting import Log, fit
from demo_model_training.material import Material, choose_rendering
from vlm_audio_pipeline.datasets.esc_classes import ESC10

BATCH = 48


def train_aimv2(material: Material, steps: int, seed: int, log: Log) -> tuple[Any, Any, Any]:
    """Train a new vision tower.

    Args:
        material: training clips.
        steps: batches of 48 images.
        seed: of weights and batches.
        log: called with the progress.

    Returns:
        (Aimv2VisionModel, CLIPImageProcessor, the linear head that it was trained with).
    """
    import torch
    from torch.nn import functional as F

    torch.manual_seed(seed)
    r = random.Random(seed)
    model, processor = build_aimv2()
    head = torch.nn.Linear(model.config.hidden_size, len(ESC10))
    images, classes = torch.from_numpy(material.images), torch.from_numpy(material.classes)

    def loss(_step: int) -> torch.Tensor:
        indices = torch.tensor(r.sample(range(len(images)), BATCH))
        batch = torch.stack([shift_in_time(images[i, choose_rendering(r)], r) for i in indices])
        vectors = model(pixel_values=normalise(batch, processor)).last_hidden_state.mean(1)
        return F.cross_entropy(head(vectors), classes[indices])

    fit(model, loss, steps, 2e-3, log, heads=(head,))
    return model, processor, head


def shift_in_time(image: Any, r: random.Random) -> Any:
    """Shift an image, (height, width, 3), by a random number of columns; columns beyond one edge reappear at the other."""
    return image.roll(r.randrange(image.shape[1]), 1)


def normalise(images: Any, processor: Any) -> Any:
    """Return the processor's output for images that already have its size: (n, 3, height, width) float32.

    Args:
        images: (n, height, width, 3) uint8 tensor.
        processor: an image processor; its mean and standard deviation are used.
    """
    import torch

    mean, deviation = (torch.tensor(v).view(3, 1, 1) for v in (processor.image_mean, processor.image_std))
    return (images.permute(0, 3, 1, 2).float() / 255 - mean) / deviation


def aimv2_accuracy(model: Any, processor: Any, head: Any, material: Material, rendering: int = 0) -> float:
    """Return the share of images that the linear head of the training classifies correctly.

    Args:
        model: in float32.
        processor: its processor.
        head: from `train_aimv2`.
        material: clips that were not in the training.
        rendering: index of the rendering.
    """
    import torch

    with torch.no_grad():
        images = normalise(torch.from_numpy(material.images[:, rendering]), processor)
        predicted = head(model(pixel_values=images).last_hidden_state.mean(1)).argmax(1).numpy()
    return float(np.mean(predicted == material.classes))
