import contextlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from vlm_audio_pipeline.contracts.errors import BadClips
from vlm_audio_pipeline.contracts.stages import StageContext
from vlm_audio_pipeline.datasets import audio
from vlm_audio_pipeline.datasets.audio import BadAudio, decode
from vlm_audio_pipeline.datasets.base import Clip, Dataset
from vlm_audio_pipeline.datasets.card import DatasetCard
from vlm_audio_pipeline.datasets.inspection import clips_stage
from vlm_audio_pipeline.engines import LocalEngine
from vlm_audio_pipeline_tests.datasets.odd_recordings import (
    ID3,
    LIST,
    PCM,
    RATE,
    RECORDINGS,
    TAG,
    N,
    chunk,
    encoded,
    sine,
    write_recording,
)

DOCUMENT = Path(__file__).parents[2] / "docs/troubleshooting.md"


def documented() -> dict[str, str]:
    """Return the table of odd recordings in the documentation: recording -> what happens."""
    section = DOCUMENT.read_text(encoding="utf-8").split("## Odd and damaged recordings")[1].split("\n## ")[0]
    tables = section.split("| recording | what happens |")[1]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in tables.splitlines() if line[:1] == "|"]
    return {row[0]: row[1] for row in rows[1:]}


def test_the_documentation_lists_sixty_kinds_or_more_and_all_of_them_are_made_here():
    assert len(documented()) >= 60
    assert list(documented()) == list(RECORDINGS)


@pytest.mark.parametrize("name", RECORDINGS)
def test_each_odd_recording_is_read_or_refused_as_documented(tmp_path, name):
    path = write_recording(tmp_path, name)
    expected = documented()[name]
    if expected == "read":
        samples, _, _ = decode(path)
        assert len(samples) > 0 and np.isfinite(samples).all()
    else:
        with pytest.raises(BadAudio) as error:
            decode(path)
        assert expected == f"refused: {error.value.reason.split(':')[0]}"
        assert str(error.value).startswith(f"{path} cannot be used: ")


# Containers in which a decoder finds fewer samples than there are, or pads the last block.
PADDED = {"WAV, GSM 6.10": 2240, "WAV, IMA ADPCM": 2020}  # blocks of 320 and 505 samples


@pytest.mark.parametrize("name", [name for name in RECORDINGS if name.startswith(("WAV, 16", "WAV, GSM", "WAV, IMA", "WAV, big", "WAV, st", "WAV, an ID3 tag before it", "RF64", "W64", "AIFF", "CAF", "AU", "NIST", "FLAC", "Ogg", "MP3"))])  # fmt: skip
def test_what_is_read_has_all_samples(tmp_path, name):
    path = write_recording(tmp_path, name)
    if documented()[name] == "read":
        assert len(decode(path)[0]) == PADDED.get(name, N)


@pytest.mark.parametrize("name", RECORDINGS)
def test_a_segment_of_a_recording_equals_that_part_of_the_whole(tmp_path, name):
    path = write_recording(tmp_path, name)
    if documented()[name] != "read":
        return
    whole, rate, _ = decode(path)
    first, stop = len(whole) // 3, len(whole) - len(whole) // 4
    segment, _, _ = decode(path, first / rate, stop / rate)
    np.testing.assert_array_equal(segment, whole[first:stop])


