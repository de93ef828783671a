"""The format of the samples in WAV and AIFF files, and whether it fits their length.

References: http://soundfile.sapp.org/doc/WaveFormat/, Microsoft's WAVEFORMATEX, Audio Interchange File Format 1.3.
"""

from dataclasses import dataclass
from typing import Literal

MPEG_LAYER_3 = 0x55
"""Format tag of WAV files that contain MP3 frames."""
_FIXED_SIZE = (1, 3, 6, 7)  # PCM, floats, A-law, µ-law
_SAMPLES_PER_BLOCK_AT = {2: 18, 0x11: 18}  # offset in the chunk: Microsoft's and IMA's ADPCM
_GSM, _GSM_SAMPLES_PER_BLOCK = 0x31, 320


@dataclass(frozen=True)
class SoundFormat:
    """How samples are stored.

    Attributes:
        tag: format tag of WAV.
        channels: number of channels.
        bits: bits per sample of a channel.
        block_bytes: length of a frame, or of a block of a codec with blocks.
        block_samples: samples of a channel in a block; 0 if it is unknown.
    """

    tag: int
    channels: int
    bits: int
    block_bytes: int
    block_samples: int

    @property
    def has_blocks(self) -> bool:
        """Whether it is a codec with blocks. Other WAV files may declare a number of frames, too, which is often wrong."""
        return self.block_samples > 1


def read_wav_format(fmt: bytes, order: Literal["little", "big"]) -> SoundFormat:
    """Read the chunk `fmt ` of a WAV file."""

    def number(offset: int) -> int:
        return int.from_bytes(fmt[offset : offset + 2], order)

    tag = number(24) if number(0) == 0xFFFE and len(fmt) >= 26 else number(0)  # WAVE_FORMAT_EXTENSIBLE
    samples = number(_SAMPLES_PER_BLOCK_AT[tag]) if tag in _SAMPLES_PER_BLOCK_AT else 1
    if tag == _GSM:
        samples = _GSM_SAMPLES_PER_BLOCK
    return SoundFormat(tag, number(2), number(14), number(12), samples)


def read_aiff_format(comm: bytes) -> tuple[SoundFormat | None, int | None]:
    """Read the chunk `COMM` of an AIFF file: its format and its number of frames; both are None for a compressed codec."""
    if comm[18:22] not in (b"", b"NONE", b"sowt", b"twos", b"raw ", b"fl32", b"FL32", b"fl64", b"FL64"):
        return None, None
    channels, bits = int.from_bytes(comm[:2], "big"), int.from_bytes(comm[6:8], "big")
    return SoundFormat(1, channels, bits, channels * (-(-bits // 8)), 1), int.from_bytes(comm[2:6], "big")


def find_format_problem(sound_format: SoundFormat, frames: int | None, sample_bytes: int) -> str | None:
    """Return what is wrong with a format, or None.

    Args:
        sound_format: the format.
        frames: number of frames that the header declares beside the length of the samples, or None.
        sample_bytes: length of the samples.
    """
    f = sound_format
    is_fixed_size = f.tag in _FIXED_SIZE
    frame_bytes = f.channels * (-(-f.bits // 8))
    if is_fixed_size and frame_bytes and f.block_bytes != frame_bytes:
        return (
            f"header wrong: a frame of {f.channels} channels of {f.bits} bits has {frame_bytes} bytes, the header declares "
            f"{f.block_bytes}; correct the header, or write the file again"
        )
    if frames is None or not f.block_bytes or not f.block_samples or f.tag == MPEG_LAYER_3:
        return None
    available = sample_bytes // f.block_bytes * f.block_samples
    if frames > available:
        return f"truncated: the header declares {frames} frames, the samples have at most {available}"
    if frames < available - 2 * f.block_samples:  # the last block may be padded
        return (
            f"header wrong: it declares {frames} frames, the samples have {available}; correct the header, or write the file "
            "again"
        )
    return None
