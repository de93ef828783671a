"""What is done to the query's picture alone, to see whether it is looked at.

What belongs here: pictures that tell less, or something else, than the clip's own. What does not: `no_image`, which
needs no picture, and the classifiers that are asked.

- blank: the frame and the lowest colour. Nothing of the clip but its length is left, so the pictures of clips of one length
  are one picture; where each clip has a colorbar of its own, its numbers stay, for the frame is to be the same.
- time_shuffled: the columns of the transform in another order, seeded by the clip's id: the spectrum is left, the order
  in time is gone.
- other_clip: the picture of a clip of another class and another source recording of the same fold, chosen by the ids of
  both: a classifier that follows the picture is now wrong.
"""

from typing import Any

import numpy as np
import pyarrow as pa

from vlm_audio_pipeline.contracts.errors import VlmAudioError, suggestion
from vlm_audio_pipeline.contracts.hashing import fingerprint
from vlm_audio_pipeline.contracts.stages import Input, Stage, StageContext
from vlm_audio_pipeline.datasets.base import Dataset
from vlm_audio_pipeline.renderings.drawing import drawn, spectrograms
from vlm_audio_pipeline.renderings.picture import Picture, render
from vlm_audio_pipeline.renderings.recipe import STEP_VERSION, Recipe
from vlm_audio_pipeline.renderings.spectra import of_the_clip
from vlm_audio_pipeline.storage.row_order import take_rows

CONTROLS = ("blank", "time_shuffled", "other_clip")
"""Controls that are pictures; `no_image`, for language models, is none."""

CONTROL_VERSION = 3
"""Raised whenever a control would give other pictures for the same ones."""


def controlled_name(rendering: str, control: str) -> str:
    """Name the rendering that holds the pictures of a control.

    >>> controlled_name("paper", "blank")
    'paper__blank'
    """
    return f"{rendering}__{control}"


def controlled_stage(name: str, recipe: Recipe, control: str) -> Stage:
    """Give the stage that makes the pictures of a control, to be owned by `controlled_name(name, control)`.

    Args:
        name: the rendering's name in the study.
        recipe: the rendering.
        control: one of `CONTROLS`.

    Raises:
        VlmAudioError: for an unknown control; when it runs, for a clip under other_clip whose fold has none of another
            class and source.
    """
    if control not in CONTROLS:
        raise VlmAudioError(f"unknown control '{control}'; {suggestion(control, CONTROLS)}")
    others = control == "other_clip"
    draw = blank if control == "blank" else time_shuffled

    def run(context: StageContext) -> dict[str, pa.Table]:
        clips = context.inputs["clips"].to_pylist()
        if others:
            of_all = context.inputs[f"spectrograms/{name}"]
            return {"spectrograms": _of_others(clips, of_all, context.fold)}
        parameters = [control, CONTROL_VERSION, STEP_VERSION, recipe.identity()]
        pictures = drawn(context, clips, lambda clip: draw(context.dataset, clip, recipe), parameters)
        return {"spectrograms": spectrograms([c["clip"] for c in clips], pictures)}

    return Stage(
        asset="spectrograms",
        tables=("spectrograms",),
        version=CONTROL_VERSION,
        parameters={"control": control} if others else {"control": control, "step": STEP_VERSION, **recipe.identity()},
        inputs=(Input("clips"), Input("spectrograms", name)) if others else (Input("clips"),),
        run=run,
        description=f"Control of '{name}', shown in place of a query's picture: {_ABOUT[control]}.",
    )


_ABOUT = {
    "blank": "the same frame without data",
    "time_shuffled": "the columns in another order, seeded by the clip",
    "other_clip": "the picture of a clip of another class and source of the fold, chosen by the clip",
}


def blank(dataset: Dataset, clip: dict[str, Any], recipe: Recipe) -> Picture:
    """Draw a clip's frame without its data; nothing is decoded, unless the frame shows limits that the clip sets.

    Args:
        dataset: gives the samples.
        clip: a row of `clips`.
        recipe: how to draw.
    """
    rate = recipe.rate or clip["rate_hz"]
    length = round(round(clip["duration_s"] * clip["rate_hz"]) * rate / clip["rate_hz"])
    if recipe.frame != "none" and recipe.frame.colorbar and of_the_clip(recipe):
        samples = dataset.load(clip["file"], rate, clip["start_s"], clip["end_s"])
        return render(samples, rate, recipe, empty=True)
    return render(np.zeros(max(1, length), np.float32), rate, recipe, empty=True)


def time_shuffled(dataset: Dataset, clip: dict[str, Any], recipe: Recipe) -> Picture:
    """Draw a clip with the columns of its transform in an order given by its id.

    Args:
        dataset: gives the samples.
        clip: a row of `clips`: clip, file, start_s, end_s and rate_hz.
        recipe: how to draw.
    """
    rate = recipe.rate or clip["rate_hz"]
    samples = dataset.load(clip["file"], rate, clip["start_s"], clip["end_s"])
    return render(samples, rate, recipe, order=int(fingerprint("time_shuffled", clip["clip"]), 16))


def other_clip(clip: dict[str, Any], clips: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Choose a clip of another class and source, by a hash of both ids, so that adding or removing others seldom changes it.

    Args:
        clip: a row of `clips`: clip, label and source.
        clips: rows of its fold.

    Returns:
        The row chosen, or None where there is none.
    """
    others = [c for c in clips if c["label"] != clip["label"] and c["source"] != clip["source"]]
    return min(others, key=lambda c: fingerprint("other_clip", clip["clip"], c["clip"]), default=None)


def _of_others(clips: list[dict[str, Any]], pictures: pa.Table, fold: int | None) -> pa.Table:
    lines = {clip: i for i, clip in enumerate(pictures["clip"].to_pylist())}
    chosen = [other_clip(clip, clips) for clip in clips]
    without = [clip["clip"] for clip, other in zip(clips, chosen, strict=True) if other is None]
    if without:
        raise VlmAudioError(
            f"control other_clip must have a clip of another class and another source in the same fold for every clip, "
            f"got none in fold {fold} for {without[:10]}; leave the control out or add clips"
        )
    taken = take_rows(pictures, pa.array([lines[c["clip"]] for c in chosen if c is not None], pa.int64()))
    columns = ("picture", "media_type", "width", "height", "picture_sha256")
    return pa.table({"clip": [c["clip"] for c in clips], **{name: taken[name] for name in columns}})
