"""Results to take elsewhere: a study's tables as CSV and parquet, a LaTeX table, citations, and where all came from.

What belongs here: writing what the parts and the study's manifest hold into one folder that is read without this
program. What does not: computing anything, and pages for looking at (`figures.py`, `terminal.py`).
LaTeX tables follow booktabs: https://ctan.org/pkg/booktabs
"""

import json
import os
import platform
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from vlm_audio_pipeline import __version__
from vlm_audio_pipeline.contracts.errors import VlmAudioError, suggestion
from vlm_audio_pipeline.datasets.base import DATASETS, Card
from vlm_audio_pipeline.engines.doctor import PACKAGES
from vlm_audio_pipeline.engines.local import cores
from vlm_audio_pipeline.storage.catalogue import manifests
from vlm_audio_pipeline.storage.layout import Layout
from vlm_audio_pipeline.storage.partition_files import read_part
from vlm_audio_pipeline.storage.schemas import TABLES

LEFT_OUT = ("spectrograms", "report")
"""Tables that are not exported: pictures, which are cheap to make and large to copy, and where a page lies."""
PARQUET_ONLY = ("embeddings", "probes")
"""Tables too wide or long to be of use as CSV."""

_PROGRAM = f"""\
@software{{vlm_audio_pipeline,
  title = {{{{VLM Audio Pipeline}}}},
  version = {{{__version__}}}
}}
"""


def write_csv(rows: pa.Table, file: Path | str | BinaryIO) -> None:
    """Write rows as CSV: UTF-8, a header, text quoted, nulls as nothing at all (and empty text as `""`).

    Lists, maps and structures are written as JSON; columns of bytes (pictures) are left out.

    Args:
        rows: any table; names of columns may repeat.
        file: path, or a file open for writing bytes.
    """
    import pyarrow.csv

    shown = [i for i, field in enumerate(rows.schema) if not _is_bytes(field.type)]
    columns = [_writable(rows.column(i)) for i in shown]
    pyarrow.csv.write_csv(pa.Table.from_arrays(columns, names=[rows.schema[i].name for i in shown]), file)


def _is_bytes(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind)


def _writable(column: pa.ChunkedArray) -> pa.ChunkedArray | pa.Array:
    if pa.types.is_nested(column.type):
        values = (_plain(value, column.type) for value in column.to_pylist())
        return pa.array(
            [None if v is None else json.dumps(v, ensure_ascii=False, default=str) for v in values], pa.string()
        )
    if pa.types.is_interval(column.type) or pa.types.is_duration(column.type):
        return pa.array([None if v is None else str(v) for v in column.to_pylist()], pa.string())
    return column


def _plain(value: Any, kind: pa.DataType) -> Any:
    """Turn the pairs of a map into an object, at any depth."""
    if value is None:
        return None
    if pa.types.is_map(kind):
        return {str(k): _plain(v, kind.item_type) for k, v in value}
    if pa.types.is_struct(kind):
        return {field.name: _plain(value[field.name], field.type) for field in kind}
    if pa.types.is_nested(kind):
        return [_plain(v, kind.value_type) for v in value]
    return value


