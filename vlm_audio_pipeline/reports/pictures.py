"""Pictures of clips as files to look at: each by itself, and all on a contact sheet."""

import re
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from vlm_audio_pipeline.classifiers.base import Sample
from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.contracts.hashing import fingerprint
from vlm_audio_pipeline.contracts.stages import Progress, silent
from vlm_audio_pipeline.datasets.audio import decode, resample
from vlm_audio_pipeline.datasets.base import Clip, Dataset
from vlm_audio_pipeline.renderings.picture import Picture, render
from vlm_audio_pipeline.renderings.recipe import Recipe
from vlm_audio_pipeline.renderings.sheet import contact_sheet, preset_gallery
from vlm_audio_pipeline.reports.media_types import SUFFIX


def chosen_clips(dataset: Dataset, most: int | None) -> list[Clip]:
    """Choose clips to look at: at most so many, classes in turn, the same ones every time; None: all."""
    clips = list(dataset.clips)
    if most is None or most >= len(clips):
        return clips
    table = pa.table({"clip": [c.id for c in clips], "label": [c.label for c in clips]})
    ids = set(Sample(clips=most).take(table, (0,), 0)["clip"].to_pylist())
    return [c for c in clips if c.id in ids]


def write_pictures(
    dataset: Dataset, clips: Sequence[Clip], recipe: Recipe, folder: Path, progress: Progress = silent
) -> list[Path]:
    """Write the picture of each clip, `<label>/<clip>.png`, and `contact_sheet.png`, classes by rows.

    Args:
        dataset: the opened dataset.
        clips: the clips to draw.
        recipe: how.
        folder: where to; made if absent.
        progress: told after each picture.

    Returns:
        The files, the sheet first.

    Raises:
        VlmAudioError: for no clips.
        BadClips: when a recording cannot be used.
    """
    if not clips:
        raise VlmAudioError("there must be at least one clip to draw, got none; raise --clips")
    if folder.exists() and not folder.is_dir():
        raise VlmAudioError(f"--out must be a folder, got the file {folder}; name another")
    files: list[Path] = []
    shown: list[tuple[str, bytes]] = []
    for done, clip in enumerate(sorted(clips, key=lambda c: (dataset.classes.index(c.label), c.id)), 1):
        picture = _drawn(dataset, clip, recipe)
        path = folder / _file_name(clip.label) / f"{_file_name(clip.id)}{SUFFIX[picture.media_type]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture.bytes)
        files.append(path)
        shown.append((clip.label, picture.bytes))
        progress(done, len(clips), "picture")
    sheet = folder / "contact_sheet.png"
    sheet.write_bytes(contact_sheet(shown))
    return [sheet, *files]


def _file_name(name: str) -> str:
    """Give a name that stays in its folder, whatever a label or an id is made of; no two of them the same."""
    plain = re.sub(r"[^\w .,()+=@-]", "_", name).lstrip(". ")
    return plain if plain == name else f"{plain}_{fingerprint(name)}"


def _drawn(dataset: Dataset, clip: Clip, recipe: Recipe) -> Picture:
    samples, rate, _ = decode(dataset.root / clip.file, clip.start_s, clip.end_s)
    wanted = recipe.rate or rate
    return render(resample(samples, rate, wanted), wanted, recipe)


def presets_drawn() -> bytes:
    """Draw one synthetic clip, a rooster, under every preset: a PNG to choose from."""
    from vlm_audio_pipeline.datasets.synthesis import synthesise

    return preset_gallery(synthesise("rooster", 0, 0, 0, duration_s=5.0, rate_hz=44100), 44100)
