"""The audio of clips as files: the recording unchanged, or a lossless copy of a segment."""

import io
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from vlm_audio_pipeline.contracts.errors import BadClips
from vlm_audio_pipeline.datasets.base import ClipRow, Dataset

_COPIED_SUFFIXES = (".wav", ".flac", ".ogg", ".mp3")
"""Formats that every reader of audio knows; recordings in another format are converted to FLAC."""


@dataclass(frozen=True)
class AudioFile:
    """The audio of a clip as the bytes of a file, and the suffix of its name."""

    content: bytes
    suffix: str


def audio_file(dataset: Dataset, clip: dict[str, Any]) -> AudioFile:
    """Return the audio of a clip: the recording itself, or mono 24-bit FLAC for a segment or a rare format.

    Args:
        dataset: the opened dataset.
        clip: its row of `clips`.

    Raises:
        BadClips: for a recording that cannot be read or no longer has the samples that models received.
    """
    import soundfile

    samples = dataset.samples(ClipRow.from_row(clip), clip["sample_rate_hz"])
    suffix = PurePosixPath(clip["file"]).suffix.lower()
    if clip["start_s"] is None and clip["end_s"] is None and suffix in _COPIED_SUFFIXES:
        try:
            return AudioFile((dataset.root / clip["file"]).read_bytes(), suffix)
        except OSError as error:
            raise BadClips(f"{dataset.root / clip['file']} cannot be read: {error}") from error
    file = io.BytesIO()
    soundfile.write(file, samples, clip["sample_rate_hz"], format="FLAC", subtype="PCM_24")
    return AudioFile(file.getvalue(), ".flac")
