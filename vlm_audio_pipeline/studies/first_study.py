"""Write a first study file: for a user's recordings, from their CSV, folder or annotation file, or as a copy of a built-in study.

Belongs here: guessing values and writing them as commented YAML. Does not belong here: reading the CSV
(`datasets/csv_reader.py`) and checking studies (`loading.py`); every study is checked before it is written.
"""

import json
import os
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from vlm_audio_pipeline.contracts.errors import BadDataset, BadStudy, suggestion
from vlm_audio_pipeline.datasets.audio_suffixes import decoded_suffixes
from vlm_audio_pipeline.datasets.base import DATASETS, slug
from vlm_audio_pipeline.datasets.class_folder import list_recordings
from vlm_audio_pipeline.datasets.csv_columns import Columns, guess_columns
from vlm_audio_pipeline.datasets.csv_file import CsvDataset
from vlm_audio_pipeline.datasets.csv_reader import CsvRow, read_csv
from vlm_audio_pipeline.datasets.folder import FolderDataset
from vlm_audio_pipeline.datasets.guess import DatasetGuess
from vlm_audio_pipeline.datasets.recognition import recognise_dataset
from vlm_audio_pipeline.storage.atomic import write_atomically
from vlm_audio_pipeline.storage.data_folder import DataFolder
from vlm_audio_pipeline.studies.loading import built_in_studies, parse_study

MAX_GROUPS = 20  # a column with more distinct values is not useful for comparing groups of clips
GUESS_ROWS = 100

_STUDY = """\
# A first study for {listing}. Check the guessed values, then run it with
#   vlm-audio run {out}
# Editors can complete and check this file: run `vlm-audio schema > study.schema.json` and make this the first line:
#   yaml-language-server: $schema=study.schema.json
name: {name}
description: Can a vision-language model classify {listing} from spectrogram images, and how accurate are methods on the audio?

{dataset}
  on_bad_clip: stop  # or skip: go on without recordings that cannot be used; the results list them

# Renderings turn a clip into the image that a model receives. `vlm-audio renderings` lists the presets.
renderings:
  paper: {{preset: paper}}

# Encoders turn a clip into a vector. Classical features need no download.
encoders:
  classical: {{kind: features, features: [mfcc, delta, zero_crossing_rate, logmel]}}

# Classifiers predict a label. A variant of a classifier: `knn_1: {{like: knn, k: 1}}`; a classifier for each value: `k: [1, 5]`.
classifiers:
  probe: {{kind: probe, encoder: classical}}
  knn: {{kind: knn, encoder: classical, k: 5}}
  # A vision-language model. The control `blank` shows whether its accuracy comes from the image. Until
  # `vlm-audio fetch {out}` has downloaded its weights, it is "not run", and the others run.
  janus: {{kind: language_model, model: {model}, rendering: paper, controls: [blank]}}

# Comparisons that are declared in advance: they are tested, with a correction for their number.
contrasts:
  - {{classifier: janus, against: [chance, janus@blank, probe]}}
"""
MODEL = "deepseek-community/Janus-Pro-1B"
"""The vision-language model of a first study: a small one that runs on a CPU."""
_CSV = """\
dataset:
  kind: csv
  path: {path}  # relative to this file
  columns:
{columns}
{folds}
{keep}"""
_FOLDER = """\
dataset:
  kind: folder
  path: {path}  # relative to this file; one folder per class
  n_folds: {n_folds}  # assigned once, stratified by class
  # source: ...  # a regular expression for the source recording in a file name, such as '^(\\d+)-'; its clips share a fold"""


def write_first_study(listing: Path, out: Path | None = None) -> Path:
    """Write a study file for the recordings in a CSV or folder.

    Args:
        listing: a CSV, one row per clip; a folder with one folder per class; a folder of recordings with annotation files, or one of
            these files; or the folder of a known dataset.
        out: the study file to write; by default the path of the CSV or folder with `.yaml`.

    Returns:
        The path of the study file.

    Raises:
        BadDataset: for a CSV that cannot be read, and for one without rows, without paths or without labels; for a folder
            without recordings in folders of classes.
        BadStudy: if the file exists.
    """
    if listing.suffix.lower() in (".yaml", ".yml"):
        raise BadDataset(
            f"{listing} is a study file, not a listing of recordings; run it with `vlm-audio run {shlex.quote(str(listing))}`"
        )
    if listing.name.lower().endswith(decoded_suffixes()) and not listing.is_dir():
        raise BadDataset(
            f"{listing} is a recording, not a listing; give its folder, or a CSV file with the path and the label of each recording"
        )
    if not listing.exists():
        names = [path.name for path in listing.parent.glob("*") if path.is_dir() or path.suffix.lower() == ".csv"]
        raise BadDataset(f"{listing} does not exist; {suggestion(listing.name, names)}")
    source = listing.resolve() if listing.is_dir() else listing
    out = source.parent / f"{source.stem}.yaml" if out is None else out
    path = _yaml_text(Path(os.path.relpath(listing, out.parent)).as_posix())
    text = _STUDY.format(
        listing=" ".join(source.name.split()),
        out=shlex.quote(out.name),
        name=_study_name(source),
        dataset=_describe(source, listing, path, out),
        model=MODEL,
    )
    return _write(text, out)


