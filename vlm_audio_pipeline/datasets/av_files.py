"""Check MP4, Matroska, WebM and ASF (WMA) files: the lengths in the file against the bytes of the file.

References: ISO/IEC 14496-12 (boxes), RFC 8794 (EBML), Advanced Systems Format specification.
"""

from typing import BinaryIO

_MAGIC = (
    (b"ftyp", 4, "MP4"),
    (b"\x1a\x45\xdf\xa3", 0, "Matroska"),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11", 0, "ASF"),
)
"""First bytes, their offset, and the container."""

_ASF_FILE_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_SEVERAL = "several recordings: another one begins at byte {}, and would not be read; split the file"


def find_av_problem(file: BinaryIO, head: bytes, start: int, size: int) -> tuple[str, str | None] | None:
    """Return the name of the container and what is wrong with it, or None; None if it is another container.

    Args:
        file: the recording.
        head: its first bytes, from `start`.
        start: offset of the container, bytes.
        size: length of the file, bytes.
    """
    for magic, position, name in _MAGIC:
        if head[position : position + len(magic)] == magic:
            check = {"MP4": _check_boxes, "Matroska": _check_segment, "ASF": _check_file_size}[name]
            return name, check(file, start, size)
    return None


def _truncated_message(declared: int, size: int) -> str:
    return f"truncated: the file declares {declared} bytes, it has {size}"


def _check_boxes(file: BinaryIO, start: int, size: int) -> str | None:
    """Check that the last box ends within the file, and that only one file begins."""
    offset = start
    while offset + 8 <= size:
        file.seek(offset)
        header = file.read(16)
        length, name = int.from_bytes(header[:4], "big"), header[4:8]
        if name == b"ftyp" and offset > start:
            return _SEVERAL.format(offset)
        if not all(0x20 <= b <= 0x7E or b == 0xA9 for b in name):
            return None  # a tag after the last box
        if length == 0:  # to the end of the file
            return None
        if length == 1:
            length = int.from_bytes(header[8:], "big")
        if length < 8:
            return None
        offset += length
    return _truncated_message(offset - start, size - start) if offset > size else None


def _check_segment(file: BinaryIO, start: int, size: int) -> str | None:
    """Check that the segment, which contains everything, ends within the file."""
    offset = start
    for _ in range(2):  # the EBML header and the segment
        file.seek(offset)
        identifier, length = file.read(4), _read_size(file)
        if length is None:  # a live stream
            return None
        offset = file.tell() + length
        if identifier == b"\x18\x53\x80\x67":
            break
    if offset > size:
        return _truncated_message(offset - start, size - start)
    file.seek(offset)
    return _SEVERAL.format(offset) if file.read(4) == _MAGIC[1][0] else None


def _read_size(file: BinaryIO) -> int | None:
    """Read the size of an EBML element; None if it is unknown."""
    first = file.read(1)
    if not first or first == b"\0":
        return None
    width = 9 - first[0].bit_length()
    value = int.from_bytes(first + file.read(width - 1), "big") & (1 << 7 * width) - 1
    return None if value == (1 << 7 * width) - 1 else value


def _check_file_size(file: BinaryIO, start: int, size: int) -> str | None:
    """Compare the size of the file with the one that its properties state; a stream states 0."""
    file.seek(start)
    header = file.read(65536)
    position = header.find(_ASF_FILE_PROPERTIES)
    declared = int.from_bytes(header[position + 40 : position + 48], "little") if position >= 0 else 0
    if declared > size - start:
        return _truncated_message(declared, size - start)
    if 0 < declared < size - start:
        file.seek(start + declared)
        if file.read(8) == _MAGIC[2][0]:
            return _SEVERAL.format(start + declared)
    return None
