"""The header of a log of Inspect: the task, the model, the measures and the totals over all samples."""

from collections import Counter
from typing import Any

from vlm_audio_pipeline import __version__
from vlm_audio_pipeline.contracts.hashing import fingerprint
from vlm_audio_pipeline.reports.exports.model_conversations import ModelRun
from vlm_audio_pipeline.reports.exports.study_measures import read_measures

Json = dict[str, Any]


class LogTotals:
    """Counts over the samples of a log."""

    def __init__(self) -> None:
        self.samples, self.scored = 0, 0
        self.first, self.last = "", ""
        self.clips: set[str] = set()
        self.revisions: Counter[str] = Counter()
        self._usage: Counter[str] = Counter()
        self._usd: float | None = None

    def add(self, sample: Json) -> None:
        """Count a sample."""
        self.samples += 1
        self.scored += sample["scores"] is not None
        self.clips.add(sample["id"])
        if (time := sample.get("completed_at")) is not None:
            self.first = min(self.first or time, time)
            self.last = max(self.last, time)
        if (revision := sample["output"]["metadata"]["revision"]) is not None:
            self.revisions[revision] += 1
        usage = sample["output"].get("usage") or {}
        self._usage.update({k: v for k, v in usage.items() if k != "total_cost" and v is not None})
        if usage.get("total_cost") is not None:
            self._usd = (self._usd or 0.0) + usage["total_cost"]

    def usage(self) -> Json:
        """Return the tokens and the price of all samples."""
        return {**self._usage, **({} if self._usd is None else {"total_cost": self._usd})}


def log_id(run: ModelRun) -> str:
    """Return the id of the log of a run; the same in every export."""
    return fingerprint("inspect", run.results.study, run.name, length=22)


def generate_config(run: ModelRun) -> Json:
    """Return how text is generated."""
    spec = run.spec
    return {"temperature": spec.temperature, "top_p": spec.top_p, "max_tokens": spec.max_tokens, "seed": spec.seed}


def eval_spec(run: ModelRun, totals: LogTotals, created: str) -> Json:
    """Return the task, the dataset and the model of a log."""
    results, spec = run.results, run.spec
    return {
        "eval_id": log_id(run),
        "run_id": fingerprint("inspect", results.study, length=22),
        "created": created,
        "task": f"{results.study}_{run.name}",
        "task_id": log_id(run),
        "task_display_name": f"{results.study}: {run.name}",
        "task_args": spec.model_dump(mode="json", exclude_defaults=True),
        "dataset": {
            "name": results.card.title if results.card else results.spec["dataset"]["kind"],
            "samples": len(totals.clips),
            "shuffled": False,
        },
        "model": spec.model,
        "model_generate_config": generate_config(run) if run.scoring == "generation" else {},
        "config": {"epochs": len(spec.trials), "fail_on_error": False, "limit": results.record.get("limit")},
        "packages": {"vlm_audio_pipeline": __version__},
        "metadata": {
            "study": results.study,
            "classifier": run.classifier,
            "scoring": run.scoring,
            "control": run.control,
            "revisions": dict(totals.revisions),
        },
        "scorers": [{"name": run.scoring}],
    }


def eval_results(run: ModelRun, totals: LogTotals) -> Json:
    """Return the measures of a log, and the reasons of those that are undefined."""
    measures = read_measures(run.results, run.classifier, run.scoring, run.control)
    first = [name for name in ("accuracy", "accuracy_low", "accuracy_high") if name in measures.values]
    ordered = dict.fromkeys([*first, *sorted(measures.values)])  # Inspect lists logs with their first measure
    return {
        "total_samples": totals.samples,
        "completed_samples": totals.scored,
        "scores": [
            {
                "name": run.scoring,
                "scorer": run.scoring,
                "scored_samples": totals.scored,
                "unscored_samples": totals.samples - totals.scored,
                "metrics": {name: {"name": name, "value": measures.values[name]} for name in ordered},
            }
        ],
        "metadata": {"undefined": measures.undefined},
    }
