"""The stage that renders the images of a fold, on every core.

Belongs here: the stage, running in parallel, saving finished images between breaks, and the rows of `spectrograms`.
Does not belong here: what an image looks like (`recipe`, `image`).
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import TypeVar

import pyarrow as pa
from threadpoolctl import threadpool_limits

from vlm_audio_pipeline.contracts import faults
from vlm_audio_pipeline.contracts.hashing import digest, fingerprint
from vlm_audio_pipeline.contracts.progress import Progress
from vlm_audio_pipeline.contracts.stages import Input, Stage, StageContext
from vlm_audio_pipeline.datasets.base import ClipRow, Dataset
from vlm_audio_pipeline.engines import core_count
from vlm_audio_pipeline.renderings.image import RenderedImage, render
from vlm_audio_pipeline.renderings.recipe import Recipe

Item = TypeVar("Item")
Result = TypeVar("Result")

STEP_VERSION = 2
"""Increase it whenever the same clip and recipe would give other pixels; golden images guard it."""

SAVE_EVERY_S = 10.0
"""Interval at which the finished images of an unfinished fold are saved, s: the most work that a kill loses."""


def rendering_stage(recipe: Recipe) -> Stage:
    """Return the stage of a rendering: the images of a fold."""

    def run(context: StageContext) -> dict[str, pa.Table]:
        clips = clip_rows(context.inputs["clips"])
        parameters = [STEP_VERSION, recipe.fingerprint_fields()]
        images = render_fold(context, clips, lambda clip: render_clip(context.dataset, clip, recipe), parameters)
        return {"spectrograms": spectrogram_table([c.clip for c in clips], images)}

    return Stage(
        asset="spectrograms",
        tables=("spectrograms",),
        version=STEP_VERSION,
        parameters=recipe.fingerprint_fields(),
        inputs=(Input("clips"),),
        run=run,
        description=f"Images of clips: {recipe.summary()}.",
    )


def clip_rows(clips: pa.Table) -> list[ClipRow]:
    """Return the typed rows of the table `clips`."""
    return [ClipRow.from_row(row) for row in clips.to_pylist()]


def render_clip(dataset: Dataset, clip: ClipRow, recipe: Recipe) -> RenderedImage:
    """Render one clip.

    Raises:
        RecordingChanged: if the recording no longer has the content hash of the clip.
    """
    rate = recipe.rate or clip.sample_rate_hz
    return render(dataset.samples(clip, rate), rate, recipe)


def render_fold(
    context: StageContext,
    clips: Sequence[ClipRow],
    render_one: Callable[[ClipRow], RenderedImage],
    parameters: object,
) -> list[RenderedImage]:
    """Render the clips of a fold, in clip order.

    A slow fold saves its finished images every `SAVE_EVERY_S` seconds and takes them over when it is run again.

    Args:
        context: of the stage.
        clips: the clips of the fold.
        render_one: renders one of them.
        parameters: plain values that decide, together with the clip, what an image looks like.
    """
    scratch = context.scratch
    if scratch is None:
        return render_in_parallel(clips, render_one, context.progress)
    keys = [fingerprint(parameters, asdict(clip), length=64) for clip in clips]
    images = {key: _unpack(payload) for key, payload in scratch.get(keys).items()}
    todo = [(key, clip) for key, clip in zip(keys, clips, strict=True) if key not in images]
    todo_keys = iter([key for key, _ in todo])
    unsaved: list[tuple[str, RenderedImage]] = []
    saved_at = time.monotonic()

    def save(image: RenderedImage) -> None:
        nonlocal saved_at
        faults.kill_point("image")
        key = next(todo_keys)
        images[key] = image
        unsaved.append((key, image))
        if time.monotonic() - saved_at > SAVE_EVERY_S:
            scratch.put([(key, _pack(image)) for key, image in unsaved])
            unsaved.clear()
            saved_at = time.monotonic()

    render_in_parallel([clip for _, clip in todo], render_one, context.progress, save)
    return [images[key] for key in keys]


def _pack(image: RenderedImage) -> bytes:
    return f"{image.media_type} {image.width} {image.height}\n".encode() + image.bytes


def _unpack(payload: bytes) -> RenderedImage:
    header, _, data = payload.partition(b"\n")
    media_type, width, height = header.decode().split()
    return RenderedImage(data, media_type, int(width), int(height))


def render_in_parallel(
    clips: Sequence[Item],
    render_one: Callable[[Item], Result],
    progress: Progress,
    on_result: Callable[[Result], None] = lambda result: None,
) -> list[Result]:
    """Render clips on every core of this machine, with one BLAS thread per worker.

    Args:
        clips: what to render.
        render_one: renders one of them.
        progress: called after each.
        on_result: called with each result, in the order of `clips`.

    Returns:
        The results, in the order of `clips`.
    """
    with threadpool_limits(limits=1), ThreadPoolExecutor(core_count()) as pool:
        results = []
        for result in pool.map(render_one, clips):
            results.append(result)
            on_result(result)
            progress(len(results), len(clips), "image")
        return results


def spectrogram_table(clips: list[str], images: list[RenderedImage]) -> pa.Table:
    """Return the rows of `spectrograms`: one image for each clip id."""
    return pa.table(
        {
            "clip": pa.array(clips, pa.string()),
            "image": pa.array([i.bytes for i in images], pa.binary()),
            "media_type": pa.array([i.media_type for i in images], pa.string()),
            "width": pa.array([i.width for i in images], pa.int64()),
            "height": pa.array([i.height for i in images], pa.int64()),
            "image_sha256": pa.array([digest(i.bytes) for i in images], pa.string()),
        }
    )
