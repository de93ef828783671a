import io

import numpy as np
import PIL.Image
import pytest
import soundfile

from vlm_audio_pipeline.reports.page import media
from vlm_audio_pipeline.reports.page.known import known
from vlm_audio_pipeline.reports.page.media import LEVELS, Detail, in_threads, mp3, shown
from vlm_audio_pipeline.reports.page.place import SingleFile
from vlm_audio_pipeline.reports.page.report import write_report


def tone(rate, seconds=1.0, pitch=440.0):
    t = np.arange(round(rate * seconds)) / rate
    return (0.5 * np.sin(2 * np.pi * pitch * t)).astype(np.float32)


@pytest.mark.parametrize("rate", [4000, 8000, 16000, 44100, 96000])
def test_a_sound_is_itself_at_any_rate(rate):
    samples, found = soundfile.read(io.BytesIO(mp3(tone(rate), rate)))
    assert found >= min(rate, 48000)
    assert len(samples) / found == pytest.approx(1.0, abs=0.2)
    loudest = np.abs(np.fft.rfft(samples)).argmax() * found / len(samples)
    assert loudest == pytest.approx(440.0, abs=2.0)


def test_the_shortest_sound_there_can_be_is_written():
    samples, _ = soundfile.read(io.BytesIO(mp3(np.zeros(1, np.float32), 8000)))
    assert len(samples) >= 1


def test_a_small_sound_holds_no_more_than_its_rate():
    _, rate = soundfile.read(io.BytesIO(mp3(tone(44100), 44100, LEVELS[0])))
    assert rate == 16000


def test_a_picture_is_itself_or_small_in_its_own_shape():
    file = io.BytesIO()
    PIL.Image.new("P", (640, 480), 3).save(file, "PNG")
    assert shown(file.getvalue(), "image/png") == (file.getvalue(), "image/png")
    small, kind = shown(file.getvalue(), "image/png", Detail(160, 16000, 0.8))
    with PIL.Image.open(io.BytesIO(small)) as image:
        assert (kind, image.format, image.size) == ("image/webp", "WEBP", (160, 120))


def test_few_items_are_held_at_a_time():
    taken = []

    def items():
        for i in range(100):
            taken.append(i)
            yield i

    results = in_threads(lambda i: i * i, items())
    assert next(results) == 0 and len(taken) <= 16
    assert list(results) == [i * i for i in range(1, 100)]


def test_every_beginning_of_the_order_holds_all_classes(made):
    about = known(made.layout, made.study)
    order = media._in_turn(about)
    assert sorted(order) == list(range(30))
    for n in (1, 2, 3, 4, 5, 6):  # six clips of each of five classes
        labels = [about.clips[i]["label"] for i in order[: 5 * n]]
        assert {labels.count(label) for label in about.classes} == {n}


@pytest.mark.parametrize("room, whole", [(400_000, True), (180_000, False)])
def test_one_file_takes_what_fits_and_says_what_does_not(made, tmp_path, monkeypatch, room, whole):
    monkeypatch.setattr(media, "LIMIT", room)
    text = write_report(made.layout, made.study, tmp_path / "r.html", single_file=True).read_text()
    carried = sum(len(line) for line in text.splitlines() if line.startswith('<script type="text/plain"'))
    assert carried < room
    assert ("Pictures and sounds of" in text) != whole
    if not whole:
        assert "of 30 clips fit into one file" in text


def test_what_was_estimated_too_small_never_breaks_the_limit(made, tmp_path, monkeypatch):
    monkeypatch.setattr(media, "LIMIT", 100_000)
    monkeypatch.setattr(media, "_that_fits", lambda *_: (LEVELS[0], 30))
    with SingleFile(tmp_path / "r.html") as where:
        told = media.write_media(known(made.layout, made.study), ["paper"], where)
        assert where.carried < 120_000  # one picture or sound over
    assert "Room ran out before every picture and sound was in." in told.notes
