"""Check zip files from outside before they are unpacked: names, kinds and number of members, and their size."""

import stat
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath

from vlm_audio_pipeline.contracts.errors import BadDataset
from vlm_audio_pipeline.contracts.regular_files import open_regular

MAX_UNPACKED_BYTES = 4_000_000_000
"""Largest sum of the unpacked sizes; ESC-10 has 40 MB, ESC-50 0.9 GB."""
MAX_MEMBERS = 50_000
MAX_DIRECTORY_BYTES = 16_000_000
"""Largest table of contents, bytes; it is read into memory."""
_MAX_NAME_BYTES = 255  # of one part, on all common file systems
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def check_members(archive: Path, members: Sequence[zipfile.ZipInfo], max_bytes: int = MAX_UNPACKED_BYTES) -> None:
    """Refuse an archive that must not be unpacked.

    Raises:
        BadDataset: with the reason.
    """

    def refuse(reason: str) -> BadDataset:
        return BadDataset(f"{archive} was not unpacked, because {reason}; use another archive")

    if len(members) > MAX_MEMBERS:
        raise refuse(f"it has {len(members)} members, at most {MAX_MEMBERS} are allowed")
    if (size := sum(member.file_size for member in members)) > max_bytes:
        raise refuse(f"it unpacks to {size / 1e9:.1f} GB, at most {max_bytes / 1e9:.1f} GB are allowed")
    folders: set[PurePosixPath] = set()
    files: set[PurePosixPath] = set()
    for member in members:
        if reason := _refusal_reason(member):
            raise refuse(f"{member.filename!r} {reason}")
        path = PurePosixPath(member.filename)
        if path in files or (path in folders and not member.is_dir()):
            raise refuse(f"{member.filename!r} occurs twice")
        folders.update(path.parents)
        (folders if member.is_dir() else files).add(path)
    if conflicts := folders & files:
        raise refuse(f"{str(min(conflicts))!r} is a file and a folder")


def _refusal_reason(member: zipfile.ZipInfo) -> str | None:
    """Return why a member must not be unpacked, or None."""
    name = member.orig_filename  # zipfile has cleaned `filename` already
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or PureWindowsPath(name).drive:
        return "has an absolute name"
    if ".." in path.parts:
        return "has a name outside the folder"
    if "\0" in name or any(len(part.encode(errors="replace")) > _MAX_NAME_BYTES for part in path.parts):
        return "has a name that no file can have"
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "is a link or special file"
    if member.flag_bits & 1:
        return "is encrypted"
    if member.compress_type not in _METHODS:
        return "is packed by another method than deflate"
    return None


def check_directory_size(archive: Path) -> None:
    """Check the size of the table of contents before it is read.

    Raises:
        BadDataset: if it is too large.
    """
    with open_regular(archive) as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - 65_557))  # the end record has at most 22 + 65,535 bytes
        tail = file.read()
    position = tail.rfind(b"PK\5\6")
    if position < 0 or position + 16 > len(tail):
        return  # zipfile reports it
    directory_size = int.from_bytes(tail[position + 12 : position + 16], "little")
    if directory_size > MAX_DIRECTORY_BYTES:
        raise BadDataset(
            f"{archive} was not unpacked, because its table of contents has more than {MAX_DIRECTORY_BYTES / 1e6:.0f} MB; "
            "use another archive"
        )
