"""Clips to render: synthetic clips, and real clips if ESC10_DIR is set. Decoders of rendered images."""

import io
import os
from pathlib import Path

import numpy as np
from PIL import Image

from vlm_audio_pipeline.datasets.audio import decode, resample

RATE = 22050
FOLDER = os.environ.get("ESC10_DIR")  # at import, because tests run without the user's environment


def sweep(seconds: float = 3.0, rate: int = RATE) -> np.ndarray:
    """Return a rising tone, a constant tone, a click and decaying noise, with 0.3 s of digital silence at the end."""
    t = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(0).standard_normal(len(t))
    y = 0.4 * np.sin(2 * np.pi * (200 * t + 900 * t**2)) + 0.1 * np.sin(2 * np.pi * 440 * t)
    y += 0.05 * noise * np.exp(-2 * t)
    y[len(y) // 3] += 0.9
    y[-round(0.3 * rate) :] = 0
    return y.astype(np.float32)


def clips(rate: int | None = RATE, max_real: int = 6) -> dict[str, tuple[np.ndarray, int]]:
    """Return samples and sample rate by name: the sweep, and real clips of several classes."""
    samples_by_name = {"sweep": (sweep(rate=rate or 44100), rate or 44100)}
    files = sorted(Path(FOLDER).glob("*/*.ogg"))[7 :: 400 // max_real][:max_real] if FOLDER else []
    for file in files:
        samples, own, _ = decode(file)
        samples_by_name[file.stem] = (resample(samples, own, rate or own), rate or own)
    return samples_by_name


def read_rgb(image: bytes) -> np.ndarray:
    """Decode an image with Pillow: (height, width, 3) uint8."""
    return np.asarray(Image.open(io.BytesIO(image)).convert("RGB"))


def read_indices(image: bytes) -> np.ndarray:
    """Decode the palette indices of a palette image: (height, width) uint8."""
    image = Image.open(io.BytesIO(image))
    assert image.mode == "P"
    return np.asarray(image)
