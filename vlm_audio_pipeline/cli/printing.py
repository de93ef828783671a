"""Print tables and texts to a terminal or a file without cutting values.

All output of the command goes through this module and `app.print_line`: what a model, an endpoint, a listing or a study file contains is printed as
text, never read as markup or as a control code.
"""

import os
import re
import sys
from typing import Any

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.containers import Lines
from rich.measure import Measurement
from rich.style import Style
from rich.table import Column, Table
from rich.text import Text

from vlm_audio_pipeline.contracts.escapes import escape_terminal


def print_progress_line(text: str) -> None:
    """Print a line to stderr at once, without control codes; for an stderr that is no terminal."""
    sys.stderr.write(escape_terminal(text) + "\n")
    sys.stderr.flush()


class PlainText(Text):
    """A text for the terminal. Foreign text in it has no control codes; `Text` reads no markup."""

    def __init__(self, text: str = "", style: str | Style = "", **options: Any):
        super().__init__(escape_terminal(text), style, **options)

    def append(self, text: Text | str, style: str | Style | None = None) -> "PlainText":
        """Append a text, as `Text.append` does."""
        super().append(escape_terminal(text) if isinstance(text, str) else text, style)
        return self

    def wrap(self, console: Console, width: int, **options: Any) -> Lines:
        """Wrap to lines of a width, as `Text.wrap` does; a word that is too long is cut after _, /, @, . or - where it has one."""
        is_wrapped = not options.get("no_wrap")
        return Text.wrap(_break_words(self, width) if is_wrapped else self, console, width, **options)


def _break_words(text: Text, width: int) -> Text:
    """Break words that are longer than a width after their last punctuation that fits, such as "clap_zero_" and "shot"."""
    offsets = []
    for word in re.finditer(r"\S+", text.plain):
        if cell_len(word[0]) <= width:
            continue
        line = word.start()
        for piece in re.finditer(r"[^_/@.-]*[_/@.-]*", word[0]):
            start, end = (word.start() + offset for offset in piece.span())
            if start > line and cell_len(text.plain[line:end]) > width:
                offsets.append(start)
                line = start
    return Text("\n").join(text.divide(offsets)) if offsets else text


class PlainTable(Table):
    """A table for the terminal. Title, headings and cells are shown as they are: no markup, no control codes."""

    def __init__(self, title: str | None = None, **options: Any):
        self._optional_columns: list[Column] = []
        super().__init__(
            title=None if title is None else PlainText(title, "table.title"),
            **{"title_justify": "left", "header_style": "bold", "box": None, "pad_edge": False, **options},
        )

    def add_column(self, header: RenderableType = "", *args: Any, optional: bool = False, **options: Any) -> None:
        """Add a column, as `Table.add_column` does.

        Args:
            header: its heading.
            args: see `Table.add_column`.
            optional: leave the column out where the table is too wide for the terminal, the last such column first.
            options: see `Table.add_column`; long values are wrapped, except with `no_wrap`.
        """
        options.setdefault("overflow", "fold")
        super().add_column(PlainText(header) if isinstance(header, str) else header, *args, **options)
        if optional:
            self._optional_columns.append(self.columns[-1])

    def add_row(self, *cells: RenderableType | None, **options: Any) -> None:
        """Add a row, as `Table.add_row` does."""
        super().add_row(*(PlainText(cell) if isinstance(cell, str) else cell for cell in cells), **options)

    def fit(self, out: Console) -> list[str]:
        """Leave out optional columns until names of usual length fit in one line; return the headings of these columns."""
        left_out = []
        while self._optional_columns and _least_width(out, self, USUAL_FOLDED_WIDTH) > out.width:
            column = self._optional_columns.pop()
            self.columns = [other for other in self.columns if other is not column]
            left_out.append(str(column.header))
        return left_out[::-1]


class _PlainConsole(Console):
    """A console that reads no markup and no emoji codes, and shows control codes as symbols."""

    def render_str(self, text: str, *args: Any, **options: Any) -> Text:
        return super().render_str(escape_terminal(text), *args, **options)


def console(*, stderr: bool = False, quiet: bool = False) -> Console:
    """Open a console for stdout or stderr that does not highlight paths and keys; a quiet one prints nothing."""
    return _PlainConsole(stderr=stderr, highlight=False, soft_wrap=False, markup=False, emoji=False, quiet=quiet)


def print_view(out: Console, view: RenderableType) -> None:
    """Print without cutting values.

    In a terminal, or if the variable COLUMNS gives the width, a table leaves out optional columns and wraps names to fit. Elsewhere
    no line is wrapped, so that other programs can read it.
    """
    is_limited = has_width(out)
    for piece in view.renderables if isinstance(view, Group) else [view]:
        if not isinstance(piece, Table):
            out.print(piece, soft_wrap=not is_limited)
            continue
        left_out = piece.fit(out) if is_limited and isinstance(piece, PlainTable) else []
        width = out.width
        out.width = max(width, _least_width(out, piece) if is_limited else natural_width(out, piece))
        out.print(piece, crop=False)
        out.width = width
        if left_out:
            note = f"left out, because the terminal is narrow: {', '.join(left_out)}; --json has all columns"
            out.print(PlainText(note, style="dim"))


def has_width(out: Console) -> bool:
    """Return whether lines must fit into the width of a console: in a terminal, or if the variable COLUMNS is set."""
    return out.is_terminal or "COLUMNS" in os.environ


def natural_width(out: Console, view: RenderableType) -> int:
    """Return the width at which nothing is wrapped, in characters."""
    return Measurement.get(out, out.options.update(max_width=100_000), view).maximum


MIN_FOLDED_WIDTH = 12
"""Least width of a column whose values are wrapped, characters."""
USUAL_FOLDED_WIDTH = 20
"""Width that such a column gets, if it needs it, before an optional column is shown, characters."""


def _least_width(out: Console, table: Table, folded_width: int = MIN_FOLDED_WIDTH) -> int:
    """Return the least width at which no column is cut and no column that may be wrapped is narrower than a width, if it needs it."""
    widths = []
    for column in table.columns:
        width = max(natural_width(out, cell) for cell in (column.header, *column.cells))
        widths.append(width if column.no_wrap else min(width, folded_width))
    return sum(widths) + 2 * (len(widths) - 1)
