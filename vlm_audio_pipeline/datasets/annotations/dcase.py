"""Strong and weak labels of DCASE (DESED): tab-separated, filename, onset, offset, event_label; or filename, event_labels.

A line without times and label says that the recording has no event. Reference: https://project.inria.fr/desed/,
https://dcase.community/challenge2023/task-sound-event-detection-with-weak-labels-and-synthetic-soundscapes.
"""

from pathlib import Path

from vlm_audio_pipeline.datasets.annotations.events import (
    AnnotationFormat,
    Annotations,
    LabelledClip,
    ReadOptions,
    refuse_min_confidence,
)
from vlm_audio_pipeline.datasets.annotations.tables import EventColumns, Table, clean_name, events_of_rows, header_cells

_COLUMNS = EventColumns(start=("onset",), end=("offset",), label=("event_label",), recording=("filename",))


def read_dcase(path: Path, options: ReadOptions) -> Annotations:
    """Read strong or weak labels, by their columns."""
    table = Table(path)
    if table.find(("event_labels",)) is None:
        return events_of_rows(table, table.rows, _COLUMNS, options)
    refuse_min_confidence(path, options)
    labels = table.label_column(options, ("event_labels",))
    filename = table.require(("filename",), "recording")
    clips = tuple(
        LabelledClip(
            clean_name(table.text(row, filename, "recording")),
            tuple(sorted({label.strip() for label in row.cells[labels].split(",") if label.strip()})),
            origin=f"{path}, line {row.line}",
        )
        for row in table.rows
    )
    return Annotations(clips=clips, recordings=frozenset(clip.recording for clip in clips))


def _recognises(first_lines: str) -> bool:
    cells = header_cells(first_lines)
    return {"filename", "onset", "offset", "event_label"} <= cells or {"filename", "event_labels"} <= cells


FORMAT = AnnotationFormat("dcase", "DCASE labels", "https://project.inria.fr/desed/", _recognises, read_dcase)
