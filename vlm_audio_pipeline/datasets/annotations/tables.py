"""Tables of annotations with a header: columns by their usual names, times, frequencies, decimal commas, and events from rows.

Belongs here: what formats with columns share. Does not belong here: text, separators and rows (`csv_reader.py`).
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from vlm_audio_pipeline.contracts.errors import BadDataset, suggestion
from vlm_audio_pipeline.datasets.annotations.events import Annotations, Event, ReadOptions, refuse_min_confidence
from vlm_audio_pipeline.datasets.csv_reader import CsvRow, read_csv, read_number

_COMMA = re.compile(r"[+-]?\d+,\d+", re.ASCII)
_AMBIGUOUS = re.compile(r"[+-]?\d{1,3},\d{3}", re.ASCII)
_RESULT_SUFFIX = re.compile(
    r"(\.table\.\d+)?\.selections?(\.table)?\.txt$|\.birdnet(\.results)?\.(csv|txt)$|\.[^.]*$", re.IGNORECASE
)


class Numbers:
    """Reads the numbers of one file. Commas are decimal if a number of the file can be read in no other way.

    `1,234` alone may mean 1.234 or 1234, so it is refused; beside `0,5` it is 1.234.

    Args:
        texts: every text of the file that must be a number.
    """

    def __init__(self, texts: Iterable[str]):
        commas = [text for text in texts if _COMMA.fullmatch(text)]
        self._are_decimal = any(not _AMBIGUOUS.fullmatch(text) for text in commas)

    def read(self, text: str) -> float:
        """Return a number.

        Raises:
            ValueError: with the reason, for a text that is not a number.
        """
        if _COMMA.fullmatch(text):
            if not self._are_decimal:
                raise ValueError(
                    f"got '{text}', which may be {text.replace(',', '.')} or {text.replace(',', '')}; write a decimal point"
                )
            text = text.replace(",", ".")
        try:
            return read_number(text)
        except ValueError:
            raise ValueError(f"got '{text}'; write a number such as 1.5") from None


@dataclass(frozen=True)
class EventColumns:
    """Usual names of the columns of a format, by their meaning; the first that a file has is used. Case is ignored.

    Attributes:
        start, end: times, s.
        label: classes.
        recording: recordings; empty if the name of the file says it.
        low, high: frequency bounds, Hz.
        confidence: confidence of a detection.
    """

    start: Sequence[str]
    end: Sequence[str]
    label: Sequence[str]
    recording: Sequence[str] = ()
    low: Sequence[str] = ()
    high: Sequence[str] = ()
    confidence: Sequence[str] = ()


class Table:
    """An annotation file with a header.

    Args:
        path: the file.

    Attributes:
        path: the file.
        header: the column names.
        rows: the rows.

    Raises:
        BadDataset: for a file that is not such a table.
    """

    def __init__(self, path: Path):
        self.path = path
        self.header, self.rows = read_csv(path)
        self._names = {name.lower(): name for name in reversed(self.header)}
        self._numbers: dict[tuple[str, ...], Numbers] = {}

    def find(self, names: Sequence[str]) -> str | None:
        """Return the first of these columns that the file has, or None."""
        return next((self._names[name.lower()] for name in names if name.lower() in self._names), None)

    def require(self, names: Sequence[str], meaning: str) -> str:
        """Return the first of these columns that the file has.

        Raises:
            BadDataset: if it has none; the message lists its columns.
        """
        if (name := self.find(names)) is not None:
            return name
        options = " or ".join(f"'{name}'" for name in names)
        if len(self.header) == 1:
            raise BadDataset(
                f"{self.path}, line 1: no separator was found (tab, comma or semicolon) in '{self.header[0][:80]}'; "
                f"the file needs a column {options} with the {meaning}"
            )
        raise BadDataset(
            f"{self.path}, line 1: no column {options} with the {meaning}; {suggestion(names[0], self.header)}; rename a column"
        )

    def label_column(self, options: ReadOptions, names: Sequence[str]) -> str:
        """Return the column with the labels: the one that the user names, or the usual one.

        Raises:
            BadDataset: if the file does not have it.
        """
        if options.label_column is not None:
            if options.label_column not in self.header:
                raise BadDataset(
                    f"{self.path}: `label_column` must name a column, got '{options.label_column}'; "
                    f"{suggestion(options.label_column, self.header)}"
                )
            return options.label_column
        if (name := self.find(names)) is not None:
            return name
        raise BadDataset(
            f"{self.path}, line 1: no usual column with the labels ({', '.join(names)}); name it in `label_column`; "
            f"{suggestion(names[0], self.header)}"
        )

    def error(self, row: CsvRow, column: str, message: str) -> BadDataset:
        """Return an error with file, line and column."""
        return BadDataset(f"{self.path}, line {row.line}, column '{column}': {message}")

    def text(self, row: CsvRow, column: str, meaning: str) -> str:
        """Return the text of a cell, which must not be empty."""
        if not row.cells[column]:
            raise self.error(row, column, f"the {meaning} must not be empty; fill in the cell, or remove the line")
        return row.cells[column]

    def number(self, row: CsvRow, column: str, meaning: str, *, among: Sequence[str] = ()) -> float:
        """Return the number in a cell, 0 or more.

        Args:
            row: the row.
            column: the column.
            meaning: what the number is, for messages.
            among: columns that are written in the same way, decimal commas or points; by default only this one.
        """
        columns = tuple(among) or (column,)
        if columns not in self._numbers:
            self._numbers[columns] = Numbers(r.cells[c] for r in self.rows for c in columns)
        try:
            value = self._numbers[columns].read(row.cells[column])
        except ValueError as error:
            raise self.error(row, column, f"the {meaning} must be a number, {error}") from None
        if value < 0:
            raise self.error(row, column, f"the {meaning} must be 0 or more, got '{row.cells[column]}'; correct it")
        return value

    def optional_number(self, row: CsvRow, column: str | None, meaning: str, among: Sequence[str]) -> float | None:
        """Return the number in a cell; None without the column, or for an empty cell."""
        return self.number(row, column, meaning, among=among) if column and row.cells[column] else None


def read_events(path: Path, columns: EventColumns, options: ReadOptions) -> Annotations:
    """Read a table with one event per row. A row whose times and label are empty says that its recording has no event."""
    table = Table(path)
    return events_of_rows(table, table.rows, columns, options)


def events_of_rows(table: Table, rows: Iterable[CsvRow], columns: EventColumns, options: ReadOptions) -> Annotations:
    """Convert rows of a table to events; see `read_events`."""
    start, end = table.require(columns.start, "start of an event, s"), table.require(columns.end, "end of an event, s")
    label = table.label_column(options, columns.label)
    recording = table.require(columns.recording, "recording") if columns.recording else None
    low, high, confidence = (table.find(names) for names in (columns.low, columns.high, columns.confidence))
    if confidence is None:
        refuse_min_confidence(table.path, options)
    numbers = [column for column in (start, end, low, high) if column]
    events, recordings = [], set()
    for row in rows:
        name = clean_name(table.text(row, recording, "recording")) if recording else recording_of_file(table.path)
        recordings.add(name)
        if not (row.cells[start] or row.cells[end] or row.cells[label]):
            continue
        if (
            confidence
            and options.min_confidence
            and table.number(row, confidence, "confidence") < options.min_confidence
        ):
            continue
        start_s = table.number(row, start, "start", among=numbers)
        end_s = table.number(row, end, "end", among=numbers)
        low_hz = table.optional_number(row, low, "lower frequency", numbers)
        high_hz = table.optional_number(row, high, "upper frequency", numbers)
        if end_s < start_s:
            raise table.error(
                row, end, f"the end must not be before the start, got {start_s:g} s to {end_s:g} s; correct one of them"
            )
        if low_hz is not None and high_hz is not None and high_hz < low_hz:
            raise table.error(
                row,
                str(high),
                f"the upper frequency must not be below the lower one, got {low_hz:g} Hz to {high_hz:g} Hz; correct one of them",
            )
        events.append(
            Event(
                name, start_s, end_s, table.text(row, label, "label"), low_hz, high_hz, f"{table.path}, line {row.line}"
            )
        )
    if not recordings and recording is None:
        recordings.add(recording_of_file(table.path))  # a file without rows: its recording has no event
    return Annotations(tuple(events), recordings=frozenset(recordings))


def clean_name(name: str) -> str:
    r"""Return the name of a recording with "/" between its parts.

    >>> clean_name("L:\\sites\\A1.wav")
    'L:/sites/A1.wav'
    """
    return name.strip().replace("\\", "/")


def recording_of_file(path: Path) -> str:
    """Return the recording that an annotation file belongs to by its name.

    >>> recording_of_file(Path("rec_7.Table.1.selections.txt")), recording_of_file(Path("b.BirdNET.results.csv"))
    ('rec_7', 'b')
    """
    return _RESULT_SUFFIX.sub("", path.name, count=1) or path.name


def header_cells(first_lines: str) -> set[str]:
    """Return the cells of the first line in lower case, for recognising a format."""
    line = next((line for line in first_lines.lstrip("\ufeff").splitlines() if line.strip()), "")
    return {cell.strip().strip('"').lower() for cell in re.split(r"[\t,;]", line)}


def text_lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield the lines of a text that are not empty, with their numbers from 1."""
    for number, line in enumerate(re.split("\r\n|\r|\n", text), 1):
        if line.strip():
            yield number, line


def read_mapping(path: Path, rows: Iterable[tuple[str, str]]) -> Mapping[str, str]:
    """Return names by identifier.

    Raises:
        BadDataset: if an identifier has two names.
    """
    names: dict[str, str] = {}
    for identifier, name in rows:
        if names.setdefault(identifier, name) != name:
            raise BadDataset(
                f"{path}: '{identifier}' must have one name, got '{names[identifier]}' and '{name}'; remove one of them"
            )
    return names
