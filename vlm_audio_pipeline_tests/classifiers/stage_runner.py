"""Run the stages of one classifier over folds, as in the pipeline but without files."""

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from vlm_audio_pipeline.contracts.stages import StageContext
from vlm_audio_pipeline.datasets.base import Clip, Dataset
from vlm_audio_pipeline.datasets.card import DatasetCard
from vlm_audio_pipeline.engines import LocalEngine
from vlm_audio_pipeline.storage.schemas import TABLES

ESC10 = os.environ.get("ESC10_DIR")
needs_esc10 = pytest.mark.skipif(ESC10 is None, reason="ESC10_DIR must name a folder with the ESC-10 recordings")


def clips_table(clips) -> pa.Table:
    """Return `clips` rows of listed clips, without reading any file."""
    n = len(clips)
    return TABLES["clips"].conform(
        pa.table(
            {
                "fold": [c.fold for c in clips],
                "clip": [c.id for c in clips],
                "label": [c.label for c in clips],
                "source": [c.source for c in clips],
                "file": [c.file for c in clips],
                "samples_sha256": [c.id for c in clips],
                "duration_s": [5.0] * n,
                "sample_rate_hz": [44100] * n,
                "channels": [1] * n,
                "peak": [1.0] * n,
                "rms": [0.1] * n,
                "extra": pa.array([[]] * n, pa.map_(pa.string(), pa.string())),
            }
        ),
        study="s",
    )


def embeddings_table(clips: pa.Table, x: np.ndarray) -> pa.Table:
    n = clips.num_rows
    return TABLES["embeddings"].conform(
        pa.table(
            {
                "fold": clips["fold"],
                "clip": clips["clip"],
                "vector": pa.array(list(x.astype(np.float32)), pa.list_(pa.float32())),
                "dimensions": [x.shape[1]] * n,
                "model": ["toy"] * n,
                "dtype": ["float32"] * n,
                "result_key": clips["clip"],
            }
        ),
        study="s",
        encoder="e",
    )


def dataset(clips, classes, root: Path = Path()) -> Dataset:
    return Dataset(root, tuple(classes), tuple(clips), DatasetCard("toy"))


def gaussian_blobs(n_folds=5, per_class=6, classes=("a", "b", "c"), dimensions=4, seed=0, separation=1.5):
    """Return a dataset, its clips table and Gaussian vectors in its order; two clips have one source recording."""
    rng = np.random.default_rng(seed)
    clips = [
        Clip(f"{fold}-{label}-{i:02}", label, fold, f"{fold}-{label}-{i // 2}", f"{fold}-{label}-{i:02}.wav")
        for fold in range(1, n_folds + 1)
        for label in classes
        for i in range(per_class)
    ]
    data = dataset(sorted(clips, key=lambda c: c.id), classes)
    table = clips_table(data.clips)
    centres = rng.standard_normal((len(classes), dimensions)) * separation
    x = np.stack([centres[classes.index(c.label)] for c in data.clips]) + rng.standard_normal((len(clips), dimensions))
    return data, table, x.astype(np.float32)


def select_folds(table: pa.Table, fold: int, folds: str) -> pa.Table:
    if folds == "all":
        return table
    in_fold = pc.equal(table["fold"], fold)
    return table.filter(in_fold if folds == "same" else pc.invert(in_fold))


def run_fold(spec, name, fold, data, tables: dict[str, pa.Table], encoders=None, rows=None) -> dict[str, pa.Table]:
    """Run every stage of a fold and return the tables by name, each conformed to its schema."""
    results: dict[str, pa.Table] = {}
    for stage in spec.stages(name, data.folds, encoders or {}):
        inputs = {}
        for i in stage.inputs:
            if i.key in results:
                inputs[i.key] = results[i.key]
            elif i.key in tables:
                inputs[i.key] = select_folds(tables[i.key], fold, i.folds)
        context = StageContext("s", name, fold, data.classes, inputs, data, rows, engine=LocalEngine())
        result = stage.run(context)
        assert set(result) == set(stage.tables)
        for table, rows in result.items():
            conformed = TABLES[table].conform(rows, study="s", classifier=name, fold=fold)
            results[f"{table}/{name}"] = conformed
    return {key.split("/")[0]: rows for key, rows in results.items()}


def predict_all_folds(spec, name, data, tables) -> pa.Table:
    """Return the predictions of all folds."""
    return pa.concat_tables([run_fold(spec, name, f, data, tables)["predictions"] for f in data.folds])


def esc10_dataset() -> Dataset:
    from vlm_audio_pipeline.datasets.esc_classes import ESC10 as CLASSES
    from vlm_audio_pipeline.datasets.esc_classes import ESC10_FOLDERS

    root = Path(ESC10)
    clips = [
        Clip(p.stem, label, int(p.stem.split("-")[0]), p.stem.split("-")[1], f"{folder}/{p.name}")
        for folder, label in ESC10_FOLDERS.items()
        for p in (root / folder).glob("*.ogg")
    ]
    return dataset(sorted(clips, key=lambda c: c.id), CLASSES, root)
