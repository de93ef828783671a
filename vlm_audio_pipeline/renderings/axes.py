"""Map the cells of a time-frequency array to pixels.

Belongs here: scales of axes, and the arithmetic from cells to pixels. Does not belong here: the values of the cells
(`transforms`) and the frame (`frame`).

The conventions are those of `librosa.display.specshow`, that is of matplotlib's `pcolormesh(shading="auto")`: a cell
reaches halfway to its neighbours in Hz and s, the outermost cells are symmetric about their centres, the axes end at the
outermost edges, and a pixel shows the cell under its centre.
https://librosa.org/doc/0.11.0/generated/librosa.display.specshow.html
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
        threshold: end of the linear part of symlog, Hz.
        linear_octaves: length of the linear part from 0 to `threshold`, in octaves.
        is_integer: the axis has whole numbers only (coefficients).
    """

    name: str
    low: float
    high: float
    threshold: float = 1.0
    linear_octaves: float = 1.0
    is_integer: bool = False

    def matplotlib_arguments(self) -> dict[str, Any]:
        """Return the arguments of `Axes.set_yscale`."""
        if self.name == "linear":
            return {"value": "linear"}
        if self.name == "log":
            return {"value": "log", "base": 2}
        return {"value": "symlog", "base": 2, "linthresh": self.threshold, "linscale": self.linear_octaves}

    def positions(self, values: np.ndarray) -> np.ndarray:
        """Return the positions of values along the axis: 0 at `low`, 1 at `high`.

        symlog is matplotlib's SymmetricalLogTransform with base 2, for values of 0 or more.

        Args:
            values: (n,) float, Hz or s.

        Returns:
            (n,) float64.
        """
        low, *positions, high = self._transform(np.array([self.low, *values, self.high], np.float64))
        shares: np.ndarray = (np.array(positions) - low) / (high - low)
        return shares

    def _transform(self, values: np.ndarray) -> np.ndarray:
        if self.name == "linear":
            return values
        if self.name == "log":
            octaves: np.ndarray = np.log2(np.maximum(values, 1e-12))
            return octaves
        linear = self.linear_octaves / (1 - 1 / 2)  # matplotlib's definition: linscale / (1 - 1 / base)
        above = linear + np.log2(np.maximum(values, self.threshold) / self.threshold)
        return self.threshold * np.where(values <= self.threshold, linear * values / self.threshold, above)


def frequency_scale(kind: str, low: float, high: float, octaves_only: bool = False) -> Scale:
    """Return the frequency axis of `librosa.display.specshow`.

    Args:
        kind: "linear", "log" or "mel" (as `y_axis`).
        low: lowest frequency of the axis, Hz.
        high: highest, Hz.
        octaves_only: logarithmic down to `low`, without a linear part, as for `y_axis="cqt_hz"`.
    """
    if kind == "log":
        return Scale("log", low, high) if octaves_only else Scale("symlog", low, high, 65.40639132514966, 0.5)
    return Scale("symlog", low, high, 1000.0, 1.0) if kind == "mel" else Scale("linear", low, high)


def cell_edges(centers: np.ndarray, single_width: float = 1.0) -> np.ndarray:
    """Return the n + 1 edges of n cells: halfway between the centres; the outermost cells are symmetric.

    Args:
        centers: (n,) float, ascending.
        single_width: width of a cell without neighbours.

    Returns:
        (n + 1,) float64.
    """
    if len(centers) == 1:
        return np.array([centers[0] - single_width / 2, centers[0] + single_width / 2])
    middle = (centers[1:] + centers[:-1]) / 2
    return np.concatenate([[2 * centers[0] - middle[0]], middle, [2 * centers[-1] - middle[-1]]])


def nearest_cells(edges: np.ndarray, n_pixels: int) -> np.ndarray:
    """Return the cell under the centre of each pixel.

    If an edge lies on the centre of a pixel, the lower cell is used, as in the rounding of Agg.

    Args:
        edges: (n + 1,) edges of cells, pixels, ascending.
        n_pixels: length of the axis.

    Returns:
        (pixels,) int64, the index of a cell, counted from the low end.
    """
    cells = np.searchsorted(edges + 1e-6, np.arange(n_pixels) + 0.5) - 1
    return np.clip(cells, 0, len(edges) - 2)


def interpolation_weights(edges: np.ndarray, n_pixels: int) -> tuple[np.ndarray, np.ndarray]:
    """Return, for linear interpolation between cell centres, the lower cell and the weight of the cell above it.

    Args:
        edges: (n + 1,) edges of cells, pixels, ascending.
        n_pixels: length of the axis.

    Returns:
        (pixels,) int64 and (pixels,) float32 of 0 to 1; beyond the outermost centres only the outermost cell counts.
    """
    n = len(edges) - 1
    centers = (edges[1:] + edges[:-1]) / 2
    position = np.interp(np.arange(n_pixels) + 0.5, centers, np.arange(n))
    lower = np.minimum(position.astype(np.int64), max(0, n - 2))
    return lower, (position - lower).astype(np.float32)


def covered_cells(edges: np.ndarray, n_pixels: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the first and the last cell that each pixel shows a part of.

    Args:
        edges: (n + 1,) edges of cells, pixels, ascending.
        n_pixels: length of the axis.

    Returns:
        Two (pixels,) int64 arrays of indices; the last one is included.
    """
    left = np.arange(n_pixels)
    inner = np.clip(edges, 0, n_pixels)
    inner[0], inner[-1] = 0, n_pixels
    first = np.clip(np.searchsorted(inner, left, side="right") - 1, 0, len(inner) - 2)
    last = np.clip(np.searchsorted(inner, left + 1, side="left") - 1, first, len(inner) - 2)
    return first, last


def reduce_ranges(values: np.ndarray, first: np.ndarray, last: np.ndarray, function: np.ufunc) -> np.ndarray:
    """Reduce ranges of cells, which may overlap, to one value each.

    Args:
        values: (lines, cells) float.
        first: (ranges,) int64, the first cell of each range.
        last: (ranges,) int64, its last cell, included.
        function: `numpy.maximum` or `numpy.minimum`.

    Returns:
        (lines, ranges), the type of `values`.
    """
    padded = np.concatenate([values, values[:, -1:]], axis=1)  # so that the end of a range may be the number of cells
    reduced: np.ndarray = function.reduceat(padded, np.stack([first, last + 1], axis=1).ravel(), axis=1)
    return reduced[:, ::2]


def area_weights(edges: np.ndarray, n_pixels: int) -> Any:
    """Return, for the mean over each pixel, the share of the pixel that each cell covers.

    Args:
        edges: (n + 1,) edges of cells, pixels, ascending.
        n_pixels: length of the axis.

    Returns:
        (pixels, cells) sparse float32 array of scipy whose rows sum to 1.
    """
    from scipy.sparse import csr_array

    left = np.arange(n_pixels)
    inner = np.clip(edges, 0, n_pixels)
    inner[0], inner[-1] = 0, n_pixels
    first, last = covered_cells(edges, n_pixels)
    counts = last - first + 1
    row = np.repeat(left, counts)
    cell = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + np.repeat(first, counts)
    overlap = np.minimum(inner[cell + 1], row + 1) - np.maximum(inner[cell], row)
    overlap = np.maximum(overlap, 0)
    weights = overlap / np.bincount(row, overlap, minlength=n_pixels)[row]
    return csr_array((weights.astype(np.float32), (row, cell)), shape=(n_pixels, len(edges) - 1))
