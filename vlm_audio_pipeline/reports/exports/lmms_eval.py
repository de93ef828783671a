"""Export the responses of language models in the format of lmms-eval's `--log_samples`.

Format: https://github.com/EvolvingLMMs-Lab/lmms-eval/blob/main/docs/getting-started/commands.md, which its option `--baseline` reads.
There is one folder for each model, with `<time>_results.json` and one `<time>_samples_<task>.jsonl` for each classifier,
scoring and control: each of these is a task. The export needs no package of that tool.
"""

import hashlib
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any

from vlm_audio_pipeline import __version__
from vlm_audio_pipeline.classifiers.language_models.endpoint.wire import encode_wav
from vlm_audio_pipeline.classifiers.language_models.messages import AudioPart, ImagePart
from vlm_audio_pipeline.contracts.escapes import strict_json
from vlm_audio_pipeline.contracts.hashing import digest
from vlm_audio_pipeline.reports.exports.export_folder import export_folder
from vlm_audio_pipeline.reports.exports.model_conversations import (
    AUDIO_RATE_HZ,
    Conversation,
    ModelRun,
    prompt_text,
    require_model_runs,
)
from vlm_audio_pipeline.reports.exports.study_measures import read_measures
from vlm_audio_pipeline.reports.media_types import SUFFIX
from vlm_audio_pipeline.reports.page.study_results import StudyResults

Json = dict[str, Any]
_README = """\
# Samples and results in the format of lmms-eval

The responses of the language models of the study `{study}`. `filtered_resps` is the predicted class; it is empty, and
`accuracy` is null, for a response without a class; `outcome` says why. Images and audio are in `media/`; paths in `input_media` are
relative to this folder.
"""


def export_lmms_eval(results: StudyResults, out: Path) -> list[Path]:
    """Write the samples and results of every language model.

    Args:
        results: the study.
        out: the folder: new, empty, or an earlier export.

    Returns:
        The files with samples and results.

    Raises:
        VlmAudioError: if the study has no responses, a partition file is damaged, or `out` has other content.
    """
    # The sort is stable: runs of one model keep their order.
    runs = sorted(require_model_runs(results), key=lambda run: run.spec.model)
    time = f"{datetime.now(UTC):%Y%m%d_%H%M%S}"
    names = []
    with export_folder(out, "lmms-eval", _README.format(study=results.study)) as folder:
        for model, group in groupby(runs, key=lambda run: run.spec.model):
            model_folder = folder / _file_name(model)
            model_folder.mkdir(exist_ok=True)
            tasks: dict[str, Json] = {}
            for run in group:
                samples = model_folder / f"{time}_samples_{_task(run)}.jsonl"
                tasks[_task(run)] = _write_samples(run, samples, folder / "media") | {"run": run}
                names.append(samples.relative_to(folder))
            result_file = model_folder / f"{time}_results.json"
            result_file.write_text(strict_json(_results(model, time, tasks), indent=2), encoding="utf-8")
            names.append(result_file.relative_to(folder))
    return [out / name for name in names]


def _task(run: ModelRun) -> str:
    return re.sub(r"\W", "_", f"{run.results.study}_{run.name}")


def _file_name(model: str) -> str:
    """Return the folder of a model, named as lmms-eval names it."""
    return re.sub(r"[\"<>:/|\\?*\[\]]+", "__", model).strip(".") or "model"


def _write_samples(run: ModelRun, path: Path, media: Path) -> Json:
    """Write one line for each request and return the number of samples and a hash of all documents."""
    number = {row["clip"]: i for i, row in enumerate(run.results.clips)}
    count, documents = 0, hashlib.sha256()
    with path.open("w", encoding="utf-8") as file:
        for conversation in run.conversations():
            sample = _sample(run, conversation, number, list(_media(conversation, media)))
            file.write(strict_json(sample) + "\n")
            documents.update(f"sample_{count}{sample['doc_hash']}".encode())
            count += 1
    return {"count": count, "hash": documents.hexdigest()}


def _media(conversation: Conversation, media: Path) -> Iterator[str]:
    """Write the images and audio of a request once each, and yield their paths relative to the export."""
    for message in conversation.messages:
        for part in message.parts:
            if isinstance(part, str):
                continue
            suffix = SUFFIX[part.media_type] if isinstance(part, ImagePart) else ".wav"
            file = media / f"{part.sha256[:32]}{suffix}"
            if not file.exists():
                media.mkdir(exist_ok=True)
                file.write_bytes(encode_wav(part, AUDIO_RATE_HZ) if isinstance(part, AudioPart) else part.data)
            yield f"{media.name}/{file.name}"


