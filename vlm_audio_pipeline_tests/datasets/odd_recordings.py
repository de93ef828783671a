"""Write odd and damaged recordings: 0.25 s of a sine with noise at 8 kHz, in every container and with every fault."""

import gzip
import io
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile

RATE = 8000
N = 2000  # samples


def sine(n: int = N, hz: float = 440.0) -> np.ndarray:
    noise = np.random.default_rng(0).uniform(-0.1, 0.1, n)
    return (0.4 * np.sin(2 * np.pi * hz * np.arange(n) / RATE) + noise).astype(np.float32)


PCM = (sine() * 32767).astype("<i2").tobytes()


def encoded(container: str, subtype: str | None = None, samples: np.ndarray | None = None, rate: int = RATE) -> bytes:
    """Return the bytes of a file that libsndfile writes."""
    file = io.BytesIO()
    soundfile.write(file, sine() if samples is None else samples, rate, format=container, subtype=subtype)
    return file.getvalue()


def chunk(name: bytes, content: bytes, size: int | None = None, pad: bool = True) -> bytes:
    padding = b"\0" if pad and len(content) % 2 else b""
    return name + struct.pack("<I", len(content) if size is None else size) + content + padding


def fmt(channels: int = 1, rate: int = RATE, bits: int = 16) -> bytes:
    width = channels * bits // 8
    return chunk(b"fmt ", struct.pack("<HHIIHH", 1, channels, rate, rate * width, width, bits))


def wav(*chunks: bytes, size: int | None = None) -> bytes:
    content = b"WAVE" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(content) if size is None else size) + content


def big_endian_wav() -> bytes:
    header = struct.pack(">IHHIIHH", 16, 1, 1, RATE, 2 * RATE, 2, 16)
    samples = (sine() * 32767).astype(">i2").tobytes()
    return b"RIFX" + struct.pack(">I", 36 + len(samples)) + b"WAVEfmt " + header + b"data" + struct.pack(">I", len(samples)) + samples  # fmt: skip


def with_bytes(data: bytes, position: int, new: bytes) -> bytes:
    return data[:position] + new + data[position + len(new) :]


def cut(data: bytes, share: float = 0.5) -> bytes:
    return data[: int(len(data) * share)]


ID3 = b"ID3\x03\0\0\0\0\0\x0a" + bytes(10)  # an ID3v2 tag with 10 bytes of content
TAG = b"TAG" + b"x" * 125  # an ID3v1 tag
LIST = b"INFOISFT\x05\0\0\0abcde"  # 17 bytes


def flac_declaring(samples: int) -> bytes:
    """Return a FLAC file whose header declares another number of samples: 36 bits from the lower half of byte 21 on."""
    data = bytearray(encoded("FLAC"))
    data[21] = data[21] & 0xF0 | samples >> 32
    data[22:26] = (samples & 0xFFFFFFFF).to_bytes(4, "big")
    return bytes(data)


def without_first_frame(mp3: bytes) -> bytes:
    """Drop the frame that declares the number of frames."""
    return mp3[mp3.index(mp3[:2], 4) :]


def mp3_in_wav(mp3: bytes) -> bytes:
    header = struct.pack("<HHIIHHHHIHHH", 0x55, 1, RATE, 2000, 1, 0, 12, 1, 2, 1000, 1, 1393)
    return wav(chunk(b"fmt ", header), chunk(b"fact", struct.pack("<I", N)), chunk(b"data", mp3))


def ogg_without_end(data: bytes) -> bytes:
    last = data.rindex(b"OggS")
    return with_bytes(data, last + 5, bytes([data[last + 5] & ~4]))


