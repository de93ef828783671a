"""The waveform of a clip as pixels: in each column, the range of its samples.

Belongs here: the smallest and the largest sample of each column, and the pixels between them. Does not belong here: where the
waveform lies in an image (`layout`, `transforms`).
"""

import numpy as np

from vlm_audio_pipeline.renderings.axes import covered_cells, reduce_ranges


def envelope(samples: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Return the smallest and the largest sample of each column, as shares of the peak of the clip.

    Neighbouring columns share a sample, so that the line has no gaps. Silence is 0, and so is what lies outside of the clip.

    Args:
        samples: (samples,) float32 mono, at least one.
        edges: (columns + 1,) float, edges of the columns, samples, ascending.

    Returns:
        (2, columns) float32, -1 to 1.
    """
    last_sample = len(samples) - 1
    first = np.clip(np.floor(edges[:-1]), 0, last_sample).astype(np.int64)
    last = np.clip(np.ceil(edges[1:]), first, last_sample).astype(np.int64)
    ranges = [reduce_ranges(samples[None], first, last, function)[0] for function in (np.minimum, np.maximum)]
    peak = float(np.abs(samples).max()) or 1.0
    is_outside = (edges[1:] <= 0) | (edges[:-1] > last_sample)
    return np.where(is_outside, np.float32(0), np.stack(ranges) / np.float32(peak)).astype(np.float32)


def split_columns(edges: np.ndarray, parts: int) -> np.ndarray:
    """Return the edges of columns that are each split into equal parts, (columns * parts + 1,) float64."""
    positions = np.arange((len(edges) - 1) * parts + 1) / parts
    split: np.ndarray = np.interp(positions, np.arange(len(edges)), edges)
    return split


def fill_waveform(limits: np.ndarray, edges: np.ndarray, width: int, height: int) -> np.ndarray:
    """Return the pixels of a waveform.

    Args:
        limits: (2, columns) float32, from `envelope`.
        edges: (columns + 1,) float, edges of the columns, pixels, ascending.
        width: number of pixel columns.
        height: number of pixel lines; the amplitude is 1 at the top and -1 at the bottom.

    Returns:
        (height, width) bool, True between the smallest and the largest sample, at least one pixel per column.
    """
    first, last = covered_cells(edges, width)
    low = reduce_ranges(limits[:1], first, last, np.minimum)[0]
    high = reduce_ranges(limits[1:], first, last, np.maximum)[0]
    top = np.clip(np.floor((1 - high) / 2 * height), 0, height - 1)
    bottom = np.maximum(np.ceil((1 - low) / 2 * height), top + 1)
    lines = np.arange(height)[:, None]
    filled: np.ndarray = (lines >= top) & (lines < bottom)
    return filled
