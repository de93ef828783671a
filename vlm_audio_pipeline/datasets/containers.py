"""Find the container of a recording, and check that a decoder would read all of it.

libsndfile decodes a truncated file without an error, and of several recordings in one file only the first. Each container
has a function that compares the length that its header declares with the bytes of the file, and returns what is wrong.
"""

import os
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

from vlm_audio_pipeline.datasets.av_files import find_av_problem
from vlm_audio_pipeline.datasets.chunked_files import check_chunked_file
from vlm_audio_pipeline.datasets.flac_files import find_flac_problem
from vlm_audio_pipeline.datasets.mp3_files import find_mp3_problem, first_mp3_frame
from vlm_audio_pipeline.datasets.ogg_files import find_ogg_problem

_SAMPLE_BYTES = {
    "PCM_S8": 1,
    "PCM_U8": 1,
    "PCM_16": 2,
    "PCM_24": 3,
    "PCM_32": 4,
    "FLOAT": 4,
    "DOUBLE": 8,
    "ULAW": 1,
    "ALAW": 1,
}

_DOWNLOAD_AGAIN = "download the recording again"
_NOT_RECORDINGS = (
    (b"version https://git-lfs", "it is a Git LFS pointer; run `git lfs pull`"),
    (b"<!doctype html", f"it is a web page; {_DOWNLOAD_AGAIN}"),
    (b"<html", f"it is a web page; {_DOWNLOAD_AGAIN}"),
    (b"<?xml", f"it is XML, as servers return for an error; {_DOWNLOAD_AGAIN}"),
    (b'{"', f"it is JSON, as servers return for an error; {_DOWNLOAD_AGAIN}"),
    (b"http/1.", f"it begins with the header of a response; {_DOWNLOAD_AGAIN}"),
    (b"\xef\xbb\xbf", f"it begins with a mark of a text editor (BOM), so it was changed; {_DOWNLOAD_AGAIN}"),
    (b"pk\3\4", "it is a zip archive; unpack it"),
    (b"\x1f\x8b", "it is compressed with gzip; unpack it"),
    (b"\x89png", "it is an image; replace it by a recording"),
    (b"\xff\xd8\xff", "it is an image; replace it by a recording"),
    (b"%pdf", "it is a PDF; replace it by a recording"),
    (b"mthd", "it is a MIDI file, which contains notes and no sound; render it to WAV"),
    (b"\0\5\x16\7", "it is a file of macOS without sound (AppleDouble); remove it"),
)
"""First bytes of files that often have the name of a recording, in lower case, and what they are."""


@dataclass(frozen=True)
class Container:
    """The container of a recording.

    Attributes:
        name: such as "WAV"; None if it is not one of those whose length can be checked.
        problem: why a decoder would not read all of the recording; None if nothing is wrong.
        offset: bytes before the recording that a decoder must not see; 0 for nearly all files.
        sample_bytes: declared length of the samples, bytes; None if the container does not declare it.
    """

    name: str | None
    problem: str | None = None
    offset: int = 0
    sample_bytes: int | None = None

    def declared_frames(self, subtype: str, channels: int) -> int | None:
        """Return the number of frames that the container declares; None for codecs without a fixed size.

        libsndfile reads what follows the samples of W64 and NIST files, or half a block of GSM, as samples.

        Args:
            subtype: codec, as soundfile names it.
            channels: number of channels.
        """
        if self.sample_bytes is None:
            return None
        if subtype == "GSM610" and self.name in ("WAV", "W64"):
            return self.sample_bytes // 65 * 320  # a block of 65 bytes has 320 samples
        width = _SAMPLE_BYTES.get(subtype)
        return None if width is None else self.sample_bytes // (width * channels)


def read_container(path: Path) -> Container:
    """Find and check the container of a file. Files that did not change are not read again.

    Raises:
        OSError: if the file cannot be read.
    """
    s = os.stat(path)
    return _read_container(path, (s.st_size, s.st_ino, s.st_mtime_ns, s.st_ctime_ns))


@lru_cache(maxsize=4096)
def _read_container(path: Path, stamp: tuple[int, ...]) -> Container:  # noqa: ARG001
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        if size == 0:
            return Container(None, "empty: the file has 0 bytes")
        start = _skip_tags(file)
        if start > size:
            return Container(None, f"truncated: the tag at its beginning has {start} bytes, the file has {size}")
        if start == size:
            return Container(None, "no samples: the file has a tag only")
        file.seek(start)
        head = file.read(64)
        for beginning, reason in _NOT_RECORDINGS:
            if head.lstrip().lower().startswith(beginning):
                return Container(None, f"undecodable: {reason}")
        if head[:4] == b"fLaC":
            return Container("FLAC", find_flac_problem(file, start))
        if head[:4] == b"OggS":
            return Container("OGG", find_ogg_problem(file, start))
        if chunked := check_chunked_file(file, head, start, size):
            name, (problem, sample_bytes) = chunked
            return Container(name, problem, sample_bytes=sample_bytes)
        if movie := find_av_problem(file, head, start, size):
            return Container(*movie)
        file.seek(start)
        frame = first_mp3_frame(file)
        if frame is not None:
            # libsndfile skips tags, but does not find a frame after padding.
            return Container("MP3", find_mp3_problem(file, frame, size), frame if frame > start else 0)
    return Container(None)


def _skip_tags(file: BinaryIO) -> int:
    """Return the offset after the ID3v2 tags at the beginning, bytes."""
    offset = 0
    while True:
        file.seek(offset)
        head = file.read(10)
        if len(head) < 10 or head[:3] != b"ID3":
            return offset
        # the length has four bytes of 7 bits; a flag announces a footer of 10 bytes
        offset += 10 + sum((b & 0x7F) << 7 * (3 - i) for i, b in enumerate(head[6:10])) + (10 if head[5] & 0x10 else 0)
