"""Check Ogg files: complete pages in their order, an end that is marked, and one recording only.

Reference: https://xiph.org/ogg/doc/framing.html.
"""

from functools import cache
from typing import BinaryIO

from vlm_audio_pipeline.datasets.second_recording import find_second_recording

_FIRST_PAGE, _LAST_PAGE = 2, 4  # flags
_NOT_AUDIO = (b"fishead\0", b"\x80theora", b"BBCD\0")  # streams beside the audio: skeleton, video


def find_ogg_problem(file: BinaryIO, start: int) -> str | None:
    """Return what is wrong with an Ogg file, or None.

    Args:
        file: the recording.
        start: offset of its first page, bytes.
    """
    file.seek(start)
    data = file.read()
    offset, end, flags, streams = 0, 0, 0, 0
    last_page = b""
    disorder: str | None = None
    next_number: dict[bytes, int] = {}
    while (offset := data.find(b"OggS", offset)) >= 0:
        header = data[offset : offset + 27]
        table = data[offset + 27 : offset + 27 + header[26]] if len(header) == 27 else b""
        if len(header) < 27 or len(table) < header[26] or offset + 27 + len(table) + sum(table) > len(data):
            return "truncated: the file ends inside an Ogg page"
        content = offset + 27 + len(table)
        flags = header[5]
        serial, number = header[14:18], int.from_bytes(header[18:22], "little")
        if number != next_number.get(serial, number) and disorder is None:
            disorder = (
                f"damaged: after page {next_number[serial] - 1} of the Ogg stream follows page {number}, so pages are missing or "
                "in another order; replace the file"
            )
        next_number[serial] = number + 1
        last_page = data[offset : content + sum(table)]
        if flags & _FIRST_PAGE and not data.startswith(_NOT_AUDIO, content):
            streams += 1
        offset = end = content + sum(table)
    if streams > 1:
        return (
            f"several recordings: the Ogg file has {streams} streams, of which only the first would be read; split it"
        )
    if second := find_second_recording(data, end, start):
        return second
    if disorder:
        return disorder
    if not flags & _LAST_PAGE:
        return "truncated: the last Ogg page is not marked as the end of the stream"
    if _crc32(last_page[:22] + bytes(4) + last_page[26:]) != int.from_bytes(last_page[22:26], "little"):
        return "damaged: the checksum of the last Ogg page is wrong, so the length of the recording is unknown; replace the file"
    return None


@cache
def _crc_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        crc = byte << 24
        for _ in range(8):
            crc = (crc << 1 ^ 0x04C11DB7) & 0xFFFFFFFF if crc & 0x80000000 else crc << 1
        table.append(crc)
    return tuple(table)


def _crc32(data: bytes) -> int:
    """Return the checksum of an Ogg page: CRC-32 with the polynomial 0x04C11DB7, not reflected, from 0."""
    table, crc = _crc_table(), 0
    for byte in data:
        crc = (crc << 8 ^ table[crc >> 24 ^ byte]) & 0xFFFFFFFF
    return crc
