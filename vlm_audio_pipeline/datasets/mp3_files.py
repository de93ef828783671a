"""Check MP3 frames: the number that the first frame declares against the number of frames in the file.

Without a declared number, libsndfile estimates the length from the first frame and stops there without an error: with a
variable bit rate, that can be a third of the recording.
References: ISO/IEC 11172-3, 13818-3; the Xing, Info and VBRI headers, http://gabriel.mp3-tech.org/mp3infotag.html.
"""

from functools import cache
from typing import BinaryIO

from vlm_audio_pipeline.datasets.second_recording import find_second_recording

_BIT_RATES = {  # kbit/s by index, from 1; (MPEG 1, layer)
    (True, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (True, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (True, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (False, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (False, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (False, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_SAMPLE_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}  # Hz, by version
_MAX_PADDING = 1 << 16  # bytes that are searched for the first frame


def first_mp3_frame(file: BinaryIO) -> int | None:
    """Return the offset of the first MP3 frame from the position of the file on, bytes; None if there is none.

    Zeros before it are skipped: some programs write tags with more padding than they declare.
    """
    start = file.tell()
    data = file.read(_MAX_PADDING + 4096)
    offset = len(data) - len(data.lstrip(b"\0"))
    length = _frame_length(data[offset : offset + 3])
    if length is None:
        return None
    following = data[offset + length : offset + length + 3]
    return start + offset if len(following) < 3 or _frame_length(following) else None


def find_mp3_problem(file: BinaryIO, start: int, stop: int) -> str | None:
    """Return why not all MP3 frames would be decoded, or None.

    Args:
        file: the recording.
        start: offset of the first frame, bytes.
        stop: offset after the last frame, bytes.
    """
    file.seek(start)
    data = file.read(stop - start)
    declared = _declared_frames(data[: _frame_length(data[:3]) or 0])
    if declared is None:
        return "of unknown length: an MP3 must have a Xing or Info header with its number of frames; convert it to FLAC"
    count, end = _count_frames(data)
    if second := find_second_recording(data, end, start):
        return second
    frames = count - 1  # without the one that declares the number
    if frames < declared - 1:  # some programs count the first frame
        return f"truncated: the MP3 header declares {declared} frames, the file has {frames}"
    if frames > declared + 1:
        return (
            f"several recordings, or a wrong header: the MP3 header declares {declared} frames, the file has {frames}, and "
            "the rest would not be read; split it, or convert it to FLAC"
        )
    return None


def _declared_frames(frame: bytes) -> int | None:
    """Return the number of frames that the first frame declares, or None."""
    for mark in (b"Xing", b"Info"):
        position = frame.find(mark, 4, 64)
        if position >= 0 and frame[position + 7 : position + 8] and frame[position + 7] & 1:
            return int.from_bytes(frame[position + 8 : position + 12], "big")
    position = frame.find(b"VBRI", 4, 64)
    return int.from_bytes(frame[position + 14 : position + 18], "big") if position >= 0 else None


def _count_frames(data: bytes) -> tuple[int, int]:
    """Count the frames, and return the end of the last one, bytes; what is between them (tags, padding) is skipped."""
    count, end, offset = 0, 0, 0
    while offset + 4 <= len(data):
        length = _frame_length(data[offset : offset + 3])
        if length is None:
            offset = _next_frame(data, offset + 1)
        else:
            count += 1
            offset = end = offset + length
    return count, end


def _next_frame(data: bytes, offset: int) -> int:
    """Return the offset of the next frame that another frame follows; the end of the data if there is none."""
    while (offset := data.find(b"\xff", offset)) >= 0:
        length = _frame_length(data[offset : offset + 3])
        if length is not None and _frame_length(data[offset + length : offset + length + 3]):
            return offset
        offset += 1
    return len(data)


@cache
def _frame_length(header: bytes) -> int | None:
    """Return the length of an MPEG audio frame, bytes, by the first three bytes of its header; None if they are none."""
    if len(header) < 3 or header[0] != 0xFF or header[1] & 0xE0 != 0xE0:
        return None
    version, layer = header[1] >> 3 & 3, 4 - (header[1] >> 1 & 3)
    rate_index, bit_rate_index, padding = header[2] >> 2 & 3, header[2] >> 4, header[2] >> 1 & 1
    if version == 1 or layer == 4 or rate_index == 3 or bit_rate_index in (0, 15):
        return None
    bit_rate = 1000 * _BIT_RATES[version == 3, layer][bit_rate_index - 1]
    rate = _SAMPLE_RATES[version][rate_index]
    if layer == 1:
        return (12 * bit_rate // rate + padding) * 4
    return (72 if layer == 3 and version != 3 else 144) * bit_rate // rate + padding
