"""Which recipe the images of the page have: those of the study's renderings, and those that are rendered for the page only."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from vlm_audio_pipeline.contracts.control_names import CONTROL_SEPARATOR
from vlm_audio_pipeline.renderings.presets import find_preset
from vlm_audio_pipeline.renderings.recipe import Recipe
from vlm_audio_pipeline.reports.page.study_results import StudyResults

PAGE_IMAGES = "(page)"
"""Name of the image set that is rendered only for the page."""
PageRecipe = Callable[[Mapping[str, Any]], Recipe]
"""Returns how an image of a clip, a row of `StudyResults.clips`, is rendered for the page; the axes are the same for all clips."""
_COMPLETED_FIELDS = (
    "kind",
    "preset",
    "size",
)  # fields of a rendering whose values a study record also contains in its other fields
_WINDOW_S = 0.03  # window of `segment_recipe`, rounded to a power of two samples
_RANGE_DB = 60.0
_MIN_PEAK = 1e-4  # of a recording, 1 = full scale; a quieter one is shown as quiet, not as noise in full contrast


def find_recipe(results: StudyResults, name: str, page_recipe: PageRecipe | None = None) -> Recipe | None:
    """Return the recipe of an image set; None if the study file is of a version with other fields.

    Args:
        results: the study.
        name: name of a rendering or control, or `PAGE_IMAGES`.
        page_recipe: how `PAGE_IMAGES` are rendered; by default `default_recipe`.
    """
    if name == PAGE_IMAGES:
        return (page_recipe or default_recipe)(results.clips[0] if results.clips else {})
    fields = results.spec.get("renderings", {}).get(name.partition(CONTROL_SEPARATOR)[0])
    try:  # width and height are filled in from `size` and the preset
        return (
            None
            if fields is None
            else Recipe.model_validate({k: v for k, v in fields.items() if k not in _COMPLETED_FIELDS})
        )
    except ValueError:
        return None


def default_recipe(_clip: Mapping[str, Any]) -> Recipe:
    """Return the recipe of the images of a study without renderings."""
    return Recipe.model_validate({**find_preset("plain").values, "width": 384, "height": 256, "rate": 22050})


def segment_recipe(results: StudyResults) -> PageRecipe:
    """Return the recipe of spectrograms that a person reads: grey, with a linear frequency axis up to half the sample rate.

    The greys of all segments of a recording mean the same: black is a tone with the peak amplitude of the recording, white is 60 dB below.
    A tone of amplitude A in a Hann window of n samples has the power (A n / 4)^2, because the sum of the window is n / 2 and half of the
    amplitude is at the negative frequency.

    Args:
        results: the study.
    """
    rates = {clip["sample_rate_hz"] for clip in results.clips}
    rate = max(rates)
    n_fft = 2 ** round(math.log2(_WINDOW_S * rate))
    rows = results.query("SELECT file, max(peak) AS peak FROM clips WHERE study = $1 GROUP BY file")
    peaks = {row["file"]: max(row["peak"], _MIN_PEAK) for row in rows}

    def recipe(clip: Mapping[str, Any]) -> Recipe:
        return Recipe(
            rate=None if len(rates) == 1 else rate,
            n_fft=n_fft,
            hop_length=n_fft // 4,
            frequency="linear",
            reference=(peaks[clip["file"]] * n_fft / 4) ** 2,
            range_db=_RANGE_DB,
            colormap="Greys",
            resampling="area",
            width=512,
            height=256,
        )

    return recipe
