import re
import wave

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from vlm_audio_pipeline.contracts.errors import BadClips
from vlm_audio_pipeline.datasets.audio import BadAudio, decode, peak_normalise, resample

FORMATS = ["wav", "flac", "ogg", "mp3", "aiff"]


def test_wav_samples_equal_the_values_of_the_standard_library(tmp_path):
    # 16-bit PCM: full scale is 2^15 = 32768, so 16384 -> 0.5 and -32768 -> -1.
    path = tmp_path / "a.wav"
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(np.array([0, 16384, -32768, 8192], "<i2").tobytes())
    samples, sample_rate_hz, channels = decode(path)
    assert samples.tolist() == [0.0, 0.5, -1.0, 0.25]
    assert (samples.dtype, sample_rate_hz, channels) == (np.float32, 8000, 1)


def test_channels_are_averaged(tmp_path):
    # (0.5 + -0.25 + 0.5) / 3 = 0.25
    path = tmp_path / "a.wav"
    soundfile.write(path, np.tile([0.5, -0.25, 0.5], (10, 1)), 48000)
    samples, _, channels = decode(path)
    np.testing.assert_allclose(samples, np.full(10, 0.25), atol=1e-6)
    assert channels == 3


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(("sample_rate_hz", "channels"), [(8000, 1), (44100, 2), (48000, 1)])
def test_formats_sample_rates_and_channels_are_decoded(tmp_path, tone, name, sample_rate_hz, channels):
    path = tmp_path / f"a.{name}"
    written = tone(path, 0.5, sample_rate_hz, channels)
    samples, rate, n = decode(path)
    assert (rate, n) == (sample_rate_hz, channels)
    assert len(samples) == sample_rate_hz // 2
    # A sine of amplitude 0.5 has a root mean square of 0.5 / sqrt(2) = 0.3536; lossy codecs nearly keep it.
    assert np.sqrt(np.mean(np.square(samples))) == pytest.approx(0.3536, rel=0.05)
    if name not in ("ogg", "mp3"):
        np.testing.assert_allclose(samples, written[:, 0], atol=2**-15)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
def test_bit_depths_are_decoded(tmp_path, tone, subtype):
    written = tone(tmp_path / "a.wav", subtype=subtype)
    np.testing.assert_allclose(decode(tmp_path / "a.wav")[0], written[:, 0], atol=2**-7)


@pytest.mark.parametrize("name", ["wav", "flac", "ogg", "mp3"])
def test_a_segment_equals_the_samples_between_its_times(tmp_path, tone, name):
    path = tmp_path / f"a.{name}"
    tone(path, 2.0, 22050)
    complete = decode(path)[0]
    segment = decode(path, 0.5, 1.25)[0]
    # 0.5 s * 22050 Hz = 11025 and 1.25 s * 22050 Hz = 27562.5, rounded to the even 27562
    np.testing.assert_allclose(segment, complete[11025:27562], atol=1e-6)
    np.testing.assert_allclose(decode(path, start_s=1.5)[0], complete[33075:], atol=1e-6)
    np.testing.assert_allclose(decode(path, end_s=0.1)[0], complete[:2205], atol=1e-6)


def test_a_segment_of_opus_is_decoded(tmp_path, tone):
    tone(tmp_path / "a.ogg", 2.0, 48000, format="OGG", subtype="OPUS")
    segment, sample_rate_hz, _ = decode(tmp_path / "a.ogg", 0.5, 1.25)
    assert sample_rate_hz == 48000
    np.testing.assert_array_equal(segment, decode(tmp_path / "a.ogg")[0][24000:60000])


def test_a_segment_may_end_just_after_the_file(tmp_path, tone):
    tone(tmp_path / "a.wav", 1.0, 8000)
    assert len(decode(tmp_path / "a.wav", 0.5, 1.009)[0]) == 4000


