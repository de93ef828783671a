"""The classifiers on the page of a multi-label study, and their decisions about each clip.

Belongs here: reading predictions and responses, and writing them for the page's scripts. Does not belong here: events (`label_events`).
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vlm_audio_pipeline.reports.page.report_writer import ReportWriter
from vlm_audio_pipeline.reports.page.study_results import StudyResults

_FIRST_TRIAL = "control = 'none' AND trial = 0"
_PREDICTIONS = (
    "SELECT clip, any_value(outcome) AS outcome, list(label ORDER BY label) AS labels, list(truth ORDER BY label) AS truths, "
    "list(score ORDER BY label) AS scores, list(threshold ORDER BY label) AS thresholds, list(predicted ORDER BY label) AS predicted "
    f"FROM multi_label_predictions WHERE study = $1 AND classifier = $2 AND scoring = $3 AND {_FIRST_TRIAL} GROUP BY clip ORDER BY clip"
)
_RESPONSES = (
    f"SELECT clip, text, error FROM responses WHERE study = $1 AND classifier = $2 AND scoring = $3 AND {_FIRST_TRIAL}"
)


@dataclass(frozen=True)
class LabelRun:
    """One classifier and scoring, on the original input; of several trials, the first.

    Attributes:
        classifier: name of the classifier in the study.
        kind: kind of the classifier.
        scoring: how a class is decided.
        trials: number of passes over the clips.
        image_set: rendering that it or its encoder receives; None for audio.
    """

    classifier: str
    kind: str
    scoring: str
    trials: int
    image_set: str | None

    @property
    def key(self) -> tuple[str, str]:
        """Classifier and scoring."""
        return self.classifier, self.scoring

    def json_values(self, number: int) -> dict[str, Any]:
        """Return the run for the page's scripts, as the n-th run."""
        return {
            "classifier": self.classifier,
            "name": self.classifier,
            "kind": self.kind,
            "scoring": self.scoring,
            "control": "none",
            "trials": self.trials,
            "image_set": self.image_set,
            "data": f"decisions-{number}",
        }


def label_runs(results: StudyResults, ranked: Sequence[Mapping[str, Any]]) -> list[LabelRun]:
    """Return the runs of leaderboard rows, in their order."""
    stored = {r["rendering"] for r in results.query("SELECT DISTINCT rendering FROM spectrograms WHERE study = $1")}
    runs = []
    for row in ranked:
        spec = results.spec.get("classifiers", {}).get(row["classifier"], {})
        encoder = results.spec.get("encoders", {}).get(spec.get("encoder"), {})
        rendering = spec.get("rendering") or encoder.get("rendering")
        runs.append(
            LabelRun(
                row["classifier"],
                row["kind"],
                row["scoring"],
                row["trials"],
                rendering if rendering in stored else None,
            )
        )
    return runs


def write_decisions(
    results: StudyResults,
    runs: Sequence[LabelRun],
    classes: Sequence[str],
    selected: Collection[int] | None,
    writer: ReportWriter,
) -> None:
    """Write the decisions of each run about each clip, `decisions-<n>` for the n-th run.

    A row is [clip, outcome, decisions, text, error]; nulls at the end are left out. The outcome is null if the clip was answered. Decisions are
    [class, score, threshold, predicted, class, ...]; predicted is 1 or 0, or null without a decision. With more classes than
    `max_scores` of the report's format, a row has only the decisions about the classes of the clip, the predicted classes, and those with the highest scores.

    Args:
        results: the study.
        runs: the runs.
        classes: the classes; the page refers to them by their number here.
        selected: numbers of the clips; None: all.
        writer: the writer of the report.
    """
    numbers = {name: i for i, name in enumerate(classes)}
    for i, run in enumerate(runs):
        responses = {}
        if run.kind == "language_model":
            responses = {row["clip"]: (row["text"], row["error"]) for row in results.query(_RESPONSES, *run.key)}
        rows = _decision_rows(results, run, numbers, responses, writer.format.max_scores)
        writer.write_data(f"decisions-{i}", (row for row in rows if selected is None or row[0] in selected))


def _decision_rows(
    results: StudyResults,
    run: LabelRun,
    numbers: Mapping[str, int],
    responses: Mapping[str, tuple[str | None, str | None]],
    max_scores: int,
) -> Iterator[list[Any]]:
    for row in results.query(_PREDICTIONS, *run.key):
        clip = results.clip_number.get(row["clip"])
        if clip is None:
            continue
        lines = list(zip(row["labels"], row["truths"], row["scores"], row["thresholds"], row["predicted"], strict=True))
        lines.sort(key=lambda line: -(line[2] if line[2] is not None else -1.0))
        shown_lines = [line for n, line in enumerate(lines) if n < max_scores or line[1] or line[4]]
        decisions = [
            value
            for label, _, score, threshold, predicted in shown_lines
            if label in numbers
            for value in (
                numbers[label],
                _short(score),
                _short(threshold),
                None if predicted is None else int(predicted),
            )
        ]
        values = [
            clip,
            None if row["outcome"] == "answered" else row["outcome"],
            decisions,
            *responses.get(row["clip"], ()),
        ]
        while values[-1] is None:
            values.pop()
        yield values


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


def predicted_truths(results: StudyResults, runs: Sequence[LabelRun]) -> dict[tuple[str, str], list[bool | None]]:
    """Return (clip, class that it has) -> for each run whether it predicts the class; None without a decision."""
    run_numbers = {run.key: i for i, run in enumerate(runs)}
    decisions: dict[tuple[str, str], list[bool | None]] = {}
    for row in results.query(
        "SELECT clip, label, classifier, scoring, predicted FROM multi_label_predictions "
        f"WHERE study = $1 AND truth AND {_FIRST_TRIAL}"
    ):
        number = run_numbers.get((row["classifier"], row["scoring"]))
        if number is not None:
            decisions.setdefault((row["clip"], row["label"]), [None] * len(runs))[number] = row["predicted"]
    return decisions
