"""The runs on the page (classifier, scoring, control) with their predictions.

Predictions are read and written in batches. Accuracies come from the leaderboard.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from vlm_audio_pipeline.contracts.control_names import controlled_name
from vlm_audio_pipeline.contracts.progress import Progress, no_progress
from vlm_audio_pipeline.evaluation.result_names import EXAMPLES_KNN, result_name
from vlm_audio_pipeline.reports.page.report_writer import ReportWriter
from vlm_audio_pipeline.reports.page.requests import BATCH_SIZE, RequestReader, ResponseDetails
from vlm_audio_pipeline.reports.page.study_results import StudyResults, read_batches

OUTCOMES = ("unparseable", "truncated", "refused", "error")
"""Outcomes without a label; the page writes them as -1, -2 and so on, so that no class is taken for an outcome."""
NO_MAJORITY = -1 - len(OUTCOMES)
"""Number instead of a class: no label of the clip has more votes than each other label."""
_COLUMNS = ("scoring", "control", "trial", "clip", "label", "predicted", "outcome", "scores", "confidence", "text")
_NO_RESPONSE = ResponseDetails(None, None, None)
_LEADERBOARD_FIELDS = ("accuracy", "correct", "predictions", "partial", "clips", "trials")


@dataclass
class PageRun:
    """One classifier, scoring and control.

    Attributes:
        classifier: name of the classifier in the study.
        kind: kind of the classifier; "baseline" for the k-NN vote over few-shot examples.
        scoring: how a label was chosen.
        control: the control that replaced the query image; "none": the original image.
        folds: folds with predictions.
        image_set: name of the image set that it receives; None without images.
        takes_audio: whether it receives audio.
        row: its row of the leaderboard.
        votes: clip number -> most frequent class number of its trials or annotators; below 0: `OUTCOMES`, `NO_MAJORITY`.
        place: on a page that compares results, the name of the results that it belongs to; otherwise empty.
    """

    classifier: str
    kind: str
    scoring: str
    control: str
    folds: tuple[int, ...]
    image_set: str | None
    takes_audio: bool
    row: dict[str, Any] = field(repr=False)
    votes: dict[int, int] = field(default_factory=dict, repr=False)
    place: str = ""

    @property
    def name(self) -> str:
        """Name of the result for people, with the control unless it is "none", and the place."""
        name = result_name(self.classifier, self.scoring, self.control)
        return f"{name} in {self.place}" if self.place else name

    @property
    def key(self) -> tuple[str, str, str]:
        """Classifier, scoring and control."""
        return self.classifier, self.scoring, self.control

    def json_values(self, clips: int) -> dict[str, Any]:
        """Return the run as JSON values; `votes` becomes a list with one number or None for each clip."""
        fields = asdict(self)
        del fields["row"], fields["folds"]
        fields |= {key: self.row.get(key) for key in _LEADERBOARD_FIELDS}
        return fields | {"name": self.name, "votes": [self.votes.get(i) for i in range(clips)]}


def page_runs(results: StudyResults, leaderboard: Sequence[dict[str, Any]]) -> list[PageRun]:
    """Return the runs that have an accuracy, in the order of the leaderboard, controls last."""
    stored = {r["rendering"] for r in results.query("SELECT DISTINCT rendering FROM spectrograms WHERE study = $1")}
    runs = []
    for row in leaderboard:
        if row["accuracy"] is None or row["kind"] == "reference":
            continue
        rendering = _rendering(results, row["classifier"])
        images = rendering and (rendering if row["control"] == "none" else controlled_name(rendering, row["control"]))
        is_baseline = row["scoring"] == EXAMPLES_KNN
        runs.append(
            PageRun(
                classifier=row["classifier"],
                kind="baseline" if is_baseline else row["kind"],
                scoring=row["scoring"],
                control=row["control"],
                folds=tuple(int(f) for f in row["folds"].split(",") if f),
                image_set=images if images in stored and not is_baseline else None,
                takes_audio=rendering is None,
                row=row,
            )
        )
    return sorted(runs, key=lambda run: run.control != "none")


def _rendering(results: StudyResults, classifier: str) -> str | None:
    """Return the rendering of a classifier or its encoder: from the study record, else from its predictions."""
    spec = results.spec.get("classifiers", {}).get(classifier, {})
    encoder = results.spec.get("encoders", {}).get(spec.get("encoder"), {})
    rendering: str | None = spec.get("rendering") or encoder.get("rendering")
    if rendering:
        return rendering
    (row,) = results.query(
        "SELECT any_value(rendering) AS rendering FROM predictions WHERE study = $1 AND classifier = $2", classifier
    )
    stored: str | None = row["rendering"]
    return stored


def write_predictions(
    results: StudyResults, runs: Sequence[PageRun], writer: ReportWriter, progress: Progress = no_progress
) -> RequestReader:
    """Write all predictions, `predictions-<n>` for the n-th classifier, and fill in the votes of the runs.

    A row is [run, clip, predicted, trial, confidence, scores, text, error, reasoning, request]. Clips, classes and requests are
    numbers, outcomes without a label are numbers below 0 (`OUTCOMES`). Scores are [class, score, class, score, ...], highest
    first. Nulls at the end of a row are left out.

    Returns:
        The reader that read the requests of the responses.
    """
    classifiers = list(dict.fromkeys(run.classifier for run in runs))
    reader = RequestReader(results, writer.format.max_reasoning_chars)
    for n, classifier in enumerate(classifiers):
        run_numbers = {(run.scoring, run.control): i for i, run in enumerate(runs) if run.classifier == classifier}
        rows = _prediction_rows(results, classifier, run_numbers, runs, reader, writer.format.max_scores)
        writer.write_data(f"predictions-{n}", rows)
        progress(n + 1, len(classifiers), "predictions")
    return reader


def _prediction_rows(
    results: StudyResults,
    classifier: str,
    run_numbers: Mapping[tuple[str, str], int],
    runs: Sequence[PageRun],
    reader: RequestReader,
    max_scores: int,
) -> Iterator[list[Any]]:
    for fold in sorted({fold for i in run_numbers.values() for fold in runs[i].folds}):
        responses = reader.read(classifier, fold)
        votes: dict[tuple[int, int], Counter[int]] = {}
        path = results.data_folder.partition_file("predictions", results.study, classifier, fold)
        for row in (row for rows in read_batches(path, _COLUMNS, BATCH_SIZE) for row in rows):
            run = run_numbers.get((row["scoring"], row["control"]))
            if run is None or row["clip"] not in results.clip_number:
                continue
            clip = results.clip_number[row["clip"]]
            predicted = (
                results.class_number[row["predicted"]]
                if row["outcome"] == "answered"
                else -1 - OUTCOMES.index(row["outcome"])
            )
            votes.setdefault((run, clip), Counter())[predicted] += 1
            response = responses.get((row["scoring"], row["control"], row["trial"], row["clip"]), _NO_RESPONSE)
            values = [
                run,
                clip,
                predicted,
                row["trial"],
                _round(row["confidence"]),
                _highest_scores(results, row, max_scores),
                row["text"],
                response.error or None,
                response.reasoning,
                response.request,
            ]
            while values[-1] is None:
                values.pop()
            yield values
        for (run, clip), counts in votes.items():
            (label, count), *others = counts.most_common(2)
            runs[run].votes[clip] = NO_MAJORITY if others and others[0][1] == count else label


def _highest_scores(results: StudyResults, row: dict[str, Any], max_scores: int) -> list[float | None] | None:
    if not row["scores"]:
        return None
    ordered = sorted(row["scores"], key=lambda pair: -pair[1])
    selected = ordered[:max_scores] + [pair for pair in ordered[max_scores:] if pair[0] == row["label"]]
    return [value for label, score in selected for value in (results.class_number.get(label, -1), _round(score))]


def _round(value: float | None) -> float | None:
    return None if value is None or value != value else round(value, 3)
