"""The ways in which classifiers were run, and every prediction of them, as the page reads them.

What belongs here: predictions on their way from parts to the page, a batch at a time. What does not: accuracies, which
the leaderboard holds.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from vlm_audio_pipeline.contracts.stages import Progress, silent
from vlm_audio_pipeline.reports.page.known import Known, batches
from vlm_audio_pipeline.reports.page.place import Place

OUTCOMES = ("unparseable", "refused", "error")
"""What may come instead of a label; on the page -1, -2 and -3."""
UNDECIDED = -4
"""On the page: the trials or readers of a clip do not agree on one label more than on any other."""
BASELINE = "examples_knn"
"""Scoring of rows that are no model's: a vote of the examples it was shown."""
SCORES = 12
"""Scores kept of a prediction: the highest, and that of the true class."""
FEWER_SCORES = ((40_000, 3), (120_000, 0))
"""More predictions than the first in a single file: only so many scores are kept, as the second says."""
BATCH = 512
_COLUMNS = ("scoring", "control", "trial", "clip", "label", "predicted", "outcome", "scores", "confidence", "text")


@dataclass
class Run:
    """One classifier, scoring and control.

    Attributes:
        classifier: its name in the study.
        kind: its kind; "baseline" for the k-NN over the examples that a few-shot model was shown.
        scoring: how a label was chosen.
        control: what was done to the query's picture.
        folds: folds covered.
        pictures: name of the set of pictures it was shown; None where it was shown none.
        hears: whether it is given the sound itself.
        row: its line of the leaderboard.
        votes: clip number -> class number, or below 0, that most of its trials or readers gave.
    """

    classifier: str
    kind: str
    scoring: str
    control: str
    folds: tuple[int, ...]
    pictures: str | None
    hears: bool
    row: dict[str, Any] = field(repr=False)
    votes: dict[int, int] = field(default_factory=dict, repr=False)

    @property
    def name(self) -> str:
        """What the page calls it."""
        return self.classifier if self.control == "none" else f"{self.classifier} @ {self.control}"

    def for_page(self, clips: int) -> dict[str, Any]:
        """Give it as plain values, votes as one number or null a clip."""
        told = asdict(self)
        del told["row"], told["folds"]
        keep = ("accuracy", "correct", "predictions", "partial", "clips", "trials")
        told |= {key: self.row.get(key) for key in keep}
        return told | {"name": self.name, "votes": [self.votes.get(i) for i in range(clips)]}


def runs_of(known: Known, board: list[dict[str, Any]]) -> list[Run]:
    """Give the runs that the leaderboard has a number for, best first, real pictures before controls."""
    encoders, classifiers = known.spec.get("encoders", {}), known.spec.get("classifiers", {})
    drawn = {r["rendering"] for r in known.ask("SELECT DISTINCT rendering FROM spectrograms WHERE study = $1")}
    runs = []
    for row in board:
        if row["accuracy"] is None or row["kind"] == "reference":
            continue
        spec = classifiers.get(row["classifier"], {})
        rendering = spec.get("rendering") or encoders.get(spec.get("encoder"), {}).get("rendering")
        if rendering is None:  # what the rows themselves say, for studies whose record does not
            said = known.ask(
                "SELECT any_value(rendering) AS r FROM predictions WHERE study = $1 AND classifier = $2",
                row["classifier"],
            )
            rendering = said[0]["r"]
        shown = rendering and (rendering if row["control"] == "none" else f"{rendering}__{row['control']}")
        baseline = row["scoring"] == BASELINE
        runs.append(
            Run(
                row["classifier"],
                "baseline" if baseline else row["kind"],
                row["scoring"],
                row["control"],
                tuple(int(f) for f in row["folds"].split(",") if f),
                shown if shown in drawn and not baseline else None,
                rendering is None,
                row,
            )
        )
    return sorted(runs, key=lambda run: run.control != "none")


def scores_kept(runs: list[Run], where: Place) -> int:
    """Give how many scores of each prediction the report has room for."""
    predictions = sum(run.row["predictions"] for run in runs)
    fewer = [kept for most, kept in FEWER_SCORES if where.kind == "single file" and predictions > most]
    return fewer[-1] if fewer else SCORES


def write_predictions(known: Known, runs: list[Run], where: Place, progress: Progress = silent) -> None:
    """Write every prediction, `predictions-<n>` for the n-th classifier, and fill in the runs' votes.

    A row is [run, clip, predicted, trial, confidence, scores, text, error]: clip and classes by number, outcomes
    without a label by `OUTCOMES`, scores as [class, score, class, score, ...] from the highest.
    """
    classifiers = list(dict.fromkeys(run.classifier for run in runs))
    most = scores_kept(runs, where)
    for n, classifier in enumerate(classifiers):
        own = {(run.scoring, run.control): i for i, run in enumerate(runs) if run.classifier == classifier}
        where.chunk(f"predictions-{n}", _rows(known, classifier, own, runs, most))
        progress(n + 1, len(classifiers), "predictions")


def _rows(
    known: Known, classifier: str, own: dict[tuple[str, str], int], runs: list[Run], most: int
) -> Iterator[list[Any]]:
    for fold in sorted({fold for i in own.values() for fold in runs[i].folds}):
        errors = _errors(known, classifier, fold)
        votes: dict[tuple[int, int], Counter[int]] = {}
        for rows in batches(known.layout.part("predictions", known.study, classifier, fold), _COLUMNS, BATCH):
            for row in rows:
                run = own.get((row["scoring"], row["control"]))
                if run is None or row["clip"] not in known.number:
                    continue
                clip = known.number[row["clip"]]
                given = (
                    known.class_number[row["predicted"]]
                    if row["outcome"] == "answered"
                    else -1 - OUTCOMES.index(row["outcome"])
                )
                votes.setdefault((run, clip), Counter())[given] += 1
                error = errors.get((row["scoring"], row["control"], row["trial"], row["clip"]))
                line = [
                    run,
                    clip,
                    given,
                    row["trial"],
                    _short(row["confidence"]),
                    _scores(known, row, most),
                    row["text"],
                    error,
                ]
                while line[-1] is None:
                    line.pop()
                yield line
        for (run, clip), counted in votes.items():
            (first, times), *others = counted.most_common(2)
            runs[run].votes[clip] = UNDECIDED if others and others[0][1] == times else first


def _errors(known: Known, classifier: str, fold: int) -> dict[tuple[str, str, int, str], str]:
    path = known.layout.part("answers", known.study, classifier, fold)
    key = ("scoring", "control", "trial", "clip")
    return {
        (row["scoring"], row["control"], row["trial"], row["clip"]): row["error"]
        for rows in batches(path, (*key, "error"), BATCH)
        for row in rows
        if row["error"]
    }


def _scores(known: Known, row: dict[str, Any], most: int) -> list[float | None] | None:
    if not row["scores"] or not most:
        return None
    best = sorted(row["scores"], key=lambda pair: -pair[1])
    kept = best[:most] + [pair for pair in best[most:] if pair[0] == row["label"]]
    return [value for label, score in kept for value in (known.class_number.get(label, -1), _short(score))]


def _short(value: float | None) -> float | None:
    """Three digits behind the point are more than a bar can show."""
    return None if value is None or value != value else round(value, 3)