def _sample(run: ModelRun, conversation: Conversation, number: dict[str, int], media: list[str]) -> Json:
    row, response = conversation.prediction, conversation.response
    document = {"study": run.results.study, "clip": row["clip"], "trial": row["trial"], "label": row["label"]}
    is_answered = row["outcome"] == "answered"
    return {
        # A document is a clip in a trial, so that the same clip has the same number in every task.
        "doc_id": number[row["clip"]] + row["trial"] * len(number),
        "target": row["label"],
        "input": prompt_text(conversation.messages),
        "resps": _responses(run, response),
        "filtered_resps": [row["predicted"]] if is_answered else [],
        "token_counts": [
            {name: response[name] for name in ("input_tokens", "output_tokens", "reasoning_tokens")}
            if response["input_tokens"] is not None or response["output_tokens"] is not None
            else None
        ],
        "doc_hash": digest(strict_json(document).encode()),
        "input_media": media,
        "accuracy": float(row["correct"]) if is_answered else None,
        "outcome": row["outcome"],
        "error": response["error"],
        "reasoning": response["reasoning"],
        "clip": row["clip"],
        "fold": row["fold"],
        "source": row["source"],
        "trial": row["trial"],
        "model": response["model"],
        "revision": response["revision"],
        "usd": response["usd"],
        "seconds": response["seconds"],
        "note": conversation.note,
    }


def _responses(run: ModelRun, response: Json) -> list[Any]:
    """Return the raw response: the text, or for each class the log-probability and whether it is the highest."""
    if response["log_probabilities"]:
        values = dict(response["log_probabilities"])
        best = max(values.values())
        return [[[values[name], values[name] == best] for name in run.results.classes if name in values]]
    return [] if response["text"] is None else [response["text"]]


def _results(model: str, time: str, tasks: dict[str, Json]) -> Json:
    runs: dict[str, ModelRun] = {name: task["run"] for name, task in tasks.items()}
    results = {name: _task_results(name, tasks[name]["count"], run) for name, run in runs.items()}
    any_run = next(iter(runs.values()))
    return {
        "results": results,
        "configs": {name: _task_config(name, run) for name, run in runs.items()},
        "versions": dict.fromkeys(runs, __version__),
        "n-shot": {name: run.spec.shots for name, run in runs.items()},
        "higher_is_better": {name: {"accuracy": True} for name in runs},
        "n-samples": {
            name: {"original": len(run.results.clips) * len(run.spec.trials), "effective": tasks[name]["count"]}
            for name, run in runs.items()
        },
        "config": {"model": model, "model_args": "", "limit": any_run.results.record.get("limit")},
        "date": time,
        "task_hashes": {name: task["hash"] for name, task in tasks.items()},
        "model_source": "vlm-audio-pipeline",
        "model_name": model,
        "model_name_sanitized": _file_name(model),
        "total_evaluation_time_seconds": None,
    }


def _task_results(name: str, count: int, run: ModelRun) -> Json:
    """Return the measures with the filter `none`. An undefined one is left out; `undefined` has the reason."""
    measures = read_measures(run.results, run.classifier, run.scoring, run.control)
    values = {f"{measure},none": value for measure, value in measures.values.items()}
    return {"alias": name, "samples": count, **values, "accuracy_stderr,none": "N/A", "undefined": measures.undefined}


def _task_config(name: str, run: ModelRun) -> Json:
    spec = run.spec
    return {
        "task": name,
        "dataset_name": run.results.spec["dataset"]["kind"],
        "output_type": "generate_until" if run.scoring == "generation" else "multiple_choice",
        "num_fewshot": spec.shots,
        "repeats": 1,
        "score_key": "accuracy",
        "generation_kwargs": {
            "temperature": spec.temperature,
            "top_p": spec.top_p,
            "max_new_tokens": spec.max_tokens,
        },
        "metadata": {
            "study": run.results.study,
            "classifier": run.classifier,
            "scoring": run.scoring,
            "control": run.control,
            "classes": list(run.results.classes),
        },
    }
