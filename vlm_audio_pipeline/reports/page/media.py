"""Encode the images and audio of a report.

A report in a folder has the images unchanged; a report in a single file has thumbnails. Both have images and audio of a limited number of
clips (`report_writer.FOLDER` and `SINGLE_FILE`). Audio in a folder is a copy of the recording if browsers play its format, else mono Ogg Vorbis
(https://caniuse.com/ogg-vorbis), which is encoded in less than half the time of MP3. Audio in a single file is mono MP3, which
browsers of before 2025 play, too (https://caniuse.com/mp3).
"""

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from vlm_audio_pipeline.contracts.errors import BadClips
from vlm_audio_pipeline.contracts.hashing import digest
from vlm_audio_pipeline.contracts.progress import Progress, no_progress
from vlm_audio_pipeline.datasets.audio import resample
from vlm_audio_pipeline.datasets.base import ClipRow
from vlm_audio_pipeline.engines import core_count
from vlm_audio_pipeline.renderings.image import render
from vlm_audio_pipeline.reports.page.image_axes import image_axes
from vlm_audio_pipeline.reports.page.page_images import PAGE_IMAGES, PageRecipe, default_recipe, find_recipe
from vlm_audio_pipeline.reports.page.report_writer import FOLDER, ReportFormat, ReportWriter
from vlm_audio_pipeline.reports.page.study_results import StudyResults, read_batches

if TYPE_CHECKING:
    import numpy as np

PLAYABLE = {".ogg": "audio/ogg", ".mp3": "audio/mpeg", ".flac": "audio/flac"}
"""Suffix -> media type of recordings that browsers play (https://caniuse.com/ogg-vorbis)."""
_MP3_SAMPLE_RATES_HZ = (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000)
_BATCH_SIZE = 16  # images or audio files in memory at a time
_VORBIS_BLOCK = 65536  # samples; libsndfile needs a stack in proportion to one write

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass
class Media:
    """The images and audio of a report.

    Attributes:
        images: image set -> clip number -> name on the page.
        audio: clip number -> name on the page.
        axes: image set -> the axes of its images, as `image_axes` returns them.
        notes: sentences for the page about missing or reduced media, with the reason.
        unreadable: clip number -> why its recording cannot be read.
    """

    images: dict[str, dict[int, str]] = field(default_factory=dict)
    audio: dict[int, str] = field(default_factory=dict)
    axes: dict[str, dict[str, Any] | None] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    unreadable: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class MediaFile:
    """An encoded image or audio file of a clip; `image_set` is None for audio."""

    clip: int
    image_set: str | None
    media_type: str
    content: bytes


def write_media(
    results: StudyResults,
    image_sets: Sequence[str],
    writer: ReportWriter,
    progress: Progress = no_progress,
    *,
    selected: Sequence[int] | None = None,
    page_recipe: PageRecipe | None = None,
) -> Media:
    """Write the images of each set and the audio of each clip that the report's format includes.

    Args:
        results: the study.
        image_sets: names of renderings, also of controls (`<rendering>__<control>`), whose images models received.
        writer: the writer of the report.
        progress: callback `(done, total, description)`.
        selected: numbers of the clips, the most important first; by default all, in `balanced_order`.
        page_recipe: how an image of each clip is rendered for the page, beside those of the sets; by default only a study without images has one.
    """
    sets = list(image_sets)
    if results.dataset and (page_recipe is not None or not sets):
        sets.append(PAGE_IMAGES)
    clips = set((balanced_order(results) if selected is None else selected)[: writer.format.max_clips])
    media = Media(
        images={name: {} for name in sets},
        axes={name: image_axes(name, find_recipe(results, name, page_recipe), results.clips) for name in sets},
    )
    total = len(clips) * (len(sets) + (PAGE_IMAGES not in sets))
    for done, file in enumerate(_encode_files(results, sets, clips, writer.format, media, page_recipe), 1):
        file_names = media.audio if file.image_set is None else media.images[file.image_set]
        file_names[file.clip] = writer.write_media(digest(file.content)[:16], file.media_type, file.content)
        progress(min(done, total), total, "images and audio")
    if writer.format != FOLDER:
        media.notes.insert(0, _single_file_note(writer, len(clips), len(results.clips), page_recipe is not None))
    elif selected is None and len(clips) < len(results.clips):
        media.notes.insert(0, _choice_note(len(clips), len(results.clips)))
    if not results.dataset:
        media.notes.append(f"There is no audio, because the recordings are missing: {results.dataset_missing_reason}.")
    return media