def export_study(layout: Layout, study: str, folder: Path) -> list[Path]:
    """Write what is known of a study into a folder; files of an earlier export are replaced one by one, whole.

    Tables the study has not (answers, where there is no language model) are not written; parts that were not made yet,
    or are damaged, are named in `provenance.json`. Damaged ones are told of once all that can be read is written.

    Args:
        layout: the data folder.
        study: name of a study that was run there.
        folder: where to write; made if it is not there.

    Returns:
        The files written: tables, `leaderboard.tex`, `references.bib`, `provenance.json`.

    Raises:
        VlmAudioError: when no study of that name was run there; for damaged parts, after all else was written.
    """
    known = manifests(layout)
    if study not in known:
        raise VlmAudioError(
            f"a study to export must have been run in {layout.root}, got '{study}'; {suggestion(study, known)}"
        )
    manifest = known[study]
    tables, parts, missing, damaged = _read(layout, manifest["parts"])
    card, no_card = _card(layout, manifest["study"]["dataset"])
    folder.mkdir(parents=True, exist_ok=True)
    written = []

    def write(name: str, how: Callable[[BinaryIO], Any]) -> None:
        written.append(_write(folder / name, how))

    for name, rows in tables.items():
        if name not in PARQUET_ONLY:
            write(f"{name}.csv", lambda file, rows=rows: write_csv(rows, file))  # type: ignore[misc]
        write(f"{name}.parquet", lambda file, rows=rows: _write_parquet(rows, file))  # type: ignore[misc]
    if "leaderboard" in tables:
        tex = leaderboard_tex(tables["leaderboard"], study, manifest["study"].get("description", ""))
        write("leaderboard.tex", lambda file: file.write(tex.encode()))
    cards = manifest.get("cards", {})
    write("references.bib", lambda file: file.write(_references(card, no_card, cards).encode()))
    provenance = {
        "study": study,
        "exported_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "exported_with": _this_machine(),
        "dataset": {
            "kind": manifest["study"]["dataset"]["kind"],
            "card": asdict(card) if card else None,
            "note": no_card,
        },
        "models": _models(tables),
        "cards": cards,
        "limit": manifest.get("limit"),
        "rows": {name: rows.num_rows for name, rows in tables.items()},
        "parts": parts,
        "missing_parts": missing,
        "damaged_parts": damaged,
        "study_file": _study_file(manifest.get("file")),
        "study_as_run": manifest["study"],
    }
    write("provenance.json", lambda file: file.write(json.dumps(provenance, indent=1, ensure_ascii=False).encode()))
    if damaged:
        raise VlmAudioError(
            f"parts to export must be readable, got damaged ones: {', '.join(str(layout.root / p) for p in damaged)}; "
            f"their rows are not in {folder}; delete them and run the study again"
        )
    return written


def _read(
    layout: Layout, files: Mapping[str, Iterable[str]]
) -> tuple[dict[str, pa.Table], list[dict[str, Any]], list[str], list[str]]:
    """Read every part with its provenance: tables by name, provenances, files not there, and damaged ones."""
    tables: dict[str, pa.Table] = {}
    parts: list[dict[str, Any]] = []
    missing: list[str] = []
    damaged: list[str] = []
    for name, schema in TABLES.items():
        if name not in files or name in LEFT_OUT:
            continue
        pieces = [schema.empty()]
        for file in files[name]:
            try:
                rows, provenance = read_part(layout.root / file, schema)
            except FileNotFoundError:
                missing.append(file)
                continue
            except pa.ArrowInvalid:
                damaged.append(file)
                continue
            pieces.append(rows)
            parts.append({"file": file, **asdict(provenance)})
        tables[name] = pa.concat_tables(pieces).combine_chunks()
    if "leaderboard" in tables:
        tables["leaderboard"] = tables["leaderboard"].sort_by([("rank", "ascending"), ("accuracy", "descending")])
    return tables, parts, missing, damaged


def _write(path: Path, how: Callable[[BinaryIO], Any]) -> Path:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            how(file)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def _write_parquet(rows: pa.Table, file: BinaryIO) -> None:
    import pyarrow.parquet

    pyarrow.parquet.write_table(rows, file, compression="zstd")


_ESCAPES = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "\n": " ",
    **{mark: f"\\{mark}" for mark in "&%$#_{}"},
}


def escape_tex(text: str) -> str:
    r"""Write text so that LaTeX prints it as it stands.

    >>> print(escape_tex("janus_pro: 50% & more"))
    janus\_pro: 50\% \& more
    """
    return "".join(_ESCAPES.get(mark, mark) for mark in text)


