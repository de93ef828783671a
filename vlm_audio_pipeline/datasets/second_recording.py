"""Find a second recording behind the first one in a file."""

import re

_BEGINNINGS = {
    name: re.compile(re.escape(name) + rest, re.DOTALL)
    for name, rest in {
        b"RIFF": rb"....WAVE",
        b"RIFX": rb"....WAVE",
        b"RF64": rb"....WAVE",
        b"BW64": rb"....WAVE",
        b"FORM": rb"....(AIF[FC]|8SVX)",
        b"riff": rb"\x2e\x91\xcf\x11",
        b"caff": rb"\x00\x01\x00\x00",
        b".snd": rb"\x00\x00",
        b"NIST": rb"_1A\n",
        b"fLaC": rb"[\x00\x80]\x00\x00\x22",
        b"OggS": rb"\x00\x02",
        b"Xing": rb"\x00\x00\x00[\x01-\x0f]",  # in the first frame of an MP3
        b"Info": rb"\x00\x00\x00[\x01-\x0f]",
    }.items()
}
"""First four bytes of recordings, which are found quickly, and what follows them, so that they do not occur by chance."""


def find_second_recording(data: bytes, offset: int = 0, shift: int = 0) -> str | None:
    """Return that another recording begins, and where; None if none does.

    Args:
        data: bytes of the file.
        offset: where the search begins, bytes.
        shift: offset of `data` within the file, bytes.
    """
    begin = min((b for name in _BEGINNINGS if (b := _find(data, name, offset)) >= 0), default=None)
    if begin is None:
        return None
    return f"several recordings: another one begins at byte {shift + begin}, and would not be read; split the file"


def _find(data: bytes, name: bytes, offset: int) -> int:
    while (offset := data.find(name, offset)) >= 0 and not _BEGINNINGS[name].match(data, offset):
        offset += 1
    return offset