@pytest.mark.parametrize(
    ("start_s", "end_s", "reason"),
    [
        (0.5, 0.5, "segment: its start must be 0 s or more and before its end, got 0.5 s to 0.5 s of 1 s"),
        (0.6, 0.5, "segment: its start must be 0 s or more and before its end, got 0.6 s to 0.5 s of 1 s"),
        (-0.1, 0.5, "segment: its start must be 0 s or more and before its end, got -0.1 s to 0.5 s of 1 s"),
        (float("nan"), 0.5, "segment: its start must be 0 s or more and before its end, got nan s to 0.5 s of 1 s"),
        (2.0, 3.0, "segment: it must be within the file, got 2 s to 3 s of 1 s"),
        (0.5, 1.02, "segment: it must be within the file, got 0.5 s to 1.02 s of 1 s"),
        (1.0, 1.005, "segment: it must be within the file, got 1 s to 1.005 s of 1 s"),
        (0.5, 0.50001, "no samples: the segment is shorter than one sample at 8000 Hz, got 0.5 s to 0.50001 s of 1 s"),
    ],
)
def test_segments_outside_the_file_are_refused(tmp_path, tone, start_s, end_s, reason):
    tone(tmp_path / "a.wav", 1.0, 8000)
    with pytest.raises(BadAudio) as error:
        decode(tmp_path / "a.wav", start_s, end_s)
    assert error.value.reason == reason


def test_silence_and_one_millisecond_are_valid(tmp_path):
    soundfile.write(tmp_path / "silence.ogg", np.zeros(44100), 44100)
    assert not decode(tmp_path / "silence.ogg")[0].any()
    soundfile.write(tmp_path / "short.wav", np.full(8, 0.5), 8000)
    assert len(decode(tmp_path / "short.wav")[0]) == 8


def error_reason(path) -> str:
    with pytest.raises(BadAudio) as error:
        decode(path)
    assert isinstance(error.value, BadClips)  # as `Dataset.samples` promises
    assert str(error.value) == f"{path} cannot be used: {error.value.reason}"
    return error.value.reason


def test_missing_files_and_folders_are_reported(tmp_path):
    assert error_reason(tmp_path / "none.wav") == "missing: the file does not exist"
    assert error_reason(tmp_path) == "unreadable: Is a directory"


def test_an_empty_file_is_reported(tmp_path):
    (tmp_path / "a.ogg").touch()
    assert error_reason(tmp_path / "a.ogg") == "empty: the file has 0 bytes"


@pytest.mark.parametrize("name", ["wav", "aiff"])
def test_a_header_without_samples_is_reported(tmp_path, name):
    soundfile.write(tmp_path / f"a.{name}", np.empty(0), 8000)
    assert error_reason(tmp_path / f"a.{name}") == "no samples: the file has a header only"


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_that_is_not_audio_is_reported(tmp_path, name):
    path = tmp_path / f"a.{name}"
    path.write_text("This is no recording.\n" * 50)
    assert re.fullmatch(r"undecodable: .+; convert it to WAV, FLAC, OGG or MP3", error_reason(path))


@pytest.mark.parametrize("keep", [0.5, 0.9, 0.999])
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("wav", r"truncated: the header declares 88200 bytes of samples, the file has \d+"),  # 44100 samples * 2 bytes
        ("aiff", r"truncated: the header declares 88208 bytes of samples, the file has \d+"),  # and 8 of the SSND chunk
        ("ogg", r"truncated: the file ends inside an Ogg page"),
    ],
)
def test_a_truncated_file_is_reported(tmp_path, name, reason, keep):
    check_truncated(tmp_path, name, reason, keep)


@pytest.mark.parametrize(
    ("name", "keep", "reason"),
    [
        ("flac", 0.5, r"truncated: the header declares 44100 samples, the file has at most \d+"),
        ("flac", 0.9, r"truncated: the header declares 44100 samples, the file has at most \d+"),
        ("flac", 0.999, r"undecodable: flac decoder lost sync; convert it .+"),
        ("mp3", 0.5, r"truncated: the MP3 header declares \d+ frames, the file has \d+"),
        ("mp3", 0.9, r"truncated: the MP3 header declares \d+ frames, the file has \d+"),
        ("mp3", 0.999, r"truncated: \d+ of 44100 frames could be decoded"),
    ],
)
def test_a_truncated_compressed_file_is_reported(tmp_path, name, keep, reason):
    check_truncated(tmp_path, name, reason, keep)


