"""An example study on disk with every table that a report shows. All its numbers are invented."""

import csv
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import soundfile

from vlm_audio_pipeline.datasets.audio import decode, samples_digest
from vlm_audio_pipeline.datasets.synthesis import synthesise
from vlm_audio_pipeline.renderings.image import render
from vlm_audio_pipeline.renderings.recipe import Recipe
from vlm_audio_pipeline.storage.catalogue import write_study_record
from vlm_audio_pipeline.storage.data_folder import DataFolder
from vlm_audio_pipeline.storage.partition_files import Provenance, data_version, write_partition
from vlm_audio_pipeline.storage.schemas import TABLES

STUDY = "example"
ODD_CLASS = 'sea <b>waves</b> & "wind"'
"""A class name that breaks a page which does not escape it."""
HOSTILE_RESPONSE = (
    "I think it is </script><script>window.broken = 1</script><img src=x onerror='window.broken = 1'> rain"
)
"""A response that runs as a script in a page which does not escape it."""
HOSTILE_REASONING = "First I look at the </script><b>low</b> frequencies. " * 60
"""Reasoning that breaks a page which does not escape it; longer than a single file keeps."""
CLASSES = {"dog": "dog", "rain": "rain", "clock_tick": "clock_tick", "chainsaw": "chainsaw", ODD_CLASS: "sea_waves"}
"""Label -> the class of the synthetic recording."""
FOLDS = (1, 2, 3)
RATE = 16000
SECONDS = 1.0
RECIPE = Recipe.model_validate({"rate": RATE, "width": 128, "height": 96, "n_fft": 512, "hop_length": 128})

_EMPTY: dict[pa.DataType, Any] = {
    pa.string(): "",
    pa.int64(): 0,
    pa.float64(): 0.0,
    pa.bool_(): False,
    pa.timestamp("us", tz="UTC"): datetime(2026, 11, 20, tzinfo=UTC),
}


def table_rows(table: str, *values: dict[str, Any], study: str = STUDY, **constants: Any) -> pa.Table:
    """Return rows of a table; missing columns are null, or empty, 0 or false where they may not be null."""
    schema = TABLES[table]
    full = [
        {
            c.name: row.get(c.name, None if c.nullable else _EMPTY.get(c.type))
            for c in schema.columns
            if c.name in row or c.name not in ("study", schema.component, "fold")
        }
        for row in values
    ]
    columns = {
        name: pa.array([row[name] for row in full], schema.arrow.field(name).type) for name in (full[0] if full else ())
    }
    table_of_rows = pa.table(columns) if full else schema.empty_table()
    return schema.conform(table_of_rows, study=study, **constants)


