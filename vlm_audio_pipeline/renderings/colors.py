"""From the cells of a spectrum to the values that colours stand for.

Belongs here: amplitude scales and the limits of the colours. Does not belong here: the cells (`transforms`) and the
colours of pixels (`image`).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vlm_audio_pipeline.renderings.spectrum import Spectrum
from vlm_audio_pipeline.renderings.time_frequency import power_to_db
from vlm_audio_pipeline.renderings.transforms import TRANSFORMS

if TYPE_CHECKING:
    from vlm_audio_pipeline.renderings.recipe import Recipe

_AMPLITUDE_LABELS = {"db": "Level (dB)", "linear": "Amplitude", "power": "Power"}


@dataclass(frozen=True)
class ColorLimits:
    """The values at the two ends of the colours.

    Attributes:
        low: value of the lowest colour: dB, a share of the reference, or a coefficient.
        high: value of the highest colour.
        reference: power that is 0 dB, or 1.
        is_silent: no cell is above the floor; everything has the lowest colour.
    """

    low: float
    high: float
    reference: float = 1.0
    is_silent: bool = False


def color_limits(spectrum: Spectrum, recipe: "Recipe") -> ColorLimits:
    """Return the limits of the colours for a clip.

    Decibels reach from `range_db` below the reference up to it. Without a range, and for coefficients, the limits are
    the clip's smallest (above silence) and largest value, rounded outward to whole tens, so that clips share frames.
    """
    cells = spectrum.cells
    if spectrum.floor is None:
        return ColorLimits(*_round_to_tens(float(cells.min()), float(cells.max())))
    maximum = float(cells.max())
    is_silent = maximum <= spectrum.floor
    reference = max(maximum, spectrum.floor) if recipe.reference == "max" else float(recipe.reference)
    if recipe.amplitude != "db":
        return ColorLimits(0.0, 1.0, reference, is_silent)
    if recipe.range_db is not None:
        return ColorLimits(-recipe.range_db, 0.0, reference, is_silent)
    minimum = spectrum.floor if is_silent else float(cells.min(where=cells > spectrum.floor, initial=np.inf))
    ends_db = 10 * np.log10(np.array([minimum, max(maximum, spectrum.floor)]) / reference)
    return ColorLimits(*_round_to_tens(*ends_db.tolist()), reference, is_silent)


def has_clip_specific_limits(recipe: "Recipe") -> bool:
    """Return whether the limits depend on the clip, so that every clip has its own numbers at the colorbar."""
    return not TRANSFORMS[recipe.transform].is_power or (recipe.amplitude == "db" and recipe.range_db is None)


def color_label(recipe: "Recipe") -> str:
    """Return what the colours stand for, with the unit: the label of the colorbar."""
    return _AMPLITUDE_LABELS[recipe.amplitude] if TRANSFORMS[recipe.transform].is_power else "Value"


def color_values(cells: np.ndarray, floor: float | None, limits: ColorLimits, amplitude: str) -> np.ndarray:
    """Convert cells to dB relative to the reference, a share of it, or the square root of that share.

    Args:
        cells: float32 of any shape, from `Spectrum.cells`.
        floor: `Spectrum.floor`; None: the cells are returned as they are.
        limits: from `color_limits`.
        amplitude: "db", "linear" or "power".

    Returns:
        float32, the shape of `cells`.
    """
    if floor is None:
        return cells
    if amplitude == "db":
        return power_to_db(cells, limits.reference, floor, None)
    share = cells / np.float32(limits.reference)
    return np.sqrt(share) if amplitude == "linear" else share


def _round_to_tens(low: float, high: float) -> tuple[float, float]:
    """Round limits outward to whole tens, at least ten apart."""
    down, up = 10.0 * np.floor(low / 10), 10.0 * np.ceil(high / 10)
    return float(down), float(max(up, down + 10))