def check_truncated(tmp_path, name, reason, keep):
    path = tmp_path / f"a.{name}"
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 44100)  # so that no codec makes it small
    soundfile.write(path, noise, 44100)
    complete = path.read_bytes()
    path.write_bytes(complete[: int(len(complete) * keep)])
    assert re.fullmatch(reason, error_reason(path))


def test_an_ogg_file_truncated_between_pages_is_reported(tmp_path):
    path = tmp_path / "a.ogg"
    soundfile.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, 88200), 44100)
    complete = path.read_bytes()
    path.write_bytes(complete[: complete.rindex(b"OggS")])
    assert error_reason(path) == "truncated: the last Ogg page is not marked as the end of the stream"


def test_a_wav_file_truncated_in_its_header_is_reported(tmp_path, tone):
    path = tmp_path / "a.wav"
    tone(path)
    path.write_bytes(path.read_bytes()[:36])  # RIFF header 12 bytes, fmt chunk 24 bytes, and no data chunk
    assert error_reason(path) == "truncated: the file ends before its samples, which are in a chunk named 'data'"


def test_an_ogg_file_with_a_gap_is_reported(tmp_path):
    path = tmp_path / "a.ogg"
    soundfile.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, 220500), 44100)
    complete = bytearray(path.read_bytes())
    complete[len(complete) // 3 : len(complete) // 3 + 2000] = bytes(2000)
    path.write_bytes(complete)
    assert re.fullmatch(r"truncated: \d+ of 220500 frames could be decoded", error_reason(path))


def test_a_streamed_wav_file_of_unknown_length_is_decoded(tmp_path, tone):
    path = tmp_path / "a.wav"
    tone(path, 1.0, 8000)
    data = bytearray(path.read_bytes())
    position = data.index(b"data") + 4
    data[position : position + 4] = b"\xff\xff\xff\xff"  # ffmpeg writes this length to a pipe
    path.write_bytes(data)
    assert len(decode(path)[0]) == 8000


def test_an_mp3_file_without_declared_length_is_reported(tmp_path):
    path = tmp_path / "a.mp3"
    soundfile.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, 44100), 44100)
    data = path.read_bytes()
    assert b"Xing" in data[:100]
    path.write_bytes(data[data.index(b"\xff\xfb", 4) :])  # drop the first frame, which carries the Xing header
    assert len(soundfile.read(path)[0]) < 44100  # soundfile drops samples without an error
    assert error_reason(path) == (
        "of unknown length: an MP3 must have a Xing or Info header with its number of frames; convert it to FLAC"
    )


def test_an_mp3_file_with_an_id3_tag_is_decoded(tmp_path, tone):
    path = tmp_path / "a.mp3"
    tone(path, 1.0, 22050)
    plain = decode(path)[0]
    # ID3v2.3: "ID3", version 3.0, no flags, and 1000 bytes = 7 * 128 + 104 as four bytes of 7 bits
    path.write_bytes(b"ID3\x03\x00\x00\x00\x00\x07\x68" + bytes(1000) + path.read_bytes())
    np.testing.assert_array_equal(decode(path)[0], plain)


def test_a_header_that_declares_too_many_samples_is_reported(tmp_path, tone):
    path = tmp_path / "a.flac"
    tone(path)
    data = bytearray(path.read_bytes())
    # STREAMINFO begins at byte 8; the number of samples is its 36 bits from the lower half of byte 13 on.
    data[21] |= 0x0F
    data[22:26] = b"\xff\xff\xff\xff"
    path.write_bytes(data)
    reason = error_reason(
        path
    )  # 2^36 - 1 frames; where the system over-commits memory, the file ends before they are read
    assert re.match(
        r"undecodable: the header declares 68719476735 frames, which do not fit in memory|truncated: ", reason
    )


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_samples_that_are_not_finite_are_reported(tmp_path, value):
    samples = np.zeros(100, np.float32)
    samples[[3, 7]] = value
    soundfile.write(tmp_path / "a.wav", samples, 8000, subtype="FLOAT")
    assert error_reason(tmp_path / "a.wav") == "not finite: 2 of 100 samples are NaN or infinite"


