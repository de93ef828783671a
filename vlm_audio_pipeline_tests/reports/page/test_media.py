import io
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import PIL.Image
import pytest
import soundfile

from vlm_audio_pipeline.reports.page import media
from vlm_audio_pipeline.reports.page.media import (
    balanced_order,
    encode_image,
    encode_mp3,
    encode_vorbis,
    map_in_threads,
    write_media,
)
from vlm_audio_pipeline.reports.page.report_writer import FOLDER, SINGLE_FILE, FolderWriter, SingleFileWriter
from vlm_audio_pipeline.reports.page.study_results import StudyResults


def tone(rate, seconds=1.0, pitch=440.0):
    t = np.arange(round(rate * seconds)) / rate
    return (0.5 * np.sin(2 * np.pi * pitch * t)).astype(np.float32)


@pytest.mark.parametrize("encode", [encode_mp3, encode_vorbis])
@pytest.mark.parametrize("rate", [4000, 8000, 16000, 44100, 96000])
def test_audio_keeps_its_pitch_and_duration_at_any_sample_rate(rate, encode):
    samples, decoded_rate = soundfile.read(io.BytesIO(encode(tone(rate), rate)))
    assert decoded_rate >= min(rate, 48000)
    assert len(samples) / decoded_rate == pytest.approx(1.0, abs=0.2)
    loudest = np.abs(np.fft.rfft(samples)).argmax() * decoded_rate / len(samples)
    assert loudest == pytest.approx(440.0, abs=2.0)


@pytest.mark.parametrize("encode", [encode_mp3, encode_vorbis])
def test_one_sample_of_audio_is_encoded(encode):
    samples, _ = soundfile.read(io.BytesIO(encode(np.zeros(1, np.float32), 8000)))
    assert len(samples) >= 1


def test_audio_of_a_single_file_has_a_limited_sample_rate():
    _, rate = soundfile.read(io.BytesIO(encode_mp3(tone(44100), 44100, SINGLE_FILE)))
    assert rate == 16000


def test_audio_is_encoded_once_in_the_format_of_the_report(monkeypatch):
    assert media.encode_audio(tone(8000), 8000, FOLDER)[1] == "audio/ogg"
    monkeypatch.setattr(media, "encode_vorbis", None)
    assert media.encode_audio(tone(8000), 8000, SINGLE_FILE)[1] == "audio/mpeg"


def test_an_image_is_unchanged_or_a_thumbnail_of_the_same_shape():
    file = io.BytesIO()
    PIL.Image.new("P", (640, 480), 3).save(file, "PNG")
    assert encode_image(file.getvalue(), "image/png") == (file.getvalue(), "image/png")
    small, kind = encode_image(file.getvalue(), "image/png", SINGLE_FILE)
    with PIL.Image.open(io.BytesIO(small)) as image:
        assert (kind, image.format, image.size) == ("image/webp", "WEBP", (224, 168))


def test_few_items_are_in_memory_at_a_time():
    taken = []

    def items():
        for i in range(100):
            taken.append(i)
            yield i

    results = map_in_threads(lambda i: i * i, items())
    assert next(results) == 0 and len(taken) <= 16
    assert list(results) == [i * i for i in range(1, 100)]


def test_every_beginning_of_the_balanced_order_has_all_classes(example_study):
    results = StudyResults.load(example_study.data_folder, example_study.study)
    order = balanced_order(results)
    assert sorted(order) == list(range(30))
    for n in (1, 2, 3, 4, 5, 6):  # six clips of each of five classes
        labels = [results.clips[i]["label"] for i in order[: 5 * n]]
        assert {labels.count(label) for label in results.classes} == {n}


def test_the_balanced_order_of_a_class_is_not_that_of_the_clip_ids():
    """Ids often begin with the fold. In the order of ids, the first 8 of 40 clips of a class would all be of fold 1."""
    clips = [
        {"clip": f"{fold}-{number}-{label}", "label": label}
        for fold in range(1, 6)
        for number in range(8)
        for label in "ab"
    ]
    order = balanced_order(SimpleNamespace(clips=clips))
    assert len({clips[i]["clip"][0] for i in order[:16]}) >= 3


@pytest.mark.parametrize("max_clips", [10, 200])
def test_a_single_file_has_media_of_a_fixed_number_of_clips_and_gives_its_size(
    example_study, tmp_path, monkeypatch, max_clips
):
    monkeypatch.setattr(SingleFileWriter, "format", replace(SINGLE_FILE, max_clips=max_clips))
    results = StudyResults.load(example_study.data_folder, example_study.study)
    with SingleFileWriter(tmp_path / "report.html") as writer:
        media = write_media(results, ["paper"], writer)
    clips = min(max_clips, 30)
    assert len(media.images["paper"]) == len(media.audio) == clips
    assert media.notes[0].startswith(
        f"This single file contains images and audio of {clips} of 30 clips ({writer.media_bytes / 1e6:.1f} MB)."
    )


def test_the_size_of_a_single_file_s_media_is_that_of_the_embedded_text(example_study, tmp_path):
    with SingleFileWriter(tmp_path / "report.html") as writer:
        write_media(StudyResults.load(example_study.data_folder, example_study.study), ["paper"], writer)
        text = writer.finish("<html><!-- embedded data --></html>").read_text()
    embedded = [line for line in text.splitlines(keepends=True) if '<script type="text/plain"' in line]
    assert writer.media_bytes == sum(len(line.removeprefix("<html>")) for line in embedded)


@pytest.mark.parametrize("max_clips", [10, 30])
def test_a_large_study_s_page_has_media_of_a_balanced_choice_of_clips_and_says_so(
    example_study, tmp_path, monkeypatch, max_clips
):
    monkeypatch.setattr(media, "FOLDER", replace(FOLDER, max_clips=max_clips))
    monkeypatch.setattr(FolderWriter, "format", media.FOLDER)
    results = StudyResults.load(example_study.data_folder, example_study.study)
    with FolderWriter(tmp_path / "report") as writer:
        page_media = write_media(results, ["paper"], writer)
    assert len(page_media.images["paper"]) == len(page_media.audio) == max_clips
    labels = [results.clips[clip]["label"] for clip in page_media.audio]
    counts = [labels.count(label) for label in results.classes]
    assert max(counts) - min(counts) <= 1
    assert [note[:43] for note in page_media.notes] == ["Images and audio of 10 of 30 clips are on t"] * (
        max_clips < 30
    )


@pytest.mark.parametrize(("clips", "text"), [(2000, "all"), (2001, "2,000")])
def test_a_single_file_says_how_many_clips_the_folder_contains(tmp_path, clips, text):
    note = media._single_file_note(SingleFileWriter(tmp_path / "report.html"), 200, clips)
    assert f"The folder form of this report contains {text} clips, with the images" in note
