"""Windows of clips that are longer than what a model takes at once."""

from collections.abc import Callable, Sequence

import numpy as np


def windows(samples: int, length: int) -> list[tuple[int, int]]:
    """Return consecutive windows of a clip, the last window aligned to its end: (start, stop) in samples.

    >>> windows(25, 10)
    [(0, 10), (10, 20), (15, 25)]
    >>> windows(7, 10)
    [(0, 7)]
    """
    starts = [*range(0, samples - length, length), max(samples - length, 0)]
    return [(start, min(start + length, samples)) for start in starts]


def window_vectors(
    embed: Callable[[list[np.ndarray]], Sequence[np.ndarray] | np.ndarray],
    clips: Sequence[np.ndarray],
    length: int,
    batch_size: int,
    min_length: int = 1,
) -> list[np.ndarray]:
    """Return the vectors of the windows of each clip.

    Args:
        embed: windows -> vectors, each (dimensions,); called with at most `batch_size` windows.
        clips: each (samples,) float32.
        length: samples of a window.
        batch_size: windows per call.
        min_length: a shorter window is padded with zeros to this many samples.

    Returns:
        For each clip (windows, dimensions) float64.
    """
    bounds = [windows(len(clip), length) for clip in clips]
    pieces = [clip[a:b] for clip, clip_bounds in zip(clips, bounds, strict=True) for a, b in clip_bounds]
    vectors: list[np.ndarray] = []
    for start in range(0, len(pieces), batch_size):
        batch = [pad(piece, min_length) for piece in pieces[start : start + batch_size]]
        vectors += [np.asarray(v, np.float64) for v in embed(batch)]
    ends = np.cumsum([len(clip_bounds) for clip_bounds in bounds])
    return [np.stack(vectors[end - len(clip_bounds) : end]) for end, clip_bounds in zip(ends, bounds, strict=True)]


def pad(samples: np.ndarray, min_length: int) -> np.ndarray:
    """Pad (samples,) with zeros at the end to a minimum length; longer audio is returned as it is, without a copy."""
    return samples if len(samples) >= min_length else np.pad(samples, (0, min_length - len(samples)))
