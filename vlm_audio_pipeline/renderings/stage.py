"""The stage that renders the images of a fold, on every core.

Belongs here: the stage, running in parallel, saving the finished images of an interrupted fold, and the rows of `spectrograms`.
Does not belong here: how an image is rendered (`recipe`, `image`).
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pyarrow as pa

from vlm_audio_pipeline.contracts import faults
from vlm_audio_pipeline.contracts.hashing import digest, fingerprint
from vlm_audio_pipeline.contracts.stages import Input, Stage, StageContext
from vlm_audio_pipeline.datasets.base import ClipRow, Dataset, Recordings
from vlm_audio_pipeline.renderings.image import RenderedImage, render
from vlm_audio_pipeline.renderings.recipe import Recipe
from vlm_audio_pipeline.storage.scratch import Scratch

STEP_VERSION = 3
"""Increase it whenever the same clip and recipe have other pixels; a test compares golden images."""

SAVE_EVERY_S = 10.0
"""Interval at which the finished images of an unfinished fold are saved, s. A killed run loses at most the work of this time."""
IMAGES_PER_SAVE = 64
"""Images of several folds that are saved together."""


def rendering_stage(recipe: Recipe) -> Stage:
    """Return the stage of a rendering: the images of a fold."""
    parameters = [STEP_VERSION, recipe.fingerprint_fields()]

    def run(context: StageContext) -> dict[str, pa.Table]:
        clips = clip_rows(context.inputs["clips"])
        images = render_fold(context, clips, ClipRenderer(context.dataset.recordings, recipe), parameters)
        return {"spectrograms": spectrogram_table([c.clip for c in clips], images)}

    def run_ahead(contexts: Sequence[StageContext]) -> None:
        render_ahead(contexts, ClipRenderer(contexts[0].dataset.recordings, recipe), parameters)

    return Stage(
        asset="spectrograms",
        tables=("spectrograms",),
        version=STEP_VERSION,
        parameters=recipe.fingerprint_fields(),
        inputs=(Input("clips"),),
        run=run,
        run_ahead=run_ahead,
        description=f"Images of clips: {recipe.summary()}.",
    )


@dataclass(frozen=True)
class ClipRenderer:
    """Renders clips of a dataset by one recipe; picklable and small."""

    recordings: Recordings
    recipe: Recipe

    def files_of(self, clip: ClipRow) -> tuple[Path, ...]:
        """Return the recording of a clip; see `contracts.work.Work`."""
        return self.recordings.files(clip)

    def __call__(self, clip: ClipRow) -> RenderedImage:
        """Render one clip."""
        return render_clip(self.recordings, clip, self.recipe)


def clip_rows(clips: pa.Table) -> list[ClipRow]:
    """Return the typed rows of the table `clips`."""
    return [ClipRow.from_row(row) for row in clips.to_pylist()]


def render_clip(dataset: Dataset | Recordings, clip: ClipRow, recipe: Recipe) -> RenderedImage:
    """Render one clip.

    Raises:
        RecordingChanged: if the recording no longer has the content hash of the clip.
    """
    rate = recipe.rate or clip.sample_rate_hz
    return render(dataset.samples(clip, rate), rate, recipe)


def render_fold(
    context: StageContext,
    clips: Sequence[ClipRow],
    render_image: Callable[[ClipRow], RenderedImage],
    parameters: object,
) -> list[RenderedImage]:
    """Render the clips of a fold, in clip order.

    A slow fold saves its finished images every `SAVE_EVERY_S` seconds and reuses them when it runs again.

    Args:
        context: the context of the stage.
        clips: the clips of the fold.
        render_image: renders a clip; picklable.
        parameters: plain values that, together with the clip, determine an image.
    """
    if context.scratch is None:
        return context.engine.map_ordered(render_image, clips, context.progress)
    keys = image_keys(context, clips, parameters)
    images = {key: _unpack(payload) for key, payload in context.scratch.get(keys).items()}
    todo = [(context.scratch, key, clip) for key, clip in zip(keys, clips, strict=True) if key not in images]
    render_and_save(context, todo, render_image, images.__setitem__)
    return [images[key] for key in keys]


def image_keys(context: StageContext, clips: Sequence[ClipRow], parameters: object) -> list[str]:
    """Return the key of each image in the scratch of its fold."""
    content = context.dataset.recordings.content_sha256
    return [fingerprint(parameters, asdict(replace(clip, samples_sha256=content(clip))), length=64) for clip in clips]


def render_ahead(
    contexts: Sequence[StageContext], render_image: Callable[[ClipRow], RenderedImage], parameters: object
) -> None:
    """Render the clips of several folds in one map, and save the images in the scratch of each fold."""
    todo: list[tuple[Scratch, str, ClipRow]] = []
    for context in contexts:
        assert context.scratch is not None
        clips = clip_rows(context.inputs["clips"])
        keys = image_keys(context, clips, parameters)
        saved = context.scratch.get(keys)
        todo += [(context.scratch, key, clip) for key, clip in zip(keys, clips, strict=True) if key not in saved]
    render_and_save(contexts[0], todo, render_image, saves_all=True)


def render_and_save(
    context: StageContext,
    todo: Sequence[tuple[Scratch, str, ClipRow]],
    render_image: Callable[[ClipRow], RenderedImage],
    on_image: Callable[[str, RenderedImage], None] = lambda key, image: None,
    *,
    saves_all: bool = False,
) -> None:
    """Render clips, and save the images of a slow run.

    Args:
        context: provides the engine and the progress callback.
        todo: scratch, key and clip of each image.
        render_image: renders a clip; picklable.
        on_image: called with the key and the image.
        saves_all: save every image, not only those of a slow run.
    """
    remaining = iter(todo)
    unsaved: list[tuple[Scratch, str, RenderedImage]] = []
    saved_at = time.monotonic()

    def save() -> None:
        for scratch in {id(scratch): scratch for scratch, _, _ in unsaved}.values():
            scratch.put([(key, _pack(image)) for image_scratch, key, image in unsaved if image_scratch is scratch])
        unsaved.clear()

    def keep(image: RenderedImage) -> None:
        nonlocal saved_at
        faults.kill_point("image")
        scratch, key, _ = next(remaining)
        on_image(key, image)
        unsaved.append((scratch, key, image))
        if time.monotonic() - saved_at > SAVE_EVERY_S or (saves_all and len(unsaved) >= IMAGES_PER_SAVE):
            save()
            saved_at = time.monotonic()

    context.engine.map_ordered(render_image, [clip for _, _, clip in todo], context.progress, keep)
    if saves_all:
        save()


def _pack(image: RenderedImage) -> bytes:
    return f"{image.media_type} {image.width} {image.height}\n".encode() + image.bytes


def _unpack(payload: bytes) -> RenderedImage:
    header, _, data = payload.partition(b"\n")
    media_type, width, height = header.decode().split()
    return RenderedImage(data, media_type, int(width), int(height))


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
