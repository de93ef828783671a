"""Controls: replace the query image to test whether a model uses it.

Belongs here: controls that are images. Does not belong here: `no_image`, which sends none, and the classifiers that
are asked.

- blank: the frame, and the lowest colour in place of the data. Only the length of the clip is left, so clips of one
  length have the same image; numbers at a colorbar that differ by clip stay, because the frame is to be the same.
- time_shuffled: the frames of the transform in random order, seeded by the clip's id. The mean spectrum is left; the
  order in time is gone.
- other_clip: the image of a clip of another class and another source recording in the same fold, chosen by the ids of
  both. A classifier that uses the image is then wrong.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from vlm_audio_pipeline.contracts.errors import VlmAudioError, suggestion
from vlm_audio_pipeline.contracts.hashing import fingerprint
from vlm_audio_pipeline.contracts.stages import Input, Stage, StageContext
from vlm_audio_pipeline.datasets.base import ClipRow, Dataset
from vlm_audio_pipeline.renderings.colors import has_clip_specific_limits
from vlm_audio_pipeline.renderings.image import RenderedImage, render
from vlm_audio_pipeline.renderings.recipe import Recipe
from vlm_audio_pipeline.renderings.stage import STEP_VERSION, clip_rows, render_fold, spectrogram_table
from vlm_audio_pipeline.storage.row_order import take_rows

CONTROLS = ("blank", "time_shuffled", "other_clip")
"""Controls that are images; `no_image`, for language models, is not."""

CONTROL_VERSION = 3
"""Increase it whenever a control would give other images for the same clips."""

_DESCRIPTIONS = {
    "blank": "the same frame without data",
    "time_shuffled": "the frames in random order, seeded by the clip",
    "other_clip": "the image of a clip of another class and source recording in the fold, chosen by the clip",
}


def control_stage(rendering: str, recipe: Recipe, control: str) -> Stage:
    """Return the stage that makes the images of a control; its component is `controlled_name(rendering, control)`.

    Args:
        rendering: the rendering's name in the study.
        recipe: the rendering.
        control: one of `CONTROLS`.

    Raises:
        VlmAudioError: for an unknown control; when it runs, for a clip under other_clip whose fold has no clip of
            another class and source recording.
    """
    if control not in CONTROLS:
        raise VlmAudioError(f"unknown control '{control}'; {suggestion(control, CONTROLS)}")
    if control == "other_clip":
        return _other_clip_stage(rendering)
    render_one = render_blank if control == "blank" else render_time_shuffled

    def run(context: StageContext) -> dict[str, pa.Table]:
        clips = clip_rows(context.inputs["clips"])
        parameters = [control, CONTROL_VERSION, STEP_VERSION, recipe.fingerprint_fields()]
        images = render_fold(context, clips, lambda clip: render_one(context.dataset, clip, recipe), parameters)
        return {"spectrograms": spectrogram_table([c.clip for c in clips], images)}

    return Stage(
        asset="spectrograms",
        tables=("spectrograms",),
        version=CONTROL_VERSION,
        parameters={"control": control, "step": STEP_VERSION, **recipe.fingerprint_fields()},
        inputs=(Input("clips"),),
        run=run,
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


def render_blank(dataset: Dataset, clip: ClipRow, recipe: Recipe) -> RenderedImage:
    """Render a clip's frame without its data; the recording is decoded only where the frame has limits of the clip."""
    rate = recipe.rate or clip.sample_rate_hz
    if recipe.layout.colorbar is not None and has_clip_specific_limits(recipe):
        return render(dataset.samples(clip, rate), rate, recipe, blank=True)
    length = round(round(clip.duration_s * clip.sample_rate_hz) * rate / clip.sample_rate_hz)
    return render(np.zeros(max(1, length), np.float32), rate, recipe, blank=True)


def render_time_shuffled(dataset: Dataset, clip: ClipRow, recipe: Recipe) -> RenderedImage:
    """Render a clip with the frames of its transform in a random order that its id seeds."""
    rate = recipe.rate or clip.sample_rate_hz
    seed = int(fingerprint("time_shuffled", clip.clip), 16)
    return render(dataset.samples(clip, rate), rate, recipe, shuffle_seed=seed)


def other_clip(clip: dict[str, Any], clips: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Choose a clip of another class and source recording.

    The choice is the smallest hash of both ids, so that adding or removing other clips seldom changes it.

    Args:
        clip: a row of `clips`: clip, label and source.
        clips: the rows of its fold.

    Returns:
        The chosen row, or None where there is none.
    """
    others = [c for c in clips if c["label"] != clip["label"] and c["source"] != clip["source"]]
    return min(others, key=lambda c: fingerprint("other_clip", clip["clip"], c["clip"]), default=None)


def _images_of_other_clips(clips: list[dict[str, Any]], images: pa.Table, fold: int | None) -> pa.Table:
    chosen = [other_clip(clip, clips) for clip in clips]
    unmatched = [clip["clip"] for clip, other in zip(clips, chosen, strict=True) if other is None]
    if unmatched:
        raise VlmAudioError(
            "control other_clip needs, for every clip, a clip of another class and another source in the same fold, "
            f"got none in fold {fold} for {unmatched[:10]}; remove the control or add clips"
        )
    index = {clip: i for i, clip in enumerate(images["clip"].to_pylist())}
    rows = take_rows(images, pa.array([index[c["clip"]] for c in chosen if c is not None], pa.int64()))
    columns = ("image", "media_type", "width", "height", "image_sha256")
    return pa.table({"clip": [c["clip"] for c in clips], **{name: rows[name] for name in columns}})
