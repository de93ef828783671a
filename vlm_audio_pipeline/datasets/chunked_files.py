"""Check containers that declare the length of their samples: WAV, RF64, W64, AIFF, 8SVX, CAF, AU and NIST SPHERE.

References: http://soundfile.sapp.org/doc/WaveFormat/, EBU Tech 3306 (RF64), https://developer.apple.com/library/archive
(Core Audio Format), the manuals of `libsndfile`.
"""

import re
from typing import BinaryIO, Literal

from vlm_audio_pipeline.datasets.chunks import Chunk, ChunkLayout, chunk_end, is_chunk_name, read_chunks
from vlm_audio_pipeline.datasets.mp3_files import find_mp3_problem, first_mp3_frame
from vlm_audio_pipeline.datasets.second_recording import find_second_recording
from vlm_audio_pipeline.datasets.sound_formats import (
    MPEG_LAYER_3,
    SoundFormat,
    find_format_problem,
    read_aiff_format,
    read_wav_format,
)

_UNKNOWN_SIZE = 0x7FFF0000  # bytes; streaming writers declare this or more if they do not know the length
_MAX_ZEROS = 4096  # bytes; recorders fill the last block of the file with zeros
_FILE_HEADERS = (b"RIFF", b"RIFX", b"RF64", b"BW64", b"FORM", b"riff", b"caff", b".snd")
_KNOWN_CHUNKS = (b"LIST", b"INFO", b"id3 ", b"ID3 ", b"bext", b"cue ", b"smpl", b"inst", b"fact", b"PEAK", b"iXML", b"_PMX",
                 b"JUNK", b"junk", b"PAD ", b"acid", b"afsp", b"NAME", b"AUTH", b"ANNO", b"MARK", b"COMT", b"info", b"free")  # fmt: skip


Finding = tuple[str | None, int | None]
"""What is wrong with a file, or None; the declared length of its samples, bytes, or None if it is unknown."""


def check_chunked_file(file: BinaryIO, head: bytes, start: int, size: int) -> tuple[str, Finding] | None:
    """Compare the length that the header declares with the bytes of the file.

    Args:
        file: the recording.
        head: its first 64 bytes, from `start`.
        start: offset of the container, bytes.
        size: length of the file, bytes.

    Returns:
        The name of the container and the finding; None if it is another container.
    """
    if head[:4] in (b"RIFF", b"RIFX") and head[8:12] == b"WAVE":
        order: Literal["little", "big"] = "little" if head[:4] == b"RIFF" else "big"
        return "WAV", _check_chunks(file, start, size, ChunkLayout(b"data", order, needs_format=True))
    if head[:4] in (b"RF64", b"BW64") and head[8:12] == b"WAVE":
        return "RF64", _check_chunks(
            file, start, size, ChunkLayout(b"data", "little", needs_format=True, needs_ds64=True)
        )
    if head[:4] == b"riff" and head[24:28] == b"wave":
        layout = ChunkLayout(b"data", "little", 40, 16, 8, 8, counts_header=True, needs_format=True)
        return "W64", _check_chunks(file, start, size, layout)
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return "AIFF", _check_chunks(file, start, size, ChunkLayout(b"SSND", "big", before_samples=8))
    if head[:4] == b"FORM" and head[8:12] in (b"8SVX", b"16SV"):
        return "SVX", _check_chunks(file, start, size, ChunkLayout(b"BODY", "big"))
    if head[:4] == b"caff":
        return "CAF", _check_chunks(
            file, start, size, ChunkLayout(b"data", "big", 8, 4, 8, 1, before_samples=4, needs_length=True)
        )
    if head[:4] in (b".snd", b"dns.") and len(head) >= 24:
        return "AU", _check_au(file, head, start, size)
    if head[:8] == b"NIST_1A\n":
        return "NIST", _check_nist(file, start, size)
    return None


