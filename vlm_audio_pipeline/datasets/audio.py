"""Decode recordings (libsndfile) and resample them (soxr); damaged files are refused.

libsndfile decodes a truncated file without an error. WAV, AIFF and Ogg declare their length, so it is checked here; an MP3
must have a header with its length; decoding a truncated FLAC fails by itself.
References: http://soundfile.sapp.org/doc/WaveFormat/, https://xiph.org/ogg/doc/framing.html.
"""

from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal

from vlm_audio_pipeline.contracts.errors import BadClips
from vlm_audio_pipeline.contracts.hashing import digest

if TYPE_CHECKING:
    import numpy as np

AUDIO_SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")
_TOLERANCE_S = 0.01  # s, how far a segment may extend beyond the end of the file: listings round their times
_UNKNOWN_SIZE = 0x7FFF0000  # bytes; streaming writers declare this or more if they do not know the length


class BadAudio(BadClips):
    """A recording that cannot be used.

    Attributes:
        reason: what is wrong, without the path.
    """

    def __init__(self, reason: str, path: Path):
        super().__init__(f"{path} cannot be used: {reason}")
        self.reason = reason


def decode(path: Path, start_s: float | None = None, end_s: float | None = None) -> tuple["np.ndarray", int, int]:
    """Read a recording, or a segment of it, at its own sample rate.

    Args:
        path: WAV, FLAC, OGG or MP3, or any other format of libsndfile; any sample rate, bit depth and number of channels.
        start_s: start of the segment, s; None: the beginning.
        end_s: end of the segment, s; None: the end. It may be up to 10 ms after the end of the file.

    Returns:
        The samples (n,) float32, mono (mean of the channels), 1 = full scale; the sample rate, Hz; the number of
        channels of the file. Silence and a single sample are valid.

    Raises:
        BadAudio: for a file that is missing, empty, without samples, undecodable or truncated, for samples that are not
            finite, and for a segment outside the file.
    """
    import numpy as np
    import soundfile

    try:
        with path.open("rb") as file:
            if not file.read(1):
                raise BadAudio("empty: the file has 0 bytes", path)
            file.seek(0)
            if damage := _truncation(file):
                raise BadAudio(f"truncated: {damage}", path)
    except FileNotFoundError:
        raise BadAudio("missing: the file does not exist", path) from None
    except OSError as error:
        raise BadAudio(f"unreadable: {error.strerror}", path) from error

    try:
        with soundfile.SoundFile(path) as sound:
            rate, channels, frames = sound.samplerate, sound.channels, sound.frames
            if frames == 0:
                raise BadAudio("no samples: the file has a header only", path)
            if sound.format == "MP3" and not _mp3_declares_length(path):
                raise BadAudio("of unknown length: an MP3 must have a Xing or Info header; convert it to FLAC", path)
            first, stop = _segment_frames(path, frames, rate, start_s, end_s)
            # These codecs give other samples after seeking, so they are decoded from the beginning.
            skipped = first if sound.format == "MP3" or sound.subtype == "OPUS" else 0
            if first > skipped:
                sound.seek(first)
            samples = sound.read(stop - first + skipped, dtype="float32", always_2d=True)[skipped:]
    except soundfile.LibsndfileError as error:
        reason = error.error_string.removeprefix("Error : ").rstrip(".")
        raise BadAudio(f"undecodable: {reason}; convert it to WAV, FLAC, OGG or MP3", path) from error
    except MemoryError as error:
        raise BadAudio(f"undecodable: the header declares {frames} frames, which do not fit in memory", path) from error
    if len(samples) < stop - first:
        raise BadAudio(f"truncated: {len(samples)} of {stop - first} frames could be decoded", path)
    mono = samples[:, 0] if channels == 1 else samples.mean(axis=1, dtype=np.float32)
    if not np.isfinite(mono).all():
        raise BadAudio(
            f"not finite: {int((~np.isfinite(mono)).sum())} of {len(mono)} samples are NaN or infinite", path
        )
    return np.ascontiguousarray(mono), rate, channels


def samples_digest(samples: "np.ndarray", sample_rate_hz: int) -> str:
    """Return the SHA-256 of samples and their sample rate.

    Args:
        samples: (n,) mono, as decoded; hashed as little-endian float32.
        sample_rate_hz: their sample rate, Hz; hashed after the samples as a little-endian uint32.
    """
    return digest(samples.astype("<f4", copy=False).data, sample_rate_hz.to_bytes(4, "little"))


