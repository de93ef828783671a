"""Ground truth of FSD50K: CSV with fname, labels, mids and, for the development set, split.

Labels are separated by commas and contain all their ancestors of the AudioSet ontology. Reference:
https://doi.org/10.5281/zenodo.4060432.
"""

from pathlib import Path

from vlm_audio_pipeline.datasets.annotations.events import (
    AnnotationFormat,
    Annotations,
    LabelledClip,
    ReadOptions,
    refuse_min_confidence,
)
from vlm_audio_pipeline.datasets.annotations.tables import Table, header_cells


def read_fsd50k(path: Path, options: ReadOptions) -> Annotations:
    """Read `dev.csv` or `eval.csv`; the split of a file without the column `split` is its own name."""
    refuse_min_confidence(path, options)
    table = Table(path)
    fname, labels = table.require(("fname",), "recording"), table.label_column(options, ("labels",))
    split = table.find(("split",))
    clips = []
    for row in table.rows:
        names = [name.strip() for name in table.text(row, labels, "labels").split(",")]
        if not all(names):
            raise table.error(
                row, labels, f"labels must be names between commas, got '{row.cells[labels]}'; remove the extra comma"
            )
        clips.append(
            LabelledClip(
                table.text(row, fname, "recording"),
                tuple(sorted(set(names))),
                table.text(row, split, "split") if split else path.stem,
                origin=f"{path}, line {row.line}",
            )
        )
    return Annotations(clips=tuple(clips), recordings=frozenset(clip.recording for clip in clips))


def _recognises(first_lines: str) -> bool:
    return {"fname", "labels", "mids"} <= header_cells(first_lines)


FORMAT = AnnotationFormat(
    "fsd50k", "FSD50K ground truth", "https://doi.org/10.5281/zenodo.4060432", _recognises, read_fsd50k
)