def leaderboard_tex(leaderboard: pa.Table, study: str, description: str = "") -> str:
    r"""Lay out a leaderboard as a LaTeX table; the document needs `\usepackage{booktabs}`.

    Args:
        leaderboard: `leaderboard` rows in the order to print; accuracies are printed as a share of 1, with the number
            of predictions they are over.
        study: name of the study, for the caption and the label `tab:<study>`.
        description: for the caption.
    """
    lines, notes = [], []
    for row in leaderboard.to_pylist():
        name = escape_tex(row["classifier"] + ("" if row["control"] in ("", "none") else f" @ {row['control']}"))
        if row["note"] and not re.fullmatch(r"\d+ of \d+ (predictions|judgements)", row["note"]):
            notes.append(f"{name}: {escape_tex(row['note'])}")
        none = "--"
        cells = (
            none if row["rank"] is None else str(row["rank"]),
            name,
            escape_tex(row["scoring"]) or none,
            none if row["accuracy"] is None else f"{row['accuracy']:.3f}",
            none if row["accuracy_low"] is None else f"{row['accuracy_low']:.3f}--{row['accuracy_high']:.3f}",
            none if row["accuracy"] is None else str(row["predictions"]),
            none if row["macro_f1"] is None else f"{row['macro_f1']:.3f}",
            none if row["training_clips"] is None else str(row["training_clips"]),
        )
        lines.append(" & ".join(cells) + r" \\")
    about = escape_tex(f"{study}: {description.strip()}" if description else study)
    stop = "" if about[-1] in ".?!" else "."
    return "\n".join(
        [
            r"\begin{table}",
            r"  \centering",
            f"  \\caption{{{about}{stop} Accuracy is a share of 1, over $n$ predictions; intervals are clustered by "
            "source recording.}",
            f"  \\label{{tab:{study}}}",
            r"  \begin{tabular}{rllrrrrr}",
            r"    \toprule",
            r"    Rank & Classifier & Scoring & Accuracy & 95\,\% interval & $n$ & Macro $F_1$ & Training clips \\",
            r"    \midrule",
            *(f"    {line}" for line in lines),
            r"    \bottomrule",
            r"  \end{tabular}",
            *(f"  \\par\\smallskip{{\\footnotesize {note}}}" for note in notes),
            r"\end{table}",
            "",
        ]
    )


def _card(layout: Layout, dataset: Mapping[str, Any]) -> tuple[Card | None, str | None]:
    """Give the dataset's card, or None and why; nothing is downloaded for it."""
    try:
        cls = DATASETS.get(dataset["kind"])
        spec = cls.model_validate({key: value for key, value in dataset.items() if key != "kind"})
        if spec.is_here(layout):
            return spec.open(layout).card, None
        reason = "it is not on this machine"
    except (VlmAudioError, ValueError) as error:  # removed, moved, or a kind that is not installed here
        reason = str(error)
    return None, f"no citation of dataset {dataset['kind']}: {reason}"


def _references(card: Card | None, no_card: str | None, models: Mapping[str, Mapping[str, Any]]) -> str:
    if card is None:
        about = f"% {' '.join(str(no_card).split())}"
    else:
        facts = (card.title, card.licence and f"licence: {card.licence}", card.url)
        about = "\n".join(f"% {' '.join(fact.split())}" for fact in facts if fact)
        about += f"\n{card.citation.strip()}" if card.citation else "\n% it comes without a citation"
    for name, model in models.items():
        facts = (f"{name}: {model['title']}", f"licence: {model['licence'] or 'not known'}", model["url"])
        about += "\n\n" + "\n".join(f"% {fact}" for fact in facts if fact)
        about += f"\n{model['citation'].strip()}" if model["citation"] else ""
    return f"{about}\n\n{_PROGRAM}"


def _models(tables: Mapping[str, pa.Table]) -> dict[str, list[dict[str, Any]]]:
    """Give what made the vectors and predictions, as the rows themselves say."""
    told_by = {
        "encoders": ("embeddings", ["encoder", "model", "revision", "dtype", "dimensions"]),
        "classifiers": (
            "predictions",
            ["classifier", "kind", "model", "revision", "encoder", "rendering", "prompt", "shots"],
        ),
    }
    return {
        what: tables[table].group_by(columns).aggregate([]).sort_by(columns[0]).to_pylist() if table in tables else []
        for what, (table, columns) in told_by.items()
    }


def _study_file(path: str | None) -> dict[str, Any] | None:
    """Give the study file with its text as it is now, which may be younger than the results."""
    if path is None:
        return None
    there = Path(path)
    return {"path": path, "text_now": there.read_text(encoding="utf-8") if there.is_file() else None}


def _this_machine() -> dict[str, Any]:
    """Say what the export was written with: results may come from other machines, and their parts say when."""
    return {
        "program": {"name": "vlm-audio-pipeline", "version": __version__},
        "packages": {name: _version(name) for name in ("numpy", *PACKAGES)},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": {"cpu": _cpu(), "cores": cores(), "gpu": _gpu()},
    }


def _version(package: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def _gpu() -> str | None:
    import shutil

    if shutil.which("nvidia-smi") is None:  # spares loading torch, which takes seconds
        return None
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None