def _choice_note(clips: int, all_clips: int) -> str:
    return (
        f"Images and audio of {clips:,} of {all_clips:,} clips are on this page: a random choice, balanced over the classes, which "
        "is the same each time. All numbers and predictions cover all clips."
    )


def _single_file_note(writer: ReportWriter, clips: int, all_clips: int, has_page_images: bool = False) -> str:
    report_format = writer.format
    in_folder = "all" if all_clips <= FOLDER.max_clips else f"{FOLDER.max_clips:,}"
    return (
        f"This single file contains images and audio of {clips:,} of {all_clips:,} clips "
        f"({writer.media_bytes / 1e6:.1f} MB). Images{' that models received' if has_page_images else ''} are at most {report_format.max_side} pixels wide. Audio contains "
        f"frequencies up to {report_format.max_sample_rate_hz / 2000:.1f} kHz. Each prediction has its {report_format.max_scores} highest "
        f"scores. The folder form of this report contains {in_folder} clips, with the images exactly as the models received them."
    )


def _encode_files(
    results: StudyResults,
    sets: Sequence[str],
    clips: set[int],
    report_format: ReportFormat,
    media: Media,
    page_recipe: PageRecipe | None,
) -> Iterator[MediaFile]:
    """Yield every image and audio file; recordings that cannot be read are counted in the notes of `media`."""

    def encode_stored(stored: MediaFile) -> MediaFile:
        content, media_type = encode_image(stored.content, stored.media_type, report_format)
        return MediaFile(stored.clip, stored.image_set, media_type, content)

    for name in sets:
        if name != PAGE_IMAGES:
            yield from map_in_threads(encode_stored, _stored_images(results, name, clips))
    if results.dataset is None:
        return
    encode_clip = partial(
        _encode_recording,
        results,
        report_format=report_format,
        with_image=PAGE_IMAGES in sets,
        page_recipe=page_recipe,
    )
    numbers = sorted(clips)
    for number, encoded in zip(numbers, map_in_threads(encode_clip, numbers), strict=True):
        if isinstance(encoded, BadClips):
            media.unreadable[number] = str(encoded)
        else:
            yield from encoded
    if errors := list(media.unreadable.values()):
        media.notes.append(
            f"{len(errors):,} recordings cannot be read, so they have no audio here. For example: {errors[0]}"
        )


def _stored_images(results: StudyResults, name: str, clips: set[int]) -> Iterator[MediaFile]:
    for fold in sorted({row["fold"] for row in results.clips}):
        path = results.data_folder.partition_file("spectrograms", results.study, name, fold)
        for rows in read_batches(path, ("clip", "image", "media_type"), _BATCH_SIZE):
            for row in rows:
                clip = results.clip_number.get(row["clip"], -1)
                if clip in clips:
                    yield MediaFile(clip, name, row["media_type"], row["image"])


def _encode_recording(
    results: StudyResults,
    number: int,
    *,
    report_format: ReportFormat,
    with_image: bool,
    page_recipe: PageRecipe | None = None,
) -> list[MediaFile] | BadClips:
    """Return the audio of a clip and, if requested, an image that is rendered for the page; or the reason why it cannot be read."""
    dataset, row = results.dataset, results.clips[number]
    assert dataset is not None
    sample_rate_hz = row["sample_rate_hz"]
    try:
        samples = dataset.samples(ClipRow.from_row(row), sample_rate_hz)
    except BadClips as error:
        return error
    path = dataset.root / row["file"]
    media_type = PLAYABLE.get(path.suffix.lower())
    if report_format.copies_audio and media_type and row["start_s"] is None and row["end_s"] is None:
        files = [MediaFile(number, None, media_type, path.read_bytes())]
    else:
        content, media_type = encode_audio(samples, sample_rate_hz, report_format)
        files = [MediaFile(number, None, media_type, content)]
    if with_image:
        recipe = (page_recipe or default_recipe)(row)
        rate = recipe.rate or sample_rate_hz
        image = render(resample(samples, sample_rate_hz, rate), rate, recipe)
        if page_recipe is None:
            content, media_type = encode_image(image.bytes, image.media_type, report_format)
        else:  # no model received it, so it may be compressed; it is read, so it must not be small
            content, media_type = encode_webp(image.bytes), "image/webp"
        files.append(MediaFile(number, PAGE_IMAGES, media_type, content))
    return files


