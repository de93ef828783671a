"""`vap.render`: the image of a recording, as a study would render it."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from vlm_audio_pipeline.api.recordings import Recording, recording_files
from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.renderings.recipe import Recipe, find_recipe

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from vlm_audio_pipeline.api.tables import ResultTable
    from vlm_audio_pipeline.renderings.image import RenderedImage

Rendering: TypeAlias = str | Mapping[str, Any] | Recipe
"""A preset (`paper`), a rendering of the study, or keys as in a study file: `{"preset": "paper", "size": 384}`."""


def render(
    recording: Recording, rendering: Rendering = "paper", *, study: str | Path | None = None, title: str = ""
) -> "RenderedImage":
    """Render a recording as an image: the same pixels as in a study.

    Args:
        recording: an audio file of any sample rate, or (samples, sample rate).
        rendering: a preset (`vap.list_renderings()`), a rendering of `study`, or keys as in a study file.
        study: a built-in study or a study file whose renderings `rendering` may name.
        title: drawn if the rendering has a title.

    Returns:
        The image: a notebook shows it; `.save(path)` writes it, `.array` is (height, width, 3) uint8.

    Raises:
        VlmAudioError: for an unknown rendering.
        BadClips: for a recording that cannot be decoded.
    """
    from vlm_audio_pipeline.datasets.audio import BadAudio, decode, resample
    from vlm_audio_pipeline.renderings.image import render as render_samples

    recipe = find_rendering(rendering, study)
    with recording_files([recording]) as [file]:
        try:
            samples, rate_hz, _ = decode(file.path)
        except BadAudio as error:
            raise BadAudio(error.reason, Path(file.name)) from None
    rendering_rate_hz = recipe.rate or rate_hz
    return render_samples(resample(samples, rate_hz, rendering_rate_hz), rendering_rate_hz, recipe, title=title)


def find_rendering(rendering: Rendering, study: str | Path | None = None) -> Recipe:
    """Return the recipe that `rendering` names or describes; see `render`."""
    if isinstance(rendering, Recipe):
        return rendering
    if isinstance(rendering, Mapping):
        from vlm_audio_pipeline.studies.mistakes import Mistakes

        mistakes = Mistakes(None)
        recipe = mistakes.validate(Recipe, dict(rendering), ("rendering",))
        mistakes.raise_all()
        assert recipe is not None
        return recipe
    if study is None:
        return find_recipe(str(rendering))
    from vlm_audio_pipeline.studies.loading import load_study

    return find_recipe(str(rendering), load_study(study).renderings)


def list_renderings() -> "ResultTable":
    """Return the rendering presets: name, what the image shows, description and publication."""
    from vlm_audio_pipeline.api.tables import table_of
    from vlm_audio_pipeline.renderings.presets import PRESETS
    from vlm_audio_pipeline.renderings.recipe import preset_recipes

    return table_of(
        {
            "name": list(PRESETS),
            "image": [recipe.summary() for recipe in preset_recipes().values()],
            "description": [preset.description for preset in PRESETS.values()],
            "publication": [preset.publication for preset in PRESETS.values()],
        }
    )


def preset_gallery() -> "RenderedImage":
    """Return an image that shows one synthetic sound rendered with every preset."""
    from io import BytesIO

    from PIL import Image

    from vlm_audio_pipeline.renderings.image import RenderedImage
    from vlm_audio_pipeline.reports.images import render_preset_gallery

    data = render_preset_gallery()
    with Image.open(BytesIO(data)) as image:
        return RenderedImage(data, "image/png", *image.size)


def example_sound(label: str = "dog", seed: int = 0, duration_s: float = 5.0) -> "tuple[npt.NDArray[np.float32], int]":
    """Return a synthetic sound, such as those of the demo: a recording for trying things out.

    Args:
        label: one of the ten classes of ESC-10: dog, rooster, rain, sea_waves, crackling_fire, crying_baby, sneezing,
            clock_tick, helicopter, chainsaw.
        seed: another seed is another sound of the class.
        duration_s: length, s.

    Returns:
        (samples,) float32, and their sample rate, 44,100 Hz.

    Raises:
        VlmAudioError: for another class.
    """
    from vlm_audio_pipeline.contracts.errors import suggestion
    from vlm_audio_pipeline.datasets.synthesis import SOUNDS, synthesise

    if label not in SOUNDS:
        raise VlmAudioError(
            f"label must be a class that can be synthesised, got '{label}'; {suggestion(label, SOUNDS)}"
        )
    return synthesise(label, seed, 0, 0, duration_s=duration_s, sample_rate_hz=44100), 44100
