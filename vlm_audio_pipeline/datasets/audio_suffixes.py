"""Suffixes of the names of recordings: those that this machine can decode, and others that are named when they are left out."""

from functools import cache
from importlib.util import find_spec

LIBSNDFILE_SUFFIXES = (
    ".wav", ".wave", ".bwf", ".rf64", ".w64", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".au",
    ".snd", ".caf", ".sph",
)  # fmt: skip
"""Suffixes of recordings that libsndfile decodes and whose length can be checked."""

AV_SUFFIXES = (".m4a", ".m4b", ".mp4", ".m4v", ".mov", ".3gp", ".webm", ".weba", ".mka", ".mkv", ".wma", ".asf")
"""Suffixes of recordings that the extra `av` decodes."""

OTHER_SUFFIXES = (
    ".aac", ".ac3", ".amr", ".ape", ".avi", ".avr", ".dsf", ".dff", ".dts", ".eac3", ".gsm", ".iff", ".mid", ".midi", ".mp2",
    ".mpc", ".mpg", ".mpeg", ".nist", ".pcm", ".ra", ".ram", ".raw", ".sd2", ".shn", ".spx", ".tta", ".voc", ".vox", ".wv",
)  # fmt: skip
"""Suffixes of recordings that are not decoded."""

ARCHIVE_SUFFIXES = (
    ".zip",
    ".tar",
    ".tar.gz",
    ".tgz",
    ".tar.bz2",
    ".tar.xz",
    ".7z",
    ".rar",
    ".gz",
    ".bz2",
    ".xz",
    ".zst",
)
"""Suffixes of archives, which may contain recordings."""


@cache
def has_av() -> bool:
    """Return whether the extra `av` is installed."""
    return find_spec("av") is not None


def decoded_suffixes() -> tuple[str, ...]:
    """Return the suffixes of recordings that this machine can decode."""
    return LIBSNDFILE_SUFFIXES + (AV_SUFFIXES if has_av() else ())


def describe_suffix(name: str) -> str | None:
    """Return why a recording is not decoded, by its name; None for a name that is not that of another recording."""
    lower = name.lower()
    if lower.endswith(AV_SUFFIXES) and not has_av():
        return (
            "not decoded: install the extra `av` (pip install 'vlm-audio-pipeline[av]'), or convert it to WAV or FLAC"
        )
    if lower.endswith(OTHER_SUFFIXES):
        return "not decoded: convert it to WAV or FLAC"
    return None


def describe_archive(name: str) -> str | None:
    """Return why an archive is not read, by its name; None for another name."""
    if name.lower().endswith(ARCHIVE_SUFFIXES):
        return "not read: it is an archive; unpack it if it contains recordings, or remove it"
    return None


def is_recording(head: bytes) -> bool:
    """Return whether a file begins like a recording.

    Args:
        head: its first 12 bytes.
    """
    return (
        head.startswith((b"fLaC", b"OggS", b"ID3", b"caff", b".snd", b"RIFX", b"RF64", b"BW64", b"riff.\x91\xcf\x11"))
        or (head[:4] == b"RIFF" and head[8:12] == b"WAVE")
        or (head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"))
        or (head[4:8] == b"ftyp" and head[8:11] in (b"M4A", b"M4B"))
    )
