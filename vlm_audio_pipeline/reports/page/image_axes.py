"""Axes that the page draws beside a spectrogram: the image itself has none, and models receive it unchanged."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from vlm_audio_pipeline.contracts.control_names import CONTROL_SEPARATOR
from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.renderings.axes import Scale
from vlm_audio_pipeline.renderings.image import axis_scales
from vlm_audio_pipeline.renderings.recipe import Recipe
from vlm_audio_pipeline.renderings.transforms import TRANSFORMS, compute_spectrum, prepare_samples
from vlm_audio_pipeline.reports.page.ticks import row_ticks

_MAX_SAMPLED_S = 10.0  # length of the silence whose transform has the axes of the clips, s


def image_axes(name: str, recipe: Recipe | None, clips: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Return the axes of the images of a rendering or control, for the page's scripts.

    The axis of frequencies is that of every clip. The axis of time ends with the clip, so it has `added_s`, the time by which it is
    longer than the clip, or `end_s`, if all images have the same length.

    Args:
        name: name of the rendering or control.
        recipe: its recipe; None if it is not known.
        clips: the clips, with `duration_s` and `sample_rate_hz`.

    Returns:
        `aspect`: width / height of the image; `box`: left, top, right and bottom of the data, shares of the image; `ticks`: [share of the height, text], from the
        bottom; `label`; `range`, its limits in words; `start_s`, `added_s`, `end_s`; `is_time`: false for columns in random order and for images of other
        clips. None if the image shows its axes itself, or if they are not known or not those of every clip.
    """
    control = name.partition(CONTROL_SEPARATOR)[2]
    if recipe is None or (scales := _scales(recipe, clips)) is None:
        return None
    time, rows, duration_s = scales
    box = recipe.layout.data
    sides = (box.left / recipe.width, box.top / recipe.height, box.right / recipe.width, box.bottom / recipe.height)
    unit = TRANSFORMS[recipe.transform].unit
    divisor, unit = (1000, "kHz") if unit == "Hz" and rows.high >= 2000 else (1, unit)
    label = TRANSFORMS[recipe.transform].label.lower()
    return {
        "aspect": round(recipe.width / recipe.height, 4),
        "box": [round(side, 4) for side in sides],
        "ticks": [[round(share, 4), f"{value / divisor:g}"] for value, share in row_ticks(rows)],
        "label": f"{label} ({unit})" if unit else label,
        "range": f"{max(0, rows.low) / divisor:.3g} to {rows.high / divisor:.3g}{f' {unit}' if unit else ''}",
        "start_s": time.low,
        "added_s": time.high - duration_s,
        "end_s": None if recipe.duration == "native" else time.high,
        "is_time": control not in ("time_shuffled", "other_clip"),
    }


def frequency_shares(
    recipe: Recipe | None, clips: Sequence[dict[str, Any]], frequencies_hz: np.ndarray
) -> np.ndarray | None:
    """Return the places of frequencies on the vertical axis of the images of a rendering.

    Args:
        recipe: its recipe; None if it is not known.
        clips: the clips, with `duration_s` and `sample_rate_hz`.
        frequencies_hz: (n,) float, Hz; infinity is the upper end.

    Returns:
        (n,) float64, from 0 at the bottom of the data to 1 at their top; frequencies outside the axis are at its ends. None if `image_axes` returns None,
        and for an axis that is not one of frequencies.
    """
    scales = None if recipe is None else _scales(recipe, clips)
    if recipe is None or scales is None or TRANSFORMS[recipe.transform].unit != "Hz":
        return None
    rows = scales[1]
    shares: np.ndarray = np.clip(rows.positions(np.clip(frequencies_hz, rows.low, rows.high)), 0, 1)
    return shares


def _scales(recipe: Recipe, clips: Sequence[dict[str, Any]]) -> tuple[Scale, Scale, float] | None:
    """Return the axes of time and rows that the page can draw, and the duration of the clip that the axis of time is for, s."""
    rates = {recipe.rate} if recipe.rate else {clip["sample_rate_hz"] for clip in clips}
    if len(rates) != 1 or recipe.has_matplotlib_style or _has_axes(recipe):
        return None
    (rate,) = rates
    duration_s = min(clips[0]["duration_s"], _MAX_SAMPLED_S)
    samples = np.zeros(max(1, round(duration_s * rate)), np.float32)
    try:
        spectrum = compute_spectrum(prepare_samples(samples, rate, recipe), rate, recipe)
    except VlmAudioError:  # a clip that this recipe cannot render, so there is no image either
        return None
    return *axis_scales(spectrum, recipe), duration_s


def describe_axes(name: str, recipe: Recipe | None, clips: Sequence[dict[str, Any]]) -> str | None:
    """Return the axes of images in words, for a place that cannot draw them; None where `image_axes` returns None.

    Args:
        name: name of the rendering or control.
        recipe: its recipe; None if it is not known.
        clips: the clips, with `duration_s` and `sample_rate_hz`.
    """
    axes = image_axes(name, recipe, clips) if clips else None
    if axes is None or recipe is None:
        return None
    lengths = {round(clip["duration_s"], 2) for clip in clips}
    end_s = axes["end_s"] if axes["end_s"] is not None else lengths.pop() if len(lengths) == 1 else None
    time = f"0 to {end_s:.3g} s" if end_s is not None else "the length of the clip"
    scale = f", {recipe.frequency} scale" if TRANSFORMS[recipe.transform].unit else ""
    row_name = TRANSFORMS[recipe.transform].label.lower()
    if axes["is_time"]:
        columns = f"time from left to right, {time}"
    elif name.endswith(f"{CONTROL_SEPARATOR}other_clip"):
        columns = "time of the other clip from left to right"
    else:
        columns = "columns in random order, not in order of time"
    return f"{columns}; {row_name} from bottom to top, {axes['range']}{scale}"


def _has_axes(recipe: Recipe) -> bool:
    return recipe.frame != "none" and recipe.frame.labels and recipe.frame.ticks
