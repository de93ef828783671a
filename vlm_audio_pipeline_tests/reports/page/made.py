"""A made-up study on disk with every table a report can show. Its numbers are invented: no model ever said any of this."""

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
from vlm_audio_pipeline.renderings.picture import render
from vlm_audio_pipeline.renderings.recipe import Recipe
from vlm_audio_pipeline.storage.catalogue import write_manifest
from vlm_audio_pipeline.storage.layout import Layout
from vlm_audio_pipeline.storage.partition_files import Provenance, data_version, write_part
from vlm_audio_pipeline.storage.schemas import TABLES

STUDY = "made"
ODD = 'sea <b>waves</b> & "wind"'
"""A class whose name would break a page that does not escape it."""
HOSTILE = "I think it is </script><script>window.broken = 1</script><img src=x onerror='window.broken = 1'> rain"
"""An answer that would run, were it not escaped."""
CLASSES = {"dog": "dog", "rain": "rain", "clock_tick": "clock_tick", "chainsaw": "chainsaw", ODD: "sea_waves"}
"""Label -> the synthetic sound that stands for it."""
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


def rows(table: str, *given: dict[str, Any], study: str = STUDY, **constants: Any) -> pa.Table:
    """Give rows of a table; columns that may not be null and are not given are empty, 0 or false."""
    schema = TABLES[table]
    full = [
        {
            c.name: row.get(c.name, None if c.nullable else _EMPTY.get(c.type))
            for c in schema.columns
            if c.name in row or c.name not in ("study", schema.owner, "fold")
        }
        for row in given
    ]
    columns = {
        name: pa.array([row[name] for row in full], schema.arrow.field(name).type) for name in (full[0] if full else ())
    }
    made = pa.table(columns) if full else schema.empty()
    return schema.conform(made, study=study, **constants)