def test_the_samples_of_containers_without_loss_are_those_that_were_written(tmp_path):
    expected = np.frombuffer(PCM, "<i2").astype(np.float32) / 32768
    for name in (
        "WAV, 16 bits",
        "WAV, big-endian (RIFX)",
        "WAV, an ID3 tag before it",
        "WAV, streamed: declares 4 GiB",
    ):
        np.testing.assert_array_equal(decode(write_recording(tmp_path, name))[0], expected)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("a web page named .wav", "undecodable: it is a web page; download the recording again"),
        ("a Git LFS pointer", "undecodable: it is a Git LFS pointer; run `git lfs pull`"),
        (
            "an AppleDouble file (._name.wav)",
            "undecodable: it is a file of macOS without sound (AppleDouble); remove it",
        ),
        (
            "WAV, declares 0 bytes of samples",
            "header not complete: it declares 0 bytes of samples, but 4000 bytes follow; ",
        ),
        (
            "WAV, declares half of its samples",
            "header wrong: it declares 2000 bytes of samples, but 2000 bytes that belong ",
        ),
        (
            "WAV, a LIST chunk of odd length without padding",
            "damaged: the chunk 'LIST' has the odd length 17, and the padding",
        ),
        ("RF64, cut", "truncated: the header declares 4000 bytes of samples, the file has "),
        (
            "WAV, two files joined",
            "several recordings: another one begins at byte 4044, and would not be read; split the file",
        ),
        (
            "FLAC, declares half of its samples",
            "header wrong: it declares 1000 samples, the file has 2000; write the file again",
        ),
        (
            "floats on the 16-bit scale",
            "impossible level: the peak is 16358.5, where 1 is full scale, as of samples on a 16-bit ",
        ),
    ],
)
def test_reasons_say_what_was_found(tmp_path, name, reason):
    with pytest.raises(BadAudio) as error:
        decode(write_recording(tmp_path, name))
    assert error.value.reason.startswith(reason)


STREAMED = "WAV, streamed"  # declares no length, so that a cut cannot be noticed
READABLE = [name for name, outcome in documented().items() if outcome == "read"]


@pytest.mark.parametrize("name", [name for name in READABLE if not name.startswith(STREAMED)])
def test_a_recording_that_is_cut_anywhere_is_refused_or_has_all_samples(tmp_path, name):
    path = write_recording(tmp_path, name)
    whole, data = decode(path)[0], path.read_bytes()
    positions = np.random.default_rng(0).integers(1, len(data), 8).tolist()
    for position in {*positions, *range(max(1, len(data) - 4), len(data))}:
        path.write_bytes(data[:position])
        with contextlib.suppress(BadAudio):
            np.testing.assert_array_equal(decode(path)[0], whole)


@pytest.mark.parametrize("name", READABLE)
def test_a_recording_with_another_one_behind_it_is_refused(tmp_path, name):
    path = write_recording(tmp_path, name)
    data = path.read_bytes()
    for other in (name, "WAV, 16 bits", "FLAC", "Ogg Opus", "MP3, two ID3 tags before it", "CAF", "AIFF"):
        path.write_bytes(data + RECORDINGS[other][1]())
        with pytest.raises(BadAudio, match=r"several recordings|header wrong"):
            decode(path)


@pytest.mark.parametrize("name", [n for n in READABLE if not n.startswith((STREAMED, "AU", "NIST", "W64"))])
@pytest.mark.parametrize(
    "tail", [b"\r\n", bytes(1000), TAG, ID3, chunk(b"LIST", LIST)], ids=["CRLF", "zeros", "TAG", "ID3", "LIST"]
)
def test_what_follows_a_recording_is_never_read_as_samples(tmp_path, name, tail):
    path = write_recording(tmp_path, name)
    whole = decode(path)[0]
    path.write_bytes(path.read_bytes() + tail)
    with contextlib.suppress(BadAudio):
        np.testing.assert_array_equal(decode(path)[0], whole)


@pytest.mark.parametrize("name", ["AU", "NIST SPHERE", "W64"])
def test_zeros_after_a_recording_are_not_read_as_samples(tmp_path, name):
    """libsndfile reads them as samples of W64 and NIST files."""
    path = write_recording(tmp_path, name)
    path.write_bytes(path.read_bytes() + bytes(1000))
    assert len(decode(path)[0]) == N


def test_joined_files_of_equal_and_different_length_are_refused_in_any_order(tmp_path):
    for container in ("FLAC", "OGG", "MP3"):
        short, long = encoded(container), encoded(container, samples=sine(3 * N))
        for i, data in enumerate((short + long, long + short, short + short, short + ID3 + long)):
            path = tmp_path / f"{i}.{container.lower()}"
            path.write_bytes(data)
            with pytest.raises(BadAudio, match="several recordings"):
                decode(path)


def test_a_vbr_mp3_of_many_frames_and_flac_with_short_blocks_are_read(tmp_path):
    samples = np.random.default_rng(1).uniform(-0.5, 0.5, 20 * N).astype(np.float32)
    samples[5 * N : 10 * N] *= 1e-3  # frames of other sizes
    for container in ("MP3", "FLAC", "OGG"):
        (tmp_path / "a").write_bytes(encoded(container, samples=samples, rate=44100))
        assert len(decode(tmp_path / "a")[0]) == 20 * N


