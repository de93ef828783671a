"""A clip as a time-frequency array with its axes."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from vlm_audio_pipeline.renderings.axes import cell_edges


@dataclass(frozen=True)
class Spectrum:
    """A clip in time and frequency.

    Attributes:
        cells: (rows, frames) float32, lowest row first: power (1 = full scale, squared), or coefficients.
        row_centers: (rows,) float64: frequencies, Hz, or numbers of coefficients.
        frame_centers_s: (frames,) float64, s.
        hop_s: from one frame to the next, s.
        floor: power that counts as silence; None where the cells are not power.
        row_limits: lower and upper end of the row axis where they are not the edges of the outermost rows.
    """

    cells: np.ndarray
    row_centers: np.ndarray
    frame_centers_s: np.ndarray
    hop_s: float
    floor: float | None
    row_limits: tuple[float | None, float | None] = (None, None)

    @cached_property
    def row_edges(self) -> np.ndarray:
        """Edges of the rows, (rows + 1,) float64, Hz or numbers of coefficients."""
        return cell_edges(self.row_centers)

    @cached_property
    def frame_edges_s(self) -> np.ndarray:
        """Edges of the frames, (frames + 1,) float64, s."""
        return cell_edges(self.frame_centers_s, self.hop_s)
