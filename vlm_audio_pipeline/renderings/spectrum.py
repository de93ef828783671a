"""A clip as a time-frequency array with its axes."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from vlm_audio_pipeline.renderings.axes import cell_edges


@dataclass(frozen=True)
class Spectrum:
    """A clip in time and frequency.

    Attributes:
        cells: (rows, columns) float32, lowest row first: power (1 = full scale, squared), or coefficients.
        row_centers: (rows,) float64: frequencies, Hz, or numbers of coefficients.
        column_centers_s: (columns,) float64, s. A column is one frame of the transform; `frame` elsewhere is what surrounds the data.
        hop_s: time from one column to the next, s.
        floor: power that counts as silence; None if the cells are not power.
        row_limits: lower and upper end of the row axis; None: the edge of the outermost row.
    """

    cells: np.ndarray
    row_centers: np.ndarray
    column_centers_s: np.ndarray
    hop_s: float
    floor: float | None
    row_limits: tuple[float | None, float | None] = (None, None)

    @property
    def visible_cells(self) -> np.ndarray:
        """The rows of `cells` that the row axis shows a part of; at least one."""
        low, high = (
            end if limit is None else limit for end, limit in zip((-np.inf, np.inf), self.row_limits, strict=True)
        )
        first = min(int(np.searchsorted(self.row_edges, low, side="right")) - 1, len(self.cells) - 1)
        last = int(np.searchsorted(self.row_edges, high, side="left"))
        return self.cells[max(0, first) : max(last, first + 1)]

    @cached_property
    def row_edges(self) -> np.ndarray:
        """Edges of the rows, (rows + 1,) float64, Hz or numbers of coefficients."""
        return cell_edges(self.row_centers)

    @cached_property
    def column_edges_s(self) -> np.ndarray:
        """Edges of the columns, (columns + 1,) float64, s."""
        return cell_edges(self.column_centers_s, self.hop_s)
