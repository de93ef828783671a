"""Which cell of a time-frequency array lies under which pixel.

What belongs here: frequencies and times of cells, scales of axes, and the arithmetic from cells to pixels. What does
not: the values of cells (`spectra`) and what is drawn around them (`frame`).

The conventions are those of `librosa.display.specshow`, that is of matplotlib's `pcolormesh(shading="auto")`: a cell
reaches halfway to its neighbours in Hz and s, the outermost as far beyond, the axes end with them, and a pixel shows the
cell under its centre. https://librosa.org/doc/0.11.0/generated/librosa.display.specshow.html
"""

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Scale:
    """An axis: how values are spread over it, and where it ends.

    Attributes:
        name: "linear", "log", or "symlog": linear up to `threshold`, logarithmic above.
        low: value at its lower or left end, Hz or s.
        high: value at its other end.
        threshold: end of the linear stretch of symlog, Hz.
        stretch: length of the linear stretch from 0 to `threshold`, in octaves.
        whole: numbers on the axis are whole (coefficients).
    """

    name: str
    low: float
    high: float
    threshold: float = 1.0
    stretch: float = 1.0
    whole: bool = False

    def matplotlib(self) -> dict[str, Any]:
        """Give the arguments of `Axes.set_yscale`."""
        if self.name == "linear":
            return {"value": "linear"}
        if self.name == "log":
            return {"value": "log", "base": 2}
        return {"value": "symlog", "base": 2, "linthresh": self.threshold, "linscale": self.stretch}

    def position(self, values: np.ndarray) -> np.ndarray:
        """Give the places of values along the axis: 0 at `low`, 1 at `high`.

        symlog is matplotlib's SymmetricalLogTransform with base 2, for values of 0 or more.

        Args:
            values: (n,) float, Hz or s.

        Returns:
            (n,) float64.
        """
        low, *places, high = self._spread(np.array([self.low, *values, self.high], np.float64))
        return (np.array(places) - low) / (high - low)

    def _spread(self, values: np.ndarray) -> np.ndarray:
        if self.name == "linear":
            return values
        if self.name == "log":
            return np.log2(np.maximum(values, 1e-12))
        stretch = self.stretch / (1 - 1 / 2)  # as matplotlib counts it: linscale / (1 - 1 / base)
        above = stretch + np.log2(np.maximum(values, self.threshold) / self.threshold)
        return self.threshold * np.where(values <= self.threshold, stretch * values / self.threshold, above)


def frequency_scale(kind: str, low: float, high: float, octaves_only: bool = False) -> Scale:
    """Give the frequency axis that `librosa.display.specshow` draws.

    Args:
        kind: "linear", "log" or "mel" (as `y_axis`).
        low: lowest frequency shown, Hz.
        high: highest, Hz.
        octaves_only: without a linear stretch at the bottom, as for `y_axis="cqt_hz"`.
    """
    if kind == "log":
        return Scale("log", low, high) if octaves_only else Scale("symlog", low, high, 65.40639132514966, 0.5)
    return Scale("symlog", low, high, 1000.0, 1.0) if kind == "mel" else Scale("linear", low, high)


def edges(centres: np.ndarray, single: float = 1.0) -> np.ndarray:
    """Give the n + 1 edges of n cells: halfway between centres, and as far beyond the outermost.

    Args:
        centres: (n,) float, ascending.
        single: width of a cell that has no neighbours.

    Returns:
        (n + 1,) float64.
    """
    if len(centres) == 1:
        return np.array([centres[0] - single / 2, centres[0] + single / 2])
    middle = (centres[1:] + centres[:-1]) / 2
    return np.concatenate([[2 * centres[0] - middle[0]], middle, [2 * centres[-1] - middle[-1]]])


def nearest(places: np.ndarray, pixels: int) -> np.ndarray:
    """Give the cell under the centre of each pixel; where an edge meets a centre, the cell below the edge, as Agg rounds.

    Args:
        places: (n + 1,) edges of cells, pixels, ascending.
        pixels: length of the axis.

    Returns:
        (pixels,) int64, the number of a cell, from the low end.
    """
    found = np.searchsorted(places + 1e-6, np.arange(pixels) + 0.5) - 1
    return np.clip(found, 0, len(places) - 2)


def between(places: np.ndarray, pixels: int) -> tuple[np.ndarray, np.ndarray]:
    """Give, for linear interpolation between the centres of cells, the lower cell and the share of the one above.

    Returns:
        (pixels,) int64 and (pixels,) float32 of 0 to 1; beyond the outermost centres the outermost cell alone.
    """
    n = len(places) - 1
    middles = (places[1:] + places[:-1]) / 2
    at = np.interp(np.arange(pixels) + 0.5, middles, np.arange(n))
    lower = np.minimum(at.astype(np.int64), max(0, n - 2))
    return lower, (at - lower).astype(np.float32)


def shares(places: np.ndarray, pixels: int) -> Any:
    """Give, for the mean over each pixel, the share every cell has of it.

    Returns:
        (pixels, cells) sparse float32 array of scipy, rows summing to 1; within a single cell that cell alone.
    """
    from scipy.sparse import csr_array

    left = np.arange(pixels)
    inner = np.clip(places, 0, pixels)
    inner[0], inner[-1] = 0, pixels
    first = np.clip(np.searchsorted(inner, left, side="right") - 1, 0, len(inner) - 2)
    last = np.clip(np.searchsorted(inner, left + 1, side="left") - 1, first, len(inner) - 2)
    counts = last - first + 1
    row = np.repeat(left, counts)
    cell = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + np.repeat(first, counts)
    overlap = np.minimum(inner[cell + 1], row + 1) - np.maximum(inner[cell], row)
    overlap = np.maximum(overlap, 0)
    weights = overlap / np.bincount(row, overlap, minlength=pixels)[row]
    return csr_array((weights.astype(np.float32), (row, cell)), shape=(pixels, len(places) - 1))