def stereo(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    return np.stack([left, right], axis=1)


def float_wav(samples: np.ndarray) -> bytes:
    return encoded("WAV", "FLOAT", samples.astype(np.float32))


def samples_with(value: float) -> np.ndarray:
    samples = sine()
    samples[[3, 7]] = value
    return samples


def _au_declaring(share: float) -> bytes:
    data = encoded("AU", "PCM_16")
    return with_bytes(data, 8, struct.pack(">I", int(2 * N * share)))


def _caf_declaring_half() -> bytes:
    data = encoded("CAF", "PCM_16")
    return with_bytes(data, data.index(b"data") + 4, struct.pack(">Q", N + 4))


def _w64_declaring_half() -> bytes:
    data = encoded("W64", "PCM_16")
    return with_bytes(data, data.index(b"data\xf3\xac") + 16, struct.pack("<Q", N + 24))


def _rf64_declaring_half() -> bytes:
    data = encoded("RF64", "PCM_16")
    return with_bytes(data, data.index(b"ds64") + 16, struct.pack("<Q", N))


def _caf_of_unknown_length() -> bytes:
    data = encoded("CAF", "PCM_16")
    return with_bytes(data, data.index(b"data") + 4, b"\xff" * 8)


def _ima_declaring(frames: int) -> bytes:
    data = encoded("WAV", "IMA_ADPCM")
    return with_bytes(data, data.index(b"fact") + 8, struct.pack("<I", frames))


def _aiff_declaring(frames: int) -> bytes:
    data = encoded("AIFF", "PCM_16")
    return with_bytes(data, data.index(b"COMM") + 10, struct.pack(">I", frames))


def _ogg_with_pages(change: Callable[[list[bytes]], list[bytes]]) -> bytes:
    """Return an Ogg file of 10 s with other pages."""
    pages = [b"OggS" + page for page in encoded("OGG", "VORBIS", sine(80_000)).split(b"OggS")[1:]]
    return b"".join(change(pages))


RECORDINGS: dict[str, tuple[str, Callable[[], bytes]]] = {
    # WAV
    "WAV, 16 bits": ("wav", lambda: wav(fmt(), chunk(b"data", PCM))),
    "WAV, 24 bits, six channels": ("wav", lambda: encoded("WAVEX", "PCM_24", np.stack([sine()] * 6, 1))),
    "WAV, 32-bit floats": ("wav", lambda: float_wav(sine())),
    "WAV, 64-bit floats": ("wav", lambda: encoded("WAV", "DOUBLE")),
    "WAV, µ-law": ("wav", lambda: encoded("WAV", "ULAW")),
    "WAV, A-law": ("wav", lambda: encoded("WAV", "ALAW")),
    "WAV, GSM 6.10": ("wav", lambda: encoded("WAV", "GSM610")),
    "WAV, IMA ADPCM": ("wav", lambda: encoded("WAV", "IMA_ADPCM")),
    "WAV, Microsoft ADPCM": ("wav", lambda: encoded("WAV", "MS_ADPCM")),
    "WAV, big-endian (RIFX)": ("wav", big_endian_wav),
    "WAV, a LIST chunk before the samples": ("wav", lambda: wav(fmt(), chunk(b"LIST", LIST), chunk(b"data", PCM))),
    "WAV, a LIST chunk after an odd number of bytes": (
        "wav",
        lambda: wav(fmt(bits=8), chunk(b"data", PCM[:1001]), chunk(b"LIST", LIST)),
    ),
    "WAV, a LIST chunk of odd length without padding": (
        "wav",
        lambda: wav(fmt(), chunk(b"LIST", LIST, pad=False), chunk(b"data", PCM)),
    ),
    "WAV, 1000 zeros after the samples": ("wav", lambda: wav(fmt(), chunk(b"data", PCM)) + bytes(1000)),
    "WAV, an ID3 tag before it": ("wav", lambda: ID3 + wav(fmt(), chunk(b"data", PCM))),
    "WAV, an ID3 tag before it, and cut": ("wav", lambda: cut(ID3 + wav(fmt(), chunk(b"data", PCM)))),
    "WAV, streamed: declares 4 GiB": (
        "wav",
        lambda: wav(fmt(), chunk(b"data", PCM, 0xFFFFFFFF), size=0xFFFFFFFF),
    ),
    "WAV, streamed: declares 2 GiB": ("wav", lambda: wav(fmt(), chunk(b"data", PCM, 0x80000000), size=0x80000024)),
    "WAV, streamed: declares 2 GiB less 1 byte": ("wav", lambda: wav(fmt(), chunk(b"data", PCM, 0x7FFFFFFF))),
    "WAV, declares 0 bytes of samples": ("wav", lambda: wav(fmt(), chunk(b"data", PCM, 0))),
    "WAV, declares 0 bytes everywhere": ("wav", lambda: wav(fmt(), chunk(b"data", PCM, 0), size=0)),
    "WAV, declares half of its samples": ("wav", lambda: wav(fmt(), chunk(b"data", PCM, N))),
    "WAV, declares 1 byte too many": ("wav", lambda: wav(fmt(), chunk(b"data", PCM, 2 * N + 1))),
    "WAV, cut": ("wav", lambda: cut(wav(fmt(), chunk(b"data", PCM)))),
    "WAV, cut in the header": ("wav", lambda: wav(fmt(), chunk(b"data", PCM))[:36]),
    "WAV, big-endian, cut": ("wav", lambda: cut(big_endian_wav())),
    "WAV, the last frame is incomplete": ("wav", lambda: wav(fmt(channels=2), chunk(b"data", PCM[:-2]))),
    "WAV, no samples": ("wav", lambda: wav(fmt(), chunk(b"data", b""))),
    "WAV, two files joined": ("wav", lambda: wav(fmt(), chunk(b"data", PCM)) * 2),
    "WAV, two chunks of samples": ("wav", lambda: wav(fmt(), chunk(b"data", PCM), chunk(b"data", PCM))),
    "WAV, two chunks of the format": ("wav", lambda: wav(fmt(), fmt(rate=44100), chunk(b"data", PCM))),
    "WAV, the format after the samples": ("wav", lambda: wav(chunk(b"data", PCM), fmt())),
    "WAV, a frame of 4 bytes for one channel of 16 bits": ("wav", lambda: with_bytes(wav(fmt(), chunk(b"data", PCM)), 32, b"\4")),
    "WAV, IMA ADPCM, declares more frames than it has": ("wav", lambda: _ima_declaring(3 * N)),
    "WAV, IMA ADPCM, declares half of its frames": ("wav", lambda: _ima_declaring(N // 2)),
    "WAV, changed by a program that read it as text": ("wav", lambda: wav(fmt(), chunk(b"data", PCM)).decode("latin-1").encode()),
    "WAV, the samples in a list of chunks": ("wav", lambda: wav(fmt(), chunk(b"LIST", b"wavl" + chunk(b"data", PCM)))),
    "WAV without samples": ("wav", lambda: wav(fmt(), chunk(b"DATA", PCM))),
    "WAV, sample rate of 0 Hz": ("wav", lambda: wav(fmt(rate=0), chunk(b"data", PCM))),
    "WAV, no channels": ("wav", lambda: wav(fmt(channels=0), chunk(b"data", PCM))),
    "WAV, sample rate of 1 Hz": ("wav", lambda: wav(fmt(rate=1), chunk(b"data", PCM[:40]))),
    "WAV, sample rate of 384 kHz": ("wav", lambda: wav(fmt(rate=384000), chunk(b"data", PCM))),
    # other containers that declare their length
    "RF64": ("wav", lambda: encoded("RF64", "PCM_16")),
    "RF64, cut": ("wav", lambda: cut(encoded("RF64", "PCM_16"))),
    "RF64, declares half of its samples": ("wav", _rf64_declaring_half),
    "RF64 without the chunk of its length": ("wav", lambda: encoded("RF64", "PCM_16").replace(b"ds64", b"junk")),
    "W64": ("w64", lambda: encoded("W64", "PCM_16")),
    "W64, cut": ("w64", lambda: cut(encoded("W64", "PCM_16"))),
    "W64, declares half of its samples": ("w64", _w64_declaring_half),
    "AIFF": ("aiff", lambda: encoded("AIFF", "PCM_16")),
    "AIFF, cut": ("aiff", lambda: cut(encoded("AIFF", "PCM_16"))),
    "AIFF, declares half of its frames": ("aiff", lambda: _aiff_declaring(N // 2)),
    "AIFF, declares more frames than it has": ("aiff", lambda: _aiff_declaring(2 * N)),
    "AIFF, sample rate of 0 Hz": ("aiff", lambda: with_bytes(encoded("AIFF", "PCM_16"), 28, bytes(10))),
    "CAF": ("caf", lambda: encoded("CAF", "PCM_16")),
    "CAF, cut": ("caf", lambda: cut(encoded("CAF", "PCM_16"), 0.9)),
    "CAF, declares half of its samples": ("caf", _caf_declaring_half),
    "CAF of unknown length": ("caf", lambda: _caf_of_unknown_length()),
    "AU": ("au", lambda: encoded("AU", "PCM_16")),
    "AU, cut": ("au", lambda: cut(encoded("AU", "PCM_16"))),
    "AU, declares half of its samples": ("au", lambda: _au_declaring(0.5)),
    "AU, the samples begin after the end of the file": ("au", lambda: with_bytes(encoded("AU", "PCM_16"), 4, b"\x7f")),
    "NIST SPHERE": ("sph", lambda: encoded("NIST", "PCM_16")),
    "NIST SPHERE, cut": ("sph", lambda: cut(encoded("NIST", "PCM_16"))),
    "Creative VOC": ("voc", lambda: encoded("VOC", "PCM_16")),
    # FLAC
    "FLAC": ("flac", lambda: encoded("FLAC")),
    "FLAC, an ID3 tag before it": ("flac", lambda: ID3 + encoded("FLAC")),
    "FLAC, an ID3v1 tag after it": ("flac", lambda: encoded("FLAC") + TAG),
    "FLAC of unknown length": ("flac", lambda: flac_declaring(0)),
    "FLAC, declares half of its samples": ("flac", lambda: flac_declaring(N // 2)),
    "FLAC, cut": ("flac", lambda: cut(encoded("FLAC"))),
    "FLAC, two files joined": ("flac", lambda: encoded("FLAC") * 2),
    # Ogg
    "Ogg Vorbis": ("ogg", lambda: encoded("OGG", "VORBIS")),
    "Ogg Vorbis, 20,000 zeros after it": ("ogg", lambda: encoded("OGG", "VORBIS") + bytes(20000)),
    "Ogg Vorbis, an ID3v1 tag after it": ("ogg", lambda: encoded("OGG", "VORBIS") + TAG),
    "Ogg Vorbis, the end is not marked": ("ogg", lambda: ogg_without_end(encoded("OGG", "VORBIS"))),
    "Ogg Vorbis, cut": ("ogg", lambda: cut(encoded("OGG", "VORBIS"), 0.9)),
    "Ogg Vorbis, two files joined": ("ogg", lambda: encoded("OGG", "VORBIS") * 2),
    "Ogg Vorbis, a page is missing": ("ogg", lambda: _ogg_with_pages(lambda pages: pages[:3] + pages[4:])),
    "Ogg Vorbis, a page occurs twice": ("ogg", lambda: _ogg_with_pages(lambda pages: pages[:4] + pages[3:])),
    "Ogg Vorbis, the last page is damaged": ("ogg", lambda: _ogg_with_pages(lambda pages: [*pages[:-1], with_bytes(pages[-1], 6, b"\7")])),
    "Ogg Opus": ("opus", lambda: encoded("OGG", "OPUS")),
    "Ogg Opus, two files joined": ("opus", lambda: encoded("OGG", "OPUS") + encoded("OGG", "OPUS", sine(hz=880.0))),
    # MP3
    "MP3": ("mp3", lambda: encoded("MP3")),
    "MP3, named .wav": ("wav", lambda: encoded("MP3")),
    "MP3, an ID3v1 tag after it": ("mp3", lambda: encoded("MP3") + TAG),
    "MP3, two ID3 tags before it": ("mp3", lambda: ID3 + ID3 + encoded("MP3")),
    "MP3, zeros between the ID3 tag and the first frame": ("mp3", lambda: ID3 + bytes(500) + encoded("MP3")),
    "MP3 without a declared length": ("mp3", lambda: without_first_frame(encoded("MP3"))),
    "MP3, cut": ("mp3", lambda: cut(encoded("MP3"))),
    "MP3, two files joined": ("mp3", lambda: encoded("MP3") + encoded("MP3", samples=sine(3 * N))),
    "MP3 in WAV": ("wav", lambda: mp3_in_wav(encoded("MP3"))),
    "MP3 in WAV without a declared length": ("wav", lambda: mp3_in_wav(without_first_frame(encoded("MP3")))),
    "MP3 in WAV, two files joined": ("wav", lambda: mp3_in_wav(encoded("MP3") * 2)),
    "M4A that is damaged, or without the extra `av`": ("m4a", lambda: b"\0\0\0\x20ftypM4A " + bytes(range(256)) * 4),
    "M4A, cut": ("m4a", lambda: b"\0\0\0\x14ftypM4A \0\0\0\0M4A " + struct.pack(">I", 4000) + b"mdat" + bytes(2000)),
    # levels
    "silence": ("wav", lambda: float_wav(np.zeros(N))),
    "one sample": ("wav", lambda: float_wav(sine(1))),
    "floats with a peak of 2": ("wav", lambda: float_wav(4 * sine())),
    "floats on the 16-bit scale": ("wav", lambda: float_wav(32767 * sine())),
    "floats on the 24-bit scale": ("wav", lambda: float_wav(2**23 * sine())),
    "floats that are NaN": ("wav", lambda: float_wav(samples_with(np.nan))),
    "floats that are infinite": ("wav", lambda: float_wav(samples_with(np.inf))),
    "two channels, one inverted": ("wav", lambda: encoded("WAV", "PCM_16", stereo(sine(), -sine()))),
    "two channels, one inverted and quieter": ("wav", lambda: encoded("WAV", "PCM_16", stereo(sine(), -0.8 * sine()))),
    "two channels, one silent": ("wav", lambda: encoded("WAV", "PCM_16", stereo(sine(), 0 * sine()))),
    "two channels, different sounds": ("wav", lambda: encoded("WAV", "PCM_16", stereo(sine(), sine(hz=1330.0)))),
    # not recordings
    "an empty file": ("wav", lambda: b""),
    "a web page named .wav": ("wav", lambda: b"<!DOCTYPE html><html>404</html>"),
    "a Git LFS pointer": ("wav", lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"),
    "an AppleDouble file (._name.wav)": ("wav", lambda: b"\0\5\x16\7" + bytes(4092)),
    "an ID3 tag only": ("mp3", lambda: ID3),
    "an ID3 tag that is longer than the file": ("wav", lambda: with_bytes(ID3, 8, b"\x7f") + wav(fmt(), chunk(b"data", PCM))),
    "a zip archive named .wav": ("wav", lambda: b"PK\3\4" + bytes(200)),
    "a recording that is compressed with gzip": ("wav", lambda: gzip.compress(wav(fmt(), chunk(b"data", PCM)), mtime=0)),
    "an error message of a server, XML or JSON": ("wav", lambda: b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>"),
    "a WAV after the header of a response": ("wav", lambda: b"HTTP/1.1 200 OK\r\n\r\n" + wav(fmt(), chunk(b"data", PCM))),
    "a WAV that a text editor saved with a mark (BOM)": ("wav", lambda: b"\xef\xbb\xbf" + wav(fmt(), chunk(b"data", PCM))),
    "an image, a PDF or a MIDI file named .wav": ("wav", lambda: b"MThd\0\0\0\6\0\0\0\1\0\x60" + bytes(40)),
    "samples without a header (.raw)": ("raw", lambda: PCM),
}  # fmt: skip
"""Name in docs/troubleshooting.md -> suffix, and a function that returns the bytes."""


def write_recording(folder: Path, name: str) -> Path:
    suffix, make = RECORDINGS[name]
    path = folder / f"odd.{suffix}"
    path.write_bytes(make())
    return path