@settings(max_examples=50, deadline=None)
@given(
    values=st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=300),
    sample_rate_hz=st.sampled_from([8000, 11025, 22050, 44100, 96000]),
)
def test_float_wav_files_are_read_back_unchanged(tmp_path_factory, values, sample_rate_hz):
    path = tmp_path_factory.mktemp("wav") / "a.wav"
    soundfile.write(path, np.array(values, np.float32), sample_rate_hz, subtype="FLOAT")
    samples, rate, _ = decode(path)
    assert samples.tolist() == np.array(values, np.float32).tolist()
    assert rate == sample_rate_hz


@settings(max_examples=200, deadline=None)
@given(
    n=st.integers(1, 3000),
    from_hz=st.sampled_from([8000, 11025, 16000, 22050, 44100, 48000, 96000, 192000]),
    to_hz=st.sampled_from([8000, 16000, 22050, 24000, 44100, 48000]),
)
def test_the_length_after_resampling_is_within_one_sample(n, from_hz, to_hz):
    resampled = resample(np.ones(n, np.float32), from_hz, to_hz)
    assert resampled.dtype == np.float32
    assert len(resampled) >= 1
    assert abs(len(resampled) - max(1, n * to_hz / from_hz)) <= 1


def test_resampling_returns_at_least_one_sample():
    for from_hz in (44100, 48000, 96000, 192000):
        resampled = resample(np.full(1, 0.5, np.float32), from_hz, 8000)
        assert len(resampled) == 1
        assert np.isfinite(resampled).all()


def test_resampling_to_the_same_rate_returns_the_same_array():
    samples = np.random.default_rng(0).uniform(-1, 1, 100).astype(np.float32)
    assert resample(samples, 44100, 44100) is samples
    assert len(resample(np.empty(0, np.float32), 44100, 8000)) == 0


def test_resampling_agrees_with_scipy_and_with_a_sine():
    # A 1 kHz sine at 48 kHz is the same sine sampled at 16 kHz; edges of 50 ms left out, where filters oscillate.
    from scipy.signal import resample_poly

    expected = np.sin(2 * np.pi * 1000 * np.arange(16000) / 16000)
    tone_48k = np.sin(2 * np.pi * 1000 * np.arange(48000) / 48000).astype(np.float32)
    resampled = resample(tone_48k, 48000, 16000)
    np.testing.assert_allclose(resampled[800:-800], expected[800:-800], atol=1e-4)
    np.testing.assert_allclose(resampled[800:-800], resample_poly(tone_48k, 1, 3)[800:-800], atol=2e-2)


def test_frequencies_above_the_new_nyquist_frequency_are_removed():
    # 6 kHz is above the Nyquist frequency of 8 kHz (4 kHz): without a filter it would alias to 2 kHz.
    tone_48k = np.sin(2 * np.pi * 6000 * np.arange(48000) / 48000).astype(np.float32)
    assert np.abs(resample(tone_48k, 48000, 8000)[400:-400]).max() < 1e-3


def test_clips_are_scaled_to_a_peak_of_full_scale_in_16_bits():
    # 0.25 / 0.5 * 32767 = 16383.5 and -0.1 / 0.5 * 32767 = -6553.4, both cut toward zero
    scaled = peak_normalise(np.array([0.5, 0.25, -0.1, 0.0], np.float32))
    assert scaled.dtype == np.int16 and scaled.tolist() == [32767, 16383, -6553, 0]
    assert peak_normalise(np.array([-0.5, 0.25], np.float32)).tolist() == [-32767, 16383]
    assert not peak_normalise(np.zeros(5, np.float32)).any() and len(peak_normalise(np.zeros(0, np.float32))) == 0
