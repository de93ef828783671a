"""Decode recordings (libsndfile) and resample them (soxr); damaged and impossible recordings are refused.

Belongs here: samples. Does not belong here: whether a file holds all that its header declares (`containers.py`).
"""

import io
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from vlm_audio_pipeline.contracts.errors import BadClips
from vlm_audio_pipeline.contracts.hashing import digest
from vlm_audio_pipeline.contracts.regular_files import unsuitable_reason
from vlm_audio_pipeline.datasets.av_decoding import CONTAINERS, NotDecoded, decode_with_av
from vlm_audio_pipeline.datasets.containers import Container, read_container
from vlm_audio_pipeline.datasets.length_limit import MAX_BYTES_AT_ONCE, too_long_reason
from vlm_audio_pipeline.datasets.levels import find_level_problem
from vlm_audio_pipeline.datasets.open_recordings import (
    DecodedRecording,
    OpenRecording,
    OpenSound,
    RecordingPool,
    SeekableRecording,
    SequentialRecording,
    sound_file_class,
)

if TYPE_CHECKING:
    import numpy as np
    import soundfile

_TOLERANCE_S = 0.01  # s, how far a segment may extend beyond the end of the file: listings round their times
_EXACT_AFTER_SEEKING = ("PCM_", "FLOAT", "DOUBLE", "ULAW", "ALAW")
"""Beginnings of the codecs that decode the same samples after seeking; others are decoded from the beginning."""
OPEN_RECORDINGS = RecordingPool()
"""The recordings whose segments are being read in this process."""