def copy_built_in_study(name: str, out: Path | None = None) -> Path:
    """Write a copy of a built-in study, under another name so that its results do not replace those of the original.

    Args:
        name: the built-in study.
        out: the study file to write; by default `my_<name>.yaml` in the working directory.

    Returns:
        The path of the study file.

    Raises:
        BadStudy: if there is no such study, or the file exists.
    """
    files = built_in_studies()
    if name not in files:
        raise BadStudy(f"--from must name a built-in study, got '{name}'; {suggestion(name, files)}")
    out = Path(f"my_{name}.yaml") if out is None else out
    text = files[name].read_text(encoding="utf-8")
    return _write(re.sub(rf"^name: {name}$", f"name: {_study_name(out)}", text, flags=re.MULTILINE), out)


def _write(text: str, out: Path) -> Path:
    parse_study(text, out.resolve())
    if out.exists():
        raise BadStudy(f"{out} exists already; remove it, or choose another file with --out")
    write_atomically(out, text)
    return out


def _describe(source: Path, listing: Path, path: str, out: Path) -> str:
    """Return the section `dataset`: of a known dataset or annotated recordings, else of a folder of classes or a CSV of clips."""
    recognised = recognise_dataset(source.absolute())
    if recognised is not None:
        return _describe_guess(*recognised, out)
    return _describe_folder(source, path) if source.is_dir() else _describe_csv(listing, path)


def _describe_guess(kind: str, guess: DatasetGuess, out: Path) -> str:
    DATASETS.get(kind)(**guess.fields).folds(DataFolder.locate())  # raises for a dataset that cannot be used
    lines = ["dataset:", f"  kind: {kind}"]
    for name, value in guess.fields.items():
        note = f"  # {guess.notes[name]}" if name in guess.notes else ""
        if isinstance(value, Path):
            value = Path(os.path.relpath(value, out.parent)).as_posix()
        if isinstance(value, dict):
            lines += [f"  {name}:{note}", *(f"    {key}: {_yaml_text(inner)}" for key, inner in value.items())]
        else:
            lines.append(f"  {name}: {_yaml_text(value)}{note}")
    return "\n".join(lines)


def _describe_csv(listing: Path, path: str) -> str:
    header, rows = read_csv(listing)
    if not rows:
        raise BadDataset(f"{listing} has no rows below its header; write one row per clip")
    columns = guess_columns(header, [list(row.cells.values()) for row in rows[:GUESS_ROWS]])
    return _CSV.format(
        path=path,
        columns="\n".join(_column_lines(columns, header)),
        folds=_folds_line(columns, header, rows),
        keep=_keep_line(columns, header, rows),
    )


def _describe_folder(folder: Path, path: str) -> str:
    csv_files = sorted(folder.glob("*.csv"))
    if csv_files and not any(child.is_dir() for child in folder.iterdir()):
        command = f"vlm-audio init {shlex.quote(str(csv_files[0]))}"
        raise BadDataset(f"{folder} has no folders of classes, but a CSV file; use `{command}`")
    FolderDataset(path=folder, n_folds=2).folds(DataFolder.locate())  # raises for a folder that cannot be used
    classes = [child for child in folder.iterdir() if child.is_dir() and not child.name.startswith(".")]
    counts = [len(list_recordings(child, folder, set()).recordings) for child in classes]
    return _FOLDER.format(path=path, n_folds=max(2, min(5, *counts)))


def _study_name(listing: Path) -> str:
    name = slug(listing.stem)
    return name if name[0].isalpha() and name not in built_in_studies() else f"my_{name}"


def _yaml_text(value: object) -> str:
    """Return a value as YAML; JSON is valid YAML."""
    return json.dumps(value, ensure_ascii=False)


def _column_lines(columns: Columns, header: list[str]) -> Iterator[str]:
    meanings = {
        "path": "the recording, relative to the CSV",
        "label": "the class",
        "fold": "the official fold",
        "source": "the source recording of a clip; clips of one source share a fold",
        "start": "start of the clip within the file, s",
        "end": "end of the clip within the file, s",
    }
    for role, meaning in meanings.items():
        name = getattr(columns, role)
        if role == "fold" and name not in (None, *header):
            continue
        if name is not None:
            yield f"    {role}: {_yaml_text(name)}  # {meaning}"
        elif role == "fold":
            yield "    fold: null  # the column `fold` has values that are not whole numbers from 1"
        elif role == "source":
            yield "    # source: ...  # the source recording of a clip; clips of one source share a fold; by default the file"


def _folds_line(columns: Columns, header: list[str], rows: list[CsvRow]) -> str:
    if columns.fold in header:
        return "  # The folds are from the CSV."
    sources: dict[str, set[str]] = {}
    for row in rows:
        sources.setdefault(row.cells[columns.label], set()).add(row.cells[columns.source or columns.path])
    n_folds = max(2, min(5, *(len(names) for names in sources.values())))
    return f"  n_folds: {n_folds}  # the CSV has no folds: they are assigned once, stratified by class and grouped by source"


def _keep_line(columns: Columns, header: list[str], rows: list[CsvRow]) -> str:
    used_columns = set(columns.model_dump().values())
    columns_to_keep = []
    for name in header:
        values = {row.cells[name] for row in rows}
        if name not in used_columns and 2 <= len(values) <= min(MAX_GROUPS, len(rows) // 2) and _is_free_name(name):
            columns_to_keep.append(name)
    if not columns_to_keep:
        return "  # keep: [...]  # further columns of the CSV to add to every prediction"
    return f"  keep: [{', '.join(_yaml_text(name) for name in columns_to_keep)}]  # columns to add to every prediction"


def _is_free_name(name: str) -> bool:
    """Return whether no table has a column of this name; SQL ignores case."""
    try:
        CsvDataset(path=Path("any.csv"), keep=(name.lower(),))
    except ValidationError:
        return False
    return True
