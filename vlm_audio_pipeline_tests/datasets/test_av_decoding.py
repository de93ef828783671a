from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from vlm_audio_pipeline.datasets import av_decoding
from vlm_audio_pipeline.datasets.audio import BadAudio, decode
from vlm_audio_pipeline_tests.datasets.odd_recordings import sine

RATE = 16000
FORMATS = {"m4a": ("ipod", "aac"), "mp4": ("mp4", "aac"), "mka": ("matroska", "flac"), "wma": ("asf", "wmav2")}
needs_av = pytest.mark.skipif(not av_decoding.has_av(), reason="needs the extra `av`")


def encode(path: Path, samples: np.ndarray, streams: int = 1, **options: str) -> Path:
    """Write a file with PyAV's encoders."""
    import av

    container, codec = FORMATS[path.suffix[1:]]
    with av.open(str(path), "w", format=container, options=options) as output:
        for _ in range(streams):
            output.add_stream(codec, rate=RATE, layout="mono", bit_rate=64000)
        for stream in output.streams:
            name = "s16" if codec == "flac" else "fltp"
            values = (samples * 32767).astype(np.int16) if codec == "flac" else samples
            frame = av.AudioFrame.from_ndarray(values[None], format=name, layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = RATE, 0, Fraction(1, RATE)
            resampler = av.AudioResampler(format=name, frame_size=1024)
            for block in [*resampler.resample(frame), *resampler.resample(None), None]:
                output.mux(stream.encode(block))
    return path


@needs_av
@pytest.mark.parametrize("suffix", FORMATS)
def test_other_containers_are_decoded(tmp_path, suffix):
    samples = sine(RATE)  # 1 s
    path = encode(tmp_path / f"a.{suffix}", samples)
    decoded, rate, channels = decode(path)
    assert (rate, channels) == (RATE, 1)
    assert abs(len(decoded) - RATE) <= 2 * 2048  # codecs fill their last frame
    # the spectra agree: the tone of 0.4 at 440 Hz (at 8 kHz, so 880 Hz at 16 kHz)
    spectrum = np.abs(np.fft.rfft(decoded[:RATE], RATE))
    assert np.argmax(spectrum) == 880
    segment = decode(path, 0.25, 0.5)[0]
    np.testing.assert_array_equal(segment, decoded[4000:8000])


@needs_av
def test_a_container_without_loss_returns_the_samples_that_were_written(tmp_path):
    samples = sine(RATE)
    expected = (samples * 32767).astype(np.int16).astype(np.float32) / 32768
    np.testing.assert_array_equal(decode(encode(tmp_path / "a.mka", samples))[0], expected)


@needs_av
@pytest.mark.parametrize(
    ("suffix", "options"), [("m4a", {}), ("m4a", {"movflags": "faststart"}), ("mka", {}), ("wma", {})]
)
@pytest.mark.parametrize("share", [0.5, 0.9, 0.99])
def test_cut_files_are_refused(tmp_path, suffix, options, share):
    path = encode(tmp_path / f"a.{suffix}", sine(4 * RATE), **options)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(BadAudio, match=r"truncated: |undecodable: |of unknown length: "):
        decode(path)


@needs_av
@pytest.mark.parametrize("suffix", FORMATS)
def test_joined_files_are_refused(tmp_path, suffix):
    data = encode(tmp_path / f"a.{suffix}", sine(RATE)).read_bytes()
    (tmp_path / f"b.{suffix}").write_bytes(data * 2)
    with pytest.raises(BadAudio, match=rf"several recordings: another one begins at byte {len(data)}, and would not"):
        decode(tmp_path / f"b.{suffix}")


@needs_av
def test_several_streams_are_refused(tmp_path):
    path = encode(tmp_path / "a.mp4", sine(RATE), streams=2)
    with pytest.raises(BadAudio, match="several recordings: the file has 2 audio streams; extract one"):
        decode(path)


@needs_av
def test_damaged_files_are_refused(tmp_path):
    (tmp_path / "a.m4a").write_bytes(b"\0\0\0\x20ftypM4A " + bytes(range(256)) * 4)
    with pytest.raises(BadAudio, match="undecodable: "):
        decode(tmp_path / "a.m4a")


def test_without_the_extra_the_message_names_it(tmp_path, monkeypatch):
    monkeypatch.setattr(av_decoding, "has_av", lambda: False)
    (tmp_path / "a.m4a").write_bytes(b"\0\0\0\x20ftypM4A " + bytes(100))
    with pytest.raises(BadAudio, match=r"undecodable: it needs the extra `av` \(pip install 'vlm-audio-pip"):
        decode(tmp_path / "a.m4a")
