"""Values at which an axis on the page has a tick."""

import math

import numpy as np

from vlm_audio_pipeline.renderings.axes import Scale

MAX_TICKS = 6
"""Default of the maximum number of ticks of a linear axis."""
_OCTAVES_HZ = (0, 63, 125, 250, 500, 1000, 2000, 4000, 8000, 16000, 32000)
"""Ticks of an axis that is not linear: octave bands (IEC 61260)."""
_MIN_DISTANCE = 0.1  # between the ticks of such an axis, share of its length


def row_ticks(scale: Scale) -> list[tuple[float, float]]:
    """Return the ticks of an axis of frequencies or coefficients, from the bottom: value, and its share of the height."""
    if scale.name == "linear":
        return [(value, float(scale.positions(np.array([value]))[0])) for value in linear_ticks(scale.low, scale.high)]
    ticks: list[tuple[float, float]] = []
    values = [float(value) for value in _OCTAVES_HZ if scale.low <= value <= scale.high]
    for value in reversed(values):
        share = float(scale.positions(np.array([value]))[0])
        if not ticks or ticks[-1][1] - share >= _MIN_DISTANCE:
            ticks.append((value, share))
    return ticks[::-1]


def linear_ticks(low: float, high: float, max_ticks: int = MAX_TICKS) -> list[float]:
    """Return multiples of 1, 2 or 5 times a power of ten within the limits, at most `max_ticks`."""
    if not high > low:
        return []
    power = 10 ** math.floor(math.log10((high - low) / max_ticks))
    for factor in (1, 2, 5, 10, 20):
        step = factor * power
        first, last = math.ceil(low / step), math.floor(high / step)
        if last - first < max_ticks:
            break
    return [round(n * step, 10) for n in range(first, last + 1)]
