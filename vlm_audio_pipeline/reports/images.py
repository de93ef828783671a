"""Write images of clips as files: one image per clip, and a contact sheet."""

import re
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from vlm_audio_pipeline.classifiers.base import ClipSample
from vlm_audio_pipeline.contracts.errors import BadClips, VlmAudioError
from vlm_audio_pipeline.contracts.hashing import fingerprint
from vlm_audio_pipeline.contracts.progress import Progress, no_progress
from vlm_audio_pipeline.datasets.audio import BadAudio, decode, resample
from vlm_audio_pipeline.datasets.base import Clip, Dataset
from vlm_audio_pipeline.engines import map_ordered
from vlm_audio_pipeline.renderings.image import RenderedImage, render
from vlm_audio_pipeline.renderings.recipe import Recipe
from vlm_audio_pipeline.renderings.sheet import contact_sheet, preset_gallery
from vlm_audio_pipeline.reports.media_types import SUFFIX
from vlm_audio_pipeline.storage.atomic import write_atomically

MAX_PER_CLASS = 8
"""Maximum number of images per class on the contact sheet."""


def choose_clips(dataset: Dataset, max_clips: int | None) -> list[Clip]:
    """Return at most `max_clips` clips (None: all), balanced over the classes and the same in every run."""
    clips = list(dataset.clips)
    if max_clips is None or max_clips >= len(clips):
        return clips
    table = pa.table({"clip": [c.id for c in clips], "label": [c.label for c in clips]})
    ids = set(ClipSample(clips=max_clips).take(table, (0,), 0)["clip"].to_pylist())
    return [c for c in clips if c.id in ids]


def write_images(
    dataset: Dataset, clips: Sequence[Clip], recipe: Recipe, folder: Path, progress: Progress = no_progress
) -> list[Path]:
    """Write the image of each clip, `<label>/<clip>.png`, and `contact_sheet.png` with one row for each class.

    Args:
        dataset: the opened dataset.
        clips: the clips to render.
        recipe: recipe of the images.
        folder: folder to write into; created if it does not exist.
        progress: callback `(done, total, description)`.

    Returns:
        The files, the contact sheet first.

    Raises:
        VlmAudioError: if `clips` is empty, or `folder` is a file.
        BadClips: if recordings cannot be read; the message lists all of them. The other images are written.
    """
    if not clips:
        raise VlmAudioError("there are no clips to render; raise --clips")
    if folder.exists() and not folder.is_dir():
        raise VlmAudioError(f"--out must be a folder, but {folder} is a file; choose another name")
    ordered = sorted(clips, key=lambda c: (dataset.classes.index(c.label), c.id))

    def write(clip: Clip) -> Path | BadAudio:
        try:
            image = _render_clip(dataset, clip, recipe)
        except BadAudio as error:
            return error
        path = folder / _file_name(clip.label) / f"{_file_name(clip.id)}{SUFFIX[image.media_type]}"
        write_atomically(path, image.bytes)
        return path

    files: list[Path] = []
    files_by_label: dict[str, list[Path]] = {}
    errors: list[BadAudio] = []
    for clip, result in zip(ordered, map_ordered(write, ordered, progress), strict=True):
        if isinstance(result, BadAudio):
            errors.append(result)
        else:
            files.append(result)
            files_by_label.setdefault(clip.label, []).append(result)
    sheet = folder / "contact_sheet.png"
    if files:
        selected = [(label, file) for label, paths in files_by_label.items() for file in paths[:MAX_PER_CLASS]]
        thumbnails = [(label, file.read_bytes()) for label, file in selected]
        write_atomically(sheet, contact_sheet(thumbnails, max_columns=MAX_PER_CLASS))
    if errors:
        reasons = "".join(f"\n  {error}" for error in errors)
        raise BadClips(
            f"{len(errors)} of {len(clips)} recordings cannot be read; the other images are in {folder}:{reasons}"
        )
    return [sheet, *files]


def _file_name(name: str) -> str:
    """Return a file name without path separators for a label or clip id; different names give different file names."""
    safe = re.sub(r"[^\w .,()+=@-]", "_", name).lstrip(". ")
    return safe if safe == name else f"{safe}_{fingerprint(name)}"


def _render_clip(dataset: Dataset, clip: Clip, recipe: Recipe) -> RenderedImage:
    samples, sample_rate_hz, _ = decode(dataset.root / clip.file, clip.start_s, clip.end_s)
    rendering_rate_hz = recipe.rate or sample_rate_hz
    return render(resample(samples, sample_rate_hz, rendering_rate_hz), rendering_rate_hz, recipe)


def render_preset_gallery() -> bytes:
    """Return a PNG that shows one synthetic clip (a rooster) rendered with every preset."""
    from vlm_audio_pipeline.datasets.synthesis import synthesise

    return preset_gallery(synthesise("rooster", 0, 0, 0, duration_s=5.0, sample_rate_hz=44100), 44100)
