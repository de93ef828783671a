"""Pictures and sounds of a report: each in the one form in which the page shows it.

What belongs here: encoding, sizes, and what is left out where room is short. What does not: how pictures are made for
models (`renderings`); they are copied as they are into a folder, and made small for a single file.
Sounds are mono MP3, which every browser plays (https://caniuse.com/mp3), or in a folder the recording's own file where
that is small and plays as it is.
"""

import io
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from vlm_audio_pipeline.contracts.errors import BadClips
from vlm_audio_pipeline.contracts.hashing import digest
from vlm_audio_pipeline.contracts.stages import Progress, silent
from vlm_audio_pipeline.datasets.audio import resample
from vlm_audio_pipeline.datasets.base import Dataset
from vlm_audio_pipeline.engines import cores
from vlm_audio_pipeline.renderings.picture import render
from vlm_audio_pipeline.renderings.presets import preset
from vlm_audio_pipeline.renderings.recipe import Recipe
from vlm_audio_pipeline.reports.page.known import Known, batches
from vlm_audio_pipeline.reports.page.place import Place

if TYPE_CHECKING:
    import numpy as np

DRAWN = "(drawn)"
"""Name of the set of pictures that no model was shown: drawn for the page where a study has none."""
LIMIT = 14_000_000
"""Bytes that a single file may carry as data and media; its page takes what is left of 15 MB."""
PLAYED = {".ogg": "audio/ogg", ".mp3": "audio/mpeg", ".flac": "audio/flac"}
"""Files of recordings that a folder takes as they are, for browsers play them (https://caniuse.com/ogg-vorbis)."""
_RATES = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)  # Hz, those MP3 knows
_BATCH = 16  # pictures or sounds in memory at a time
_SAMPLE = 12  # clips by which sizes are estimated
_MARGIN = 1.1  # over the estimate

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Detail:
    """How closely a single file shows and plays its clips.

    Attributes:
        side: longest side of a picture, pixels; None: as it is.
        rate_hz: highest rate of a sound, Hz.
        compression: libsndfile's compression level for MP3, 0 to 1.
    """

    side: int | None
    rate_hz: int
    compression: float


FULL = Detail(None, 48000, 0.5)
LEVELS = (Detail(288, 16000, 0.8), Detail(224, 16000, 0.8), Detail(160, 12000, 0.8), Detail(120, 11025, 0.95))
"""What a single file tries in turn until everything fits."""