def encode_audio(samples: "np.ndarray", sample_rate_hz: int, report_format: ReportFormat) -> tuple[bytes, str]:
    """Encode audio, (samples,) float32, for a report of this format; return it with its media type."""
    if report_format == FOLDER:
        return encode_vorbis(samples, sample_rate_hz), "audio/ogg"
    return encode_mp3(samples, sample_rate_hz, report_format), "audio/mpeg"


def encode_mp3(samples: "np.ndarray", sample_rate_hz: int, report_format: ReportFormat = FOLDER) -> bytes:
    """Encode audio, (samples,) float32, as mono MP3 at the next sample rate that MP3 supports."""
    import soundfile

    target = min(sample_rate_hz, report_format.max_sample_rate_hz)
    rate = next((r for r in _MP3_SAMPLE_RATES_HZ if r >= target), _MP3_SAMPLE_RATES_HZ[-1])
    file = io.BytesIO()
    soundfile.write(
        file,
        resample(samples, sample_rate_hz, rate),
        rate,
        format="MP3",
        subtype="MPEG_LAYER_III",
        compression_level=report_format.mp3_compression,
    )
    return file.getvalue()


def encode_vorbis(samples: "np.ndarray", sample_rate_hz: int) -> bytes:
    """Encode audio, (samples,) float32, as mono Ogg Vorbis at its own sample rate (8 to 48 kHz)."""
    import soundfile

    rate = max(8000, min(sample_rate_hz, 48000))
    samples = resample(samples, sample_rate_hz, rate)
    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", rate, 1, format="OGG", subtype="VORBIS") as encoder:
        for start in range(0, len(samples), _VORBIS_BLOCK):
            encoder.write(samples[start : start + _VORBIS_BLOCK])
    return file.getvalue()


def encode_image(image: bytes, media_type: str, report_format: ReportFormat = FOLDER) -> tuple[bytes, str]:
    """Return an image and its media type: unchanged, or as a WebP thumbnail if the format has a `max_side`."""
    if report_format.max_side is None:
        return image, media_type
    return encode_webp(image, report_format.max_side), "image/webp"


def encode_webp(image: bytes, max_side: int | None = None) -> bytes:
    """Encode an image as WebP; with `max_side`, as a thumbnail with at most this many pixels on a side."""
    from PIL import Image

    with Image.open(io.BytesIO(image)) as decoded:
        small = decoded.convert("RGB")
    if max_side is not None:
        small.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    small.save(file, "WEBP", quality=60, method=4 if max_side else 1)  # the fast method saves as much on large images
    return file.getvalue()


def balanced_order(results: StudyResults) -> list[int]:
    """Return all clip numbers in an order in which the first n clips are balanced over the classes, for every n.

    The order within a class is random, but the same each time: that of the hashes of the clip ids. Ids often begin with the fold.
    """
    per_class: dict[str, int] = {}
    order = []
    for hash_of_id, i in sorted((digest(row["clip"].encode()), i) for i, row in enumerate(results.clips)):
        label = results.clips[i]["label"]
        per_class[label] = per_class.get(label, 0) + 1
        order.append((per_class[label], hash_of_id, i))
    return [i for *_, i in sorted(order)]


def map_in_threads(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Apply `work` to every item in threads; results are in order, and only a few items are in memory at a time."""
    remaining = iter(items)
    with ThreadPoolExecutor(core_count()) as pool:
        while batch := list(islice(remaining, _BATCH_SIZE)):
            yield from pool.map(work, batch)
