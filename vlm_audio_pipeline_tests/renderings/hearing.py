"""Clips to draw: synthetic ones everywhere, real ones where ESC10_DIR is set; and pictures read back."""

import io
import os
from pathlib import Path

import numpy as np
from PIL import Image

from vlm_audio_pipeline.datasets.audio import decode, resample

RATE = 22050
FOLDER = os.environ.get("ESC10_DIR")  # at import: tests take settings away


def sweep(seconds: float = 3.0, rate: int = RATE) -> np.ndarray:
    """A rising tone, a steady one, a click and noise that fades, with 0.3 s of digital silence at the end."""
    t = np.arange(round(seconds * rate)) / rate
    noise = np.random.default_rng(0).standard_normal(len(t))
    y = 0.4 * np.sin(2 * np.pi * (200 * t + 900 * t**2)) + 0.1 * np.sin(2 * np.pi * 440 * t)
    y += 0.05 * noise * np.exp(-2 * t)
    y[len(y) // 3] += 0.9
    y[-round(0.3 * rate) :] = 0
    return y.astype(np.float32)


def clips(rate: int | None = RATE, most: int = 6) -> dict[str, tuple[np.ndarray, int]]:
    """Give samples and their rate by name: the sweep, and real clips of several classes."""
    found = {"sweep": (sweep(rate=rate or 44100), rate or 44100)}
    files = sorted(Path(FOLDER).glob("*/*.ogg"))[7 :: 400 // most][:most] if FOLDER else []
    for file in files:
        samples, own, _ = decode(file)
        found[file.stem] = (resample(samples, own, rate or own), rate or own)
    return found


def rgb(picture: bytes) -> np.ndarray:
    """Read a picture as any program does: (height, width, 3) uint8."""
    return np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"))


def numbers(picture: bytes) -> np.ndarray:
    """Read the numbers of colours of a palette picture: (height, width) uint8."""
    image = Image.open(io.BytesIO(picture))
    assert image.mode == "P"
    return np.asarray(image)
