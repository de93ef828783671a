"""Metadata of UrbanSound8K: CSV with slice_file_name, fsID, start, end, salience, fold, classID, class.

Reference: https://urbansounddataset.weebly.com/urbansound8k.html.
"""

import re
from pathlib import Path

from vlm_audio_pipeline.datasets.annotations.events import (
    AnnotationFormat,
    Annotations,
    LabelledClip,
    ReadOptions,
    refuse_min_confidence,
)
from vlm_audio_pipeline.datasets.annotations.tables import Table, header_cells


def read_urbansound8k(path: Path, options: ReadOptions) -> Annotations:
    """Read the metadata: a clip for each slice, with its official fold; its source is the recording on Freesound."""
    refuse_min_confidence(path, options)
    table = Table(path)
    name, source, fold = (
        table.require((column,), meaning)
        for column, meaning in (
            ("slice_file_name", "recording"),
            ("fsID", "Freesound id"),
            ("fold", "fold"),
        )
    )
    label = table.label_column(options, ("class",))
    clips = []
    for row in table.rows:
        if not re.fullmatch(r"[1-9]|10", row.cells[fold]):
            raise table.error(
                row, fold, f"the fold must be a whole number from 1 to 10, got '{row.cells[fold]}'; correct it"
            )
        clips.append(
            LabelledClip(
                f"fold{row.cells[fold]}/{table.text(row, name, 'recording')}",
                (table.text(row, label, "class"),),
                fold=int(row.cells[fold]),
                source=table.text(row, source, "Freesound id"),
                origin=f"{path}, line {row.line}",
            )
        )
    return Annotations(clips=tuple(clips), recordings=frozenset(clip.recording for clip in clips))


def _recognises(first_lines: str) -> bool:
    return {"slice_file_name", "fsid", "fold", "class"} <= header_cells(first_lines)


FORMAT = AnnotationFormat(
    "urbansound8k",
    "UrbanSound8K metadata",
    "https://urbansounddataset.weebly.com/urbansound8k.html",
    _recognises,
    read_urbansound8k,
)
