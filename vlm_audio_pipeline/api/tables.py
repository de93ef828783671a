"""Tables that the API returns: as pandas, Arrow or polars, and readable in a terminal or a notebook."""

from collections.abc import Callable, Iterator, Mapping
from html import escape
from io import StringIO
from typing import TYPE_CHECKING, Any

from vlm_audio_pipeline.contracts.errors import NotAvailable
from vlm_audio_pipeline.contracts.number_text import rounded_text

if TYPE_CHECKING:
    import pandas
    import polars
    import pyarrow as pa
    from rich.console import Console, RenderableType

_MAX_ROWS = 50
_HIDDEN_TYPES = ("binary", "large_binary")


class ResultTable:
    """A table of results.

    `to_pandas()`, `to_arrow()` and `to_polars()` convert it, `to_pylist()` gives its rows as dictionaries. It can be iterated
    (row by row) and indexed with the name of a column. Libraries that read Arrow's PyCapsule interface (polars, DuckDB,
    pandas) accept it as it is.

    Args:
        rows: the rows.
        view: a view for the terminal, instead of the plain table.
    """

    def __init__(self, rows: "pa.Table", view: "RenderableType | None" = None):
        self._rows = rows
        self._view = view

    def to_arrow(self) -> "pa.Table":
        """Return the table as a pyarrow table."""
        return self._rows

    def to_pandas(self) -> "pandas.DataFrame":
        """Return the table as a pandas data frame; maps (scores) are dictionaries.

        Raises:
            NotAvailable: if pandas is not installed.
        """
        _require("pandas", "to_pandas")
        return self._rows.to_pandas(maps_as_pydicts="strict")

    def to_polars(self) -> "polars.DataFrame":
        """Return the table as a polars data frame; maps (scores) are dictionaries, or before version 2 lists of (key, value).

        Raises:
            NotAvailable: if polars is not installed.
        """
        _require("polars", "to_polars")
        import polars

        frame = polars.from_arrow(self._rows)
        return frame if isinstance(frame, polars.DataFrame) else frame.to_frame()

    def to_pylist(self) -> list[dict[str, Any]]:
        """Return the rows as dictionaries; maps (scores) are dictionaries."""
        rows: list[dict[str, Any]] = self._rows.to_pylist(maps_as_pydicts="strict")
        return rows

    @property
    def columns(self) -> list[str]:
        """Names of the columns."""
        names: list[str] = self._rows.column_names
        return names

    def __getitem__(self, column: str) -> list[Any]:
        return [row[column] for row in self._select(column).to_pylist()]

    def _select(self, column: str) -> "ResultTable":
        if column not in self.columns:
            raise KeyError(f"no column '{column}'; the columns are {', '.join(self.columns)}")
        return ResultTable(self._rows.select([column]))

    def __len__(self) -> int:
        return int(self._rows.num_rows)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return iter(self.to_pylist())

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._rows.__arrow_c_stream__(requested_schema)

    def __str__(self) -> str:
        from vlm_audio_pipeline.cli.rows_view import rows_table

        if self._view is not None:
            return view_text(self._view)
        more = f"\n... and {len(self) - _MAX_ROWS} more rows" if len(self) > _MAX_ROWS else ""
        return view_text(rows_table(self._readable_columns().slice(0, _MAX_ROWS))) + more

    def __repr__(self) -> str:
        return str(self)

    def _readable_columns(self) -> "pa.Table":
        """Return the columns to show: without images and columns of nulls, and of each map only the highest values."""
        import pyarrow as pa

        columns = {}
        for field in self._rows.schema:
            column = self._rows[field.name]
            if str(field.type) in _HIDDEN_TYPES or (len(self) and column.null_count == len(self)):
                continue
            if pa.types.is_map(field.type):
                column = pa.array([_highest_values_text(value) for value in column.to_pylist()], pa.string())
            columns[field.name] = column
        return pa.table(columns)

    def _repr_html_(self) -> str:
        """Return the table that a notebook shows."""
        from vlm_audio_pipeline.cli.rows_view import cell

        rows = self._readable_columns()
        head = "".join(f"<th>{escape(name)}</th>" for name in rows.column_names)
        body = "".join(
            "<tr>" + "".join(f"<td>{escape(cell(value))}</td>" for value in row.values()) + "</tr>"
            for row in rows.slice(0, _MAX_ROWS).to_pylist()
        )
        more = f"<p>... and {len(self) - _MAX_ROWS} more rows</p>" if len(self) > _MAX_ROWS else ""
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{more}"


def table_of(columns: Mapping[str, list[Any]]) -> ResultTable:
    """Return a table of columns."""
    import pyarrow as pa

    return ResultTable(pa.table(dict(columns)))


def view_text(view: "RenderableType") -> str:
    """Return a view of the command as plain text."""
    from vlm_audio_pipeline.cli.printing import print_view

    return printed_text(lambda out: print_view(out, view))


def printed_text(show: "Callable[[Console], None]") -> str:
    """Return what a function prints to a console, as plain text without spaces at the ends of lines."""
    from rich.console import Console

    file = StringIO()
    # In a notebook rich would display each line itself, and print nothing.
    show(Console(file=file, width=100, force_terminal=False, force_jupyter=False, highlight=False))
    return "\n".join(line.rstrip() for line in file.getvalue().rstrip("\n").split("\n"))


def _highest_values_text(pairs: list[tuple[Any, Any]] | None, count: int = 3) -> str | None:
    """Return the highest values of a map, `dog 0.981, rain 0.012, ...`; other maps as they are."""
    if pairs is None or not all(isinstance(value, float) for _, value in pairs):
        return None if pairs is None else str(dict(pairs))
    ranked = sorted(pairs, key=lambda pair: -pair[1])
    more = ", ..." if len(ranked) > count else ""
    return ", ".join(f"{name} {rounded_text(value, 3)}" for name, value in ranked[:count]) + more


def _require(package: str, method: str) -> None:
    from importlib.util import find_spec

    if find_spec(package) is None:
        raise NotAvailable(
            f"{method} needs the package {package}, which is not installed; `pip install {package}`, or use `to_arrow()`"
        )
