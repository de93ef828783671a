"""The table of a study's contrasts: every comparison it declares, with its test and its verdict in words.

Belongs here: which predictions a side has, Holm's correction and the wording. Does not belong here: the numbers of one
comparison (`comparison`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vlm_audio_pipeline.datasets.base import Clip
from vlm_audio_pipeline.evaluation.comparison import Comparison, Side, compare
from vlm_audio_pipeline.evaluation.contrasts import Contrast, Operand, default_scoring
from vlm_audio_pipeline.evaluation.references import REFERENCES
from vlm_audio_pipeline.evaluation.significance import ALPHA, holm
from vlm_audio_pipeline.evaluation.tables import rows_of
from vlm_audio_pipeline.measures.predictions import ALL_CLIPS, WITHOUT_TUNING


class _DeclaredComparison(NamedTuple):
    """One comparison, as the study file declares it."""

    first: str
    second: str
    scoring: str | None
    folds: str


@dataclass(frozen=True)
class _ResolvedSide:
    """The scoring and clips of a side, or the reason why there are none."""

    scoring: str | None = None
    side: Side | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Evidence:
    """The data that contrasts are computed from.

    Attributes:
        predictions: `predictions` rows by classifier; one without rows is absent.
        not_run_reason: returns why a classifier has no predictions.
        clips: usable clips of the dataset, over all folds.
        classes: number of labels of the study.
        tuning_folds: folds that choices were tuned on.
    """

    predictions: Mapping[str, pa.Table]
    not_run_reason: Callable[[str], str]
    clips: Sequence[Clip]
    classes: int
    tuning_folds: tuple[int, ...]

    def resolve(self, text: str, declared: _DeclaredComparison) -> _ResolvedSide:
        """Return the side that the text of an operand names."""
        operand = Operand.parse(text)
        if operand.name in REFERENCES:
            resolved = _ResolvedSide(side=Side.reference(operand.name, self.clips, self.classes))
        elif operand.name in self.predictions:
            resolved = _select_rows(operand, declared.scoring, self.predictions[operand.name])
        else:
            resolved = _ResolvedSide(reason=f"{operand.name} was not run: {self.not_run_reason(operand.name)}")
        if resolved.side is None or declared.folds == "all":
            return resolved
        outside = ~np.isin(resolved.side.folds, self.tuning_folds)
        return _ResolvedSide(resolved.scoring, resolved.side.where(outside))


def _select_rows(operand: Operand, declared_scoring: str | None, predictions: pa.Table) -> _ResolvedSide:
    """Select the rows of one control and one scoring."""
    rows = predictions.filter(pc.equal(predictions["control"], operand.control))
    if not rows.num_rows:
        controls = ", ".join(sorted(set(predictions["control"].to_pylist())))
        return _ResolvedSide(
            reason=f"{operand.name} has no predictions under control {operand.control}, only under {controls}"
        )
    scorings = set(rows["scoring"].to_pylist())
    several = len(scorings) > 1
    scoring = operand.scoring or (declared_scoring if several and declared_scoring else default_scoring(scorings))
    if scoring not in scorings:
        return _ResolvedSide(reason=f"{operand.name} has no scoring {scoring}, only {', '.join(sorted(scorings))}")
    return _ResolvedSide(scoring, Side.of(rows.filter(pc.equal(rows["scoring"], scoring))))


def contrasts_table(contrasts: Sequence[Contrast], evidence: Evidence) -> pa.Table:
    """Compute every comparison that a study declares; Holm corrects over all that could be computed.

    Args:
        contrasts: as declared. A comparison declared twice counts once, and one of a side with itself is left out (a
            pattern that stands for several names can produce both).
        evidence: the data that they are computed from.

    Returns:
        `contrasts` rows without `study`, in the order declared.
    """
    results: list[tuple[_DeclaredComparison, _ResolvedSide, _ResolvedSide, Comparison | None]] = []
    seen: set[tuple[Operand, Operand, str]] = set()
    for declared in (_DeclaredComparison(c.classifier, a, c.scoring, c.folds) for c in contrasts for a in c.against):
        first, second = evidence.resolve(declared.first, declared), evidence.resolve(declared.second, declared)
        left, right = (
            operand._replace(scoring=resolved.scoring or operand.scoring or declared.scoring)
            for operand, resolved in ((Operand.parse(declared.first), first), (Operand.parse(declared.second), second))
        )
        if left == right or (left, right, declared.folds) in seen:
            continue
        seen.add((left, right, declared.folds))
        comparison = compare(first.side, second.side) if first.side and second.side else None
        results.append((declared, first, second, comparison))
    p_values = [comparison.p for *_, comparison in results if comparison is not None]
    corrected = iter(holm(p_values))
    lines = [
        {
            "position": i,
            "holm_over": len(p_values),
            **_line(declared, first, second, comparison, next(corrected) if comparison else None),
        }
        for i, (declared, first, second, comparison) in enumerate(results)
    ]
    return rows_of("contrasts", lines)


def _line(
    declared: _DeclaredComparison,
    first: _ResolvedSide,
    second: _ResolvedSide,
    comparison: Comparison | None,
    p_holm: float | None,
) -> dict[str, Any]:
    left, right = Operand.parse(declared.first), Operand.parse(declared.second)
    reasons = [resolved.reason for resolved in (first, second) if resolved.reason]
    if comparison is None and not reasons:
        reasons.append("they have no clips in common")
    if comparison is not None and comparison.discordant is None:
        reasons.append("McNemar's test needs one prediction for each clip on both sides")
    if comparison is not None and comparison.detectable_difference is None:
        reasons.append("no detectable difference: the difference is the same on every recording")
    reason = "; ".join(reasons) or None
    line: dict[str, Any] = {
        "classifier": left.name,
        "scoring": first.scoring,
        "control": left.control,
        "against": right.name,
        "against_scoring": second.scoring,
        "against_control": right.control,
        "subset": ALL_CLIPS if declared.folds == "all" else WITHOUT_TUNING,
        "classifier_clips": 0 if first.side is None else len(first.side.clips),
        "against_clips": 0 if second.side is None else len(second.side.clips),
        "reason": reason,
    }
    if comparison is None or p_holm is None:
        statement = f"{declared.first} was not compared with {declared.second}: {reason}."
        return {**line, "clips": 0, "sources": 0, "verdict": "not compared", "statement": statement}
    only_first, only_second = comparison.discordant or (None, None)
    return {
        **line,
        "accuracy": comparison.accuracy,
        "against_accuracy": comparison.against_accuracy,
        "difference": comparison.difference,
        "low": comparison.interval.low,
        "high": comparison.interval.high,
        "p": comparison.p,
        "p_method": comparison.p_method,
        "p_holm": p_holm,
        "correct_only_classifier": only_first,
        "correct_only_against": only_second,
        "p_mcnemar": comparison.p_mcnemar,
        "detectable_difference": comparison.detectable_difference,
        "clips": comparison.clips,
        "sources": comparison.sources,
        "verdict": _verdict(comparison, p_holm),
        "statement": _statement(declared.first, declared.second, comparison, p_holm),
    }


def _verdict(comparison: Comparison, p: float) -> str:
    if p >= ALPHA:
        return "cannot tell apart"
    return "better" if comparison.difference > 0 else "worse"


def _statement(first: str, second: str, comparison: Comparison, p: float) -> str:
    """Write the result as a sentence: accuracies in percent, their difference in points, p after Holm."""
    finding = {
        "better": f"{first} is correct more often than {second}",
        "worse": f"{first} is correct less often than {second}",
        "cannot tell apart": f"{first} and {second} cannot be told apart",
    }[_verdict(comparison, p)]
    low, high = 100 * comparison.interval.low, 100 * comparison.interval.high
    sentence = (
        f"{finding}: {comparison.accuracy:.1%} against {comparison.against_accuracy:.1%} of {comparison.clips} clips, "
        f"{100 * comparison.difference:+.1f} points (95 % interval {low:+.1f} to {high:+.1f}, "
        f"{'p < 0.001' if p < 0.001 else f'p = {p:.3f}'})"
    )
    if p >= ALPHA and comparison.detectable_difference is not None:
        sentence += f"; so many clips would show {100 * comparison.detectable_difference:.1f} points, 8 times of 10"
    return f"{sentence}."
