"""Controls: replace the query image to test whether a model uses it.

Belongs here: controls that are images. Does not belong here: `no_image`, which sends no image, and the classifiers.

- blank: the frame, and the lowest colour instead of the data. The frame shows the length of the clip and, where the limits of
  the colorbar depend on the clip, its numbers. Otherwise clips of the same length have the same image. A model that drops to
  chance passes this control; one that stays accurate does not use the data of the image.
- time_shuffled: the columns of the transform in random order, seeded by the clip's id. The mean spectrum is unchanged; the
  order in time is lost.
- other_clip: the image of a clip of another class and another source recording in the same fold, chosen by a hash of
  both ids. A classifier that uses the image then predicts a wrong class.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from vlm_audio_pipeline.contracts.errors import VlmAudioError, suggestion
from vlm_audio_pipeline.contracts.hashing import fingerprint
from vlm_audio_pipeline.contracts.stages import Input, Stage, StageContext
from vlm_audio_pipeline.datasets.base import ClipRow, Dataset, Recordings
from vlm_audio_pipeline.renderings.colors import has_clip_specific_limits
from vlm_audio_pipeline.renderings.image import RenderedImage, render
from vlm_audio_pipeline.renderings.recipe import Recipe
from vlm_audio_pipeline.renderings.stage import STEP_VERSION, clip_rows, render_ahead, render_fold, spectrogram_table
from vlm_audio_pipeline.storage.row_order import take_rows

CONTROLS = ("blank", "time_shuffled", "other_clip")
"""Controls that replace the image by another image. The control `no_image`, for language models, sends no image."""

CONTROL_VERSION = 3
"""Increase it whenever a control computes other images for the same clips."""

_DESCRIPTIONS = {
    "blank": "the same frame without data",
    "time_shuffled": "the columns (points in time) in random order, seeded by the clip's id",
    "other_clip": "the image of a clip of another class and source recording in the fold, chosen by the ids",
}


def control_stage(rendering: str, recipe: Recipe, control: str) -> Stage:
    """Return the stage that computes the images of a control; its component is `controlled_name(rendering, control)`.

    Args:
        rendering: the rendering's name in the study.
        recipe: the rendering.
        control: one of `CONTROLS`.

    Raises:
        VlmAudioError: for an unknown control. The stage for other_clip raises it if the fold of a clip has no clip of another
            class and source recording.
    """
    if control not in CONTROLS:
        raise VlmAudioError(f"unknown control '{control}'; {suggestion(control, CONTROLS)}")
    if control == "other_clip":
        return _other_clip_stage(rendering)

    parameters = [control, CONTROL_VERSION, STEP_VERSION, recipe.fingerprint_fields()]

    def run(context: StageContext) -> dict[str, pa.Table]:
        clips = clip_rows(context.inputs["clips"])
        images = render_fold(context, clips, ControlRenderer(context.dataset.recordings, recipe, control), parameters)
        return {"spectrograms": spectrogram_table([c.clip for c in clips], images)}

    def run_ahead(contexts: Sequence[StageContext]) -> None:
        render_ahead(contexts, ControlRenderer(contexts[0].dataset.recordings, recipe, control), parameters)

    return Stage(
        asset="spectrograms",
        tables=("spectrograms",),
        version=CONTROL_VERSION,
        parameters={"control": control, "step": STEP_VERSION, **recipe.fingerprint_fields()},
        inputs=(Input("clips"),),
        run=run,
        run_ahead=run_ahead,
        description=_description(rendering, control),
    )


def _other_clip_stage(rendering: str) -> Stage:
    images = Input("spectrograms", rendering)

    def run(context: StageContext) -> dict[str, pa.Table]:
        clips = context.inputs["clips"].to_pylist()
        return {"spectrograms": _images_of_other_clips(clips, context.inputs[images.key], context.fold)}

    return Stage(
        asset="spectrograms",
        tables=("spectrograms",),
        version=CONTROL_VERSION,
        parameters={"control": "other_clip"},
        inputs=(Input("clips"), images),
        run=run,
        description=_description(rendering, "other_clip"),
    )


def _description(rendering: str, control: str) -> str:
    return f"Control of '{rendering}', which replaces the query image: {_DESCRIPTIONS[control]}."


@dataclass(frozen=True)
class ControlRenderer:
    """Renders clips under the control blank or time_shuffled; picklable and small."""

    recordings: Recordings
    recipe: Recipe
    control: str

    def files_of(self, clip: ClipRow) -> tuple[Path, ...]:
        """Return the recording of a clip; see `contracts.work.Work`."""
        return self.recordings.files(clip)

    def __call__(self, clip: ClipRow) -> RenderedImage:
        """Render one clip."""
        render_image = render_blank if self.control == "blank" else render_time_shuffled
        return render_image(self.recordings, clip, self.recipe)


def render_blank(dataset: Dataset | Recordings, clip: ClipRow, recipe: Recipe) -> RenderedImage:
    """Render a clip's frame without its data; the recording is decoded only if the colorbar depends on it."""
    rate = recipe.rate or clip.sample_rate_hz
    if recipe.layout.colorbar is not None and has_clip_specific_limits(recipe):
        return render(dataset.samples(clip, rate), rate, recipe, blank=True)
    length = round(round(clip.duration_s * clip.sample_rate_hz) * rate / clip.sample_rate_hz)
    return render(np.zeros(max(1, length), np.float32), rate, recipe, blank=True)


def render_time_shuffled(dataset: Dataset | Recordings, clip: ClipRow, recipe: Recipe) -> RenderedImage:
    """Render a clip with the columns of its transform in a random order, seeded by its id."""
    rate = recipe.rate or clip.sample_rate_hz
    seed = int(fingerprint("time_shuffled", clip.clip), 16)
    return render(dataset.samples(clip, rate), rate, recipe, shuffle_seed=seed)


def choose_other_clip(clip: dict[str, Any], clips: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Choose a clip of another class and source recording.

    The choice is the smallest hash of both ids, so that adding or removing other clips seldom changes it.

    Args:
        clip: a row of `clips`: clip, label and source.
        clips: the rows of its fold.

    Returns:
        The chosen row, or None if the fold has no such clip.
    """
    others = [c for c in clips if c["label"] != clip["label"] and c["source"] != clip["source"]]
    return min(others, key=lambda c: fingerprint("other_clip", clip["clip"], c["clip"]), default=None)


def _images_of_other_clips(clips: list[dict[str, Any]], images: pa.Table, fold: int | None) -> pa.Table:
    other_clips = [choose_other_clip(clip, clips) for clip in clips]
    unmatched = [clip["clip"] for clip, other in zip(clips, other_clips, strict=True) if other is None]
    if unmatched:
        raise VlmAudioError(
            "control other_clip needs, for every clip, a clip of another class and another source recording in the same fold, "
            f"got none in fold {fold} for {unmatched[:10]}; remove the control or add clips"
        )
    index = {clip: i for i, clip in enumerate(images["clip"].to_pylist())}
    rows = take_rows(images, pa.array([index[c["clip"]] for c in other_clips if c is not None], pa.int64()))
    columns = ("image", "media_type", "width", "height", "image_sha256")
    return pa.table({"clip": [c["clip"] for c in clips], **{name: rows[name] for name in columns}})
