"""Export a study as a folder that Hugging Face's `datasets.load_dataset` reads: audio, images, labels and predictions.

The folder has two configurations of parquet files, one split for each fold: `clips` (audio, one image for each rendering, the
label) and `predictions` (each prediction, with the prompt and the response). The footer of a file has the features as
`datasets` writes them (https://huggingface.co/docs/datasets/about_dataset_features). The export needs no package of that tool.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from vlm_audio_pipeline.contracts.errors import BadClips
from vlm_audio_pipeline.contracts.escapes import escape_markdown, strict_json
from vlm_audio_pipeline.reports.exports.export_folder import export_folder
from vlm_audio_pipeline.reports.exports.model_conversations import ModelRun, messages_json, read_model_runs
from vlm_audio_pipeline.reports.exports.recorded_audio import audio_file
from vlm_audio_pipeline.reports.exports.stored_images import StoredImages
from vlm_audio_pipeline.reports.media_types import SUFFIX
from vlm_audio_pipeline.reports.page.study_results import StudyResults, read_batches
from vlm_audio_pipeline.storage.schemas import TABLES

Row = dict[str, Any]
_CLIPS_PER_ROW_GROUP = 16
_PREDICTIONS_PER_ROW_GROUP = 256
_FILE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
_TYPES = {"string": pa.string(), "int64": pa.int64(), "float64": pa.float64(), "bool": pa.bool_()}

_RESPONSE_COLUMNS = {
    **dict.fromkeys(("reasoning", "error"), "string"),
    **dict.fromkeys(("input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens"), "int64"),
}
_PREDICTION_COLUMNS = {
    **dict.fromkeys(("clip", "source", "classifier", "kind", "scoring", "control"), "string"),
    **dict.fromkeys(("fold", "trial"), "int64"),
    "label": "class",
    "predicted": "class",
    "outcome": "string",
    "correct": "bool",
    "confidence": "float64",
    "scores": "scores",
    "text": "string",
    **_RESPONSE_COLUMNS,
    **dict.fromkeys(
        ("messages", "messages_note", "annotator", "model", "revision", "encoder", "rendering", "prompt"), "string"
    ),
    "shots": "int64",
    **dict.fromkeys(("seconds", "usd"), "float64"),
    "answered_at": "string",
}
"""Column -> type of the configuration `predictions`."""
_TABLE_COLUMNS = tuple(name for name in TABLES["predictions"].arrow.names if name in _PREDICTION_COLUMNS)


def export_huggingface(results: StudyResults, out: Path) -> list[Path]:
    """Write the dataset.

    `predicted` and `correct` are null for a prediction without a class. Audio is null if the recording is not on this machine
    or has changed; `audio_note` has the reason.

    Args:
        results: the study.
        out: the folder: new, empty, or an earlier export.

    Returns:
        The parquet files.

    Raises:
        VlmAudioError: if a partition file is damaged, or `out` has other content.
    """
    folds = sorted({row["fold"] for row in results.clips})
    images = {name: StoredImages(results, name) for name in results.spec["renderings"]}
    images = {name: stored for name, stored in images.items() if stored}
    clip_columns = _clip_columns(images)
    runs = read_model_runs(results)
    files = []
    with export_folder(out, "huggingface", _readme(results, folds)) as folder:
        for fold in folds:
            path = folder / "clips" / f"fold_{fold}.parquet"
            rows = _clip_rows([row for row in results.clips if row["fold"] == fold], results, images)
            _write(path, clip_columns, results.classes, rows, _CLIPS_PER_ROW_GROUP)
            files.append(path.relative_to(folder))
            path = folder / "predictions" / f"fold_{fold}.parquet"
            rows = _prediction_rows(results, runs, fold)
            _write(path, _PREDICTION_COLUMNS, results.classes, rows, _PREDICTIONS_PER_ROW_GROUP)
            files.append(path.relative_to(folder))
    return [out / file for file in files]


def _clip_columns(images: Mapping[str, StoredImages]) -> dict[str, str]:
    return {
        "clip": "string",
        "audio": "audio",
        **{f"image_{name}": "image" for name in images},
        "label": "class",
        "fold": "int64",
        **dict.fromkeys(("source", "file"), "string"),
        **dict.fromkeys(("start_s", "end_s", "duration_s"), "float64"),
        "sample_rate_hz": "int64",
        "audio_note": "string",
    }


def _clip_rows(clips: list[Row], results: StudyResults, images: Mapping[str, StoredImages]) -> Iterator[Row]:
    for clip in clips:
        row = {**clip, "audio": None, "audio_note": None}
        if results.dataset is None:
            row["audio_note"] = results.dataset_missing_reason
        else:
            try:
                audio = audio_file(results.dataset, clip)
                row["audio"] = {"bytes": audio.content, "path": f"{clip['clip']}{audio.suffix}"}
            except BadClips as error:
                row["audio_note"] = str(error)
        for name, stored in images.items():
            if clip["clip"] in stored:
                image = stored.image(clip["clip"])
                row[f"image_{name}"] = {"bytes": image.data, "path": f"{clip['clip']}{SUFFIX[image.media_type]}"}
        yield row


def _prediction_rows(results: StudyResults, runs: list[ModelRun], fold: int) -> Iterator[Row]:
    """Yield the predictions of all classifiers in a fold; those of language models with their request and response."""
    for run in runs:
        yield from _answers(run, fold)
    runs_with_responses = {
        (run.classifier, run.scoring, run.control)
        for run in runs
        if results.data_folder.partition_file("responses", results.study, run.classifier, fold).is_file()
    }
    for name in results.spec["classifiers"]:
        path = results.data_folder.partition_file("predictions", results.study, name, fold)
        for batch in read_batches(path, _TABLE_COLUMNS, _PREDICTIONS_PER_ROW_GROUP):
            for row in batch:
                if (name, row["scoring"], row["control"]) not in runs_with_responses:
                    yield _plain_row(row)


def _answers(run: ModelRun, fold: int) -> Iterator[Row]:
    for conversation in run.conversations(fold):
        yield {
            **_plain_row({name: conversation.prediction[name] for name in _TABLE_COLUMNS}),
            **{name: conversation.response[name] for name in _RESPONSE_COLUMNS},
            "messages": strict_json(messages_json(conversation.messages)) if conversation.messages else None,
            "messages_note": conversation.note,
        }


def _plain_row(row: Row) -> Row:
    time = row["answered_at"]
    return {
        **row,
        "correct": row["correct"] if row["outcome"] == "answered" else None,
        "scores": None if row["scores"] is None else dict(row["scores"]),
        "answered_at": None if time is None else time.isoformat(),
    }


def _write(path: Path, columns: Mapping[str, str], classes: tuple[str, ...], rows: Iterable[Row], size: int) -> None:
    """Write rows with the features of `datasets` in the footer, `size` rows at a time."""
    number = {label: i for i, label in enumerate(classes)}
    schema = pa.schema([(name, _arrow_type(kind, classes)) for name, kind in columns.items()])
    features = {"info": {"features": {name: _feature(kind, classes) for name, kind in columns.items()}}}
    schema = schema.with_metadata({"huggingface": strict_json(features)})
    labels = [name for name, kind in columns.items() if kind == "class"]
    path.parent.mkdir(exist_ok=True)
    remaining = iter(rows)
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        while batch := list(islice(remaining, size)):
            coded_rows = ({**row, **{k: None if row[k] is None else number[row[k]] for k in labels}} for row in batch)
            writer.write_table(pa.Table.from_pylist(list(coded_rows), schema))


def _arrow_type(kind: str, classes: tuple[str, ...]) -> pa.DataType:
    if kind in ("audio", "image"):
        return _FILE
    if kind == "scores":
        return pa.struct([(name, pa.float64()) for name in classes])
    return pa.int64() if kind == "class" else _TYPES[kind]


def _feature(kind: str, classes: tuple[str, ...]) -> Row:
    """Return a feature as `datasets.Features.to_dict` writes it."""
    match kind:
        case "audio" | "image":
            return {"_type": kind.capitalize()}
        case "class":
            return {"names": list(classes), "_type": "ClassLabel"}
        case "scores":
            return {name: _feature("float64", classes) for name in classes}
        case _:
            return {"dtype": kind, "_type": "Value"}


def _readme(results: StudyResults, folds: list[int]) -> str:
    """Return the dataset card: the front matter names the files of each configuration and split."""
    front_matter = {
        "configs": [
            {
                "config_name": name,
                **({"default": True} if name == "clips" else {}),
                "data_files": [{"split": f"fold_{fold}", "path": f"{name}/fold_{fold}.parquet"} for fold in folds],
            }
            for name in ("clips", "predictions")
        ],
        "pretty_name": f"{results.study} (vlm-audio-pipeline)",
    }
    card = results.card
    licence = escape_markdown(card.licence) if card else "unknown: the recordings were not on this machine"
    title = escape_markdown(card.title) if card else escape_markdown(results.spec["dataset"]["kind"])
    return f"""\
---
{yaml.safe_dump(front_matter, sort_keys=False, allow_unicode=True)}---

# {escape_markdown(results.study)}

Clips and predictions of a study. Recordings: {title}. Licence of the recordings: {licence}. Images are exactly as models
received them.

    from datasets import load_dataset
    clips = load_dataset("THIS FOLDER", "clips", split="fold_1")
    predictions = load_dataset("THIS FOLDER", "predictions", split="fold_1")

`label` and `predicted` are class labels. `predicted` and `correct` are null for a prediction without a class; `outcome` has the
reason. `text` is the response without its reasoning, verbatim; `messages` is the request (JSON).
"""