def resample(samples: "np.ndarray", from_hz: int, to_hz: int) -> "np.ndarray":
    """Change the sample rate with soxr's HQ filter; equal rates return the samples unchanged.

    Args:
        samples: (n,) float32, mono, at `from_hz`.
        from_hz: their sample rate, Hz.
        to_hz: sample rate to return, Hz.

    Returns:
        (round(n * to_hz / from_hz),) float32, at least one sample: too short a sound is first extended by its last sample.
    """
    if from_hz == to_hz or not len(samples):
        return samples
    import numpy as np
    import soxr

    min_length = -(-from_hz // to_hz)  # samples that one sample at the new rate spans
    if len(samples) < min_length:
        samples = np.pad(samples, (0, min_length - len(samples)), mode="edge")
    return soxr.resample(samples, from_hz, to_hz, quality="HQ")


def _segment_frames(path: Path, frames: int, rate: int, start_s: float | None, end_s: float | None) -> tuple[int, int]:
    """Convert a segment from seconds to frames: (first, stop)."""
    start = 0.0 if start_s is None else start_s
    end = frames / rate if end_s is None else end_s
    got = f"got {start:g} s to {end:g} s of {frames / rate:g} s"
    if not 0 <= start < end:
        raise BadAudio(f"segment: its start must be 0 s or more and before its end, {got}", path)
    first, stop = round(start * rate), round(end * rate)
    if first >= frames or stop > frames + max(1, round(_TOLERANCE_S * rate)):
        raise BadAudio(f"segment: it must be within the file, {got}", path)
    stop = min(stop, frames)
    if first == stop:
        raise BadAudio(f"no samples: the segment is shorter than one sample at {rate} Hz, {got}", path)
    return first, stop


def _truncation(file: BinaryIO) -> str | None:
    """Describe how a file is truncated, by the length that its container declares; None if it is not, or not known."""
    head = file.read(12)
    size = file.seek(0, 2)
    if head[:4] == b"OggS":
        return _ogg_truncation(file, size)
    if head[:4] == b"RIFF" and head[8:] == b"WAVE":
        return _chunks_truncation(file, size, b"data", "little")
    if head[:4] == b"FORM" and head[8:] in (b"AIFF", b"AIFC"):
        return _chunks_truncation(file, size, b"SSND", "big")
    return None


def _chunks_truncation(file: BinaryIO, size: int, name: bytes, order: Literal["little", "big"]) -> str | None:
    """Compare the length that the sample chunk declares with the bytes after its header."""
    at = 12
    while at + 8 <= size:
        file.seek(at)
        header = file.read(8)
        length = int.from_bytes(header[4:], order)
        if header[:4] == name:
            is_short = at + 8 + length > size and length < _UNKNOWN_SIZE
            return f"the header declares {length} bytes of samples, the file has {size - at - 8}" if is_short else None
        at += 8 + length + length % 2
    return "the file ends before its samples"


def _ogg_truncation(file: BinaryIO, size: int) -> str | None:
    """Check that the last page is complete and marked as the end of the stream."""
    for tail_size in (8192, 65307):  # bytes; the second is the largest possible page, most are smaller
        at = max(0, size - tail_size)
        file.seek(at)
        if b"OggS" in (tail := file.read()):
            break
    page = tail[tail.rfind(b"OggS") :] if b"OggS" in tail else b""
    segments = page[27 : 27 + page[26]] if len(page) > 26 else b""
    if len(page) < 27 or len(segments) < page[26] or len(page) < 27 + len(segments) + sum(segments):
        return "the file ends inside an Ogg page"
    return None if page[5] & 4 else "the last Ogg page is not marked as the end of the stream"


def _mp3_declares_length(path: Path) -> bool:
    """Return whether an MP3 has a Xing, Info or VBRI header.

    Without one, libsndfile estimates the length from the first frame and stops there without an error: with a variable
    bit rate, that can be a third of the recording.
    """
    with path.open("rb") as file:
        head = file.read(10)
        if head[:3] == b"ID3":  # an ID3v2 tag precedes the frames; its length has four bytes of 7 bits
            file.seek(10 + sum(b << 7 * (3 - i) for i, b in enumerate(head[6:10])))
        else:
            file.seek(0)
        frame = file.read(256)
    return any(mark in frame for mark in (b"Xing", b"Info", b"VBRI"))