_CLEARER_REASONS = {
    "Internal error : SF_INFO struct incomplete": "the header states a sample rate of 0 Hz, or no channels",
    "Channel count is zero": "the header states no channels",
    "Format not recognised": "the file does not begin like a recording",
}
"""Reasons of libsndfile, and what to say instead."""


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
        path: WAV, FLAC, OGG, Opus, MP3, AIFF, AU, CAF, W64, RF64 or NIST, and with the extra `av` MP4, Matroska and WMA; any
            sample rate, bit depth and number of channels.
        start_s: start of the segment, s; None: the beginning.
        end_s: end of the segment, s; None: the end. It may be up to 10 ms after the end of the file.

    Returns:
        The samples (n,) float32, mono (mean of the channels), 1 = full scale; the sample rate, Hz; the number of
        channels of the file. Silence and a single sample are valid. A segment has the samples of this part of the
        whole recording.

    Raises:
        BadAudio: for a file that is missing, empty, without samples, undecodable, truncated or of unknown length, or that
            contains more than one recording, for samples that are not finite or not on the scale of 1, for channels that
            cancel each other, and for a segment outside the file.
    """
    import numpy as np

    if reason := unsuitable_reason(path):
        raise BadAudio(reason, path)
    try:
        if start_s is None and end_s is None:
            with closing(_open_recording(path)) as recording:
                samples = _read_frames(path, recording, None, None, is_whole=True)
                rate = recording.sample_rate_hz
        else:
            with OPEN_RECORDINGS.borrow(path, _open_recording) as recording:
                samples = _read_frames(path, recording, start_s, end_s)
                rate = recording.sample_rate_hz
    except FileNotFoundError:
        raise BadAudio("missing: the file does not exist", path) from None
    except OSError as error:
        raise BadAudio(f"unreadable: {error.strerror or error}", path) from error
    channels = samples.shape[1]
    mono = samples[:, 0] if channels == 1 else samples.mean(axis=1, dtype=np.float32)
    if problem := find_level_problem(samples, mono):
        raise BadAudio(problem, path)
    return np.ascontiguousarray(mono), rate, channels


def read_length(path: Path) -> tuple[int, int]:
    """Return the length of a recording, samples of one channel, and its sample rate, Hz, without decoding it.

    Raises:
        BadAudio: as `decode`, except for problems that only the samples show.
    """
    if reason := unsuitable_reason(path):
        raise BadAudio(reason, path)
    try:
        with closing(_open_recording(path)) as recording:
            return recording.frames, recording.sample_rate_hz
    except FileNotFoundError:
        raise BadAudio("missing: the file does not exist", path) from None
    except OSError as error:
        raise BadAudio(f"unreadable: {error.strerror or error}", path) from error


def _open_recording(path: Path) -> OpenRecording:
    """Check a file and open it.

    Raises:
        BadAudio: for a file that cannot be read as a whole.
        OSError: if it cannot be opened.
    """
    container = read_container(path)
    if container.problem:
        raise BadAudio(container.problem, path)
    if container.name in CONTAINERS:
        try:
            return DecodedRecording(*decode_with_av(path))
        except NotDecoded as error:
            raise BadAudio(str(error), path) from error
    if container.offset and path.stat().st_size > MAX_BYTES_AT_ONCE:
        reason = (
            f"too large: a file with tags before its recording is read at once, at most {MAX_BYTES_AT_ONCE / 1e9:g} GB"
        )
        raise BadAudio(f"{reason}; remove the tags", path)
    with _decoder_errors(path):
        opened = _open_sound(path, container.offset)
        try:
            frames = _declared_frames(path, opened.sound, container)
        except BaseException:
            opened.close()
            raise
    if opened.sound.subtype.startswith(_EXACT_AFTER_SEEKING):
        return SeekableRecording(opened, frames)
    open_again = partial(_open_sound, path, container.offset)
    return SequentialRecording(opened, open_again, frames, OPEN_RECORDINGS.max_kept_samples)


def _open_sound(path: Path, offset: int) -> OpenSound:
    """Open a file with libsndfile, without the bytes before the recording."""
    file: BinaryIO = path.open("rb")
    try:
        if offset:
            with file:
                file.seek(offset)
                content = io.BytesIO(file.read())
            return OpenSound(sound_file_class()(content), content)
        # A file descriptor: with a name, soundfile trusts the suffix `.raw`, and cannot encode names that are not UTF-8.
        return OpenSound(sound_file_class()(file.fileno(), closefd=False), file)
    except BaseException:
        file.close()
        raise


def _declared_frames(path: Path, sound: "soundfile.SoundFile", container: Container) -> int:
    """Return the number of frames that a file declares, and refuse one whose decoder would read fewer."""
    declared = container.declared_frames(sound.subtype, sound.channels)
    if declared is not None and declared > sound.frames:
        raise BadAudio(f"header wrong: it declares {declared} frames, the decoder reads {sound.frames} of them", path)
    frames = sound.frames if declared is None else declared
    if frames == 0:
        raise BadAudio("no samples: the file has a header only", path)
    _check_format(path, sound, container)
    return int(frames)


def _read_frames(
    path: Path, recording: OpenRecording, start_s: float | None, end_s: float | None, *, is_whole: bool = False
) -> "np.ndarray":
    """Read a segment: (frames, channels) float32."""
    first, stop = _segment_frames(path, recording.frames, recording.sample_rate_hz, start_s, end_s)
    if reason := too_long_reason(stop - first, recording.sample_rate_hz, recording.channels):
        raise BadAudio(reason, path)
    with _decoder_errors(path, recording.frames):
        samples = recording.read_whole() if is_whole else recording.read(first, stop)
    if len(samples) < stop - first:
        raise BadAudio(f"truncated: {len(samples)} of {stop - first} frames could be decoded", path)
    return samples


@contextmanager
def _decoder_errors(path: Path, frames: int = 0) -> Iterator[None]:
    """Convert what a decoder raises to BadAudio.

    Args:
        path: the recording, for messages.
        frames: number of frames that its header declares.
    """
    import soundfile

    try:
        yield
    except soundfile.LibsndfileError as error:
        reason = error.error_string.removeprefix("Error : ").rstrip(".")
        reason = _CLEARER_REASONS.get(reason, reason)
        raise BadAudio(f"undecodable: {reason}; convert it to WAV, FLAC, OGG or MP3", path) from error
    except MemoryError as error:
        raise BadAudio(f"undecodable: the header declares {frames} frames, which do not fit in memory", path) from error
    except (
        soundfile.SoundFileError,
        ValueError,
        OverflowError,
    ) as error:  # numpy refuses impossible sizes with ValueError
        raise BadAudio(f"undecodable: {error}; convert it to WAV, FLAC, OGG or MP3", path) from error


def _check_format(path: Path, sound: "soundfile.SoundFile", container: Container) -> None:
    """Refuse formats in which a truncated recording cannot be noticed."""
    if container.name is None:
        raise BadAudio(
            f"not supported: missing samples of a {sound.format} file would not be noticed; convert it to WAV or FLAC",
            path,
        )


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
        (round(n * to_hz / from_hz),) float32, at least one sample: samples that are too few are first extended by
        repeating the last one.
    """
    if from_hz == to_hz or not len(samples):
        return samples
    import numpy as np
    import soxr

    min_length = -(-from_hz // to_hz)  # samples that one sample at the new rate spans
    if len(samples) < min_length:
        samples = np.pad(samples, (0, min_length - len(samples)), mode="edge")
    resampled: np.ndarray = soxr.resample(samples, from_hz, to_hz, quality="HQ")
    return resampled


def peak_normalise(samples: "np.ndarray") -> "np.ndarray":
    """Scale a clip to a peak of full scale and cut it to 16 bits, as programs do that first write a 16-bit WAV file.

    The arithmetic is that of `(x / numpy.max(numpy.abs(x)) * 32767).astype(numpy.int16)` in 64 bits, which cuts toward zero.

    Args:
        samples: (n,) float32, mono.

    Returns:
        (n,) int16; zeros for silence, whose peak is 0.
    """
    import numpy as np

    exact = samples.astype(np.float64)
    peak = float(np.max(np.abs(exact), initial=0.0))
    if peak <= 1e-30:
        return np.zeros(len(samples), np.int16)
    return (exact / peak * 32767).astype(np.int16)


def _segment_frames(path: Path, frames: int, rate: int, start_s: float | None, end_s: float | None) -> tuple[int, int]:
    """Convert a segment from seconds to frames: (first, stop)."""
    start = 0.0 if start_s is None else start_s
    end = frames / rate if end_s is None else end_s
    segment_text = f"got {start:g} s to {end:g} s of {frames / rate:g} s"
    if not 0 <= start < end:
        raise BadAudio(f"segment: its start must be 0 s or more and before its end, {segment_text}", path)
    first, stop = round(start * rate), round(end * rate)
    if first >= frames or stop > frames + max(1, round(_TOLERANCE_S * rate)):
        raise BadAudio(f"segment: it must be within the file, {segment_text}", path)
    stop = min(stop, frames)
    if first == stop:
        raise BadAudio(f"no samples: the segment is shorter than one sample at {rate} Hz, {segment_text}", path)
    return first, stop
