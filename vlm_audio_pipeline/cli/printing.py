"""Print tables and texts to a terminal or a file without cutting values."""

from rich.console import Console, Group, RenderableType
from rich.measure import Measurement
from rich.table import Table


def console(*, stderr: bool = False) -> Console:
    """Open a console for stdout or stderr that does not highlight paths and keys."""
    return Console(stderr=stderr, highlight=False, soft_wrap=False)


def print_view(out: Console, view: RenderableType) -> None:
    """Print without cutting values.

    Tables without wrapping columns are printed at their full width. If the output is not a terminal, no line is wrapped.
    """
    for piece in view.renderables if isinstance(view, Group) else [view]:
        if isinstance(piece, Table):
            width = out.width
            if not out.is_terminal or all(c.no_wrap for c in piece.columns):
                out.width = max(width, natural_width(out, piece))
            out.print(piece, crop=False)
            out.width = width
        else:
            out.print(piece, soft_wrap=not out.is_terminal)


def natural_width(out: Console, view: RenderableType) -> int:
    """Return the width at which nothing is wrapped, in characters."""
    return Measurement.get(out, out.options.update(max_width=100_000), view).maximum
