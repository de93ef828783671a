"""Export the responses of language models as logs of Inspect (https://inspect.aisi.org.uk/eval-logs.html).

A log is a file `*.eval`: a ZIP archive of JSON files. The export needs no package of that tool; `inspect view` and `inspect_ai.log.read_eval_log`
read it. There is one log for each language model, scoring and control. A trial is an epoch.
"""

import base64
import re
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any
from zipfile import ZIP_DEFLATED, ZipFile

from vlm_audio_pipeline.classifiers.language_models.endpoint.wire import encode_wav
from vlm_audio_pipeline.classifiers.language_models.messages import AudioPart, Message, MessagePart
from vlm_audio_pipeline.contracts.escapes import strict_json
from vlm_audio_pipeline.contracts.hashing import fingerprint
from vlm_audio_pipeline.reports.exports.export_folder import export_folder
from vlm_audio_pipeline.reports.exports.inspect_header import (
    LogTotals,
    eval_results,
    eval_spec,
    generate_config,
    log_id,
)
from vlm_audio_pipeline.reports.exports.model_conversations import (
    AUDIO_RATE_HZ,
    Conversation,
    ModelRun,
    prompt_text,
    require_model_runs,
)
from vlm_audio_pipeline.reports.page.study_results import StudyResults

Json = dict[str, Any]
_SUMMARY_LENGTH = 1024
"""Maximum length of a text in the list of samples, characters; Inspect shortens longer ones."""
_STOP_REASONS = {"answered": "stop", "truncated": "max_tokens", "refused": "content_filter", "error": "unknown"}
_SCORE_REASONS = {"unparseable": "invalid_response_format", "refused": "refusal", "truncated": "truncated"}

_README = """\
# Logs of Inspect

The responses of the language models of the study `{study}`. Show them with

    inspect view --log-dir .

An epoch is a trial. A response without a class has the score N and a reason. A request that failed has an error and no score.
"""


def export_inspect(results: StudyResults, out: Path) -> list[Path]:
    """Write one log for each language model, scoring and control.

    Args:
        results: the study.
        out: the folder: new, empty, or an earlier export.

    Returns:
        The logs.

    Raises:
        VlmAudioError: if the study has no responses, a partition file is damaged, or `out` has other content.
    """
    runs = require_model_runs(results)
    names = []
    with export_folder(out, "inspect", _README.format(study=results.study)) as folder:
        for run in runs:
            partial = folder / "partial"
            created = _write_log(run, partial)
            names.append(_log_name(run, created))
            partial.rename(folder / names[-1])
    return [out / name for name in names]


def _log_name(run: ModelRun, created: str) -> str:
    """Return the name of a log as Inspect writes it: time, task, id."""
    task = re.sub(r"[^\w.-]", "-", f"{run.results.study}-{run.name}")
    return f"{re.sub(r'[:+]', '-', created)}_{task.replace('_', '-')}_{log_id(run)}.eval"


def _write_log(run: ModelRun, path: Path) -> str:
    """Write the log of one run and return the time of its first response, ISO 8601."""
    totals = LogTotals()
    with ZipFile(path, "w", ZIP_DEFLATED, compresslevel=1) as log, TemporaryFile() as summaries:
        for conversation in run.conversations():
            sample = _sample(run, conversation)
            totals.add(sample)
            with log.open(f"samples/{sample['id']}_epoch_{sample['epoch']}.json", "w") as file:
                file.write(strict_json(sample).encode())
            summaries.write((",\n" if summaries.tell() else "[").encode())
            summaries.write(strict_json(_summary(sample, conversation)).encode())
        summaries.write(b"]" if summaries.tell() else b"[]")
        created = totals.first or datetime.now(UTC).isoformat(timespec="seconds")  # no request had a response
        spec = eval_spec(run, totals, created)
        plan = {"name": "plan", "steps": [{"solver": "generate", "params": {}}], "config": generate_config(run)}
        _write_json(log, "_journal/start.json", {"version": 2, "eval": spec, "plan": plan})
        _copy(summaries, log, "summaries.json")
        _write_json(
            log,
            "header.json",
            {
                "version": 2,
                "status": "success" if totals.samples else "error",
                "eval": spec,
                "plan": plan,
                "results": eval_results(run, totals),
                "stats": {
                    "started_at": totals.first,
                    "completed_at": totals.last,
                    "model_usage": {run.spec.model: totals.usage()},
                },
            },
        )
    return created


def _write_json(log: ZipFile, name: str, value: Json) -> None:
    log.writestr(name, strict_json(value, indent=1))


def _copy(source: IO[bytes], log: ZipFile, name: str) -> None:
    source.seek(0)
    with log.open(name, "w") as file:
        while block := source.read(1 << 20):
            file.write(block)


