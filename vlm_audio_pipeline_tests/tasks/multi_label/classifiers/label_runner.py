"""Run the stages of one multi-label classifier over folds, as in the pipeline but without files."""

import numpy as np
import pyarrow as pa

from vlm_audio_pipeline.contracts.stages import StageContext
from vlm_audio_pipeline.datasets.base import Clip, label_text
from vlm_audio_pipeline.engines import LocalEngine
from vlm_audio_pipeline.storage.schemas import TABLES
from vlm_audio_pipeline.tasks.multi_label.classifiers.base import CLIP_LABELS
from vlm_audio_pipeline_tests.classifiers.stage_runner import clips_table, dataset, select_folds

CLASSES = ("b", "a", "c")
"""Not in the order of the alphabet, as the classes of a study may be."""


def labelled_clips(n_folds=3, per_fold=20, seed=0, dimensions=6, distance=2.0, classes=CLASSES):
    """Return a dataset, its tables and vectors: each class shifts its own dimension; two clips have one source recording."""
    random = np.random.default_rng(seed)
    n = n_folds * per_fold
    truth = random.random((n, len(classes))) < 0.4
    clips = []
    for i in range(n):
        fold = 1 + i // per_fold
        labels = tuple(sorted(name for name, has in zip(classes, truth[i], strict=True) if has))
        clips.append(Clip(f"{i:04}", label_text(labels), fold, f"{fold}-{i // 2}", f"{i:04}.wav", labels=labels))
    x = random.standard_normal((n, dimensions))
    x[:, : len(classes)] += distance * truth
    return dataset(clips, classes), truth, x.astype(np.float32)


def label_rows(clips) -> pa.Table:
    rows = [{"fold": c.fold, "clip": c.id, "label": name} for c in clips for name in c.labels]
    return TABLES["clip_labels"].conform(
        pa.Table.from_pylist(rows, pa.schema([f for f in TABLES["clip_labels"].arrow if f.name != "study"])), study="s"
    )


def run_fold(spec, fold, data, tables: dict[str, pa.Table], encoders=None, result_store=None) -> dict[str, pa.Table]:
    """Run every stage of a fold and return the tables by name, each conformed to its schema."""
    results: dict[str, pa.Table] = {}
    inputs_by_key = {"clips": clips_table(data.clips), **tables}
    for stage in spec.stages("p", data.folds, encoders or {}):
        inputs = {}
        for i in stage.inputs:
            if i.key == "clips":
                inputs[CLIP_LABELS] = select_folds(label_rows(data.clips), fold, i.folds)
            if i.key in inputs_by_key:
                inputs[i.key] = select_folds(inputs_by_key[i.key], fold, i.folds)
        context = StageContext("s", "p", fold, data.classes, inputs, data, result_store, engine=LocalEngine())
        for table, rows in stage.run(context).items():
            results[table] = TABLES[table].conform(rows, study="s", classifier="p", fold=fold)
            inputs_by_key[f"{stage.asset}/p"] = results[table]
    return results


def matrix(rows: pa.Table, column: str, classes) -> np.ndarray:
    """Return a column as (clips, classes), in the order of `classes`."""
    labels = sorted(classes)
    values = np.array(rows[column].to_pylist()).reshape(-1, len(labels))
    return values[:, [labels.index(name) for name in classes]]
