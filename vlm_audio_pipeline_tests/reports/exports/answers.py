"""A small study with one language model whose responses are written by hand: one with each outcome.

Two folds of three clips (dog, rain, sea), tiny recordings and images, one example per class, two scorings.
"""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import soundfile

from vlm_audio_pipeline.classifiers.language_models.asking import response_key
from vlm_audio_pipeline.classifiers.language_models.questions import image_lookup
from vlm_audio_pipeline.contracts.hashing import digest
from vlm_audio_pipeline.datasets.audio import decode, samples_digest
from vlm_audio_pipeline.renderings.png import encode_rgb
from vlm_audio_pipeline.storage.catalogue import write_study_record
from vlm_audio_pipeline.storage.data_folder import DataFolder
from vlm_audio_pipeline.storage.schemas import TABLES
from vlm_audio_pipeline.studies.loading import parse_study
from vlm_audio_pipeline_tests.classifiers.language_models.first_trial import FIRST_TRIAL
from vlm_audio_pipeline_tests.storage.example_tables import SCORES, write

CLASSES = ("dog", "rain", "sea")
TIME = datetime(2026, 5, 1, 12, 0, 0, tzinfo=UTC)
RAW_TEXT = 'The <b>"dog"</b> barks, =1+1 \x1b[31m é 🐕'
"""Text that CSV, HTML and terminals would escape; no format here wants that."""
STUDY = """
name: s
dataset: {kind: csv, path: clips.csv, classes: [dog, rain, sea]}
renderings: {small: {preset: plain, width: 16, height: 16}}
encoders: {bands: {kind: scripted}}
classifiers:
  vlm:
    kind: language_model
    backend: scripted
    model: org/vlm-1
    rendering: small
    prompt: {text: "Which sound? {classes}"}
    shots: 1
    encoder: bands
    select: random
    max_tokens: 8
"""
RESPONSES = {
    "1-dog": {"outcome": "answered", "text": RAW_TEXT, "reasoning": "Short bursts <think>, so a dog.", "usd": 0.002},
    "1-rain": {"outcome": "truncated", "text": "It could be", "usd": 0.001},
    "1-sea": {"outcome": "error", "error": "HTTP 500 after 5 attempts"},
    "2-dog": {"outcome": "refused", "text": "I can not help", "error": "content filter"},
    "2-rain": {"outcome": "answered", "text": "Some noise."},
    "2-sea": {"outcome": "answered", "text": "rain"},
}
"""Clip -> its generated response."""
PREDICTIONS = {
    "1-dog": ("answered", "dog"),
    "1-rain": ("truncated", None),
    "1-sea": ("error", None),
    "2-dog": ("refused", None),
    "2-rain": ("unparseable", None),
    "2-sea": ("answered", "rain"),
}
"""Clip -> outcome and predicted class of the generated text."""


def write_answers(folder: Path, name: str = "s") -> DataFolder:
    """Write the study into a new data folder under a name, and return the data folder."""
    _write_recordings(folder)
    study = parse_study(STUDY.replace("name: s", f"name: {name}"), folder / f"{name}.yaml")
    spec, data_folder = study.classifiers["vlm"], DataFolder(folder / "data")
    data_folder.create()
    files: dict[str, list[Path]] = {}

    def add(table: str, rows: pa.Table, component: str | None, fold: int | None) -> None:
        rows = rows.set_column(rows.column_names.index("study"), "study", pa.array([name] * rows.num_rows))
        files.setdefault(table, []).append(write(data_folder, table, rows, component, fold))

    images = pa.concat_tables([_images(fold) for fold in (1, 2)])
    lookup = image_lookup({"none": images}, {"none": set(images["clip"].to_pylist())})
    for fold in (1, 2):
        clips = [f"{fold}-{label}" for label in CLASSES]
        examples = [{"trial": 0, "query": "", "clip": f"{3 - fold}-{c}", "example_label": c} for c in CLASSES]
        questions = {
            question.row_columns["clip"]: question
            for question in spec.question_builder(CLASSES).build(clips, examples, lookup)
        }
        keys = {clip: response_key(q.request, "generation", spec.model_identity()) for clip, q in questions.items()}
        add("clips", _clips(fold, folder), None, fold)
        add("spectrograms", _images(fold), "small", fold)
        add("examples", _examples(fold, examples), "vlm", fold)
        add("responses", _responses(fold, clips, keys), "vlm", fold)
        add("predictions", _predictions(fold, clips), "vlm", fold)
    add("metrics", _metrics(), "vlm", None)
    add("leaderboard", _leaderboard(), None, None)
    record = {
        "partition_files": {
            table: [path.relative_to(data_folder.root).as_posix() for path in paths] for table, paths in files.items()
        },
        "extra_columns": [],
        "file": None,
        "limit": None,
        "study": study.plain_values(),
    }
    write_study_record(data_folder, name, record)
    return data_folder


def tone(number: int) -> np.ndarray:
    """Return the samples of a recording: 800 samples, a multiple of 1/32768."""
    return np.round(8192 * np.sin(np.arange(800) * (number + 1) / 20)).astype(np.float32) / 32768


def png(number: int) -> bytes:
    return encode_rgb(np.full((16, 16, 3), (40 * number, 90, 200), np.uint8))


def _write_recordings(folder: Path) -> None:
    lines = ["path,label,fold,source"]
    for number, clip in enumerate(PREDICTIONS):
        fold, label = clip.split("-")
        soundfile.write(folder / f"{clip}.wav", tone(number), 8000, subtype="PCM_16")
        lines.append(f"{clip}.wav,{label},{fold},r{clip}")
    (folder / "clips.csv").write_text("\n".join(lines) + "\n")


