"""Write the recordings of a Hugging Face dataset to files, unchanged, so that they can be decoded like any other.

Belongs here: the files and their index. Does not belong here: which rows are clips (`huggingface_folder`).
"""

import json
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from vlm_audio_pipeline.contracts.hashing import digest
from vlm_audio_pipeline.contracts.progress import Progress
from vlm_audio_pipeline.contracts.regular_files import file_stamp
from vlm_audio_pipeline.datasets.audio_suffixes import AV_SUFFIXES, LIBSNDFILE_SUFFIXES
from vlm_audio_pipeline.datasets.huggingface_files import DataFile
from vlm_audio_pipeline.storage.atomic import write_atomically

INDEX = "index.json"
"""File beside the recordings: the stamps of the data files, and the name of the recording of each row."""
_BEGINNINGS = {
    b"RIFF": ".wav",
    b"fLaC": ".flac",
    b"OggS": ".ogg",
    b"ID3": ".mp3",
    b"\xff\xfb": ".mp3",
    b"FORM": ".aiff",
}
"""First bytes of a recording -> suffix, for recordings without a name."""


def _stamps(files: Sequence[DataFile]) -> list[list[str]]:
    return [[str(file.path), file_stamp(file.path.stat())] for file in files]


def read_index(root: Path, files: Sequence[DataFile]) -> list[str] | None:
    """Return the recording of each row ("" without audio) if all are there and made from these files."""
    try:
        index = json.loads((root / INDEX).read_text("utf-8"))
        names: list[str] = index["recordings"]
        is_current = index["files"] == _stamps(files) and all((root / name).is_file() for name in set(names) - {""})
    except (OSError, ValueError, KeyError, TypeError):  # not there yet, or damaged: the recordings are written again
        return None
    return names if is_current else None


def write_recordings(root: Path, files: Sequence[DataFile], column: str, progress: Progress) -> list[str]:
    """Write the recording of each row under its digest, unchanged, and the index; return the names ("" without audio)."""
    root.mkdir(parents=True, exist_ok=True)
    stamps = _stamps(files)
    names = []
    for done, file in enumerate(files):
        progress(done, len(files), f"writing the recordings of {file.path.name}")
        for row in file.rows([column]):
            audio = row[column] or {}
            data = audio.get("bytes")
            if not data:
                names.append("")
                continue
            name = f"{digest(data)[:32]}{_suffix(data, audio.get('path'))}"
            if not (root / name).is_file():
                write_atomically(root / name, data)
            names.append(name)
    write_atomically(root / INDEX, json.dumps({"files": stamps, "recordings": names}))
    return names


def _suffix(data: bytes, path: str | None) -> str:
    """Return the suffix of a recording: that of its name, or of its first bytes."""
    suffix = PurePosixPath(path or "").suffix.lower()
    if suffix in LIBSNDFILE_SUFFIXES + AV_SUFFIXES:
        return suffix
    return next((suffix for begin, suffix in _BEGINNINGS.items() if data.startswith(begin)), ".audio")
