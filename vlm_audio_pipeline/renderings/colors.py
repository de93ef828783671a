"""Convert the cells of a spectrum to the values that colours represent.

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
    """The values of the lowest and the highest colour.

    Attributes:
        low: value of the lowest colour: dB, a share of the reference, or a coefficient.
        high: value of the highest colour.
        reference: power that corresponds to 0 dB, or to 1 on a linear scale.
        is_silent: no cell is above the floor.
        is_blank: the data are left out: everything has the lowest colour.
    """

    low: float
    high: float
    reference: float = 1.0
    is_silent: bool = False
    is_blank: bool = False


def color_limits(spectrum: Spectrum, recipe: "Recipe") -> ColorLimits:
    """Return the limits of the colours for a clip.

    For decibels, the limits are the reference and `range_db` below it. Without a range, and for coefficients, they are the
    clip's smallest value above silence and its largest value; with `round_limits` they are rounded outward to whole tens, so
    that clips share the frame around the data.
    """
    cells = spectrum.visible_cells if recipe.reference == "visible_max" else spectrum.cells
    if (fixed := TRANSFORMS[recipe.transform].limits) is not None:
        return ColorLimits(*fixed)
    if spectrum.floor is None:
        ends_of_cells = float(cells.min()), float(cells.max())
        return ColorLimits(*(_round_to_tens(*ends_of_cells) if recipe.round_limits else ends_of_cells))
    maximum = float(cells.max())
    is_silent = maximum <= spectrum.floor
    reference = max(maximum, spectrum.floor) if isinstance(recipe.reference, str) else float(recipe.reference)
    if recipe.amplitude != "db":
        return ColorLimits(0.0, 1.0, reference, is_silent)
    if recipe.range_db is not None:
        return ColorLimits(-recipe.range_db, 0.0, reference, is_silent)
    minimum = spectrum.floor if is_silent else float(cells.min(where=cells > spectrum.floor, initial=np.inf))
    ends = np.array([minimum, max(maximum, spectrum.floor)])
    if is_silent and not recipe.round_limits:
        return ColorLimits(-0.1, 0.1, reference, is_silent)  # those of matplotlib if no value is finite
    if not recipe.round_limits:
        low, high = exact_decibels(ends.astype(np.float32), spectrum.floor, reference).tolist()
        return ColorLimits(low, high, reference, is_silent)
    return ColorLimits(*_round_to_tens(*(10 * np.log10(ends / reference)).tolist()), reference, is_silent)


def has_clip_specific_limits(recipe: "Recipe") -> bool:
    """Return whether the limits depend on the clip, so that the numbers at the colorbar differ between clips."""
    transform = TRANSFORMS[recipe.transform]
    if transform.limits is not None:
        return False
    return not transform.is_power or (recipe.amplitude == "db" and recipe.range_db is None)


def color_label(recipe: "Recipe") -> str:
    """Return the label of the colorbar: that of the frame, or the quantity that the colours represent, with its unit."""
    if recipe.frame != "none" and recipe.frame.color_label is not None:
        return recipe.frame.color_label
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


def exact_decibels(power: np.ndarray, floor: float, reference: float) -> np.ndarray:
    """Convert power to dB relative to a reference, with the rounding of `10 * numpy.log10(power)`.

    `power_to_db` is faster, but may differ in the last bit.

    Args:
        power: float32 of any shape.
        floor: power that counts as silence.
        reference: power of 0 dB.

    Returns:
        float32, the shape of `power`.
    """
    decibels: np.ndarray = 10 * np.log10(np.maximum(power, np.float32(floor)))
    return decibels if reference == 1.0 else decibels - np.float32(10 * np.log10(reference))


def _round_to_tens(low: float, high: float) -> tuple[float, float]:
    """Round limits outward to whole tens, at least ten apart."""
    down, up = 10.0 * np.floor(low / 10), 10.0 * np.ceil(high / 10)
    return float(down), float(max(up, down + 10))
