"""Annotation files of the ICBHI 2017 respiratory sound database: one text file for each recording, one line per respiratory cycle.

Four columns without a header, separated by tabs: start and end, s; whether crackles occur; whether wheezes occur (0 or 1).
Reference: https://bhichallenge.med.auth.gr/ICBHI_2017_Challenge, https://doi.org/10.1007/978-981-10-7419-6_6.
"""

import re
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

LABELS = {
    ("0", "0"): "normal_breathing",
    ("1", "0"): "crackle",
    ("0", "1"): "wheeze",
    ("1", "1"): "crackle_and_wheeze",
}
"""Crackles and wheezes of a cycle -> one of the four classes of the challenge."""
_LINE = re.compile(r"\d+([.,]\d+)?\t\d+([.,]\d+)?\t[01]\t[01]\s*")


def read_icbhi(path: Path, options: ReadOptions) -> Annotations:
    """Read the cycles of one recording, each an event with one of the four classes of the challenge."""
    refuse_label_column(path, options)
    refuse_min_confidence(path, options)
    recording = recording_of_file(path)
    lines = [(number, [cell.strip() for cell in line.split("\t")]) for number, line in text_lines(read_text(path))]
    if not lines:
        raise BadDataset(f"{path} must have a line for each respiratory cycle, got an empty file; restore it")
    numbers = Numbers(cell for _, cells in lines for cell in cells[:2])
    events = []
    for number, cells in lines:
        origin = f"{path}, line {number}"
        if len(cells) != 4:
            raise BadDataset(
                f"{origin}: a line must have start, end, crackles and wheezes, separated by tabs, got {len(cells)} cells; restore the file"
            )
        if (label := LABELS.get((cells[2], cells[3]))) is None:
            raise BadDataset(
                f"{origin}, columns 3 and 4: crackles and wheezes must be 0 or 1, got '{cells[2]}' and '{cells[3]}'; correct them"
            )
        start_s, end_s = (_seconds(origin, i, cells[i], numbers) for i in (0, 1))
        if end_s <= start_s:
            raise BadDataset(
                f"{origin}, column 2: the end must be after the start, got {start_s:g} s to {end_s:g} s; correct one of them"
            )
        events.append(Event(recording, start_s, end_s, label, origin=origin))
    return Annotations(tuple(events), recordings=frozenset({recording}))


def _seconds(origin: str, index: int, text: str, numbers: Numbers) -> float:
    try:
        value = numbers.read(text)
    except ValueError as error:
        raise BadDataset(f"{origin}, column {index + 1}: times must be numbers of seconds, {error}") from None
    if value < 0:
        raise BadDataset(f"{origin}, column {index + 1}: times must be 0 s or more, got '{text}'; correct it")
    return value


def _recognises(first_lines: str) -> bool:
    lines = [line for line in first_lines.lstrip("\ufeff").splitlines() if line.strip()]
    complete = lines[:-1] or lines
    return bool(complete) and all(_LINE.fullmatch(line) for line in complete)


FORMAT = AnnotationFormat(
    "icbhi", "ICBHI annotation file", "https://bhichallenge.med.auth.gr/ICBHI_2017_Challenge", _recognises, read_icbhi
)
