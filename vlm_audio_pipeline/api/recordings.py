"""Recordings that a caller gives: files, or samples in memory."""

import operator
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from vlm_audio_pipeline.contracts.errors import BadClips
from vlm_audio_pipeline.contracts.paths import expand_home

Recording: TypeAlias = str | os.PathLike[str] | tuple[npt.NDArray[Any], int]
"""An audio file, or (samples, sample rate in Hz). Samples are (samples,) or (samples, channels): floats, 1 = full scale, or
integers, whose range is full scale."""

_MAX_CHANNELS = 64


@dataclass(frozen=True)
class RecordingFile:
    """A recording as a file.

    Attributes:
        name: its path, or `array 0` for samples in memory.
        path: the file; for samples in memory a temporary one.
    """

    name: str
    path: Path


def recording_list(recordings: Recording | Sequence[Recording]) -> list[Recording]:
    """Return a list of recordings; a single recording is a list of one."""
    if isinstance(recordings, (str, os.PathLike)) or _is_samples(recordings):
        return [recordings]  # type: ignore[list-item]
    return list(recordings)  # type: ignore[arg-type]


def _is_samples(value: object) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and not isinstance(value[0], (str, os.PathLike, tuple))


@contextmanager
def recording_files(recordings: Recording | Sequence[Recording]) -> Iterator[list[RecordingFile]]:
    """Yield every recording as a file, so that files and samples are decoded and resampled by the same code.

    Samples are written, unchanged, as 32-bit floats into a temporary folder, which exists during the block.

    Raises:
        BadClips: for samples that are no recording, and for something that is neither a file nor samples.
    """
    with tempfile.TemporaryDirectory(prefix="vlm-audio-") as folder:
        files = []
        for i, recording in enumerate(recording_list(recordings)):
            if _is_samples(recording):
                name, path = f"array {i}", Path(folder, f"{i}.wav")
                _write_samples(path, recording, name)
                files.append(RecordingFile(name, path))
            elif isinstance(recording, (str, os.PathLike)):
                files.append(RecordingFile(os.fspath(recording), expand_home(os.fspath(recording))))
            else:
                raise BadClips(
                    f"recording {i} must be a file or (samples, sample rate), got {type(recording).__name__}; for samples in "
                    "memory give their sample rate, too: (samples, 44100)"
                )
        yield files


def _write_samples(path: Path, recording: Any, name: str) -> None:
    import soundfile

    samples, rate = np.asarray(recording[0]), _sample_rate(recording[1], name)
    if samples.ndim == 0 or samples.ndim > 2:
        raise BadClips(
            f"{name} must have the shape (samples,) or (samples, channels), got {samples.shape}; a recording is "
            "(samples, sample rate)"
        )
    if samples.ndim == 2 and samples.shape[1] > _MAX_CHANNELS:
        raise BadClips(
            f"{name} must have at most {_MAX_CHANNELS} channels, got the shape {samples.shape}; the shape is (samples, "
            "channels): transpose it with `samples.T`"
        )
    if not samples.size:
        raise BadClips(f"{name} has no samples, got the shape {samples.shape}; give at least one")
    soundfile.write(path, _float_samples(samples, name), rate, subtype="FLOAT")


def _sample_rate(rate: Any, name: str) -> int:
    try:
        value = int(rate) if isinstance(rate, float) and rate.is_integer() else operator.index(rate)
    except TypeError:
        value = 0
    if not 1 <= value < 2**31:
        description = repr(rate) if np.ndim(rate) == 0 else f"an array of shape {np.shape(rate)}"
        raise BadClips(
            f"the sample rate of {name} must be a whole number of Hz above 0, got {description}; a recording is (samples, sample "
            "rate), such as (samples, 44100)"
        )
    return value


def _float_samples(samples: npt.NDArray[Any], name: str) -> npt.NDArray[np.float32]:
    """Return float32, 1 = full scale."""
    if samples.dtype.kind == "f":
        return samples.astype(np.float32)
    if samples.dtype.kind not in "iu":
        raise BadClips(
            f"{name} must have float or integer samples, got the type {samples.dtype}; convert it to float32"
        )
    limits = np.iinfo(samples.dtype)
    middle = 0 if samples.dtype.kind == "i" else limits.max // 2 + 1
    full_scale = -float(limits.min) if samples.dtype.kind == "i" else float(middle)
    return ((samples.astype(np.float64) - middle) / full_scale).astype(np.float32)
