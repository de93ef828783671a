"""Check FLAC files: the number of samples in the header against the number of the last frame, and one recording only.

Reference: RFC 9639.
"""

from typing import BinaryIO

from vlm_audio_pipeline.datasets.second_recording import find_second_recording

_BLOCK_SIZES = {1: 192, **{code: 144 << code for code in range(2, 6)}, **{code: 1 << code for code in range(8, 16)}}


def find_flac_problem(file: BinaryIO, start: int) -> str | None:
    """Return what is wrong with a FLAC file, or None. Decoding a frame that is cut fails by itself.

    Args:
        file: the recording.
        start: offset of the mark `fLaC`, bytes.
    """
    file.seek(start)
    data = file.read()
    info = data[8:42]  # STREAMINFO
    if len(info) < 34 or data[4] & 0x7F:
        return None  # the decoder names the reason
    if second := find_second_recording(data, 42, start):
        return second
    declared = int.from_bytes(info[13:18], "big") & (1 << 36) - 1
    if declared == 0:
        return (
            "of unknown length: the FLAC header does not state the number of samples, as if it was written to a pipe; write "
            "it again, for example with `flac` or `ffmpeg`, to a file"
        )
    total = _count_samples(data, info)
    if total is not None and total < declared:
        return f"truncated: the header declares {declared} samples, the file has at most {total}"
    if total is not None and total > declared:
        return f"header wrong: it declares {declared} samples, the file has {total}; write the file again"
    return None


def _count_samples(data: bytes, info: bytes) -> int | None:
    """Return the number of samples by the header of the last frame; None if it is not found.

    A pattern like a frame header can occur by chance, so the frame must continue the one before it.
    """
    offset = _first_frame(data)
    fixed_size = int.from_bytes(info[2:4], "big")
    first = data[offset : offset + 4]
    if len(first) < 4 or first[0] != 0xFF or first[1] & 0xFE != 0xF8:
        return None
    channels, bits = (info[12] >> 1 & 7) + 1, ((info[12] & 1) << 4 | info[13] >> 4) + 1
    longest = int.from_bytes(info[7:10], "big") or fixed_size * channels * (bits // 8 + 1) + 64
    position = max(offset, len(data) - 3 * longest - 4096)  # a tag may follow the last frame
    mark, ends, total = first[:2], set[int](), None
    while (position := data.find(mark, position)) >= 0:
        header = _read_frame_header(data[position : position + 16], fixed_size)
        if header is not None and (data[position + 2] ^ first[2]) & 0x0F == (data[position + 3] ^ first[3]) & 0x0F == 0:
            begin, length = header
            if begin == 0 or begin in ends:
                total = begin + length
            ends.add(begin + length)
        position += 1
    return total


def _first_frame(data: bytes) -> int:
    """Return the offset of the first frame, after the metadata blocks."""
    offset = 4
    while offset + 4 <= len(data):
        is_last = data[offset] & 0x80
        offset += 4 + int.from_bytes(data[offset + 1 : offset + 4], "big")
        if is_last:
            break
    return offset


def _read_frame_header(header: bytes, fixed_size: int) -> tuple[int, int] | None:
    """Return the number of a frame's first sample and its number of samples; None for bytes that are no frame header."""
    if len(header) < 16:
        header = header.ljust(16, b"\0")
    first = header[4]
    extra = 0 if first < 0x80 else 8 - (first ^ 0xFF).bit_length() - 1
    if extra > 6 or (first >= 0x80 and extra == 0):
        return None
    number = first if extra == 0 else first & (1 << 6 - extra) - 1
    for byte in header[5 : 5 + extra]:
        if byte & 0xC0 != 0x80:
            return None
        number = number << 6 | byte & 0x3F
    position = 5 + extra
    code = header[2] >> 4
    if code in (6, 7):
        width = code - 5
        length = int.from_bytes(header[position : position + width], "big") + 1
        position += width
    elif code in _BLOCK_SIZES:
        length = _BLOCK_SIZES[code]
    else:
        return None
    position += {12: 1, 13: 2, 14: 2}.get(header[2] & 0x0F, 0)
    if position >= len(header) or _crc8(header[:position]) != header[position]:
        return None
    return (number if header[1] & 1 else number * fixed_size), length


def _crc8(data: bytes) -> int:
    """Return the CRC-8 of FLAC frame headers: polynomial x^8 + x^2 + x + 1."""
    crc = 0
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc << 1 ^ 0x07) & 0xFF if crc & 0x80 else crc << 1
    return crc