def _check_chunks(file: BinaryIO, start: int, size: int, layout: ChunkLayout) -> Finding:
    declared_64: int | None = None
    sound_format: SoundFormat | None = None
    frames: int | None = None  # number of frames, where a chunk `fact` or `COMM` declares it
    previous: Chunk | None = None
    bad_offset: int | None = None
    for chunk in read_chunks(file, start + layout.first_offset, size, layout):
        if chunk.length < 0:
            name = chunk.name.decode("ascii", "replace").strip()
            return (
                f"damaged: the header of the chunk '{name}' declares {chunk.length + layout.header_bytes} bytes, less than the header "
                "itself has; write the file again"
            ), None
        if chunk.name == b"ds64":
            file.seek(chunk.offset + 8)
            declared_64 = int.from_bytes(file.read(8), "little")
        elif chunk.name == b"fmt ":
            if sound_format is not None:
                return (
                    "header wrong: it has several chunks 'fmt ', which may contradict each other; write the file again",
                    None,
                )
            file.seek(chunk.offset)
            sound_format = read_wav_format(file.read(min(chunk.length, 40)), layout.order)
        elif chunk.name == b"fact" and sound_format is not None and sound_format.has_blocks:
            file.seek(chunk.offset)
            frames = int.from_bytes(file.read(4), layout.order)
        elif chunk.name == b"COMM":
            file.seek(chunk.offset)
            comm = file.read(min(chunk.length, 22))
            if not any(comm[8:18]):  # libsndfile reads it as 1 Hz
                return (
                    "header wrong: it states a sample rate of 0 Hz; correct the header, or write the file again",
                    None,
                )
            sound_format, frames = read_aiff_format(comm)
        elif chunk.name == b"LIST" and _first_bytes(file, chunk) == b"wavl":
            return (
                "not supported: the samples are in a list of several chunks ('wavl'); convert it to WAV or FLAC",
                None,
            )
        elif chunk.name == layout.samples_name:
            if declared_64 is None and layout.needs_ds64:
                return (
                    "header wrong: an RF64 file has no chunk 'ds64', which declares its length; write the file again",
                    None,
                )
            if layout.needs_format and sound_format is None:
                return "header wrong: no chunk 'fmt ' precedes the samples; write the file again", None
            finding = _check_samples(file, chunk, declared_64, sound_format, size, layout)
            if finding[0] is None and sound_format is not None:
                declared = size - chunk.offset if finding[1] is None else finding[1]
                return find_format_problem(sound_format, frames, declared), finding[1]
            return finding
        elif not is_chunk_name(chunk.name):
            bad_offset = chunk.offset - layout.header_bytes
            break
        if chunk.offset + chunk.length > size and chunk.name not in _KNOWN_CHUNKS:
            name = chunk.name.decode("ascii").strip()
            return (
                f"truncated, or changed by a program that read it as text: the chunk '{name}' declares {chunk.length} bytes, but the file has "
                f"{size - chunk.offset} after its header"
            ), None
        previous = chunk
    if previous is not None and previous.length % layout.align and _has_chunk_at(file, previous, size, layout):
        name = previous.name.decode("ascii").strip()
        return (
            f"damaged: the chunk '{name}' has the odd length {previous.length}, and the padding byte after it is missing, so "
            "decoders do not find the samples; write the file again"
        ), None
    if bad_offset is not None:
        return (
            f"damaged: byte {bad_offset} is not the beginning of a chunk, as the chunk before it declares; a program that read the file as text "
            "may have changed it; replace the file"
        ), None
    samples = layout.samples_name.decode("ascii")
    return f"truncated: the file ends before its samples, which are in a chunk named '{samples}'", None


def _first_bytes(file: BinaryIO, chunk: Chunk) -> bytes:
    file.seek(chunk.offset)
    return file.read(4)


def _check_samples(
    file: BinaryIO,
    chunk: Chunk,
    declared_64: int | None,
    sound_format: SoundFormat | None,
    size: int,
    layout: ChunkLayout,
) -> Finding:
    available, declared = size - chunk.offset, chunk.length
    if declared_64 is not None and declared == 0xFFFFFFFF:
        declared = declared_64
    is_unknown = declared >= (1 << 63 if declared_64 is not None or layout.length_bytes == 8 else _UNKNOWN_SIZE)
    if is_unknown and layout.needs_length:
        return "of unknown length: the CAF header does not state the length of its samples; convert it to FLAC", None
    if is_unknown:
        declared = available
    if sound_format is not None and sound_format.tag == MPEG_LAYER_3 and declared <= available:
        file.seek(chunk.offset)
        frame = first_mp3_frame(file)
        if frame is not None and (problem := find_mp3_problem(file, frame, chunk.offset + declared)):
            return problem, None
    if is_unknown:  # to the end of the file, where another recording may have been added
        file.seek(chunk.offset)
        return find_second_recording(file.read(), 0, chunk.offset), None
    return _compare_lengths(file, chunk.offset, declared, size, layout), declared - layout.before_samples