def _sample(run: ModelRun, conversation: Conversation) -> Json:
    row, response = conversation.prediction, conversation.response
    messages = [_message(message) for message in conversation.messages]
    output = _output(run, response)
    answers = [choice["message"] for choice in output["choices"]]
    usage = output.get("usage")
    sample: Json = {
        "id": row["clip"],
        "epoch": row["trial"] + 1,
        "input": messages,
        "target": row["label"],
        "messages": [*messages, *answers],
        "output": output,
        "scores": None if row["outcome"] == "error" else {run.scoring: _score(row, response)},
        "metadata": {
            "fold": row["fold"],
            "source": row["source"],
            "outcome": row["outcome"],
            **{k: response[k] for k in ("draw", "class_order", "wording", "repeat")},
            **({} if row["shown_label"] is None else {"shown_label": row["shown_label"]}),
            **({} if conversation.note is None else {"note": conversation.note}),
        },
        "model_usage": {run.spec.model: usage} if usage else {},
        "uuid": fingerprint(log_id(run), row["clip"], row["trial"], length=22),
    }
    if response["answered_at"] is not None:
        sample["completed_at"] = response["answered_at"].isoformat()
    if response["seconds"] is not None:
        sample["total_time"] = response["seconds"]
    if row["outcome"] == "error":
        text = response["error"] or "the request failed"
        sample["error"] = {"message": text, "traceback": text, "traceback_ansi": text}
    return sample


def _output(run: ModelRun, response: Json) -> Json:
    """Return the response: its reasoning and its text as separate parts, tokens and price, and the model that answered."""
    content: list[Json] = []
    if response["reasoning"] is not None:
        content.append({"type": "reasoning", "reasoning": response["reasoning"]})
    if response["text"] is not None:
        content.append({"type": "text", "text": response["text"]})
    has_answer = response["outcome"] != "error" and (content or run.scoring == "generation")
    # A local model has a hash of its weights as revision; an endpoint has the id that it returned.
    model = run.spec.model if run.spec.weights is not None else response["revision"] or run.spec.model
    message = {"role": "assistant", "content": content, "source": "generate", "model": model}
    choice = {"message": message, "stop_reason": _STOP_REASONS[response["outcome"]]}
    output: Json = {
        "model": model,
        "choices": [choice] if has_answer else [],
        "completion": response["text"] or "",
        "metadata": {"revision": response["revision"], "result_key": response["result_key"]},
    }
    if (usage := _usage(response)) is not None:
        output["usage"] = usage
    if response["seconds"] is not None:
        output["time"] = response["seconds"]
    if response["error"] is not None:
        output["error"] = response["error"]
    return output


def _usage(response: Json) -> Json | None:
    """Return the usage of a response; Inspect counts tokens from a cache apart from other input tokens."""
    tokens_in, tokens_out = response["input_tokens"], response["output_tokens"]
    if tokens_in is None and tokens_out is None and response["usd"] is None:
        return None
    cached = response["cached_tokens"]
    return {
        "input_tokens": max(0, (tokens_in or 0) - (cached or 0)),
        "output_tokens": tokens_out or 0,
        "total_tokens": (tokens_in or 0) + (tokens_out or 0),
        **({} if cached is None else {"input_tokens_cache_read": cached}),
        **({} if response["reasoning_tokens"] is None else {"reasoning_tokens": response["reasoning_tokens"]}),
        **({} if response["usd"] is None else {"total_cost": response["usd"]}),
    }


def _score(row: Json, response: Json) -> Json:
    """Return the score: C or I for a class, N and a reason for a response without one."""
    details = {
        "scores": dict(row["scores"]) if row["scores"] else None,
        "confidence": row["confidence"],
        "log_probabilities": dict(response["log_probabilities"]) if response["log_probabilities"] else None,
        "label_before_calibration": row["label_before_calibration"],
    }
    score: Json = {
        "value": ("C" if row["correct"] else "I") if row["outcome"] == "answered" else "N",
        "metadata": {name: value for name, value in details.items() if value is not None},
    }
    if row["predicted"] is not None:
        score["answer"] = row["predicted"]
    if row["outcome"] != "answered":
        score["reason"] = _SCORE_REASONS.get(row["outcome"], row["outcome"])
        score["explanation"] = f"the outcome is {row['outcome']}: the response names no class, and none is guessed"
    return score


def _message(message: Message) -> Json:
    if all(isinstance(part, str) for part in message.parts):
        return {"role": message.role, "content": "".join(str(part) for part in message.parts), **_source(message)}
    return {"role": message.role, "content": [_content(part) for part in message.parts], **_source(message)}


def _source(message: Message) -> Json:
    return {"source": "input"} if message.role != "system" else {}


def _content(part: MessagePart) -> Json:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    if isinstance(part, AudioPart):
        data = base64.b64encode(encode_wav(part, AUDIO_RATE_HZ)).decode()
        return {"type": "audio", "audio": f"data:audio/wav;base64,{data}", "format": "wav"}
    return {"type": "image", "image": f"data:{part.media_type};base64,{base64.b64encode(part.data).decode()}"}


def _summary(sample: Json, conversation: Conversation) -> Json:
    """Return the entry of a sample in the list of samples, without images and long texts."""
    copied_names = ("id", "epoch", "target", "metadata", "model_usage", "uuid", "completed_at", "total_time")
    scores = sample["scores"] and {
        name: {k: v for k, v in score.items() if k != "metadata"} for name, score in sample["scores"].items()
    }
    return {
        **{name: sample[name] for name in copied_names if name in sample},
        "input": prompt_text(conversation.messages)[:_SUMMARY_LENGTH],
        "scores": scores,
        "completed": True,
        "message_count": len(sample["messages"]),
        **({"error": sample["error"]["message"][:_SUMMARY_LENGTH]} if "error" in sample else {}),
    }
