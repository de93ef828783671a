r"""Escape foreign text: whatever endpoints, models, listings, file names and study files contain is shown as text, in every output.

One function for each kind of output. Text is stored verbatim and escaped where it is written or shown.
"""

import html
import json
import math
import re
import unicodedata
from decimal import Decimal
from typing import Any

_KEPT_CODES = "\n\t"
_INVISIBLE = (0x00AD, 0x061C, 0x200B, 0x200E, 0x200F, 0x2028, 0x2029, 0x2060, 0xFEFF)
_RANGES = ((0x80, 0x9F), (0x202A, 0x202E), (0x2061, 0x206F), (0xFFF9, 0xFFFB), (0xD800, 0xDFFF), (0xE0000, 0xE007F))
_VISIBLE: dict[int, str] = {
    **{code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in _KEPT_CODES},  # ESC becomes the symbol ␛
    0x7F: "\u2421",
    **dict.fromkeys(_INVISIBLE, "\ufffd"),
    **{code: "\ufffd" for first, last in _RANGES for code in range(first, last + 1)},
}
_TEX: dict[int, str] = {
    ord("\\"): r"\textbackslash{}",
    ord("~"): r"\textasciitilde{}",
    ord("^"): r"\textasciicircum{}",
    ord("<"): r"\textless{}",
    ord(">"): r"\textgreater{}",
    ord("|"): r"\textbar{}",
    ord("`"): r"\textasciigrave{}",
    ord("\n"): " ",
    ord("\t"): " ",
    **{ord(character): f"\\{character}" for character in "&%$#_{}"},
}
_MARKDOWN_CHARACTER = re.compile(r"([!-,.:-@\[-`{-~]|(?<!\w)[-/])")  # inside a word, - and / have no meaning
_FORMULA = re.compile(r"[ \xa0]*[=+\-@\t\r\n＝＋－＠]|'+[ \xa0]*[=+\-@\t\r\n＝＋－＠]")


def show_control_codes(text: str) -> str:
    r"""Replace each control code, direction mark and invisible character by one visible symbol; keep line ends and tabs.

    Half of a surrogate pair, as in a file name that is not UTF-8, becomes "\ufffd", so that the text can be encoded.

    >>> show_control_codes("\x1b[31mred\x07")
    '␛[31mred␇'
    """
    return text.translate(_VISIBLE)


def escape_terminal(text: str) -> str:
    r"""Escape text for a terminal: no control code reaches it. Consoles of `cli.printing` read no markup.

    >>> escape_terminal("[/INST] \x1b]0;title\x07")
    '[/INST] ␛]0;title␇'
    """
    return show_control_codes(text)


def escape_html(text: Any) -> str:
    r"""Escape text for HTML; text that is marked as HTML (`__html__`) keeps its tags.

    >>> escape_html("<b>\u202egnp.exe")
    '&lt;b&gt;�gnp.exe'
    """
    is_html = hasattr(text, "__html__")
    return show_control_codes(str(text) if is_html else html.escape(str(text)))


def escape_json_values(value: Any) -> Any:
    """Return a JSON value whose texts have visible control codes, for data that a page displays."""
    if isinstance(value, str):
        return show_control_codes(value)
    if isinstance(value, dict):
        return {escape_json_values(k): escape_json_values(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [escape_json_values(v) for v in value]
    return value


def escape_tex(text: str) -> str:
    r"""Escape text for LaTeX; control codes become "?", which every font has.

    >>> print(escape_tex("janus_pro: 50% & more"))
    janus\_pro: 50\% \& more
    """
    plain = "".join("?" if ord(character) in _VISIBLE else character for character in text)
    return plain.translate(_TEX).replace("--", "-{}-")


def escape_csv(text: str) -> str:
    """Escape text for a CSV cell that a spreadsheet opens: a text that a spreadsheet computes gets an apostrophe in front.

    `unescape_csv` is the inverse. Line breaks and quotation marks are the writer's task.

    >>> escape_csv("=1+1"), escape_csv("dog"), escape_csv("'=1+1")
    ("'=1+1", 'dog', "''=1+1")
    """
    return f"'{text}" if _FORMULA.match(text) else text


def unescape_csv(text: str) -> str:
    """Return the text of a cell that `escape_csv` wrote.

    >>> unescape_csv(escape_csv("-dog")), unescape_csv("'quoted'")
    ('-dog', "'quoted'")
    """
    return text[1:] if text[:1] == "'" and _FORMULA.match(text) else text


def escape_markdown(text: str) -> str:
    r"""Escape text for Markdown, on one line: every ASCII character loses its meaning, also in tables, links and HTML.

    >>> print(escape_markdown("a|b [x](y)"))
    a\|b \[x\]\(y\)
    """
    one_line = " ".join(show_control_codes(text).split())
    return _MARKDOWN_CHARACTER.sub(r"\\\1", one_line)


def escape_sql(text: str) -> str:
    """Return a text as a literal of an SQL query, for statements that take no parameters.

    >>> print(escape_sql("dog's"))
    'dog''s'
    """
    return "'" + text.replace("'", "''") + "'"


def escape_plot(text: str) -> str:
    r"""Escape text for matplotlib, on one line: `$` begins no formula. `renderings.fonts` replaces glyphs that no font has.

    >>> escape_plot("$x^2$")
    '\\$x^2\\$'
    """
    one_line = " ".join(show_control_codes(unicodedata.normalize("NFC", text)).split())
    return one_line.replace("$", r"\$")


def strict_json(value: Any, indent: int | None = None) -> str:
    r"""Return a value as JSON in ASCII. Undefined numbers (NaN, infinity) become null, which JSON can represent.

    >>> strict_json([1.5, float("nan"), "é"])
    '[1.5, null, "\\u00e9"]'
    """
    return json.dumps(_replace_non_finite(value), indent=indent, allow_nan=False, default=_number_or_text)


def _number_or_text(value: Any) -> Any:
    """Convert values that JSON cannot represent: decimals (a DuckDB sum) to numbers, others to text."""
    if not isinstance(value, Decimal):
        return str(value)
    if not value.is_finite():
        return None
    return int(value) if value == value.to_integral_value() else float(value)


def _replace_non_finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(k): _replace_non_finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_replace_non_finite(v) for v in value]
    return value
