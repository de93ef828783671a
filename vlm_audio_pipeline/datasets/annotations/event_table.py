"""Any table with one event per line: recording, start, end, label, and frequency bounds if there are any."""

from pathlib import Path

from vlm_audio_pipeline.datasets.annotations.events import AnnotationFormat, Annotations, ReadOptions
from vlm_audio_pipeline.datasets.annotations.tables import EventColumns, header_cells, read_events

_COLUMNS = EventColumns(
    start=("start", "start_s", "onset", "begin", "start_time"),
    end=("end", "end_s", "offset", "stop", "end_time"),
    label=("label", "class", "event_label", "species", "category", "annotation"),
    recording=("recording", "path", "file", "filename", "file_name", "audio"),
    low=("low_hz", "fmin", "low_freq", "freq_low", "low_f"),
    high=("high_hz", "fmax", "high_freq", "freq_high", "high_f"),
    confidence=("confidence", "score"),
)


def read_event_table(path: Path, options: ReadOptions) -> Annotations:
    """Read a table of events with usual names of columns."""
    return read_events(path, _COLUMNS, options)


def _recognises(first_lines: str) -> bool:
    cells = header_cells(first_lines)
    required_names = (_COLUMNS.start, _COLUMNS.end, _COLUMNS.label, _COLUMNS.recording)
    return all(cells & set(names) for names in required_names)


FORMAT = AnnotationFormat("table", "table of events", "", _recognises, read_event_table)
