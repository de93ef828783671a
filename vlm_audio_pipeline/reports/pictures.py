"""Pictures of clips as files to look at: each by itself, and all on a contact sheet."""

import re
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from vlm_audio_pipeline.classifiers.base import Sample
from vlm_audio_pipeline.contracts.errors import BadClips, VlmAudioError
from vlm_audio_pipeline.contracts.hashing import fingerprint
from vlm_audio_pipeline.contracts.stages import Progress, silent
from vlm_audio_pipeline.datasets.audio import BadAudio, decode, resample
from vlm_audio_pipeline.datasets.base import Clip, Dataset
from vlm_audio_pipeline.renderings.drawing import in_parallel
from vlm_audio_pipeline.renderings.picture import Picture, render
from vlm_audio_pipeline.renderings.recipe import Recipe
from vlm_audio_pipeline.renderings.sheet import contact_sheet, preset_gallery
from vlm_audio_pipeline.reports.media_types import SUFFIX

MOST_A_CLASS = 8
"""Pictures of a class on a contact sheet; all are drawn."""


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
        BadClips: when recordings cannot be used; it names all of them, and the others are drawn.
    """
    if not clips:
        raise VlmAudioError("there must be at least one clip to draw, got none; raise --clips")
    if folder.exists() and not folder.is_dir():
        raise VlmAudioError(f"--out must be a folder, got the file {folder}; name another")
    ordered = sorted(clips, key=lambda c: (dataset.classes.index(c.label), c.id))

    def write(clip: Clip) -> Path | BadAudio:
        try:
            picture = _drawn(dataset, clip, recipe)
        except BadAudio as error:
            return error
        path = folder / _file_name(clip.label) / f"{_file_name(clip.id)}{SUFFIX[picture.media_type]}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture.bytes)
        return path

    files: list[Path] = []
    shown: dict[str, list[Path]] = {}
    bad: list[BadAudio] = []
    for clip, made in zip(ordered, in_parallel(ordered, write, progress), strict=True):
        if isinstance(made, BadAudio):
            bad.append(made)
        else:
            files.append(made)
            shown.setdefault(clip.label, []).append(made)
    sheet = folder / "contact_sheet.png"
    if files:
        few = [(label, file) for label, paths in shown.items() for file in paths[:MOST_A_CLASS]]
        sheet.write_bytes(contact_sheet([(label, file.read_bytes()) for label, file in few], most=MOST_A_CLASS))
    if bad:
        reasons = "".join(f"\n  {error}" for error in bad)
        raise BadClips(f"{len(bad)} of {len(clips)} recordings cannot be drawn; the others are in {folder}:{reasons}")
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
