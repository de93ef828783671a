"""List the recordings in the folder of a class, and name what is left out.

Linked folders are read like others. A link to the dataset itself, or to a folder that was read already, is left out, so that
no recording is listed twice and a link to itself ends.
"""

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path

from vlm_audio_pipeline.contracts.errors import BadDataset
from vlm_audio_pipeline.contracts.paths import show_path
from vlm_audio_pipeline.datasets.audio_suffixes import (
    decoded_suffixes,
    describe_archive,
    describe_suffix,
    is_recording,
)

_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
_SUFFIX_ADVICE = (
    "not decoded: it begins like a recording, but its name has no suffix of one; rename it, such as to `.wav`"
)


@dataclass
class FolderContent:
    """The files in the folder of a class.

    Attributes:
        recordings: those that can be decoded by their name, sorted.
        left_out: other recordings and linked folders, and why they are not used.
        unusable: files that stop the study unless it skips bad clips, and why.
    """

    recordings: list[Path] = field(default_factory=list)
    left_out: dict[Path, str] = field(default_factory=dict)
    unusable: dict[Path, str] = field(default_factory=dict)


def list_recordings(folder: Path, root: Path, visited_folders: set[tuple[int, int]]) -> FolderContent:
    """List the recordings in a folder and its subfolders, without hidden ones.

    Args:
        folder: the folder of a class.
        root: the folder of the dataset.
        visited_folders: (device, inode) of the folders that were read already; those of this call are added.

    Raises:
        BadDataset: if a folder cannot be read.
    """
    content = FolderContent()
    _add_folder(folder, Path(os.path.realpath(root)), visited_folders, content)
    content.recordings.sort()
    return content


def list_loose_recordings(root: Path) -> dict[Path, str]:
    """Return the recordings directly in the folder of the dataset, which have no class."""
    suffixes = decoded_suffixes()
    return {
        Path(entry.path): "not used: it is in no folder of a class; move it into one"
        for entry in _entries(root)
        if entry.is_file() and (entry.name.lower().endswith(suffixes) or describe_suffix(entry.name))
    }


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted((e for e in entries if not e.name.startswith(".")), key=lambda e: e.name)
    except OSError as error:
        raise BadDataset(f"{show_path(folder)} cannot be read: {error.strerror}; change its permissions") from error


def _add_folder(folder: Path, root: Path, visited_folders: set[tuple[int, int]], content: FolderContent) -> None:
    status = os.stat(folder)
    visited_folders.add((status.st_dev, status.st_ino))
    for entry in _entries(folder):
        path = Path(entry.path)
        if not entry.is_dir():
            _add_file(path, content)
        elif reason := _reason_to_skip(entry, root, visited_folders):
            content.left_out[path] = reason
        else:
            _add_folder(path, root, visited_folders, content)


def _reason_to_skip(entry: os.DirEntry[str], root: Path, visited_folders: set[tuple[int, int]]) -> str | None:
    status = entry.stat()
    if entry.is_symlink():
        target = Path(os.path.realpath(entry.path))
        if root.is_relative_to(target) or target.is_relative_to(root):
            return "not followed: it links to a folder of the dataset itself; remove the link"
    if (status.st_dev, status.st_ino) in visited_folders:
        return "not followed: the folder was read already under another name; remove one of them"
    return None


def _add_file(path: Path, content: FolderContent) -> None:
    is_named_as_recording = path.name.lower().endswith(decoded_suffixes())
    try:
        kind = stat.S_IFMT(os.stat(path).st_mode)
    except OSError:  # a link to nothing: decoding reports it
        kind = stat.S_IFREG if is_named_as_recording else 0
    if kind in _KINDS:
        if is_named_as_recording:
            content.unusable[path] = f"{_KINDS[kind]}, not a recording; remove it"
    elif is_named_as_recording:
        if show_path(path) != str(path):
            content.unusable[path] = "its name is not UTF-8; rename it"
        else:
            content.recordings.append(path)
    elif reason := describe_suffix(path.name) or describe_archive(path.name):
        content.left_out[path] = reason
    elif kind == stat.S_IFREG and is_recording(_read_head(path)):
        content.left_out[path] = _SUFFIX_ADVICE


def _read_head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(12)
    except OSError:
        return b""
