"""Recordings that would block, fill the memory or never end are refused by name."""

import os
import socket
import time
import tracemalloc

import numpy as np
import pytest
import soundfile

from vlm_audio_pipeline.contracts.errors import BadDataset
from vlm_audio_pipeline.datasets.audio import BadAudio, decode
from vlm_audio_pipeline.datasets.csv_reader import read_csv
from vlm_audio_pipeline_tests.bench import Bench


def error_reason(path) -> str:
    with pytest.raises(BadAudio) as caught:
        decode(path)
    return caught.value.reason


@pytest.mark.slow
def test_a_recording_of_ten_hours_is_refused_before_it_is_decoded_and_a_segment_of_it_is_read(tmp_path):
    """288,000,000 frames of silence are a small FLAC and 1.2 GB of samples."""
    path = tmp_path / "long.flac"
    with soundfile.SoundFile(path, "w", 8000, 1, "PCM_16") as sound:
        for _ in range(36):
            sound.write(np.zeros(8_000_000, np.int16))
    assert path.stat().st_size < 6_000_000
    tracemalloc.start()
    reason = error_reason(path)
    samples, rate, _ = decode(path, 35_990.0, 35_991.5)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (
        reason.startswith("too long: 36,000 s at 8000 Hz with 1 channels are 288,000,000 samples")
        and "segments" in reason
    )
    assert (len(samples), rate) == (12_000, 8000)
    assert peak < 5_000_000  # bytes


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("pipe", "not a regular file: it is a named pipe"),
        ("device", "not a regular file: it is a device"),
        ("socket", "not a regular file: it is a socket"),
        ("sparse", "too large: it has 20.0 GB, at most 10 GB are read"),
    ],
)
def test_only_regular_files_of_limited_size_are_opened(tmp_path, kind, words):
    path = tmp_path / "a.wav"
    if kind == "pipe":
        os.mkfifo(path)  # opening it would wait for ever
    elif kind == "device":
        path.symlink_to("/dev/zero")
    elif kind == "socket":
        socket.socket(socket.AF_UNIX).bind(str(path))
    else:
        path.write_bytes(b"RIFF\0\0\0\0WAVE")
        os.truncate(path, 20_000_000_000)
    assert error_reason(path).startswith(words)


def test_a_wav_file_of_zeros_is_refused_at_once(tmp_path):
    """Zeros look like chunks without content: nine gigabytes of them are a billion chunks."""
    path = tmp_path / "a.wav"
    path.write_bytes(b"RIFF\0\0\0\0WAVE")
    os.truncate(path, 9_000_000_000)
    started = time.process_time()
    assert error_reason(path)
    assert time.process_time() - started < 1  # s


@pytest.mark.parametrize("kind", ["pipe", "device", "sparse"])
def test_a_study_names_a_recording_that_is_no_file_or_too_large(tmp_path, kind):
    bench = Bench(tmp_path / "bench")
    path = bench.audio / "1-low-0.wav"
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.touch()
        os.truncate(path, 20_000_000_000)
    started = time.process_time()
    failed = bench.run(only=("clips",)).report.failed
    assert time.process_time() - started < 10  # s
    (reason,) = set(failed.values())
    expected = {"pipe": "it is a named pipe", "device": "it is a device", "sparse": "it has 20.0 GB"}[kind]
    assert "1-low-0 (audio/1-low-0.wav): " in reason and expected in reason
    bench.study["dataset"]["on_bad_clip"] = "skip"
    assert not bench.run(only=("clips",)).report.failed


@pytest.mark.parametrize(("kind", "words"), [("pipe", "named pipe"), ("device", "a device"), ("sparse", "too large")])
def test_a_csv_that_is_no_file_or_too_large_is_refused_by_name(tmp_path, kind, words):
    path = tmp_path / "clips.csv"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.touch()
        os.truncate(path, 20_000_000_000)
    with pytest.raises(BadDataset, match=rf"clips\.csv cannot be read: .*{words}"):
        read_csv(path)


def test_a_large_file_with_tags_before_its_recording_is_not_read_into_memory(tmp_path):
    path = tmp_path / "a.mp3"
    path.write_bytes(b"ID3\x04\0\0\0\0\0\0")
    os.truncate(path, 9_000_000_000)
    tracemalloc.start()
    assert error_reason(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50_000_000  # bytes
