"""Write a first study file for a user's recordings, from the header and rows of their csv.

Belongs here: guessing values and writing them as commented YAML. Does not belong here: reading the csv
(`datasets/csv_columns.py`) and checking studies (`loading.py`); every study is checked before it is written.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from vlm_audio_pipeline.contracts.errors import BadDataset, BadStudy
from vlm_audio_pipeline.datasets.base import slug
from vlm_audio_pipeline.datasets.csv_columns import Columns, ListingRow, guess_columns, read_csv
from vlm_audio_pipeline.datasets.csv_file import CsvDataset
from vlm_audio_pipeline.studies.loading import built_in_studies, parse_study

MAX_GROUPS = 20  # a column with more distinct values is not useful for comparing groups of clips
GUESS_ROWS = 100

_STUDY = """\
# A first study for {listing}. Check the guessed values, then run it with
#   vlm-audio run {out}
# Editors can complete and check this file: run `vlm-audio schema > study.schema.json` and make this the first line:
#   yaml-language-server: $schema=study.schema.json
name: {name}
description: Which methods can distinguish the classes in {listing}, and how well?

dataset:
  kind: csv
  path: {path}  # relative to this file
  columns:
{columns}
{folds}
{keep}
  on_bad_clip: stop  # or skip: go on without recordings that cannot be used; the results list them

# Encoders turn a clip into a vector. Classical features need no download.
encoders:
  classical: {{kind: features, features: [mfcc, delta, zero_crossing_rate, logmel]}}

# Classifiers predict a label. A variant of another one: `knn_1: {{like: knn, k: 1}}`; one for each value: `k: [1, 5]`.
classifiers:
  probe: {{kind: probe, encoder: classical}}
  knn: {{kind: knn, encoder: classical, k: 5}}
"""


def write_starting_study(listing: Path, out: Path | None = None) -> Path:
    """Write a study file for the recordings in a csv.

    Args:
        listing: the csv, one row per clip.
        out: the study file to write; by default the path of the csv with `.yaml`.

    Returns:
        The path of the study file.

    Raises:
        BadDataset: for a csv that cannot be read, and for one without rows, without paths or without labels.
        BadStudy: if the file exists.
    """
    out = listing.with_suffix(".yaml") if out is None else out
    header, rows = read_csv(listing)
    if not rows:
        raise BadDataset(f"{listing} must have at least one row below its header, got none; write one row per clip")
    columns = guess_columns(header, [list(row.cells.values()) for row in rows[:GUESS_ROWS]])
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
        raise BadStudy(f"{out} exists already; remove it, or choose another file with --out") from error
    return out


def _study_name(listing: Path) -> str:
    name = slug(listing.stem)
    return name if name[0].isalpha() and name not in built_in_studies() else f"my_{name}"


def _text(value: str) -> str:
    """Return text as a YAML scalar; JSON strings are valid YAML."""
    return json.dumps(value, ensure_ascii=False)


def _column_lines(columns: Columns) -> Iterator[str]:
    meanings = {
        "path": "the recording, relative to the csv",
        "label": "the class",
        "fold": "the official fold",
        "source": "the source recording of a clip; clips of one source share a fold",
        "start": "start of the clip within the file, s",
        "end": "end of the clip within the file, s",
    }
    for role, meaning in meanings.items():
        name = getattr(columns, role)
        if name is not None:
            yield f"    {role}: {_text(name)}  # {meaning}"
        elif role == "fold":
            yield "    fold: null  # the column of this name has values that are not whole numbers from 1"
        elif role == "source":
            yield "    # source: ...  # the source recording of a clip; clips of one source share a fold; by default the file"


def _folds(columns: Columns, header: list[str], rows: list[ListingRow]) -> str:
    if columns.fold in header:
        return "  # The folds are from the csv."
    sources: dict[str, set[str]] = {}
    for row in rows:
        sources.setdefault(row.cells[columns.label], set()).add(row.cells[columns.source or columns.path])
    n_folds = max(2, min(5, *(len(names) for names in sources.values())))
    return f"  n_folds: {n_folds}  # the csv has no folds: they are assigned once, stratified by class and grouped by source"


def _keep(columns: Columns, header: list[str], rows: list[ListingRow]) -> str:
    used = set(columns.model_dump().values())
    columns_to_keep = []
    for name in header:
        values = {row.cells[name] for row in rows}
        if name not in used and 2 <= len(values) <= min(MAX_GROUPS, len(rows) // 2) and _is_free_name(name):
            columns_to_keep.append(name)
    if not columns_to_keep:
        return "  # keep: [...]  # further columns of the csv that every prediction has in addition"
    return f"  keep: [{', '.join(_text(name) for name in columns_to_keep)}]  # columns that every prediction has in addition"


def _is_free_name(name: str) -> bool:
    """Return whether no table has a column of this name; SQL ignores case."""
    try:
        CsvDataset(path=Path("any.csv"), keep=(name.lower(),))
    except ValidationError:
        return False
    return True