def test_random_bytes_at_the_end_of_a_flac_file_are_not_counted_as_frames(tmp_path):
    data = encoded("FLAC", samples=sine(20 * N))
    frame = data[data.index(b"\xff\xf8", 42) :][:4]
    junk = np.random.default_rng(2).integers(0, 256, 4000, dtype=np.uint8).tobytes()
    (tmp_path / "a.flac").write_bytes(data + frame + junk + frame * 20)
    assert len(decode(tmp_path / "a.flac")[0]) == 20 * N


def test_a_wav_file_with_the_suffix_raw_is_read(tmp_path):
    soundfile.write(tmp_path / "a.wav", sine(), RATE)
    (tmp_path / "a.wav").rename(tmp_path / "a.raw")
    assert len(decode(tmp_path / "a.raw")[0]) == N


def test_a_recording_whose_name_is_not_utf_8_is_read(tmp_path):
    name = os.fsdecode(b"k\xfcche.wav")
    (tmp_path / name).write_bytes(encoded("WAV", "PCM_16"))
    assert len(decode(tmp_path / name)[0]) == N


def test_peaks_up_to_eight_are_accepted(tmp_path):
    for peak, is_accepted in ((1.5, True), (7.9, True), (8.1, False), (100.0, False)):
        samples = np.zeros(N, np.float32)
        samples[5] = -peak
        (tmp_path / f"{peak}.wav").write_bytes(encoded("WAV", "FLOAT", samples))
        if is_accepted:
            assert np.abs(decode(tmp_path / f"{peak}.wav")[0]).max() == np.float32(peak)
        else:
            with pytest.raises(BadAudio, match=rf"impossible level: the peak is {peak:g}, .*; divide the samples by "):
                decode(tmp_path / f"{peak}.wav")


def test_impossible_levels_are_found_in_each_channel(tmp_path):
    """The mean of the channels would hide the level: (32767 - 32767) / 2 = 0."""
    samples = 32767 * np.stack([sine(), -sine()], 1)
    (tmp_path / "a.wav").write_bytes(encoded("WAV", "FLOAT", samples))
    with pytest.raises(BadAudio, match=r"impossible level: .* 16-bit integer scale; divide the samples by 32768"):
        decode(tmp_path / "a.wav")


@pytest.mark.parametrize(
    ("gain", "is_refused"), [(-1.0, True), (-0.8, True), (-0.3, False), (0.0, False), (1.0, False)]
)
def test_channels_that_cancel_are_refused(tmp_path, gain, is_refused):
    # mean (1 + g) / 2, so 2 * P(mean) / P(channels) = (1 + g)^2 / (1 + g^2): 0, 0.024, 0.45, 1, 2; the limit is 0.1
    (tmp_path / "a.wav").write_bytes(encoded("WAV", "FLOAT", np.stack([sine(), gain * sine()], 1)))
    if is_refused:
        with pytest.raises(BadAudio, match="channels cancel: the mean of the 2 channels has an RMS of"):
            decode(tmp_path / "a.wav")
    else:
        assert decode(tmp_path / "a.wav")[2] == 2


def test_quiet_noise_in_two_channels_is_no_cancellation(tmp_path):
    noise = np.random.default_rng(3).integers(-1, 2, (N, 2)) / 32768
    (tmp_path / "a.wav").write_bytes(encoded("WAV", "PCM_16", np.stack([noise[:, 0], -noise[:, 0]], 1)))
    assert decode(tmp_path / "a.wav")[2] == 2


def dataset(root: Path, on_bad_clip: str) -> Dataset:
    names = {"good1": 1, "good2": 2, "odd1": 1, "odd2": 2}
    clips = tuple(Clip(name, "a", fold, name, f"{name}.wav") for name, fold in names.items())
    return Dataset(root, ("a",), clips, DatasetCard("Test"), on_bad_clip)


def run_clips_stage(data: Dataset, result_store, fold: int = 1):
    stage = clips_stage(data.on_bad_clip)
    return stage.run(
        StageContext("study", "", fold, data.classes, {}, data, result_store, lambda *_: None, engine=LocalEngine())
    )


