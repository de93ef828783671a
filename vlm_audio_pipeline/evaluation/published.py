"""Published results beside measured results: both numbers, every difference between the protocols, and a verdict.

"Reproduced" is claimed only after a test of equivalence with a margin that the study declares, and only without a
difference between the protocols.

Belongs here: with which published results a classifier is compared, and the comparison of the numbers. Does not belong here: the
published results (`published_results`), the comparison of protocols (`protocol_differences`), and statistics
(`measures.uncertainty`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vlm_audio_pipeline.classifiers.protocol import Protocol
from vlm_audio_pipeline.contracts.number_text import rounded_text
from vlm_audio_pipeline.evaluation.completeness import mixed_responses
from vlm_audio_pipeline.evaluation.equivalence import equivalent_to
from vlm_audio_pipeline.evaluation.leaderboard import NO_PREDICTIONS
from vlm_audio_pipeline.evaluation.protocol_differences import closest_results, compare_protocols, recipe_fields
from vlm_audio_pipeline.evaluation.published_results import (
    PublishedResult,
    check_reproduces,
    publications,
    published_results,
)
from vlm_audio_pipeline.evaluation.result_names import EXAMPLES_KNN
from vlm_audio_pipeline.evaluation.significance import ALPHA, p_text
from vlm_audio_pipeline.evaluation.tables import build_rows
from vlm_audio_pipeline.measures.predictions import accuracy_interval
from vlm_audio_pipeline.measures.uncertainty import THESE_EXAMPLES
from vlm_audio_pipeline.renderings.recipe import Recipe


@dataclass(frozen=True)
class Reproduction:
    """A classifier that repeats a published result.

    Attributes:
        reproduces: the published result, `publication/system`.
        protocol: how the study runs the classifier.
        margin: largest difference in accuracy that counts as reproduced, share of 1; None if the study declares none.
        renderings: the renderings that the classifier may use, by name.
        accepted_models: see `ExpectedRun`.
    """

    reproduces: str
    protocol: Protocol
    margin: float | None = None
    renderings: Mapping[str, Recipe] = field(default_factory=dict)
    accepted_models: tuple[str, ...] | None = None

    def recipe(self, name: str | None) -> Recipe | None:
        """Return a rendering of the study, or None if it has no such rendering."""
        return self.renderings.get(name or "")

    def stage_parameters(self) -> dict[str, Any]:
        """Return everything that the comparison depends on, as JSON values."""
        return {
            "reproduces": self.reproduces,
            "margin": self.margin,
            "protocol": asdict(self.protocol),
            "renderings": {name: recipe_fields(recipe) for name, recipe in self.renderings.items()},
            **({"accepted_models": sorted(self.accepted_models)} if self.accepted_models else {}),
        }


@dataclass(frozen=True)
class _MeasuredRun:
    """The predictions of one classifier under one scoring; both are None if it was not run."""

    protocol: Protocol
    scoring: str | None = None
    rows: pa.Table | None = None


@dataclass(frozen=True)
class StudyDataset:
    """The dataset of a study.

    Attributes:
        name: its name in publications, as in the column `dataset`; its kind if it has no such name.
        files: formats of its audio files, such as "ogg"; None if they are not known.
    """

    name: str
    files: str | None = None


def published_table(
    reproductions: Mapping[str, Reproduction], predictions: Mapping[str, pa.Table | None], dataset: StudyDataset
) -> pa.Table:
    """Compare published results with the classifiers that repeat them, and list the other results of the dataset.

    Where a system was published on several datasets, in several settings or with several renderings, a classifier is
    compared with the results on its dataset, in its setting and with the closest rendering, if there are any. A result over
    one fold is compared with the same fold here. Controls and baselines are left out.

    Args:
        reproductions: classifier -> what it repeats.
        predictions: classifier -> its `predictions` rows, or None.
        dataset: the dataset of the study.

    Returns:
        `published` rows without `study`; no rows if the study repeats nothing.

    Raises:
        BadStudy: for a `reproduces` that names no published result.
    """
    lines: list[dict[str, Any]] = []
    compared: set[PublishedResult] = set()
    for classifier, reproduction in reproductions.items():
        check_reproduces(classifier, reproduction.reproduces)
        for run in _runs_by_scoring(reproduction.protocol, predictions.get(classifier)):
            for result in _matching_results(reproduction, run.protocol, dataset.name):
                compared.add(result)
                lines.append({"classifier": classifier, **_compared_line(result, reproduction, run, dataset)})
    if reproductions:
        others = (r for r in published_results() if r not in compared and r.dataset == dataset.name)
        lines += [{"classifier": "", **_line(r), "verdict": "not repeated in this study"} for r in others]
    return build_rows("published", lines)


def _runs_by_scoring(protocol: Protocol, predictions: pa.Table | None) -> Iterator[_MeasuredRun]:
    """Yield the runs of a classifier, one for each scoring; a run without rows if there are none."""
    rows = None if predictions is None else predictions.filter(pc.equal(predictions["control"], "none"))
    scorings = set() if rows is None else set(rows["scoring"].to_pylist()) - {EXAMPLES_KNN}
    if rows is None or not scorings:
        yield _MeasuredRun(protocol)
        return
    for scoring in sorted(scorings):
        scoring_rows = rows.filter(pc.equal(rows["scoring"], scoring))
        yield _MeasuredRun(_recorded_protocol(protocol, scoring_rows), scoring, scoring_rows)


def _recorded_protocol(protocol: Protocol, rows: pa.Table) -> Protocol:
    """Add what only the predictions record: the image that annotators saw, and the snapshot that an endpoint used."""
    rendering, model, revision = (_first_value(rows, name) for name in ("rendering", "model", "revision"))
    if protocol.setting == "annotation" and rendering is not None:
        return replace(protocol, setting="reading", input="spectrogram image", rendering=rendering)
    is_snapshot = bool(model and revision and protocol.model == model and revision.startswith(f"{model}-"))
    return replace(protocol, model=revision) if is_snapshot else protocol


def _first_value(rows: pa.Table, column: str) -> Any:
    return next((value for value in rows[column].to_pylist() if value is not None), None)


def _matching_results(reproduction: Reproduction, protocol: Protocol, dataset: str) -> list[PublishedResult]:
    results = [r for r in published_results() if r.name == reproduction.reproduces]
    results = [r for r in results if r.dataset == dataset] or results
    results = [r for r in results if r.setting == protocol.setting] or results
    return closest_results(results, reproduction.recipe(protocol.rendering))


def _line(result: PublishedResult) -> dict[str, Any]:
    """Return the columns that describe a published result."""
    names = ("publication", "system", "family", "input", "setting", "variant", "dataset", "split")
    publication = publications()[result.publication]
    return {
        **{name: getattr(result, name) for name in names},
        "title": publication.title,
        "url": publication.url,
        "published": result.value,
        "published_clips": result.clips,
        "published_note": result.note,
        "scoring": "",
        "differences": "",
        "not_stated": "",
    }


def _compared_line(
    result: PublishedResult, reproduction: Reproduction, run: _MeasuredRun, dataset: StudyDataset
) -> dict[str, Any]:
    """Return the columns of a published result and of the run that repeats it."""
    comparison = compare_protocols(result, run.protocol, run.scoring, reproduction.recipe(run.protocol.rendering))
    comparison.compare("dataset", result.dataset, dataset.name)
    comparison.compare("audio files", result.files, dataset.files)
    line = {**_line(result), "scoring": run.scoring or "", "margin": reproduction.margin}
    all_rows = run.rows
    subset, rows = (None, None) if all_rows is None else _select_published_clips(result, all_rows)
    if all_rows is None or rows is None or not rows.num_rows:
        reason = NO_PREDICTIONS if rows is None else f"{subset} was not predicted"
        line |= {"reason": reason, "verdict": f"not measured: {reason}"}
    elif mixed := mixed_responses(all_rows, reproduction.accepted_models):
        line |= {"reason": mixed, "verdict": f"not comparable: {mixed}"}
    else:
        clips, fold_numbers = len(set(rows["clip"].to_pylist())), sorted(set(rows["fold"].to_pylist()))
        folds = ", ".join(map(str, fold_numbers))
        if result.split.endswith("-fold"):
            comparison.compare("folds", result.split, f"{len(fold_numbers)}-fold")
        if clips != result.clips:
            comparison.differences.append(
                f"clips: published {result.clips} ({result.split}), here {clips} (fold{'s' * (',' in folds)} {folds})"
            )
        line |= {"measured_over": subset, "measured_clips": clips}
        line |= _compare_numbers(result, rows, dataset.name, reproduction.margin, bool(comparison.differences))
    return {**line, "differences": "\n".join(comparison.differences), "not_stated": "\n".join(comparison.not_stated)}


def _select_published_clips(result: PublishedResult, rows: pa.Table) -> tuple[str, pa.Table]:
    """Select the rows that the published number covers: those of one fold, or all; return their name and the rows."""
    if result.split.startswith("fold "):
        return result.split, rows.filter(pc.equal(rows["fold"], int(result.split.removeprefix("fold "))))
    return "all", rows


def _compare_numbers(
    result: PublishedResult, rows: pa.Table, dataset: str, margin: float | None, protocols_differ: bool
) -> dict[str, Any]:
    """Return the measured accuracy with its interval, its difference from the published one, and the verdict."""
    completed = rows.filter(pc.not_equal(rows["outcome"], "error"))
    correct = np.array(completed["correct"].to_pylist(), float)
    sources = np.array(completed["source"].to_pylist(), str)
    interval = accuracy_interval(completed)
    if interval is None:
        return {"reason": f"all {rows.num_rows} requests failed", "verdict": "not measured: every request failed"}
    measured, published = float(correct.mean()), result.value
    line: dict[str, Any] = {"measured": measured, "measured_low": interval.low, "measured_high": interval.high}
    scope = ", for these examples" if interval.scope == THESE_EXAMPLES else ""
    numbers = f"{rounded_text(measured, 3)} (95 % interval {rounded_text(interval.low, 3)} to {rounded_text(interval.high, 3)}{scope})"
    if reason := _incomparable_reason(result, rows, dataset):
        return {
            **line,
            "reason": reason,
            "verdict": f"{numbers}, published {rounded_text(published, 3)}; no verdict: {reason}",
        }
    in_interval = interval.low <= published <= interval.high
    relation = "contains" if in_interval else "lies above" if interval.low > published else "lies below"
    line |= {"difference": measured - published, "published_in_interval": in_interval}
    verdict = f"{numbers}, {rounded_text(measured - published, 3, sign=True)} from the published {rounded_text(published, 3)}; the interval {relation} it"
    if margin is None:
        return {**line, "reason": "the study declares no margin, so 'reproduced' is not tested", "verdict": verdict}
    p = equivalent_to(correct, sources, published, margin)
    is_outside = interval.low > published + margin or interval.high < published - margin
    reproduced = "no" if is_outside else "undecided" if p >= ALPHA else "accuracy only" if protocols_differ else "yes"
    words = {
        "yes": f"reproduced within {margin:g}",
        "accuracy only": f"the accuracies agree within {margin:g}, but the protocols differ",
        "no": f"not reproduced: the accuracies differ by more than {margin:g}",
        "undecided": f"these clips cannot decide whether the accuracies agree within {margin:g}",
    }[reproduced]
    return {
        **line,
        "p_equivalence": p,
        "reproduced": reproduced,
        "verdict": f"{verdict}; {words} (equivalence test: {p_text(p)})",
    }


def _incomparable_reason(result: PublishedResult, rows: pa.Table, dataset: str) -> str | None:
    """Return why the two accuracies get no verdict, or None."""
    clips = len(set(rows["clip"].to_pylist()))
    errors = rows["outcome"].to_pylist().count("error")
    if result.dataset != dataset:
        return f"the published result is on {result.dataset}, this one on {dataset}"
    if clips < result.clips:
        return f"only {clips} of {result.clips} clips are predicted"
    return f"{errors} of {rows.num_rows} predictions are errors" if errors else None
