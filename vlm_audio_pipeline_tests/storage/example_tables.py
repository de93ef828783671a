"""Small tables as stages return them, and partition files of a small study."""

from pathlib import Path

import pyarrow as pa

from vlm_audio_pipeline.storage.catalogue import write_study_record
from vlm_audio_pipeline.storage.data_folder import DataFolder
from vlm_audio_pipeline.storage.partition_files import Provenance, data_version, write_partition
from vlm_audio_pipeline.storage.schemas import TABLES

TEXT_MAP = pa.map_(pa.string(), pa.string())
SCORES = pa.map_(pa.string(), pa.float64())


def clips(n: int = 3, fold: int = 1, extra: list[tuple[str, str]] | None = None, study: str = "s") -> pa.Table:
    return TABLES["clips"].conform(
        pa.table(
            {
                "clip": [f"{fold}-{i}" for i in range(n)],
                "label": ["dog", "rain", "sea"][:n],
                "source": [f"r{fold}-{i}" for i in range(n)],
                "file": [f"{fold}-{i}.wav" for i in range(n)],
                "samples_sha256": [f"{i:064x}" for i in range(n)],
                "duration_s": [5.0] * n,
                "sample_rate_hz": [44100] * n,
                "channels": [1] * n,
                "peak": [0.5] * n,
                "rms": [0.1] * n,
                "extra": pa.array([extra or []] * n, TEXT_MAP),
            }
        ),
        study=study,
        fold=fold,
    )


def predictions(n: int = 3, fold: int = 1, study: str = "s", **other) -> pa.Table:
    columns = {
        "kind": ["probe"] * n,
        "scoring": ["score"] * n,
        "control": ["none"] * n,
        "trial": [0] * n,
        "clip": [f"{fold}-{i}" for i in range(n)],
        "source": [f"r{fold}-{i}" for i in range(n)],
        "label": ["dog", "rain", "sea"][:n],
        "predicted": ["dog"] * n,
        "outcome": ["answered"] * n,
        "correct": [True, False, False][:n],
        "scores": pa.array([[("dog", 0.7), ("rain", 0.3)]] * n, SCORES),
        "confidence": [0.7] * n,
        "text": pa.nulls(n, pa.string()),
        "seconds": [0.01] * n,
        "usd": [0.0] * n,
    }
    return TABLES["predictions"].conform(pa.table(columns | other), study=study, classifier="p", fold=fold)


def embeddings(vectors: list[list[float]], **other) -> pa.Table:
    n = len(vectors)
    columns = {
        "clip": [f"1-{i}" for i in range(n)],
        "vector": pa.array(vectors, pa.list_(pa.float32())),
        "dimensions": [len(v) for v in vectors],
        "model": ["toy"] * n,
        "dtype": ["float32"] * n,
        "result_key": [f"{i}" for i in range(n)],
    }
    return TABLES["embeddings"].conform(pa.table(columns | other), study="s", encoder="e", fold=1)


def leaderboard(rows: list[tuple[int | None, str, float | None]], study: str = "s") -> pa.Table:
    n = len(rows)
    counts = ("predictions", "correct", "answered", "clips", "dataset_clips", "rejected_clips", "trials")
    return TABLES["leaderboard"].conform(
        pa.table(
            {
                "rank": pa.array([r[0] for r in rows], pa.int64()),
                "classifier": [r[1] for r in rows],
                "accuracy": pa.array([r[2] for r in rows], pa.float64()),
                "kind": ["probe"] * n,
                "scoring": ["score"] * n,
                "control": ["none"] * n,
                "folds": ["1"] * n,
                "partial": [False] * n,
                "note": [""] * n,
                **{c: [3] * n for c in counts},
            }
        ),
        study=study,
    )


def write(
    data_folder: DataFolder, table: str, rows: pa.Table, component: str | None = None, fold: int | None = None
) -> Path:
    """Write a partition file and return its path."""
    path = data_folder.partition_file(table, rows["study"][0].as_py() if rows.num_rows else "s", component, fold)
    version = data_version(TABLES[table], rows)
    write_partition(path, rows, Provenance(table, "1:0", {}, version))
    return path


def study(data_folder: DataFolder, name: str = "s", extra: list[tuple[str, str]] | None = None, folds=(1, 2)) -> dict:
    """Write the partition files and the study record of a small study; return the record."""
    partition_files: dict[str, list[Path]] = {"clips": [], "predictions": []}
    for fold in folds:
        partition_files["clips"].append(write(data_folder, "clips", clips(3, fold, extra, name), None, fold))
        partition_files["predictions"].append(write(data_folder, "predictions", predictions(3, fold, name), "p", fold))
    board = leaderboard([(2, "b", 0.5), (None, "a", None), (1, "c", 0.9)], name)
    partition_files["leaderboard"] = [write(data_folder, "leaderboard", board)]
    record = {
        "partition_files": {
            t: [p.relative_to(data_folder.root).as_posix() for p in paths] for t, paths in partition_files.items()
        },
        "extra_columns": [k for k, _ in extra or []],
        "file": None,
        "limit": None,
    }
    write_study_record(data_folder, name, record)
    return record
