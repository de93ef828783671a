"""Detections of BirdNET-Analyzer as CSV, one file for each recording or one for all.

Columns: Start (s), End (s), Scientific name, Common name, Confidence, and in newer versions File. They are a model's detections, not
annotations by people: use `min_confidence`. Reference: https://birdnet-team.github.io/BirdNET-Analyzer/.
"""

from pathlib import Path

from vlm_audio_pipeline.datasets.annotations.events import AnnotationFormat, Annotations, ReadOptions
from vlm_audio_pipeline.datasets.annotations.tables import EventColumns, Table, events_of_rows, header_cells

_COLUMNS = EventColumns(
    start=("Start (s)",), end=("End (s)",), label=("Common name", "Scientific name"), confidence=("Confidence",)
)
_RECORDING = ("File", "Filename", "File name", "Filepath")


def read_birdnet(path: Path, options: ReadOptions) -> Annotations:
    """Read detections; the labels are common names, or the column `label_column`."""
    table = Table(path)
    recording = table.find(_RECORDING)
    columns = EventColumns(**{**vars(_COLUMNS), "recording": (recording,) if recording else ()})
    return events_of_rows(table, table.rows, columns, options)


def _recognises(first_lines: str) -> bool:
    return {"start (s)", "end (s)", "confidence"} <= header_cells(first_lines)


FORMAT = AnnotationFormat(
    "birdnet", "BirdNET detections", "https://birdnet-team.github.io/BirdNET-Analyzer/", _recognises, read_birdnet
)
