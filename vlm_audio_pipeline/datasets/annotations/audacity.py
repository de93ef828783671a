r"""Audacity label tracks: start, end and label on each line, separated by tabs; no header.

With spectral selections, a line that begins with a backslash follows and gives the lower and the upper frequency, -1 if it is not
defined. Start and end are equal for a point. The text files of TUT and DCASE 2016 and 2017 with onset, offset and label are read, too.
Reference: https://manual.audacityteam.org/man/importing_and_exporting_labels.html.
"""

import re
from dataclasses import replace
from pathlib import Path

from vlm_audio_pipeline.contracts.errors import BadDataset
from vlm_audio_pipeline.datasets.annotations.events import (
    AnnotationFormat,
    Annotations,
    Event,
    ReadOptions,
    refuse_label_column,
    refuse_min_confidence,
)
from vlm_audio_pipeline.datasets.annotations.tables import Numbers, recording_of_file, text_lines
from vlm_audio_pipeline.datasets.csv_reader import read_text

_LINE = re.compile(r"[+-]?\d+([.,]\d+)?\t[+-]?\d+([.,]\d+)?\t.*\S.*")
_NUMBER_COLUMNS = ("start", "end")
_FREQUENCY_COLUMNS = ("lower frequency", "upper frequency")


def read_audacity(path: Path, options: ReadOptions) -> Annotations:
    """Read a label track. An empty file means that its recording has no event."""
    refuse_label_column(path, options)
    refuse_min_confidence(path, options)
    recording = recording_of_file(path)
    lines = [(number, line.split("\t")) for number, line in text_lines(read_text(path))]
    numbers = Numbers(cell.strip() for _, cells in lines for cell in cells[: 3 if cells[0].strip() == "\\" else 2])
    events: list[Event] = []
    for number, cells in lines:
        origin = f"{path}, line {number}"
        if cells[0].strip() == "\\":
            if not events or events[-1].origin != f"{path}, line {number - 1}":
                raise BadDataset(
                    f"{origin}: frequencies must follow the line of their label, but there is none before; remove this line"
                )
            low_hz, high_hz = (_frequency(origin, cells, i, numbers) for i in (1, 2))
            if low_hz is not None and high_hz is not None and high_hz < low_hz:
                raise BadDataset(
                    f"{origin}: the upper frequency must not be below the lower one, got {low_hz:g} Hz to {high_hz:g} Hz; correct one of them"
                )
            events[-1] = replace(events[-1], low_hz=low_hz, high_hz=high_hz)
            continue
        start_s, end_s = (_seconds(origin, cells, i, numbers) for i in (0, 1))
        if end_s < start_s:
            raise BadDataset(
                f"{origin}, column 2: the end must not be before the start, got {start_s:g} s to {end_s:g} s; correct one of them"
            )
        label = "\t".join(cells[2:]).strip()
        if not label:
            raise BadDataset(
                f"{origin}, column 3: the label must not be empty; write the label after a tab, or remove the line"
            )
        events.append(Event(recording, start_s, end_s, label, origin=origin))
    return Annotations(tuple(events), recordings=frozenset({recording}))


def _seconds(origin: str, cells: list[str], index: int, numbers: Numbers) -> float:
    name = _NUMBER_COLUMNS[index]
    if len(cells) < 2:
        raise BadDataset(
            f"{origin}: a line must have a start, an end and a label, separated by tabs, got '{cells[0][:80]}'; export the label track again"
        )
    try:
        value = numbers.read(cells[index].strip())
    except ValueError as error:
        raise BadDataset(f"{origin}, column {index + 1}: the {name} must be a number of seconds, {error}") from None
    if value < 0:
        raise BadDataset(f"{origin}, column {index + 1}: the {name} must be 0 s or more, got {value:g}; correct it")
    return value


def _frequency(origin: str, cells: list[str], index: int, numbers: Numbers) -> float | None:
    """Return a frequency, Hz; None for one that is not defined, which Audacity writes as -1."""
    name = _FREQUENCY_COLUMNS[index - 1]
    if len(cells) != 3:
        raise BadDataset(
            f"{origin}: a line of frequencies must have a backslash and two numbers, got {len(cells) - 1}; export the labels again"
        )
    try:
        value = numbers.read(cells[index].strip())
    except ValueError as error:
        raise BadDataset(f"{origin}, column {index + 1}: the {name} must be a number, {error}") from None
    return None if value < 0 else value


def _recognises(first_lines: str) -> bool:
    lines = [line for line in first_lines.lstrip("\ufeff").splitlines() if line.strip() and not line.startswith("\\")]
    complete_lines = lines[:-1] or lines  # the last line may be cut off
    return bool(complete_lines) and all(_LINE.fullmatch(line) for line in complete_lines)


FORMAT = AnnotationFormat(
    "audacity",
    "Audacity label track",
    "https://manual.audacityteam.org/man/importing_and_exporting_labels.html",
    _recognises,
    read_audacity,
)
