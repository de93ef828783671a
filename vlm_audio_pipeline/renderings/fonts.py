r"""Fonts that draw the text of figures: DejaVu Sans, and for other scripts the fonts of this machine.

A character that no font has is never drawn as an empty box: figures show its code, such as `\u72ac`, and images for models are
refused.
"""

import unicodedata
from collections.abc import Iterable
from functools import lru_cache

from vlm_audio_pipeline.contracts.errors import VlmAudioError

FIRST_FAMILY = "DejaVu Sans"
"""The font that matplotlib contains."""


def font_families(texts: Iterable[str]) -> list[str]:
    """Return families that together draw the texts, as a value of matplotlib's `font.family`; DejaVu Sans first."""
    return [FIRST_FAMILY, *(family for _, family in _fallback_fonts(_characters(texts)))]


def refuse_missing_glyphs(texts: Iterable[str]) -> None:
    """Check that the fonts of this machine draw the texts.

    Raises:
        VlmAudioError: with the characters that no font has.
    """
    if missing := sorted(_missing_characters(_characters(texts))):
        raise VlmAudioError(
            f"no font of this machine has the characters {', '.join(map(ascii, missing))} of the labels of a rendering; "
            "install a font that has them, such as Noto Sans CJK, or write other labels"
        )


def drawable_text(text: str) -> str:
    r"""Return the text with the code of each character that no font of this machine has, such as `\u72ac`."""
    missing = _missing_characters(_characters([text]))
    return "".join(_code(character) if character in missing else character for character in text)


def font_file(text: str) -> str | None:
    """Return a font file that has every character of the text; None if no single font does."""
    characters = _characters([text])
    files = (_first_file(), *_installed_files())
    return next((file for file in files if characters <= _glyphs(file)), None)


def _code(character: str) -> str:
    if unicodedata.category(character) in ("Cf", "Mn"):  # joiners and variation selectors have no shape of their own
        return ""
    return character.encode("ascii", "backslashreplace").decode()


def _characters(texts: Iterable[str]) -> frozenset[str]:
    return frozenset(character for text in texts for character in text if not character.isspace())


def _missing_characters(characters: frozenset[str]) -> frozenset[str]:
    left = characters - _glyphs(_first_file())
    return left.difference(*(_glyphs(file) for file, _ in _fallback_fonts(characters)))


@lru_cache(maxsize=256)
def _fallback_fonts(characters: frozenset[str]) -> tuple[tuple[str, str], ...]:
    """Return (file, family) of the installed fonts that have the characters that DejaVu Sans lacks, as few as possible."""
    left = characters - _glyphs(_first_file())
    fonts = []
    while left:
        file = max(_installed_files(), key=lambda file: len(left & _glyphs(file)), default=None)
        if file is None or not left & _glyphs(file):
            break
        fonts.append((file, _register(file)))
        left -= _glyphs(file)
    return tuple(fonts)


def _first_file() -> str:
    from matplotlib import font_manager

    return str(font_manager.findfont(FIRST_FAMILY))


@lru_cache(maxsize=1)
def _installed_files() -> tuple[str, ...]:
    from matplotlib import font_manager

    # Fonts for reading come first; those of weights and slopes have the same characters.
    return tuple(sorted(font_manager.findSystemFonts(), key=lambda file: ("Regular" not in file, file)))


@lru_cache(maxsize=1024)
def _glyphs(file: str) -> frozenset[str]:
    from matplotlib.ft2font import FT2Font

    try:
        return frozenset(map(chr, FT2Font(file).get_charmap()))
    except (OSError, RuntimeError, ValueError):  # a font that FreeType cannot read
        return frozenset()


def _register(file: str) -> str:
    """Make a font known to matplotlib, whose list may be older than the font, and return its family."""
    from matplotlib import font_manager
    from matplotlib.ft2font import FT2Font

    family = str(FT2Font(file).family_name)
    if family not in font_manager.fontManager.get_font_names():
        font_manager.fontManager.addfont(file)
    return family
