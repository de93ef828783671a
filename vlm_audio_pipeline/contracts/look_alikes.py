"""Find names that look equal but are different texts: case, spaces, invisible characters, Unicode forms, shapes of letters."""

import unicodedata
from collections.abc import Iterable

_INVISIBLE = {
    0x034F,
    0x115F,
    0x1160,
    0x17B4,
    0x17B5,
    0x180E,
    0x3164,
    0xFFA0,
    *range(0xFE00, 0xFE10),
    *range(0xE0100, 0xE01F0),
}
"""Characters that are not drawn, beside the categories of format and control characters."""


_SAME_SHAPE = {
    ord(character): latin
    for characters, latins in (
        (
            "\u0410\u0412\u0421\u0415\u041d\u0406\u0408\u041a\u041c\u041e\u0420\u0405\u0422\u0425",
            "ABCEHIJKMOPSTX",
        ),  # Cyrillic
        (
            "\u0423\u0430\u0435\u043e\u0440\u0441\u0445\u0443\u0456\u0458\u0455\u04bb\u0501\u051b",
            "Yaeopcxyijshdq",
        ),  # Cyrillic
        ("\u051d", "w"),  # Cyrillic
        (
            "\u0391\u0392\u0395\u0396\u0397\u0399\u039a\u039c\u039d\u039f\u03a1\u03a4\u03a5\u03a7",
            "ABEZHIKMNOPTYX",
        ),  # Greek
        ("\u03bf\u03bd", "ov"),  # Greek
        ("\u2010\u2011\u2012\u2013\u2014\u2015\u2212\u2043", "-" * 8),
        ("\u2018\u2019\u02bc\u02b9", "'" * 4),
    )
    for character, latin in zip(characters, latins, strict=True)
}
"""Letters of other scripts, hyphens and apostrophes -> the Latin letter or the ASCII sign of the same shape."""


def look_alike_key(name: str) -> str:
    r"""Return a text that is the same for all names that look equal.

    >>> look_alike_key("Ku\u0308he ") == look_alike_key("k\xfc\u200bhe")
    True
    >>> look_alike_key("l\u043ew\u2011pass") == look_alike_key("low-pass")  # a Cyrillic letter, a hyphen without a break
    True
    """
    composed = unicodedata.normalize("NFKC", name.translate(_SAME_SHAPE)).casefold()
    visible = (" " if c.isspace() else c for c in composed if c.isspace() or not _is_invisible(c))
    return unicodedata.normalize("NFKC", " ".join("".join(visible).split()))


def _is_invisible(character: str) -> bool:
    return unicodedata.category(character) in ("Cf", "Cc") or ord(character) in _INVISIBLE


def find_look_alikes(names: Iterable[str]) -> list[list[str]]:
    """Return the groups of different names that look equal, each sorted."""
    groups: dict[str, set[str]] = {}
    for name in names:
        groups.setdefault(look_alike_key(name), set()).add(name)
    return sorted(sorted(group) for group in groups.values() if len(group) > 1)


def show_escaped(names: Iterable[str]) -> str:
    r"""Return names for a message, with escapes for every character that is not ASCII, so that different names look different.

    >>> show_escaped(["k\xfche", "ku\u0308he"])
    "'k\\xfche' and 'ku\\u0308he'"
    """
    return " and ".join(ascii(name) for name in names)