class ExampleStudy:
    """Writes the example study; `partition_files` lists what was written, by table."""

    def __init__(self, folder: Path, per_class: int = 2, study: str = STUDY):
        self.folder, self.study = folder, study
        self.data_folder = DataFolder(folder / "data")
        self.partition_files: dict[str, list[str]] = {}
        (folder / "audio").mkdir(parents=True)
        self.clips = [
            self._write_recording(fold, label, take) for fold in FOLDS for label in CLASSES for take in range(per_class)
        ]
        with (folder / "clips.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, ("id", "path", "label", "fold", "source"))
            writer.writeheader()
            for clip in self.clips:
                named = {"id": clip["clip"], "path": clip["file"]}
                writer.writerow(named | {k: clip[k] for k in ("label", "fold", "source")})
        self.write_clips()

    def _write_recording(self, fold: int, label: str, take: int) -> dict[str, Any]:
        name = f"{fold}-{CLASSES[label]}-{take}"
        path = self.folder / "audio" / f"{name}.wav"
        soundfile.write(path, synthesise(CLASSES[label], 0, fold, take, duration_s=SECONDS, sample_rate_hz=RATE), RATE)
        samples, rate, _ = decode(path)
        return {
            "clip": name,
            "label": label,
            "fold": fold,
            "source": f"{fold}-{CLASSES[label]}",
            "file": f"audio/{name}.wav",
            "samples_sha256": samples_digest(samples, rate),
            "duration_s": SECONDS,
            "sample_rate_hz": RATE,
            "channels": 1,
            "peak": 0.5,
            "rms": 0.1,
            "extra": [],
        }

    def write(self, table: str, *values: dict[str, Any], component: str | None = None, fold: int | None = None) -> None:
        """Write a partition file and list it."""
        schema = TABLES[table]
        constants = {schema.component: component} if schema.component else {}
        written = table_rows(
            table, *values, study=self.study, **constants, **({"fold": fold} if schema.per_fold else {})
        )
        path = self.data_folder.partition_file(table, self.study, component, fold)
        details = {"made_at": "2026-11-20T12:00:00+00:00", "package_version": "0"}
        step = f"{table}/{component}" if component else table
        write_partition(path, written, Provenance(step, "1:0", {}, data_version(schema, written), details))
        self.partition_files.setdefault(table, []).append(path.relative_to(self.data_folder.root).as_posix())

    def write_clips(self) -> None:
        """Write the clips of each fold."""
        for fold in FOLDS:
            self.write("clips", *(dict(c) for c in self.clips if c["fold"] == fold), fold=fold)

    def write_images(self, rendering: str, render_clip: Callable[[dict[str, Any]], bytes]) -> None:
        """Write an image of every clip."""
        for fold in FOLDS:
            lines = [
                {
                    "clip": c["clip"],
                    "image": render_clip(c),
                    "media_type": "image/png",
                    "width": RECIPE.width,
                    "height": RECIPE.height,
                    "image_sha256": "",
                }
                for c in self.clips
                if c["fold"] == fold
            ]
            self.write("spectrograms", *lines, component=rendering, fold=fold)

    def render_clip(self, clip: dict[str, Any]) -> bytes:
        """Return the image of a clip as the image model receives it."""
        return render(decode(self.folder / clip["file"])[0], RATE, RECIPE).bytes

    def write_predictions(
        self, classifier: str, predict: Callable[[dict[str, Any], int], list[dict[str, Any]]], **constants: Any
    ) -> None:
        """Write the predictions of a classifier for every clip; `predict(clip, number)` returns rows."""
        for fold in FOLDS:
            lines = []
            for i, clip in enumerate(self.clips):
                if clip["fold"] != fold:
                    continue
                for prediction in predict(clip, i):
                    row = {
                        "scoring": "score",
                        "control": "none",
                        "trial": 0,
                        "outcome": "answered",
                        **constants,
                        **prediction,
                    }
                    row |= {k: clip[k] for k in ("clip", "label", "source")}
                    row["correct"] = row["outcome"] == "answered" and row["predicted"] == clip["label"]
                    lines.append(row)
            self.write("predictions", *lines, component=classifier, fold=fold)

    def finish(self, **spec: Any) -> "ExampleStudy":
        """Write the study record."""
        resolved = {
            "name": self.study,
            "description": "An example study with invented numbers.",
            "dataset": {"kind": "csv", "path": str(self.folder / "clips.csv"), "columns": {"id": "id"}},
            "encoders": {},
            "classifiers": {},
            **spec,
        }
        record = {
            "partition_files": self.partition_files,
            "extra_columns": [],
            "file": None,
            "limit": None,
            "study": resolved,
        }
        write_study_record(self.data_folder, self.study, record)
        return self


def scores(label: str, share: float = 0.7) -> list[tuple[str, float]]:
    """Return scores that sum to 1, the highest for `label`."""
    rest = (1 - share) / (len(CLASSES) - 1)
    return [(c, share if c == label else rest) for c in CLASSES]


def next_class(label: str) -> str:
    """Return the class after `label`."""
    names = list(CLASSES)
    return names[(names.index(label) + 1) % len(names)]


def predict_image_model(clip: dict[str, Any], i: int) -> list[dict[str, Any]]:
    """Predict like a language model: wrong for every third clip, "dog" for blank images, at times unparseable."""
    label = clip["label"] if i % 3 else next_class(clip["label"])
    likelihood = {"scoring": "likelihood", "predicted": label, "scores": scores(label, 0.6), "confidence": 0.6}
    blank = likelihood | {"control": "blank", "predicted": "dog", "scores": scores("dog", 0.9), "confidence": 0.9}
    generation: dict[str, Any] = {"scoring": "generation", "predicted": label, "text": f"It is {label}."}
    if i % 7 == 3:
        generation |= {"predicted": None, "outcome": "unparseable", "text": HOSTILE_RESPONSE}
    elif i % 7 == 5:
        generation |= {"predicted": None, "outcome": "error", "text": None}
    price = {"seconds": 0.5, "tokens": 700, "usd": 0.001}
    return [likelihood, blank, generation | price]


def predict_audio_model(clip: dict[str, Any], i: int) -> list[dict[str, Any]]:
    """Predict like a zero-shot model on audio: correct except for every clip of the last class."""
    label = "rain" if clip["label"] == ODD_CLASS else clip["label"]
    return [{"predicted": label, "scores": scores(label), "confidence": 0.7, "seconds": 0.01}]


def _responses(clips: list[tuple[int, dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return the responses of the image model to the clips of a fold: reasoning, and an error for every seventh clip."""
    rows: list[dict[str, Any]] = []
    for i, clip in clips:
        common = {"clip": clip["clip"], "outcome": "answered", "input_tokens": 690}
        rows += [common | {"scoring": "likelihood", "control": c, "result_key": f"{c}-{i}"} for c in ("none", "blank")]
        generation = common | {"scoring": "generation", "control": "none", "result_key": f"generated-{i}"}
        generation |= {"reasoning": HOSTILE_REASONING, "output_tokens": 10, "seconds": 0.5, "usd": 0.001}
        if i % 7 == 5:
            generation |= {"outcome": "error", "error": "503 <busy>", "reasoning": None}
        rows.append(generation)
    return rows


def annotate(clip: dict[str, Any], i: int) -> list[dict[str, Any]]:
    """Annotate like three annotators: two are correct, one is wrong."""
    wrong = next_class(clip["label"])
    return [
        {
            "trial": t,
            "annotator": f"annotator {t}",
            "predicted": wrong if t == 2 else clip["label"],
            "scoring": "annotation",
        }
        for t in range(3)
    ]


def leaderboard_row(
    name: str, kind: str, scoring: str, control: str, correct: int, total: int, rank: int | None
) -> dict[str, Any]:
    """Return a leaderboard row with an invented interval."""
    share = correct / total
    return {
        "rank": rank,
        "classifier": name,
        "kind": kind,
        "scoring": scoring,
        "control": control,
        "accuracy": share,
        "accuracy_low": max(0.0, share - 0.12),
        "accuracy_high": min(1.0, share + 0.1),
        "interval": "Wilson at n / design effect",
        "interval_scope": "clips",
        "accuracy_answered": share,
        "macro_f1": share,
        "predictions": total,
        "correct": correct,
        "answered": total,
        "clips": 30,
        "dataset_clips": 30,
        "trials": 1,
        "folds": "1,2,3",
        "note": f"{correct} of {total} predictions correct",
    }


def write_example_study(folder: Path) -> ExampleStudy:
    """Write the example study with every table."""
    study = ExampleStudy(folder)
    study.write_images("paper", study.render_clip)
    blank = render(np.zeros(RATE, np.float32), RATE, RECIPE).bytes
    study.write_images("paper__blank", lambda clip: blank)
    model = {
        "kind": "language_model",
        "model": "example/image_model",
        "revision": "abc123",
        "rendering": "paper",
        "prompt": "paper",
    }
    study.write_predictions("image_model", predict_image_model, **model, shots=1)
    study.write_predictions(
        "audio_model", predict_audio_model, kind="zero_shot", model="example/audio_model", encoder="audio_encoder"
    )
    study.write_predictions("annotators", annotate, kind="annotations", model="annotators")
    n = len(study.clips)  # 30; every third prediction of image_model is wrong
    study.write(
        "leaderboard",
        leaderboard_row("audio_model", "zero_shot", "score", "none", 24, n, 1),
        leaderboard_row("image_model", "language_model", "likelihood", "none", 20, n, 2)
        | {"interval_scope": "clips, for these examples"},
        leaderboard_row("image_model", "language_model", "generation", "none", 14, n, 3),
        leaderboard_row("image_model", "language_model", "likelihood", "blank", 6, n, None),
        leaderboard_row("annotators", "annotations", "annotation", "none", 60, 90, None),
        leaderboard_row("chance", "reference", "", "none", 6, n, None) | {"correct": None, "accuracy_low": None},
        {"classifier": "absent", "kind": "language_model", "control": "none", "note": "not run: no weights <here>"},
    )
    for fold in FOLDS:
        here = [(i, c) for i, c in enumerate(study.clips) if c["fold"] == fold]
        others = [c for c in study.clips if c["fold"] != fold][:5]
        study.write("responses", *_responses(here), component="image_model", fold=fold)
        study.write(
            "examples",
            *(
                {"trial": 0, "query": "", "position": p, "example_label": c["label"]}
                | {k: c[k] for k in ("clip", "label", "source")}
                for p, c in enumerate(others)
            ),
            component="image_model",
            fold=fold,
        )
    _write_analyses(study)
    return study.finish(
        encoders={"audio_encoder": {"kind": "clap"}},
        classifiers={
            "image_model": {
                "kind": "language_model",
                "backend": "scripted",
                "model": "example/image_model",
                "rendering": "paper",
                "prompt": "paper",
                "shots": 1,
                "encoder": "audio_encoder",
                "controls": ["blank"],
            },
            "audio_model": {"encoder": "audio_encoder"},
            "annotators": {},
            "absent": {},
        },
        renderings={"paper": {"kind": "recipe", **RECIPE.model_dump(mode="json")}},
    )


def _write_analyses(study: ExampleStudy) -> None:
    counted = {"scoring": "score", "control": "none", "subset": "all", "label": "", "predictions": 30, "clips": 30}
    study.write(
        "metrics",
        counted | {"metric": "top3", "value": 0.9},
        counted | {"metric": "trial_sd", "reason": "one trial"},
        counted | {"metric": "accuracy", "value": 0.8},
        component="audio_model",
    )
    random = np.random.default_rng(0)
    for encoder in ("audio_encoder", "image_encoder"):
        study.write(
            "projections",
            *(
                {"method": method, "fold": c["fold"], "x": float(x), "y": float(y)}
                | {k: c[k] for k in ("clip", "label", "source")}
                for method in ("pca", "umap")
                for c, (x, y) in zip(study.clips, random.normal(size=(len(study.clips), 2)), strict=True)
            ),
            component=encoder,
        )
        measures = ("silhouette", "knn_purity", "r_at_1")
        study.write(
            "embedding_quality",
            *({"measure": m, "value": 0.5, "method": "invented"} for m in measures),
            component=encoder,
        )
    study.write(
        "reliability",
        *(
            {"scoring": "score", "control": "none", "variant": v, "bin": b, "count": 3, "confidence": b / 10 - 0.05}
            | {"accuracy": b / 11}
            for v in ("raw", "temperature")
            for b in (3, 6, 8)
        ),
        component="audio_model",
    )
    tested = {
        "subset": "all",
        "holm_over": 2,
        "clips": 30,
        "sources": 15,
        "detectable_difference": 0.2,
        "p_method": "exact",
    }
    study.write(
        "contrasts",
        {"position": 0, "classifier": "audio_model", "scoring": "score", "control": "none", "against": "image_model"}
        | {"against_scoring": "likelihood", "against_control": "none", "difference": 4 / 30, "low": -0.1, "high": 0.35}
        | {"p": 0.2, "p_holm": 0.4, "verdict": "cannot tell apart", "statement": "They cannot be told apart."}
        | tested,
        {
            "position": 1,
            "classifier": "image_model",
            "scoring": "likelihood",
            "control": "none",
            "against": "image_model",
        }
        | {"against_scoring": "likelihood", "against_control": "blank", "difference": 14 / 30, "low": 0.2, "high": 0.7}
        | {"p": 0.001, "p_holm": 0.002, "verdict": "better", "statement": "With its image it is better."}
        | tested,
        {"position": 2, "classifier": "absent", "control": "none", "against": "chance", "against_control": "none"}
        | {
            "subset": "all",
            "verdict": "not compared",
            "statement": "a was not compared with b: absent was not run.",
            "reason": "absent was not run",
        },
    )
    study.write("verdicts", *verdict_rows())
    study.write(
        "leakage",
        {"kind": "exact_duplicate", "severity": "clean", "finding": "0 groups among 30 clips", "checked": 30},
        {
            "kind": "training_data",
            "subject": "audio_model",
            "severity": "suspect",
            "finding": "its card names <this> dataset",
        },
    )
    study.write(
        "published",
        {
            "classifier": "audio_model",
            "scoring": "score",
            "publication": "example2020",
            "title": "An Example",
            "url": "https://example.org/2020",
            "system": "Audio Model",
            "setting": "zero-shot",
        }
        | {"dataset": "example", "split": "all clips", "published": 0.9, "published_clips": 30, "measured": 0.8}
        | {
            "measured_low": 0.68,
            "measured_high": 0.9,
            "published_in_interval": True,
            "verdict": "90.0 % published, 80.0 % here",
        }
        | {
            "input": "audio",
            "family": "clap",
            "differences": "clips: published 60, here 30\nmodel: published a, here b",
        }
        | {"not_stated": "prompt: here plain"},
    )
    first = {"scoring": "score", "control": "none", "predictions": 30, "clips": 30, "folds": "1,2,3"}
    study.write(
        "history",
        {"classifier": "audio_model", "entry": 1, "accuracy": 0.7, "correct": 21, **first},
        {"classifier": "audio_model", "entry": 2, "accuracy": 0.8, "correct": 24, "current": True, **first}
        | {
            "changed": "revision a1 to b2",
            "difference": 0.1,
            "low": -0.02,
            "high": 0.2,
            "p": 0.25,
            "gained": 4,
            "lost": 1,
        },
        {"classifier": "image_model", "entry": 1, "accuracy": 0.6, "correct": 18, "current": True, **first},
    )


def verdict_rows() -> list[dict[str, Any]]:
    """Return verdicts: one that it can, one without its control, and one of a model that was not run."""
    counts = {"clips": 30, "dataset_clips": 30, "sources": 15, "holm_over": 3}
    chance = {"chance_accuracy": 0.2, "chance_low": 0.2, "chance_high": 0.6, "chance_p": 0.002}
    blank = {"blank_accuracy": 0.2, "blank_low": 0.2, "blank_high": 0.7, "blank_p": 0.0004}
    audio = {"audio_accuracy": 0.8, "audio_low": -0.35, "audio_high": 0.1, "audio_p": 0.4}
    model = {"classifier": "image_model", **counts, **chance}
    return [
        model
        | {"position": 0, "scoring": "likelihood", "answer": "it can", "accuracy": 20 / 30, **blank, **audio}
        | {
            "audio_classifier": "audio_model",
            "statement": "image_model (likelihood) can hear what it sees: <numbers>.",
        },
        model
        | {"position": 1, "scoring": "generation", "answer": "cannot be decided", "accuracy": 14 / 30}
        | {"statement": "It cannot be decided whether image_model (generation) can hear what it sees: no control."},
        {"position": 2, "classifier": "absent", "answer": "cannot be decided", "reason": "not run: no weights"}
        | {"statement": "It cannot be decided whether absent can hear what it sees: not run: no weights."},
    ]
