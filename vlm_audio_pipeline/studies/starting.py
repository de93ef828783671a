"""A first study for recordings of one's own, written from the header and rows of their csv.

What belongs here: what can be guessed, put down as YAML that says what else there is. What does not: reading the csv
(`datasets/csv_file.py`) and checking studies (`loading.py`), which every written study passes before it is kept.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from vlm_audio_pipeline.contracts.errors import BadDataset, BadStudy
from vlm_audio_pipeline.datasets.csv_file import Columns, CsvDataset, Row, guess_columns, read_csv, slug
from vlm_audio_pipeline.studies.loading import built_in_studies, parse_study

FEW = 20  # a column with more distinct values than this does not divide clips into groups worth comparing
GUESSED_FROM = 100  # rows

_STUDY = """\
# A starting study, made from {listing}: look over what was guessed, then run it with
#   vlm-audio run {out}
# `vlm-audio schema > study.schema.json` lets editors complete and check this file, with a first line saying
#   yaml-language-server: $schema=study.schema.json
name: {name}
description: Which of the classes in {listing} can be told apart, and by what?

dataset:
  kind: csv
  path: {path}  # relative to this file
  columns:
{columns}
{folds}
{keep}
  on_bad_clip: stop  # or skip: go on without recordings that cannot be used, and say so beside every number

# What turns a clip into a vector. Classical features need no download.
encoders:
  classical: {{kind: features, features: [mfcc, delta, zero_crossing_rate, logmel]}}

# What predicts a label. Another one like it: `knn_1: {{like: knn, k: 1}}`; one of each: `k: [1, 5]`.
classifiers:
  probe: {{kind: probe, encoder: classical}}
  knn: {{kind: knn, encoder: classical, k: 5}}
"""


def write_starting_study(listing: Path, out: Path | None = None) -> Path:
    """Write a study of the recordings that a csv lists.

    Args:
        listing: the csv, one row a clip.
        out: the study file to write; by default beside the csv, under its name with `.yaml`.

    Returns:
        The file written.

    Raises:
        BadDataset: for a csv that cannot be read, has no rows, or no column that looks like a path or a label.
        BadStudy: when there is a file already.
    """
    out = listing.with_suffix(".yaml") if out is None else out
    header, rows = read_csv(listing)
    if not rows:
        raise BadDataset(f"{listing} must have at least one row below its header, got none; list a clip a row")
    columns = guess_columns(header, [list(row.cells.values()) for row in rows[:GUESSED_FROM]])
    text = _STUDY.format(
        listing=" ".join(listing.name.split()),
        out=out.name,
        name=_study_name(listing),
        path=_text(Path(os.path.relpath(listing, out.parent)).as_posix()),
        columns="\n".join(_column_lines(columns)),
        folds=_folds(columns, header, rows),
        keep=_keep(columns, header, rows),
    )
    parse_study(text, out.resolve())
    out.parent.mkdir(parents=True, exist_ok=True)
    try:
        with out.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise BadStudy(
            f"the study to write must be a new file, got {out}, which is there already; "
            "remove it, or give another one with --out"
        ) from error
    return out


def _study_name(listing: Path) -> str:
    name = slug(listing.stem)
    return name if name[0].isalpha() and name not in built_in_studies() else f"my_{name}"


def _text(value: str) -> str:
    """Write text as YAML: JSON's quoting is YAML's too."""
    return json.dumps(value, ensure_ascii=False)


def _column_lines(columns: Columns) -> Iterator[str]:
    meant = {
        "path": "the recording, relative to the csv",
        "label": "the class",
        "fold": "the official fold",
        "source": "the recording a clip was cut from: clips of one source share a fold",
        "start": "start of the clip within the file, s",
        "end": "end of the clip within the file, s",
    }
    for role, meaning in meant.items():
        name = getattr(columns, role)
        if name is not None:
            yield f"    {role}: {_text(name)}  # {meaning}"
        elif role == "fold":
            yield "    fold: null  # the column of this name has other things than whole numbers from 1 on"
        elif role == "source":
            yield "    # source: ...  # the recording a clip was cut from, so that its clips share a fold; by default the file"


def _folds(columns: Columns, header: list[str], rows: list[Row]) -> str:
    if columns.fold in header:
        return "  # The folds are those of the csv."
    sources: dict[str, set[str]] = {}
    for row in rows:
        sources.setdefault(row.cells[columns.label], set()).add(row.cells[columns.source or columns.path])
    n_folds = max(2, min(5, *(len(its) for its in sources.values())))
    return f"  n_folds: {n_folds}  # the csv has none: chosen once so that classes are even and sources stay together"


def _keep(columns: Columns, header: list[str], rows: list[Row]) -> str:
    used = set(columns.model_dump().values())
    kept = []
    for name in header:
        different = {row.cells[name] for row in rows}
        if name not in used and 2 <= len(different) <= min(FEW, len(rows) // 2) and _may_be_kept(name):
            kept.append(name)
    if not kept:
        return "  # keep: [...]  # further columns of the csv, to have beside every prediction"
    return f"  keep: [{', '.join(_text(name) for name in kept)}]  # columns to have beside every prediction"


def _may_be_kept(name: str) -> bool:
    """Say whether the name is free; SQL does not tell capitals from small letters."""
    try:
        CsvDataset(path=Path("any.csv"), keep=(name.lower(),))
    except ValidationError:
        return False
    return True
