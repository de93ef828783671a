"""Segments of one recording: each recording is decoded once, in bounded memory, and the same samples come in any order."""

import random
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import soundfile

from vlm_audio_pipeline.datasets import audio, open_recordings
from vlm_audio_pipeline.datasets.audio import BadAudio, decode, read_length, samples_digest
from vlm_audio_pipeline.datasets.open_recordings import RecordingPool

RATE = 8000  # Hz; one that Opus has
SECONDS = 12
FORMATS = {"wav": {}, "flac": {}, "ogg": {}, "opus": {"format": "OGG", "subtype": "OPUS"}, "mp3": {}}
TIMES = [(start, start + 2.0) for start in np.arange(0, SECONDS - 1.5, 0.5)]  # overlapping by three quarters


@pytest.fixture(scope="module")
def noise(tmp_path_factory):
    """A recording of noise in each format: suffix -> path."""
    folder = tmp_path_factory.mktemp("noise")
    samples = 0.2 * np.random.default_rng(0).standard_normal(SECONDS * RATE).astype(np.float32)
    for suffix, options in FORMATS.items():
        soundfile.write(folder / f"a.{suffix}", samples, RATE, **options)
    return {suffix: folder / f"a.{suffix}" for suffix in FORMATS}


@pytest.fixture(autouse=True)
def pool(monkeypatch):
    """An empty pool; short blocks, so that short recordings have several."""
    monkeypatch.setattr(open_recordings, "_BLOCK_FRAMES", 2048)
    pool = RecordingPool()
    monkeypatch.setattr(audio, "OPEN_RECORDINGS", pool)
    yield pool
    pool.close()


@pytest.fixture
def decoded(monkeypatch):
    """Count the frames that libsndfile decodes: a list with one number."""
    count = [0]
    real = soundfile.SoundFile.read

    def read(sound, *arguments, **options):
        samples = real(sound, *arguments, **options)
        count[0] += len(samples)
        return samples

    monkeypatch.setattr(soundfile.SoundFile, "read", read)
    return count


@pytest.mark.parametrize("suffix", FORMATS)
def test_segments_in_any_order_are_parts_of_the_whole_recording(noise, suffix):
    whole = decode(noise[suffix])[0]
    order = random.Random(1).sample(TIMES, len(TIMES))
    for start, end in order:
        segment = decode(noise[suffix], start, end)[0]
        np.testing.assert_array_equal(segment, whole[round(start * RATE) : round(end * RATE)])


@pytest.mark.parametrize("suffix", FORMATS)
def test_the_samples_of_a_segment_do_not_depend_on_what_was_read_before(noise, suffix, pool):
    hashes = []
    for order in (TIMES, TIMES[::-1], random.Random(2).sample(TIMES, len(TIMES))):
        pool.close()
        hashes.append({time: samples_digest(decode(noise[suffix], *time)[0], RATE) for time in order})
    assert hashes[0] == hashes[1] == hashes[2]


@pytest.mark.parametrize("suffix", ["ogg", "opus", "mp3"])
def test_a_recording_is_decoded_once_for_all_its_segments(noise, suffix, decoded):
    for start, end in TIMES:
        decode(noise[suffix], start, end)
    assert decoded == [read_length(noise[suffix])[0]]


def test_threads_that_ask_only_roughly_in_order_share_one_decoding(noise, decoded):
    rng = random.Random(3)
    order = sorted(TIMES, key=lambda time: time[0] + rng.uniform(0, 3))
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda time: decode(noise["mp3"], *time), order))
    assert decoded == [SECONDS * RATE]


def test_memory_does_not_grow_with_the_recording(noise, monkeypatch, decoded):
    pool = RecordingPool(max_kept_samples=4 * RATE)
    monkeypatch.setattr(audio, "OPEN_RECORDINGS", pool)
    for start, end in TIMES:
        decode(noise["ogg"], start, end)
        [entry] = pool._entries.values()
        assert entry.recording.kept_samples <= 4 * RATE + 2048  # and the block that is being decoded
    assert decoded == [SECONDS * RATE]
    first = decode(noise["ogg"], 0, 1)[0]  # forgotten: it is decoded again from the beginning
    assert decoded[0] > SECONDS * RATE
    np.testing.assert_array_equal(first, decode(noise["ogg"])[0][:RATE])
    pool.close()


def test_recordings_that_were_not_used_longest_are_closed(noise, monkeypatch):
    pool = RecordingPool(max_open=2)
    monkeypatch.setattr(audio, "OPEN_RECORDINGS", pool)
    for suffix in FORMATS:
        decode(noise[suffix], 0, 1)
    assert [path.suffix for path in pool._entries] == [".opus", ".mp3"]
    pool.close()
    assert not pool._entries


def test_a_recording_that_was_replaced_is_opened_again(tmp_path, tone):
    path = tmp_path / "a.ogg"
    tone(path, 1)
    assert len(decode(path, 0.0, 0.5)[0]) == 11025
    tone(path, 1, 8000)
    assert len(decode(path, 0.0, 0.5)[0]) == 4000
    path.unlink()
    with pytest.raises(BadAudio, match="missing: the file does not exist"):
        decode(path, 0.0, 0.5)


def test_a_segment_outside_the_recording_does_not_spoil_the_next(tmp_path, tone):
    path = tmp_path / "a.mp3"
    tone(path, 1)
    for _ in range(2):
        with pytest.raises(BadAudio, match="segment: it must be within the file, got 2 s to 3 s of 1"):
            decode(path, 2, 3)
        assert len(decode(path, 0.0, 0.5)[0]) == 11025  # 0.5 s * 22050 Hz


@pytest.mark.parametrize("suffix", FORMATS)
def test_the_length_is_read_without_decoding(noise, suffix, decoded):
    assert read_length(noise[suffix]) == (SECONDS * RATE, RATE)
    assert decoded == [0]


def test_the_length_of_something_else_is_refused(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(b"no recording")
    with pytest.raises(BadAudio, match="undecodable"):
        read_length(path)
    with pytest.raises(BadAudio, match="missing"):
        read_length(tmp_path / "b.wav")
