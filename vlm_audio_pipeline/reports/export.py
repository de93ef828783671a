"""Export a study: its tables as CSV and parquet, its leaderboard as LaTeX, citations as BibTeX, and its provenance.

Belongs here: writing stored results to files that are readable without this package. Does not belong here: computing
results, and the report page.
"""

import json
import platform
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa

from vlm_audio_pipeline import __version__
from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.contracts.escapes import escape_csv, show_control_codes, strict_json
from vlm_audio_pipeline.datasets.base import DATASETS
from vlm_audio_pipeline.datasets.card import DatasetCard
from vlm_audio_pipeline.engines.doctor import PACKAGES, installed_version
from vlm_audio_pipeline.engines.local import core_count
from vlm_audio_pipeline.reports.citations import dataset_and_model_citations, publication_citations
from vlm_audio_pipeline.reports.latex import leaderboard_tex
from vlm_audio_pipeline.storage.atomic import atomic_path
from vlm_audio_pipeline.storage.data_folder import DataFolder
from vlm_audio_pipeline.storage.partition_files import read_partition
from vlm_audio_pipeline.storage.schemas import TABLES
from vlm_audio_pipeline.storage.study_records import study_record

PROVENANCE = "provenance.json"
"""The last file of an export; a folder with it may be written again."""

NOT_EXPORTED = ("spectrograms", "report")
"""Tables that are not exported: images, which are large and cheap to render again, and the path of the report."""
PARQUET_ONLY = ("embeddings", "probes")
"""Tables that are too wide or too long for CSV."""


def write_csv(rows: pa.Table, file: Path | str | BinaryIO) -> None:
    """Write rows as CSV: UTF-8, with a header, text quoted, nulls as empty cells (and empty text as `""`).

    A text that a spreadsheet would compute has an apostrophe in front; see `escape_csv`. Lists, maps and structures are written as JSON. Binary columns (images) are left out.

    Args:
        rows: any table; column names may repeat.
        file: a path, or a binary file that is open for writing.
    """
    import pyarrow.csv

    columns = [i for i, field in enumerate(rows.schema) if not _is_bytes(field.type)]
    cells = [_csv_column(rows.column(i)) for i in columns]
    names = [escape_csv(rows.schema[i].name) for i in columns]
    pyarrow.csv.write_csv(pa.Table.from_arrays(cells, names=names), file)


def _is_bytes(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind))


def _csv_column(column: pa.ChunkedArray) -> pa.ChunkedArray | pa.Array:
    if pa.types.is_nested(column.type):
        values = (_json_value(value, column.type) for value in column.to_pylist())
        return pa.array(
            [None if v is None else json.dumps(v, ensure_ascii=False, default=str) for v in values], pa.string()
        )
    if pa.types.is_interval(column.type) or pa.types.is_duration(column.type):
        return pa.array([None if v is None else str(v) for v in column.to_pylist()], pa.string())
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type) or pa.types.is_dictionary(column.type):
        return pa.array([escape_csv(v) if isinstance(v, str) else v for v in column.to_pylist()])
    return column


def _json_value(value: Any, kind: pa.DataType) -> Any:
    """Return a value with every map, at any depth, as a dictionary."""
    if value is None:
        return None
    if pa.types.is_map(kind):
        return {str(k): _json_value(v, kind.item_type) for k, v in value}
    if pa.types.is_struct(kind):
        return {field.name: _json_value(value[field.name], field.type) for field in kind}
    if pa.types.is_nested(kind):
        return [_json_value(v, kind.value_type) for v in value]
    return value


def export_study(data_folder: DataFolder, study: str, folder: Path) -> list[Path]:
    """Write the results of a study into a folder. Each file of an earlier export is replaced atomically.

    Tables that the study does not have (responses, without a language model) are not written. `provenance.json` lists
    partition files that are missing or damaged.

    Args:
        data_folder: the data folder.
        study: name of a study that was run there.
        folder: the folder to write; it is created.

    Returns:
        The written files: tables, `leaderboard.tex`, `references.bib`, `provenance.json`.

    Raises:
        VlmAudioError: when no study of that name was run there; if the folder has other content; or for damaged partition files, after everything else
            is written.
    """
    record = study_record(data_folder, study)
    if folder.exists() and not (folder.is_dir() and (not any(folder.iterdir()) or (folder / PROVENANCE).is_file())):
        raise VlmAudioError(
            f"--out must name a new or empty folder, or an earlier export, but {folder} has other content; choose another folder"
        )
    tables, provenances, missing, damaged = _read_tables(data_folder, record["partition_files"])
    card, card_missing_reason = _dataset_card(data_folder, record["study"]["dataset"])
    folder.mkdir(parents=True, exist_ok=True)
    written_files = []

    def write(name: str, write_content: Callable[[BinaryIO], Any]) -> None:
        written_files.append(_write_file(folder / name, write_content))

    for name, rows in tables.items():
        if name not in PARQUET_ONLY:
            write(f"{name}.csv", lambda file, rows=rows: write_csv(rows, file))  # type: ignore[misc]
        write(f"{name}.parquet", lambda file, rows=rows: _write_parquet(rows, file))  # type: ignore[misc]
    if "leaderboard" in tables:
        tex = leaderboard_tex(tables["leaderboard"], study, record["study"].get("description", ""))
        write("leaderboard.tex", lambda file: file.write(tex.encode()))
    cards = record.get("cards", {})
    references = dataset_and_model_citations(card, card_missing_reason, cards)
    references += publication_citations(tables.get("published"))
    write("references.bib", lambda file: file.write(show_control_codes(references).encode()))
    provenance = {
        "study": study,
        "exported_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "exported_with": _machine(),
        "dataset": {
            "kind": record["study"]["dataset"]["kind"],
            "card": _card_fields(card) if card else None,
            "note": card_missing_reason,
        },
        "models": _models(tables),
        "cards": cards,
        "limit": record.get("limit"),
        "rows": {name: rows.num_rows for name, rows in tables.items()},
        "partition_files": provenances,
        "missing_files": missing,
        "damaged_files": damaged,
        "study_file": _study_file(record.get("file")),
        "study_as_run": record["study"],
    }
    write(PROVENANCE, lambda file: file.write(strict_json(provenance, indent=1).encode()))
    if damaged:
        raise VlmAudioError(
            f"damaged partition files: {', '.join(str(data_folder.root / p) for p in damaged)}. "
            f"Their rows are missing in {folder}. Delete these files and run the study again."
        )
    return written_files