@dataclass
class Media:
    """What pictures and sounds a report has.

    Attributes:
        detail: how they were encoded.
        pictures: set -> clip number -> name on the page.
        sounds: clip number -> name on the page.
        notes: in words, what is missing or made small, and why.
    """

    detail: Detail
    pictures: dict[str, dict[int, str]] = field(default_factory=dict)
    sounds: dict[int, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def write_media(known: Known, sets: list[str], where: Place, progress: Progress = silent) -> Media:
    """Write the pictures of each set and the sound of each clip.

    Args:
        known: the study.
        sets: names of renderings, controlled ones too, whose pictures models were shown.
        where: the report. A single file takes what fits `LIMIT`, for clips of every class in turn.
        progress: told after each clip or picture.
    """
    own = sets or ([DRAWN] if known.dataset else [])
    clips = list(range(len(known.clips)))
    media = Media(FULL, {name: {} for name in own})
    if where.kind == "single file":
        detail, most = _that_fits(known, own, LIMIT - where.carried)
        media.detail = detail
        clips = _in_turn(known)[:most]
        media.notes.append(
            f"In this single file pictures are at most {detail.side} pixels wide and sounds hold frequencies up to "
            f"{detail.rate_hz / 2000:.1f} kHz; the folder form of this report has every picture as it was sent."
        )
        if most < len(known.clips):
            media.notes.append(
                f"Pictures and sounds of {most} of {len(known.clips)} clips fit into one file, clips of every class in "
                "turn; predictions of the others are here without them. The folder form has them all."
            )
    chosen = set(clips)
    total = len(chosen) * (len(own) + (DRAWN not in own))
    for done, (clip, content, name, media_type) in enumerate(_files(known, own, chosen, media.detail, media.notes), 1):
        if where.kind == "single file" and where.carried > LIMIT:  # the clips estimated by were smaller than most
            media.notes.append("Room ran out before every picture and sound was in.")
            break
        names = media.sounds if name is None else media.pictures[name]
        names[clip] = where.media(digest(content)[:16], media_type, content)
        progress(min(done, total), total, "pictures and sounds")
    if not known.dataset:
        media.notes.append(f"There are no sounds, for the recordings are not here: {known.no_dataset}.")
    return media


def _files(
    known: Known, sets: list[str], chosen: set[int], detail: Detail, notes: list[str] | None = None
) -> Iterator[tuple[int, bytes, str | None, str]]:
    """Give (clip number, file, set or None for a sound, media type) of every picture and sound."""
    for name in sets:
        if name != DRAWN:
            for clip, content, media_type in in_threads(
                lambda row: (row[0], *shown(row[1], row[2], detail)), _pictures(known, name, chosen)
            ):
                yield clip, content, name, media_type
    if known.dataset is None:
        return
    opened, with_picture, failed = known.dataset, DRAWN in sets, []
    rows = ((i, known.clips[i]) for i in sorted(chosen))
    for clip, sound, media_type, picture in in_threads(
        lambda row: (row[0], *_heard(opened, row[1], detail, with_picture)), rows
    ):
        if isinstance(sound, str):
            failed.append(sound)
            continue
        yield clip, sound, None, media_type
        if picture is not None:
            yield clip, picture, DRAWN, "image/webp" if detail.side else "image/png"
    if failed and notes is not None:
        notes.append(f"{len(failed)} recordings could not be read again and have no sound here, such as: {failed[0]}")


def _pictures(known: Known, name: str, chosen: set[int]) -> Iterator[tuple[int, bytes, str]]:
    folds = sorted({row["fold"] for row in known.clips})
    for fold in folds:
        part = known.layout.part("spectrograms", known.study, name, fold)
        for rows in batches(part, ("clip", "picture", "media_type"), _BATCH):
            for row in rows:
                clip = known.number.get(row["clip"], -1)
                if clip in chosen:
                    yield clip, row["picture"], row["media_type"]


def _heard(
    dataset: Dataset, row: dict[str, Any], detail: Detail, with_picture: bool
) -> tuple[bytes | str, str, bytes | None]:
    """Give a clip's sound, its media type and, where wanted, a picture drawn of it; or why it cannot be read."""
    rate = row["rate_hz"]
    try:
        samples = dataset.load(row["file"], rate, row["start_s"], row["end_s"], row["samples_sha256"])
    except BadClips as error:
        return str(error), "", None
    path = dataset.root / row["file"]
    media_type = PLAYED.get(path.suffix.lower())
    if detail is FULL and media_type and row["start_s"] is None and row["end_s"] is None:
        sound = path.read_bytes()
    else:
        sound, media_type = mp3(samples, rate, detail), "audio/mpeg"
    if not with_picture:
        return sound, media_type, None
    recipe = Recipe.model_validate({**preset("plain").values, "width": 384, "height": 256})
    picture = render(resample(samples, rate, 22050), 22050, recipe)
    return sound, media_type, shown(picture.bytes, picture.media_type, detail)[0]


def mp3(samples: "np.ndarray", rate_hz: int, detail: Detail = FULL) -> bytes:
    """Encode a sound, (samples,) float32 at `rate_hz`, as mono MP3 at the nearest rate MP3 knows."""
    import soundfile

    wanted = min(rate_hz, detail.rate_hz)
    rate = next((r for r in _RATES if r >= wanted), _RATES[-1])
    file = io.BytesIO()
    soundfile.write(
        file,
        resample(samples, rate_hz, rate),
        rate,
        format="MP3",
        subtype="MPEG_LAYER_III",
        compression_level=detail.compression,
    )
    return file.getvalue()


def shown(picture: bytes, media_type: str, detail: Detail = FULL) -> tuple[bytes, str]:
    """Give a picture and its media type: exactly as it is, or as small WebP."""
    if detail.side is None:
        return picture, media_type
    from PIL import Image

    with Image.open(io.BytesIO(picture)) as image:
        small = image.convert("RGB")
        small.thumbnail((detail.side, detail.side), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    small.save(file, "WEBP", quality=60, method=4)
    return file.getvalue(), "image/webp"


def _that_fits(known: Known, sets: list[str], room: int) -> tuple[Detail, int]:
    """Choose how closely to show how many clips, by what a few take. Blank pictures are all one and count as one."""
    few = _in_turn(known)[:_SAMPLE]
    if not few:
        return LEVELS[0], 0
    for detail in LEVELS:
        sizes = {digest(content): len(content) for _, content, _, _ in _files(known, sets, set(few), detail)}
        each = sum(sizes.values()) / len(few) * 4 / 3 * _MARGIN + 200
        if each * len(known.clips) <= room:
            return detail, len(known.clips)
    return detail, max(0, int(room / each))


def _in_turn(known: Known) -> list[int]:
    """Give clip numbers so that any beginning of the list holds every class about equally often."""
    seen: dict[str, int] = {}
    places = []
    for i, row in enumerate(known.clips):
        seen[row["label"]] = seen.get(row["label"], 0) + 1
        places.append((seen[row["label"]], digest(row["clip"].encode()), i))
    return [i for *_, i in sorted(places)]


def in_threads(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Do work on every item in threads, results in order; only a few items are held at a time."""
    waiting = iter(items)
    with ThreadPoolExecutor(cores()) as pool:
        while batch := list(islice(waiting, _BATCH)):
            yield from pool.map(work, batch)