def _clips(fold: int, folder: Path) -> pa.Table:
    names = [f"{fold}-{label}" for label in CLASSES]
    digests = [samples_digest(*decode(folder / f"{name}.wav")[:2]) for name in names]
    columns = {
        "clip": names,
        "label": list(CLASSES),
        "source": [f"r{name}" for name in names],
        "file": [f"{name}.wav" for name in names],
        "samples_sha256": digests,
        "duration_s": [0.1] * 3,
        "sample_rate_hz": [8000] * 3,
        "channels": [1] * 3,
        "peak": [0.25] * 3,
        "rms": [0.1] * 3,
        "extra": pa.array([[]] * 3, pa.map_(pa.string(), pa.string())),
    }
    return TABLES["clips"].conform(pa.table(columns), study="s", fold=fold)


def _images(fold: int) -> pa.Table:
    contents = [png(3 * fold + i) for i in range(3)]
    columns = {
        "clip": [f"{fold}-{label}" for label in CLASSES],
        "image": contents,
        "media_type": ["image/png"] * 3,
        "width": [16] * 3,
        "height": [16] * 3,
        "image_sha256": [digest(content) for content in contents],
    }
    return TABLES["spectrograms"].conform(pa.table(columns), study="s", rendering="small", fold=fold)


def _examples(fold: int, examples: list[dict]) -> pa.Table:
    rows = [
        {**row, "position": i, "label": row["example_label"], "source": f"r{row['clip']}", "content_sha256": "0"}
        for i, row in enumerate(examples)
    ]
    return TABLES["examples"].conform(pa.Table.from_pylist(rows), study="s", classifier="vlm", fold=fold)


def _responses(fold: int, clips: list[str], keys: dict[str, str]) -> pa.Table:
    common = {**FIRST_TRIAL, "model": "org/vlm-1"}
    counts = {"input_tokens": 100, "cached_tokens": 40, "output_tokens": 5, "reasoning_tokens": 3}
    generated = [
        {**common, **counts, "scoring": "generation", "clip": clip, "result_key": keys[clip], "seconds": 0.5}
        | {"revision": "vlm-1-0501", "answered_at": TIME}
        | RESPONSES[clip]
        for clip in clips
    ]
    generated[0]["result_key"] = keys[clips[0]] if fold == 1 else "0" * 64  # the key of another request
    scored = [
        {**common, "scoring": "likelihood", "clip": clip, "result_key": "0" * 64, "outcome": "answered"}
        | {"log_probabilities": [("dog", -0.5), ("rain", -1.5), ("sea", -2.5)], "revision": "vlm-1-0501"}
        | {"answered_at": TIME}
        for clip in clips
    ]
    schema = TABLES["responses"].arrow
    rows = generated + scored
    names = [n for n in schema.names if n not in ("study", "classifier", "fold")]
    table = pa.table({n: pa.array([row.get(n) for row in rows], schema.field(n).type) for n in names})
    return TABLES["responses"].conform(table, study="s", classifier="vlm", fold=fold)


def _predictions(fold: int, clips: list[str]) -> pa.Table:
    rows = []
    for clip in clips:
        label = clip.split("-")[1]
        outcome, predicted = PREDICTIONS[clip]
        common = {"kind": "language_model", "control": "none", "trial": 0, "clip": clip, "source": f"r{clip}"}
        common |= {"label": label, "model": "org/vlm-1", "revision": "vlm-1-0501", "prompt": "own", "shots": 1}
        rows.append(
            common
            | {"scoring": "generation", "outcome": outcome, "predicted": predicted, "correct": predicted == label}
            | {"text": RESPONSES[clip].get("text"), "usd": RESPONSES[clip].get("usd")}
        )
        rows.append(
            common
            | {"scoring": "likelihood", "outcome": "answered", "predicted": "dog", "correct": label == "dog"}
            | {"scores": [("dog", 0.7), ("rain", 0.2), ("sea", 0.1)], "confidence": 0.7}
        )
    table = pa.table(
        {
            name: pa.array([row.get(name) for row in rows], SCORES if name == "scores" else None)
            for name in dict.fromkeys(key for row in rows for key in row)
        }
    )
    return TABLES["predictions"].conform(table, study="s", classifier="vlm", fold=fold)


def _metrics() -> pa.Table:
    """Return the measures by hand: of five responses that did not fail, one is correct; of two with a class, one."""
    rows = [
        {"scoring": "generation", "metric": "accuracy", "value": 0.2, "reason": None},
        {"scoring": "generation", "metric": "accuracy_answered", "value": 0.5, "reason": None},
        {"scoring": "generation", "metric": "ece", "value": None, "reason": "no confidence"},
        {"scoring": "likelihood", "metric": "accuracy", "value": 2 / 6, "reason": None},
    ]
    rows = [{**r, "control": "none", "subset": "all", "label": "", "predictions": 6, "clips": 6} for r in rows]
    return TABLES["metrics"].conform(pa.Table.from_pylist(rows), study="s", classifier="vlm")


def _leaderboard() -> pa.Table:
    rows = [
        {"classifier": "vlm", "scoring": "likelihood", "accuracy": 2 / 6, "rank": 1, "kind": "language_model"},
        {"classifier": "vlm", "scoring": "generation", "accuracy": 0.2, "rank": 2, "kind": "language_model"},
        {"classifier": "chance", "scoring": "", "accuracy": 1 / 3, "rank": None, "kind": "baseline"},
    ]
    counts = dict.fromkeys(
        ("predictions", "correct", "answered", "clips", "dataset_clips", "rejected_clips", "trials"), 6
    )
    rows = [{**row, **counts, "control": "none", "folds": "1,2", "partial": False, "note": "a note"} for row in rows]
    return TABLES["leaderboard"].conform(pa.Table.from_pylist(rows), study="s")