def _read_tables(
    data_folder: DataFolder, files: Mapping[str, Iterable[str]]
) -> tuple[dict[str, pa.Table], list[dict[str, Any]], list[str], list[str]]:
    """Return tables by name, the provenance of each partition file, missing files and damaged files."""
    tables: dict[str, pa.Table] = {}
    provenances: list[dict[str, Any]] = []
    missing: list[str] = []
    damaged: list[str] = []
    for name, schema in TABLES.items():
        if name not in files or name in NOT_EXPORTED:
            continue
        fold_tables = [schema.empty_table()]
        for file in files[name]:
            try:
                rows, provenance = read_partition(data_folder.root / file, schema)
            except FileNotFoundError:
                missing.append(file)
                continue
            except pa.ArrowInvalid:
                damaged.append(file)
                continue
            fold_tables.append(rows)
            provenances.append({"file": file, **asdict(provenance)})
        tables[name] = pa.concat_tables(fold_tables).combine_chunks()
        if schema.order:
            tables[name] = tables[name].sort_by(list(schema.order))
    return tables, provenances, missing, damaged


def _write_file(path: Path, write_content: Callable[[BinaryIO], Any]) -> Path:
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        write_content(file)
    return path


def _write_parquet(rows: pa.Table, file: BinaryIO) -> None:
    import pyarrow.parquet

    pyarrow.parquet.write_table(rows, file, compression="zstd")


def _dataset_card(data_folder: DataFolder, dataset: Mapping[str, Any]) -> tuple[DatasetCard | None, str | None]:
    """Return the dataset card and None, or None and the reason why it is missing; nothing is downloaded."""
    try:
        spec = DATASETS.get(dataset["kind"]).model_validate(
            {key: value for key, value in dataset.items() if key != "kind"}
        )
        if spec.is_local(data_folder):
            return spec.open(data_folder).card, None
        reason = "it is not on this machine"
    except (VlmAudioError, ValueError) as error:  # it was moved or deleted, or its kind is not installed
        reason = str(error)
    return None, f"no citation of dataset {dataset['kind']}: {reason}"


def _card_fields(card: DatasetCard) -> dict[str, Any]:
    return {
        "title": card.title,
        "licence": card.licence,
        "url": card.url,
        "citation": card.citation,
        "download_bytes": card.download_bytes,
    }


def _models(tables: Mapping[str, pa.Table]) -> dict[str, list[dict[str, Any]]]:
    """Return the models of the embeddings and predictions, as recorded in their rows."""
    columns_by_group = {
        "encoders": ("embeddings", ["encoder", "model", "revision", "dtype", "dimensions"]),
        "classifiers": (
            "predictions",
            ["classifier", "kind", "model", "revision", "encoder", "rendering", "prompt", "shots"],
        ),
    }
    return {
        group: tables[table].group_by(columns).aggregate([]).sort_by(columns[0]).to_pylist() if table in tables else []
        for group, (table, columns) in columns_by_group.items()
    }


def _study_file(path: str | None) -> dict[str, Any] | None:
    """Return the path and the current text of the study file, which may be newer than the results."""
    if path is None:
        return None
    file = Path(path)
    return {"path": path, "current_text": file.read_text(encoding="utf-8") if file.is_file() else None}


def _machine() -> dict[str, Any]:
    """Return the software and machine that write the export. Results may come from other machines; see their provenance."""
    return {
        "program": {"name": "vlm-audio-pipeline", "version": __version__},
        "packages": {name: installed_version(name) for name in ("numpy", *PACKAGES)},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": {"cpu": _cpu(), "cores": core_count(), "gpu": _gpu()},
    }


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def _gpu() -> str | None:
    import shutil

    if shutil.which("nvidia-smi") is None:  # torch is imported only with a GPU: the import takes seconds
        return None
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None