def test_any_error_of_a_decoder_names_the_recording_and_skip_sets_it_aside(tmp_path, result_store, monkeypatch):
    errors = {N - 2: ValueError("array is too big"), N - 3: soundfile.SoundFileError("a fault")}
    for i, name in enumerate(("good1", "good2", "odd1", "odd2")):
        (tmp_path / f"{name}.wav").write_bytes(encoded("WAV", "PCM_16", sine(N - i, hz=400.0 + i)))
    real = soundfile.SoundFile.read

    def read(sound, *arguments, **options):
        if sound.frames in errors:
            raise errors[sound.frames]
        return real(sound, *arguments, **options)

    monkeypatch.setattr(soundfile.SoundFile, "read", read)
    with pytest.raises(BadClips, match=r"odd1 \(odd1.wav\): undecodable: array is too big; convert it(?s:.*)a fault"):
        run_clips_stage(dataset(tmp_path, "stop"), result_store)
    tables = run_clips_stage(dataset(tmp_path, "skip"), result_store)
    assert tables["clips"]["clip"].to_pylist() == ["good1"]
    [rejected] = tables["rejected_clips"].to_pylist()
    assert rejected["clip"] == "odd1" and rejected["reason"].startswith("undecodable: array is too big")


def test_odd_recordings_stop_the_study_or_are_set_aside(tmp_path, result_store):
    for name, odd in {"good1": "WAV, 16 bits", "good2": "WAV, 16 bits", "odd1": "FLAC of unknown length", "odd2": "floats on the 16-bit scale"}.items():  # fmt: skip
        (tmp_path / f"{name}.wav").write_bytes(RECORDINGS[odd][1]())
    with pytest.raises(BadClips, match=r"2 of 4 recordings cannot be used(?s:.*)odd1.wav\): of unknown length"):
        run_clips_stage(dataset(tmp_path, "stop"), result_store)
    tables = run_clips_stage(dataset(tmp_path, "skip"), result_store, fold=2)
    assert [json.dumps(r["clip"]) for r in tables["rejected_clips"].to_pylist()] == ['"odd2"']


def test_a_refused_recording_leaves_no_file_open(tmp_path):
    code = (
        "import os, sys; from pathlib import Path; from vlm_audio_pipeline.datasets.audio import BadAudio, decode\n"
        "for _ in range(20):\n"
        "  for path in map(Path, sys.argv[1:]):\n"
        "    try: decode(path)\n"
        "    except BadAudio: pass\n"
        "print(len(os.listdir('/proc/self/fd')))"
    )
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("no /proc on this system")
    paths = []
    for i, name in enumerate(("MP3, cut", "a web page named .wav", "WAV, cut", "FLAC, cut", "WAV, 16 bits")):
        (tmp_path / str(i)).mkdir()
        paths.append(str(write_recording(tmp_path / str(i), name)))
    result = subprocess.run([sys.executable, "-c", code, *paths], capture_output=True, text=True, check=True)
    assert int(re.findall(r"\d+", result.stdout)[-1]) < 15


def test_the_recordings_of_esc10_have_the_samples_that_libsndfile_decodes(esc10_dir):
    paths = sorted(esc10_dir.rglob("*.ogg"))
    assert len(paths) == 400
    for path in paths[::20]:
        samples, rate, channels = decode(path)
        expected, expected_rate = soundfile.read(path, dtype="float32")
        assert (rate, channels) == (expected_rate, 1)
        np.testing.assert_array_equal(samples, expected)


def test_a_chunk_of_w64_that_is_shorter_than_its_header_is_named(tmp_path):
    """A length of W64 includes the header of the chunk, 24 bytes."""
    data = bytearray(encoded("W64", "PCM_16"))
    position = data.index(b"data", 40) + 16
    data[position : position + 8] = (23).to_bytes(8, "little")
    path = tmp_path / "a.w64"
    path.write_bytes(data)
    with pytest.raises(BadAudio, match="the chunk 'data' declares 23 bytes, less than the header itself has"):
        decode(path)


def test_a_defect_of_this_program_is_no_bad_recording(tmp_path, monkeypatch):
    path = write_recording(tmp_path, "WAV, 16 bits")
    monkeypatch.setattr(audio, "read_container", lambda path: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        decode(path)
