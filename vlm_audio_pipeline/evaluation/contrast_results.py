"""The table of a study's contrasts: every comparison it declares, with its tests and its verdict.

If a side of a comparison is not complete (`completeness`), its row has a reason and no numbers: results that still change
must not be tested again and again until one of them is significant.

Belongs here: which predictions a side has, and Holm's correction. Does not belong here: the numbers of one comparison
(`comparison`) and the wording (`verdicts`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vlm_audio_pipeline.datasets.base import Clip
from vlm_audio_pipeline.evaluation.comparison import Comparison, Side, compare
from vlm_audio_pipeline.evaluation.completeness import ExpectedRun, incomplete_reason
from vlm_audio_pipeline.evaluation.contrasts import Contrast, Operand, default_scoring
from vlm_audio_pipeline.evaluation.references import REFERENCES
from vlm_audio_pipeline.evaluation.significance import holm
from vlm_audio_pipeline.evaluation.tables import build_rows
from vlm_audio_pipeline.evaluation.verdicts import NOT_COMPARED, statement, verdict
from vlm_audio_pipeline.measures.predictions import ALL_CLIPS, WITHOUT_TUNING


class _DeclaredComparison(NamedTuple):
    """One comparison, as the study file declares it."""

    first: str
    second: str
    scoring: str | None
    folds: str
    margin: float | None


@dataclass(frozen=True)
class _ResolvedSide:
    """The scoring and clips of a side, and the reason why it has no clips or is not complete."""

    scoring: str | None = None
    side: Side | None = None
    reason: str | None = None


@dataclass(frozen=True)
class ContrastData:
    """The data that contrasts are computed from.

    Attributes:
        predictions: `predictions` rows by classifier; a classifier without rows is left out.
        not_run_reason: returns the reason why a classifier has no predictions.
        clips: usable clips of the dataset, over all folds.
        classes: every label of the study.
        tuning_folds: folds that choices were tuned on.
        expected: the complete run of each classifier; a classifier without one counts as complete.
        limited: whether the run was limited to a part of the clips; then nothing is compared.
    """

    predictions: Mapping[str, pa.Table]
    not_run_reason: Callable[[str], str]
    clips: Sequence[Clip]
    classes: tuple[str, ...]
    tuning_folds: tuple[int, ...]
    expected: Mapping[str, ExpectedRun] = field(default_factory=dict)
    limited: bool = False

    def resolve(self, text: str, declared: _DeclaredComparison) -> _ResolvedSide:
        """Return the side that the text of an operand names."""
        operand = Operand.parse(text)
        if operand.name in REFERENCES:
            resolved = _ResolvedSide(side=Side.from_reference(operand.name, self.clips, self.classes))
        elif operand.name in self.predictions:
            resolved = self._select_rows(operand, declared)
        else:
            resolved = _ResolvedSide(reason=f"{operand.name} was not run: {self.not_run_reason(operand.name)}")
        if resolved.side is None or declared.folds == "all":
            return resolved
        outside = ~np.isin(resolved.side.folds, self.tuning_folds)
        return _ResolvedSide(resolved.scoring, resolved.side.select(outside), resolved.reason)

    def _select_rows(self, operand: Operand, declared: _DeclaredComparison) -> _ResolvedSide:
        """Select the rows of one control and one scoring."""
        predictions = self.predictions[operand.name]
        rows = predictions.filter(pc.equal(predictions["control"], operand.control))
        if not rows.num_rows:
            controls = ", ".join(sorted(set(predictions["control"].to_pylist())))
            return _ResolvedSide(
                reason=f"{operand.name} has no predictions under control {operand.control}, only under {controls}"
            )
        scorings = set(rows["scoring"].to_pylist())
        has_several = len(scorings) > 1
        default = declared.scoring if has_several and declared.scoring else default_scoring(scorings)
        scoring = operand.scoring or default
        if scoring not in scorings:
            return _ResolvedSide(reason=f"{operand.name} has no scoring {scoring}, only {', '.join(sorted(scorings))}")
        rows = rows.filter(pc.equal(rows["scoring"], scoring))
        reason = "the run is limited to a part of the clips" if self.limited else None
        if reason is None and operand.name in self.expected:
            without_folds = () if declared.folds == "all" else self.tuning_folds
            reason = incomplete_reason(operand.name, rows, self.expected[operand.name], without_folds)
        return _ResolvedSide(scoring, Side.from_predictions(rows, self.classes), reason)


def contrasts_table(contrasts: Sequence[Contrast], data: ContrastData) -> pa.Table:
    """Compute every comparison that a study declares.

    Holm's correction covers all tests that could be computed: one for each comparison, and one more for each margin.

    Args:
        contrasts: as declared. A comparison declared twice counts once, and a comparison of a side with itself is left out
            (the name of a group of presets can produce both).
        data: predictions and clips.

    Returns:
        `contrasts` rows without `study`, in the order declared.
    """
    results: list[tuple[_DeclaredComparison, _ResolvedSide, _ResolvedSide, Comparison | None]] = []
    computed_keys: set[tuple[Operand, Operand, str, float | None]] = set()
    for declared in (
        _DeclaredComparison(c.classifier, a, c.scoring, c.folds, c.margin) for c in contrasts for a in c.against
    ):
        first, second = data.resolve(declared.first, declared), data.resolve(declared.second, declared)
        left, right = (
            operand._replace(scoring=resolved.scoring or operand.scoring or declared.scoring)
            for operand, resolved in ((Operand.parse(declared.first), first), (Operand.parse(declared.second), second))
        )
        key = (left, right, declared.folds, declared.margin)
        if left == right or key in computed_keys:
            continue
        computed_keys.add(key)
        comparison = None
        if first.side and second.side and not first.reason and not second.reason:
            comparison = compare(first.side, second.side, declared.margin)
        results.append((declared, first, second, comparison))
    p_values = {
        (i, name): p
        for i, (*_, comparison) in enumerate(results)
        if comparison is not None
        for name, p in (("p_holm", comparison.p), ("p_equivalence_holm", comparison.p_equivalence))
        if p is not None
    }
    corrected = dict(zip(p_values, holm(list(p_values.values())), strict=True))
    lines = [
        _line(declared, first, second, comparison)
        | {"position": i, "holm_over": len(p_values)}
        | (
            {}
            if comparison is None
            else _corrected_columns(
                declared, comparison, corrected[i, "p_holm"], corrected.get((i, "p_equivalence_holm")), len(p_values)
            )
        )
        for i, (declared, first, second, comparison) in enumerate(results)
    ]
    return build_rows("contrasts", lines)


def _line(
    declared: _DeclaredComparison,
    first: _ResolvedSide,
    second: _ResolvedSide,
    comparison: Comparison | None,
) -> dict[str, Any]:
    """Return the columns that do not depend on the other comparisons."""
    left, right = Operand.parse(declared.first), Operand.parse(declared.second)
    reasons = list(dict.fromkeys(resolved.reason for resolved in (first, second) if resolved.reason))
    if comparison is None and not reasons:
        reasons.append("they have no clips in common")
    if comparison is not None and comparison.discordant is None:
        reasons.append("McNemar's test needs one prediction for each clip on both sides")
    if comparison is not None and comparison.standard_error is None:
        cause = "there is one source recording" if comparison.sources == 1 else "all clips have the same difference"
        reasons.append(f"detectable_difference is undefined: {cause}")
    reason = "; ".join(reasons) or None
    line: dict[str, Any] = {
        "classifier": left.name,
        "scoring": first.scoring or left.scoring,
        "control": left.control,
        "against": right.name,
        "against_scoring": second.scoring or right.scoring,
        "against_control": right.control,
        "subset": ALL_CLIPS if declared.folds == "all" else WITHOUT_TUNING,
        "classifier_clips": 0 if first.side is None else len(first.side.clips),
        "against_clips": 0 if second.side is None else len(second.side.clips),
        "margin": declared.margin,
        "reason": reason,
    }
    if comparison is None:
        text = f"{declared.first} was not compared with {declared.second}: {reason}."
        return {**line, "clips": 0, "sources": 0, "verdict": NOT_COMPARED, "statement": text}
    only_first, only_second = comparison.discordant or (None, None)
    return {
        **line,
        "accuracy": comparison.accuracy,
        "against_accuracy": comparison.against_accuracy,
        "difference": comparison.difference,
        "low": comparison.interval.low,
        "high": comparison.interval.high,
        "interval_scope": comparison.interval.scope,
        "p": comparison.p,
        "p_method": comparison.p_method,
        "p_equivalence": comparison.p_equivalence,
        "correct_only_classifier": only_first,
        "correct_only_against": only_second,
        "p_mcnemar": comparison.p_mcnemar,
        "clips": comparison.clips,
        "sources": comparison.sources,
    }


def _corrected_columns(
    declared: _DeclaredComparison, comparison: Comparison, p: float, p_equivalence: float | None, tests: int
) -> dict[str, Any]:
    """Return the columns that depend on the number of tests, and the verdict."""
    return {
        "p_holm": p,
        "p_equivalence_holm": p_equivalence,
        "detectable_difference": comparison.detectable_difference(tests),
        "verdict": verdict(comparison, p, p_equivalence),
        "statement": statement(
            declared.first,
            declared.second,
            comparison,
            p,
            tests=tests,
            margin=declared.margin,
            p_equivalence=p_equivalence,
        ),
    }
