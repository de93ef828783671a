"""A checksum of a whole parquet file, stored in its footer.

Page checksums cover the rows, but not the footer: a damaged statistic, offset or row count changes what DuckDB reads, and
Arrow may not notice. The checksum is the SHA-256 of all bytes of the file, with 64 zeros instead of the checksum itself.
"""

import hashlib
from pathlib import Path
from typing import BinaryIO

CHECKSUM_KEY = b"vlm_audio_file_sha256"
"""Key in the footer (key-value metadata of the file)."""
PLACEHOLDER = "0" * 64
"""Value of the key until `write_checksum` replaces it."""
_VALUE_HEADER = b"\x18\x40"  # Thrift's compact protocol: the next field, a string of 64 bytes
_BLOCK = 1 << 20  # bytes


def write_checksum(path: Path) -> None:
    """Replace the placeholder of a new file by its checksum.

    Raises:
        ValueError: if the footer has no placeholder.
    """
    with path.open("r+b") as file:
        position = _position(file)
        if position is None:
            raise ValueError(f"the footer of {path} has no {CHECKSUM_KEY.decode()}")
        digest = _digest(file, position)
        file.seek(position)
        file.write(digest.encode())


def has_right_checksum(file: BinaryIO) -> bool | None:
    """Return whether an open file has the checksum that its footer declares; None if the footer declares none."""
    position = _position(file)
    if position is None:
        return None
    file.seek(position)
    declared = file.read(len(PLACEHOLDER)).decode(errors="replace")
    return declared == _digest(file, position)


def _position(file: BinaryIO) -> int | None:
    """Return the position of the checksum in the file; None if there is none."""
    size = file.seek(0, 2)
    file.seek(max(0, size - 8))
    length = int.from_bytes(file.read(4), "little")
    if not 0 < length <= size - 8:
        return None
    start = size - 8 - length
    file.seek(start)
    footer = file.read(length)
    marker = CHECKSUM_KEY + _VALUE_HEADER
    index = footer.rfind(marker)
    return None if index < 0 else start + index + len(marker)


def _digest(file: BinaryIO, position: int) -> str:
    """Hash the file with the placeholder at `position`."""
    sha256 = hashlib.sha256()
    file.seek(0)
    remaining = position
    while remaining and (block := file.read(min(_BLOCK, remaining))):
        sha256.update(block)
        remaining -= len(block)
    sha256.update(PLACEHOLDER.encode())
    file.seek(position + len(PLACEHOLDER))
    while block := file.read(_BLOCK):
        sha256.update(block)
    return sha256.hexdigest()
