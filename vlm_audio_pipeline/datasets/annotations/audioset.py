"""Label lists of AudioSet: weak labels of 10 s segments (CSV), and strong labels with times (TSV).

Weak: three comment lines, then YouTube id, start, end and quoted machine ids, separated by comma and space. Strong: segment_id, which
is the YouTube id, `_` and the start in ms; start_time_seconds and end_time_seconds within the segment; label. Names of machine ids come
from `class_labels_indices.csv` or `mid_to_display_name.tsv` in the same folder, if it is there.
Reference: https://research.google.com/audioset/download.html.
"""

import csv
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from vlm_audio_pipeline.contracts.errors import BadDataset
from vlm_audio_pipeline.datasets.annotations.events import (
    AnnotationFormat,
    Annotations,
    LabelledClip,
    ReadOptions,
    refuse_label_column,
    refuse_min_confidence,
)
from vlm_audio_pipeline.datasets.annotations.tables import (
    EventColumns,
    Numbers,
    Table,
    header_cells,
    read_events,
    read_mapping,
    text_lines,
)
from vlm_audio_pipeline.datasets.csv_reader import read_text

_STRONG = EventColumns(
    start=("start_time_seconds",), end=("end_time_seconds",), label=("label",), recording=("segment_id",)
)
_NAMES, _STRONG_NAMES = "class_labels_indices.csv", "mid_to_display_name.tsv"
_HEADER = "# ytid, start_seconds, end_seconds, positive_labels"


def read_audioset(path: Path, options: ReadOptions) -> Annotations:
    """Read weak or strong labels. A weak label holds for the whole file, which is the segment of the video."""
    text = read_text(path)
    names = _display_names(path.parent)
    if not _is_weak(text):
        annotations = read_events(path, _STRONG, options)
        events = tuple(replace(event, label=names.get(event.label, event.label)) for event in annotations.events)
        return Annotations(events, recordings=annotations.recordings)
    refuse_label_column(path, options)
    refuse_min_confidence(path, options)
    clips = tuple(
        _read_line(path, number, line, names) for number, line in text_lines(text) if not line.startswith("#")
    )
    return Annotations(clips=clips, recordings=frozenset(clip.recording for clip in clips))


def _read_line(path: Path, number: int, line: str, names: Mapping[str, str]) -> LabelledClip:
    origin = f"{path}, line {number}"
    try:
        cells = next(csv.reader([line], skipinitialspace=True))
    except csv.Error as error:
        raise BadDataset(f"{origin}: this is not a valid line: {error}; download the list again") from error
    if len(cells) != 4:
        raise BadDataset(
            f"{origin}: a line must have an id, a start, an end and quoted labels, got {len(cells)} cells in '{line[:80]}'; "
            "download the list again"
        )
    start, end = (_seconds(origin, i, cells[i]) for i in (1, 2))
    if end <= start:
        raise BadDataset(
            f"{origin}, column 3: the end must be after the start, got {start:g} s to {end:g} s; correct one of them"
        )
    labels = [label.strip() for label in cells[3].split(",") if label.strip()]
    if not labels:
        raise BadDataset(f"{origin}, column 4: a segment must have a label, got none; remove the line")
    # The start distinguishes segments of one video, and is part of the usual file names.
    name = f"{cells[0]}_{round(start * 1000)}"
    return LabelledClip(
        name, tuple(sorted({names.get(label, label) for label in labels})), source=cells[0], origin=origin
    )


def _seconds(origin: str, index: int, text: str) -> float:
    try:
        value = Numbers([text]).read(text)
    except ValueError as error:
        raise BadDataset(f"{origin}, column {index + 1}: times must be numbers of seconds, {error}") from None
    if value < 0:
        raise BadDataset(f"{origin}, column {index + 1}: times must be 0 s or more, got '{text}'; correct it")
    return value


def _display_names(folder: Path) -> Mapping[str, str]:
    if (path := folder / _NAMES).is_file():
        table = Table(path)
        mid, name = table.require(("mid",), "machine id"), table.require(("display_name",), "name")
        return read_mapping(path, ((row.cells[mid], row.cells[name]) for row in table.rows))
    if (path := folder / _STRONG_NAMES).is_file():
        rows = ((number, line.split("\t")) for number, line in text_lines(read_text(path)))
        return read_mapping(path, (_split_into_two_cells(path, number, cells) for number, cells in rows))
    return {}


def _split_into_two_cells(path: Path, number: int, cells: list[str]) -> tuple[str, str]:
    if len(cells) != 2:
        raise BadDataset(
            f"{path}, line {number}: a line must have a machine id and a name, separated by a tab, got {len(cells)} cells; correct it"
        )
    return cells[0].strip(), cells[1].strip()


def _aliases(name: str) -> tuple[str, ...]:
    """Return the names of a segment's file that downloaders use: with `Y` before it, with the start in s, and the id alone."""
    video, _, milliseconds = name.rpartition("_")
    seconds = str(int(milliseconds) // 1000) if milliseconds.isdecimal() else ""
    return (f"Y{name}", f"{video}_{seconds}", f"Y{video}_{seconds}", video, f"Y{video}")


def _is_weak(text: str) -> bool:
    return any(line.lower().startswith(_HEADER) for line in text.splitlines()[:5])


def _recognises(first_lines: str) -> bool:
    return _is_weak(first_lines) or {"segment_id", "start_time_seconds", "end_time_seconds"} <= header_cells(
        first_lines
    )


FORMAT = AnnotationFormat(
    "audioset",
    "AudioSet label list",
    "https://research.google.com/audioset/download.html",
    _recognises,
    read_audioset,
    _aliases,
)