def _compare_lengths(
    file: BinaryIO, offset: int, declared: int, size: int, layout: ChunkLayout | None = None
) -> str | None:
    """Compare the declared length of the samples with the bytes of the file.

    Args:
        file: the recording.
        offset: offset of the samples, bytes.
        declared: declared length of the samples, bytes.
        size: length of the file, bytes.
        layout: how the chunks after the samples are written; None if nothing may follow.
    """
    available = size - offset
    if declared > available:
        return f"truncated: the header declares {declared} bytes of samples, the file has {available}"
    ends = [offset + declared]
    if layout is not None and (padding := -declared % layout.align):
        ends.insert(0, offset + declared + padding)
    problems = [_describe_rest(file, end, size, layout) for end in ends]
    if None in problems:
        return None
    if problems[0] is not None and problems[0].startswith("several"):
        return problems[0]
    if declared == 0:
        return (
            f"header not complete: it declares 0 bytes of samples, but {available} bytes follow; the program that wrote the "
            "file did not finish. Write the file again, with a program that ignores the declared length"
        )
    return (
        f"header wrong: it declares {declared} bytes of samples, but {size - ends[0]} bytes that belong to nothing follow, "
        f"{available} in total; correct the header, or write the file again"
    )


def _describe_rest(file: BinaryIO, offset: int, size: int, layout: ChunkLayout | None) -> str | None:
    """Describe the bytes after the samples; None for chunks, tags and a few zeros."""
    if layout is not None:
        for chunk in read_chunks(file, offset, size, layout):
            if chunk.name in _FILE_HEADERS:
                begin = chunk.offset - layout.header_bytes
                return f"several recordings: another one begins at byte {begin}, and would not be read; split the file"
            if chunk.name == layout.samples_name:
                return "several recordings: the file has more than one chunk of samples; split the file"
            is_cut = chunk.offset + chunk.length > size
            if chunk.length < 0 or not is_chunk_name(chunk.name) or (is_cut and chunk.name not in _KNOWN_CHUNKS):
                break
            offset = chunk_end(chunk, layout)
    if size - offset < 8:
        return None
    file.seek(offset)
    rest = file.read()
    if rest[:4] in _FILE_HEADERS:
        return f"several recordings: another one begins at byte {offset}, and would not be read; split the file"
    if second := find_second_recording(rest, 0, offset):
        return second
    if rest[:3] in (b"ID3", b"TAG") or rest[:8] == b"APETAGEX":
        return None
    if size - offset < _MAX_ZEROS and not any(rest):
        return None
    return f"{size - offset} bytes that belong to nothing"


def _has_chunk_at(file: BinaryIO, previous: Chunk, size: int, layout: ChunkLayout) -> bool:
    """Return whether another chunk follows directly, without the padding byte."""
    offset = previous.offset + previous.length
    if offset + layout.header_bytes > size:  # a length of 64 bits can be too large for `seek`
        return False
    file.seek(offset)
    name = file.read(4)
    return name == layout.samples_name or name in _KNOWN_CHUNKS


def _check_au(file: BinaryIO, head: bytes, start: int, size: int) -> Finding:
    order: Literal["little", "big"] = "big" if head[:4] == b".snd" else "little"
    offset, declared = int.from_bytes(head[4:8], order), int.from_bytes(head[8:12], order)
    if start + offset > size:
        return f"truncated: the samples begin at byte {start + offset} by the header, the file has {size}", None
    if declared == 0xFFFFFFFF:  # the format's own mark of an unknown length
        return None, None
    return _compare_lengths(file, start + offset, declared, size), declared


def _check_nist(file: BinaryIO, start: int, size: int) -> Finding:
    file.seek(start)
    header = file.read(1024).decode("latin-1")
    fields = dict(re.findall(r"^(\w+) -[irs]\d* (\d+)$", header, re.MULTILINE))
    length = header[8:16].strip()
    try:
        offset = start + int(length)
        declared = int(fields["sample_count"]) * int(fields["sample_n_bytes"]) * int(fields.get("channel_count", 1))
    except (KeyError, ValueError):
        return "of unknown length: the NIST header does not state its number of samples; convert it to FLAC", None
    if "sample_coding -s" in header and "shorten" in header.split("sample_coding", 1)[1].split("\n", 1)[0]:
        return "undecodable: the samples are compressed with shorten; convert it to WAV with `sph2pipe`", None
    return _compare_lengths(file, offset, declared, size), declared