class Made:
    """The made-up study: `layout` is its data folder, `parts` what was written."""

    def __init__(self, folder: Path, per_class: int = 2, study: str = STUDY):
        self.folder, self.study = folder, study
        self.layout = Layout(folder / "data")
        self.parts: dict[str, list[str]] = {}
        (folder / "audio").mkdir(parents=True)
        self.clips = [
            self._record(fold, label, take) for fold in FOLDS for label in CLASSES for take in range(per_class)
        ]
        with (folder / "clips.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, ("id", "path", "label", "fold", "source"))
            writer.writeheader()
            for clip in self.clips:
                named = {"id": clip["clip"], "path": clip["file"]}
                writer.writerow(named | {k: clip[k] for k in ("label", "fold", "source")})
        self.write_clips()

    def _record(self, fold: int, label: str, take: int) -> dict[str, Any]:
        name = f"{fold}-{CLASSES[label]}-{take}"
        path = self.folder / "audio" / f"{name}.wav"
        soundfile.write(path, synthesise(CLASSES[label], 0, fold, take, duration_s=SECONDS, rate_hz=RATE), RATE)
        samples, rate, _ = decode(path)
        return {
            "clip": name,
            "label": label,
            "fold": fold,
            "source": f"{fold}-{CLASSES[label]}",
            "file": f"audio/{name}.wav",
            "samples_sha256": samples_digest(samples, rate),
            "duration_s": SECONDS,
            "rate_hz": RATE,
            "channels": 1,
            "peak": 0.5,
            "rms": 0.1,
            "kept": [],
        }

    def write(self, table: str, *given: dict[str, Any], owner: str | None = None, fold: int | None = None) -> None:
        """Write a part and remember it."""
        schema = TABLES[table]
        constants = {schema.owner: owner} if schema.owner else {}
        made = rows(table, *given, study=self.study, **constants, **({"fold": fold} if schema.per_fold else {}))
        path = self.layout.part(table, self.study, owner, fold)
        details = {"made_at": "2026-11-20T12:00:00+00:00", "package_version": "0"}
        step = f"{table}/{owner}" if owner else table
        write_part(path, made, Provenance(step, "1:0", {}, data_version(schema, made), details))
        self.parts.setdefault(table, []).append(path.relative_to(self.layout.root).as_posix())

    def write_clips(self) -> None:
        """Write the clips of each fold."""
        for fold in FOLDS:
            self.write("clips", *(dict(c) for c in self.clips if c["fold"] == fold), fold=fold)

    def write_pictures(self, rendering: str, draw: Callable[[dict[str, Any]], bytes]) -> None:
        """Write a picture of every clip."""
        for fold in FOLDS:
            lines = [
                {
                    "clip": c["clip"],
                    "picture": draw(c),
                    "media_type": "image/png",
                    "width": RECIPE.width,
                    "height": RECIPE.height,
                    "picture_sha256": "",
                }
                for c in self.clips
                if c["fold"] == fold
            ]
            self.write("spectrograms", *lines, owner=rendering, fold=fold)

    def drawn(self, clip: dict[str, Any]) -> bytes:
        """Draw a clip as its model would be shown it."""
        return render(decode(self.folder / clip["file"])[0], RATE, RECIPE).bytes

    def write_predictions(
        self, classifier: str, say: Callable[[dict[str, Any], int], list[dict[str, Any]]], **constants: Any
    ) -> None:
        """Write what a classifier said of every clip: `say(clip, number)` gives rows."""
        for fold in FOLDS:
            lines = []
            for i, clip in enumerate(self.clips):
                if clip["fold"] != fold:
                    continue
                for said in say(clip, i):
                    row = {
                        "scoring": "score",
                        "control": "none",
                        "trial": 0,
                        "outcome": "answered",
                        **constants,
                        **said,
                    }
                    row |= {k: clip[k] for k in ("clip", "label", "source")}
                    row["correct"] = row["outcome"] == "answered" and row["predicted"] == clip["label"]
                    lines.append(row)
            self.write("predictions", *lines, owner=classifier, fold=fold)

    def finish(self, **study: Any) -> "Made":
        """Write down that the study was run."""
        resolved = {
            "name": self.study,
            "description": "A made-up study: no model ever said any of this.",
            "dataset": {"kind": "csv", "path": str(self.folder / "clips.csv"), "columns": {"id": "id"}},
            "encoders": {},
            "classifiers": {},
            **study,
        }
        manifest = {"parts": self.parts, "kept": [], "file": None, "limit": None, "study": resolved}
        write_manifest(self.layout, self.study, manifest)
        return self


def scores(label: str, share: float = 0.7) -> list[tuple[str, float]]:
    """Give scores that sum to 1, the highest for a label."""
    rest = (1 - share) / (len(CLASSES) - 1)
    return [(c, share if c == label else rest) for c in CLASSES]


def next_class(label: str) -> str:
    """Give the class that follows."""
    names = list(CLASSES)
    return names[(names.index(label) + 1) % len(names)]


def seer(clip: dict[str, Any], i: int) -> list[dict[str, Any]]:
    """A language model: wrong on every third clip, blind to blank pictures, at times not to be understood."""
    right = clip["label"] if i % 3 else next_class(clip["label"])
    likely = {"scoring": "likelihood", "predicted": right, "scores": scores(right, 0.6), "confidence": 0.6}
    blank = likely | {"control": "blank", "predicted": "dog", "scores": scores("dog", 0.9), "confidence": 0.9}
    told: dict[str, Any] = {"scoring": "generation", "predicted": right, "text": f"It is {right}."}
    if i % 7 == 3:
        told |= {"predicted": None, "outcome": "unparseable", "text": HOSTILE}
    elif i % 7 == 5:
        told |= {"predicted": None, "outcome": "error", "text": None}
    price = {"seconds": 0.5, "tokens": 700, "usd": 0.001}
    return [likely, blank, told | price]


def hearer(clip: dict[str, Any], i: int) -> list[dict[str, Any]]:
    """A zero-shot model on the sound: right but on every clip of its last class."""
    said = "rain" if clip["label"] == ODD else clip["label"]
    return [{"predicted": said, "scores": scores(said), "confidence": 0.7, "seconds": 0.01}]


def listeners(clip: dict[str, Any], i: int) -> list[dict[str, Any]]:
    """Three people: two are right, one is not."""
    wrong = next_class(clip["label"])
    return [
        {"trial": t, "reader": f"reader {t}", "predicted": wrong if t == 2 else clip["label"], "scoring": "judgement"}
        for t in range(3)
    ]


def board_row(
    name: str, kind: str, scoring: str, control: str, correct: int, of: int, rank: int | None
) -> dict[str, Any]:
    """Give a row of the leaderboard with an invented interval."""
    share = correct / of
    return {
        "rank": rank,
        "classifier": name,
        "kind": kind,
        "scoring": scoring,
        "control": control,
        "accuracy": share,
        "accuracy_low": max(0.0, share - 0.12),
        "accuracy_high": min(1.0, share + 0.1),
        "interval": "bootstrap by source",
        "accuracy_answered": share,
        "macro_f1": share,
        "predictions": of,
        "correct": correct,
        "answered": of,
        "clips": 30,
        "of_clips": 30,
        "trials": 1,
        "folds": "1,2,3",
        "note": f"{correct} of {of} predictions",
    }


def full_study(folder: Path) -> Made:
    """Write a study with everything."""
    made = Made(folder)
    made.write_pictures("paper", made.drawn)
    blank = render(np.zeros(RATE, np.float32), RATE, RECIPE).bytes
    made.write_pictures("paper__blank", lambda clip: blank)
    shown = {
        "kind": "language_model",
        "model": "made/seer",
        "revision": "abc123",
        "rendering": "paper",
        "prompt": "paper",
    }
    made.write_predictions("seer", seer, **shown, shots=1)
    made.write_predictions("hearer", hearer, kind="zero_shot", model="made/hearer", encoder="ear")
    made.write_predictions("listeners", listeners, kind="human", model="people")
    n = len(made.clips)  # 30: seer's every third is wrong
    made.write(
        "leaderboard",
        board_row("hearer", "zero_shot", "score", "none", 24, n, 1),
        board_row("seer", "language_model", "likelihood", "none", 20, n, 2),
        board_row("seer", "language_model", "generation", "none", 14, n, 3),
        board_row("seer", "language_model", "likelihood", "blank", 6, n, None),
        board_row("listeners", "human", "judgement", "none", 60, 90, None),
        board_row("chance", "reference", "", "none", 6, n, None) | {"correct": None, "accuracy_low": None},
        {"classifier": "absent", "kind": "language_model", "control": "none", "note": "not run: no weights <here>"},
    )
    for fold in FOLDS:
        here = [(i, c) for i, c in enumerate(made.clips) if c["fold"] == fold]
        others = [c for c in made.clips if c["fold"] != fold][:5]
        made.write(
            "answers",
            *(
                {
                    "clip": c["clip"],
                    "scoring": "generation",
                    "control": "none",
                    "outcome": "error",
                    "error": "503 <busy>",
                }
                for i, c in here
                if i % 7 == 5
            ),
            owner="seer",
            fold=fold,
        )
        made.write(
            "examples",
            *(
                {"trial": 0, "query": "", "position": p, "shown_label": c["label"]}
                | {k: c[k] for k in ("clip", "label", "source")}
                for p, c in enumerate(others)
            ),
            owner="seer",
            fold=fold,
        )
    _analyses(made)
    return made.finish(
        encoders={"ear": {"kind": "clap"}},
        classifiers={"seer": {"rendering": "paper"}, "hearer": {"encoder": "ear"}, "listeners": {}, "absent": {}},
    )


def _analyses(made: Made) -> None:
    counted = {"scoring": "score", "control": "none", "subset": "all", "label": "", "predictions": 30, "clips": 30}
    made.write(
        "metrics",
        counted | {"metric": "top3", "value": 0.9},
        counted | {"metric": "trial_sd", "reason": "one trial"},
        counted | {"metric": "accuracy", "value": 0.8},
        owner="hearer",
    )
    random = np.random.default_rng(0)
    for encoder in ("ear", "eye"):
        made.write(
            "projections",
            *(
                {"method": method, "fold": c["fold"], "x": float(x), "y": float(y)}
                | {k: c[k] for k in ("clip", "label", "source")}
                for method in ("pca", "umap")
                for c, (x, y) in zip(made.clips, random.normal(size=(len(made.clips), 2)), strict=True)
            ),
            owner=encoder,
        )
        measures = ("silhouette", "knn_purity", "r_at_1")
        made.write(
            "embedding_quality", *({"measure": m, "value": 0.5, "method": "made up"} for m in measures), owner=encoder
        )
    made.write(
        "reliability",
        *(
            {"scoring": "score", "control": "none", "variant": v, "bin": b, "count": 3, "confidence": b / 10 - 0.05}
            | {"accuracy": b / 11}
            for v in ("raw", "temperature")
            for b in (3, 6, 8)
        ),
        owner="hearer",
    )
    tested = {"subset": "all", "holm_over": 2, "clips": 30, "sources": 15, "detectable": 0.2, "p_method": "exact"}
    made.write(
        "contrasts",
        {"position": 0, "classifier": "hearer", "scoring": "score", "control": "none", "against": "seer"}
        | {"against_scoring": "likelihood", "against_control": "none", "difference": 4 / 30, "low": -0.1, "high": 0.35}
        | {"p": 0.2, "p_holm": 0.4, "verdict": "cannot tell apart", "statement": "They cannot be told apart."}
        | tested,
        {"position": 1, "classifier": "seer", "scoring": "likelihood", "control": "none", "against": "seer"}
        | {"against_scoring": "likelihood", "against_control": "blank", "difference": 14 / 30, "low": 0.2, "high": 0.7}
        | {"p": 0.001, "p_holm": 0.002, "verdict": "better", "statement": "With its picture it is better."}
        | tested,
        {"position": 2, "classifier": "absent", "control": "none", "against": "chance", "against_control": "none"}
        | {
            "subset": "all",
            "verdict": "not compared",
            "statement": "a was not compared with b: absent was not run.",
            "reason": "absent was not run",
        },
    )
    made.write(
        "leakage",
        {"kind": "exact_duplicate", "severity": "clean", "finding": "0 groups among 30 clips", "looked_at": 30},
        {
            "kind": "training_data",
            "subject": "hearer",
            "severity": "suspect",
            "finding": "its card names <this> dataset",
        },
    )
    made.write(
        "published",
        {"classifier": "hearer", "scoring": "score", "source": "made2020", "system": "Hearer", "setting": "zero-shot"}
        | {"dataset": "made", "split": "all clips", "published": 0.9, "published_clips": 30, "measured": 0.8}
        | {"measured_low": 0.68, "measured_high": 0.9, "covered": True, "verdict": "90.0 % published, 80.0 % here"}
        | {"input": "audio", "family": "clap", "differs": "other clips"},
    )
    first = {"scoring": "score", "control": "none", "predictions": 30, "clips": 30, "folds": "1,2,3"}
    made.write(
        "history",
        {"classifier": "hearer", "entry": 1, "accuracy": 0.7, "correct": 21, **first},
        {"classifier": "hearer", "entry": 2, "accuracy": 0.8, "correct": 24, "current": True, **first}
        | {
            "changed": "revision a1 to b2",
            "difference": 0.1,
            "low": -0.02,
            "high": 0.2,
            "p": 0.25,
            "gained": 4,
            "lost": 1,
        },
        {"classifier": "seer", "entry": 1, "accuracy": 0.6, "correct": 18, "current": True, **first},
    )
