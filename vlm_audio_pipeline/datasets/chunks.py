"""The chunks of a file: a name, a length and the content, one after the other."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Literal


@dataclass(frozen=True)
class ChunkLayout:
    """How the chunks of a container are written.

    Attributes:
        samples_name: name of the chunk with the samples.
        order: byte order of lengths.
        first_offset: offset of the first chunk from the beginning of the container, bytes.
        name_bytes: length of a chunk's name, bytes; only the first four are compared.
        length_bytes: size of the field with a chunk's length, bytes.
        align: chunks begin at multiples of this many bytes.
        counts_header: whether a chunk's length includes its header.
        before_samples: bytes of the chunk that precede its samples.
        needs_format: whether a chunk `fmt ` must precede the samples.
        needs_length: whether the decoder refuses samples of unknown length.
        needs_ds64: whether a chunk `ds64` must precede the samples.
    """

    samples_name: bytes
    order: Literal["little", "big"]
    first_offset: int = 12
    name_bytes: int = 4
    length_bytes: int = 4
    align: int = 2
    counts_header: bool = False
    before_samples: int = 0
    needs_format: bool = False
    needs_length: bool = False
    needs_ds64: bool = False

    @property
    def header_bytes(self) -> int:
        """Length of a chunk's header, bytes."""
        return self.name_bytes + self.length_bytes


@dataclass(frozen=True)
class Chunk:
    """A chunk: its name, and offset and declared length of its content, bytes. The length is negative if it is less than the header."""

    name: bytes
    offset: int
    length: int


def read_chunks(file: BinaryIO, offset: int, size: int, layout: ChunkLayout) -> Iterator[Chunk]:
    """Yield the chunks from an offset on. The last one may be no chunk: check its name with `is_chunk_name`."""
    while offset + layout.header_bytes <= size:
        file.seek(offset)
        header = file.read(layout.header_bytes)
        length = int.from_bytes(header[layout.name_bytes :], layout.order)
        if layout.counts_header:
            length -= layout.header_bytes
        chunk = Chunk(header[:4], offset + layout.header_bytes, length)
        yield chunk
        offset = chunk_end(chunk, layout)


def chunk_end(chunk: Chunk, layout: ChunkLayout) -> int:
    """Return the offset after a chunk and its padding, bytes."""
    return chunk.offset + chunk.length + -chunk.length % layout.align


def is_chunk_name(name: bytes) -> bool:
    """Return whether four bytes can be the name of a chunk: printable ASCII."""
    return len(name) == 4 and all(0x20 <= b <= 0x7E for b in name)
