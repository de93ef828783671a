"""Raven selection tables: tab-separated text, one line per selection and view.

Reference: Raven Pro user's manual, chapter 6, https://ravensoundsoftware.com/knowledge-base/. `Begin Time (s)` counts from the start
of all sound files that were open together; where a table has `File Offset (s)`, that is the start within the file. A table of several recordings must have it.
"""

from pathlib import Path

from vlm_audio_pipeline.contracts.errors import BadDataset
from vlm_audio_pipeline.datasets.annotations.events import (
    EXPORT_OFFSETS,
    AnnotationFormat,
    Annotations,
    Event,
    ReadOptions,
)
from vlm_audio_pipeline.datasets.annotations.tables import EventColumns, Table, events_of_rows, header_cells
from vlm_audio_pipeline.datasets.csv_reader import CsvRow

_BEGIN, _END, _OFFSET = "Begin Time (s)", "End Time (s)", "File Offset (s)"
_COLUMNS = EventColumns(
    start=(_BEGIN,),
    end=(_END,),
    label=(
        "Species",
        "Annotation",
        "Label",
        "Common Name",
        "Class",
        "Sound Type",
        "Call Type",
        "Call",
        "Tag 1",
        "Tag",
        "Species Code",
    ),
    low=("Low Freq (Hz)", "Low Frequency (Hz)"),
    high=("High Freq (Hz)", "High Frequency (Hz)"),
    confidence=("Confidence", "Score"),
)
_RECORDING = ("Begin Path", "Begin File")


def read_raven(path: Path, options: ReadOptions) -> Annotations:
    """Read a selection table. A selection that is listed for several views counts once, as the spectrogram shows it."""
    table = Table(path)
    recording = table.find(_RECORDING)
    columns = EventColumns(**{**vars(_COLUMNS), "recording": (recording,) if recording else ()})
    annotations = events_of_rows(table, _selections(table), columns, options)
    offset = table.find((_OFFSET,)) if recording else None
    if offset is None:
        if len(annotations.recordings) > 1:
            first, second, *_ = sorted(annotations.recordings)
            raise BadDataset(
                f"{path} names several recordings, such as {first} and {second}, but has no column '{_OFFSET}', so its times may count "
                f"from the start of all of them. {EXPORT_OFFSETS}"
            )
        return annotations
    rows = {f"{path}, line {row.line}": row for row in table.rows}
    events = tuple(_shift(table, rows[event.origin], event, offset) for event in annotations.events)
    return Annotations(events, recordings=annotations.recordings)


def _selections(table: Table) -> list[CsvRow]:
    """Return one row for each selection: that of the spectrogram, if there are several."""
    selection, view = table.find(("Selection",)), table.find(("View",))
    if selection is None or view is None:
        return table.rows
    chosen: dict[tuple[str, ...], CsvRow] = {}
    key_columns = [
        selection,
        *(name for name in (table.find(("Channel",)), table.find(_RECORDING), table.find((_BEGIN,))) if name),
    ]
    for row in table.rows:
        key = tuple(row.cells[name] for name in key_columns)
        if key not in chosen or (
            row.cells[view].startswith("Spectrogram") and not chosen[key].cells[view].startswith("Spectrogram")
        ):
            chosen[key] = row
    return list(chosen.values())


def _shift(table: Table, row: CsvRow, event: Event, offset: str) -> Event:
    """Return an event with times within its own file."""
    times = [name for name in (table.find((_BEGIN,)), table.find((_END,)), offset) if name]
    start_s = table.number(row, offset, "start within the file", among=times)
    end_s = start_s + (event.end_s - event.start_s)
    return Event(event.recording, start_s, end_s, event.label, event.low_hz, event.high_hz, event.origin)


def _recognises(first_lines: str) -> bool:
    return {_BEGIN.lower(), _END.lower()} <= header_cells(first_lines)


FORMAT = AnnotationFormat(
    "raven",
    "Raven selection table",
    "https://ravensoundsoftware.com/knowledge-base/save-all-selections-in-current-tables/",
    _recognises,
    read_raven,
)
