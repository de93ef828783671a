"""The table of a study's contrasts: every comparison it declares, with its tests and its verdict.

If a side of a comparison is not complete (`completeness`), its row has a reason and no numbers: results that still change
must not be tested again and again until one of them is significant.

Belongs here: the rows of the table. Does not belong here: the predictions of a side and Holm's correction
(`declared_comparisons`), the numbers of one comparison (`comparison`), and the wording (`verdicts`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from vlm_audio_pipeline.datasets.base import Clip
from vlm_audio_pipeline.evaluation.comparison import Comparison, Side, compare
from vlm_audio_pipeline.evaluation.contrasts import Contrast, Operand
from vlm_audio_pipeline.evaluation.declared_comparisons import (
    CorrectedP,
    DeclaredComparison,
    ResolvedSide,
    StudyPredictions,
    correct_p_values,
    distinct_comparisons,
)
from vlm_audio_pipeline.evaluation.references import REFERENCES
from vlm_audio_pipeline.evaluation.result_names import result_title
from vlm_audio_pipeline.evaluation.tables import build_rows
from vlm_audio_pipeline.evaluation.verdicts import NOT_COMPARED, statement, verdict
from vlm_audio_pipeline.measures.predictions import ALL_CLIPS, WITHOUT_TUNING


@dataclass(frozen=True)
class _AccuracySide(ResolvedSide):
    """A side and its accuracy on each clip."""

    side: Side | None = None


@dataclass(frozen=True, kw_only=True)
class ContrastData(StudyPredictions):
    """The data that contrasts are computed from.

    Attributes:
        clips: usable clips of the dataset, over all folds.
        classes: every label of the study.
    """

    clips: Sequence[Clip]
    classes: tuple[str, ...]

    def resolve(self, text: str, contrast: Contrast) -> _AccuracySide:
        """Return the side that the text of an operand names."""
        operand = Operand.parse(text)
        if operand.name in REFERENCES:
            resolved = _AccuracySide(side=Side.from_reference(operand.name, self.clips, self.classes))
        else:
            scoring, rows, reason = self.side_rows(operand, contrast)
            resolved = _AccuracySide(
                scoring, reason, None if rows is None else Side.from_predictions(rows, self.classes)
            )
        if resolved.side is None or contrast.folds == "all":
            return resolved
        outside = ~np.isin(resolved.side.folds, self.tuning_folds)
        return replace(resolved, side=resolved.side.select(outside))


_Declared = DeclaredComparison[Contrast, _AccuracySide]


def contrasts_table(contrasts: Sequence[Contrast], data: ContrastData) -> pa.Table:
    """Compute every comparison that a study declares.

    Holm's correction covers all tests that could be computed: one for each comparison, and one more for each margin.

    Args:
        contrasts: as declared; see `distinct_comparisons`.
        data: predictions and clips.

    Returns:
        `contrasts` rows without `study`, in the order declared.
    """
    declared = list(distinct_comparisons(contrasts, data.resolve))
    comparisons = [_compare(d) for d in declared]
    corrected, tests = correct_p_values(comparisons)
    lines = [
        _line(d, comparison)
        | {"position": i, "holm_over": tests}
        | ({} if comparison is None or p is None else _corrected_columns(d, comparison, p, tests))
        for i, (d, comparison, p) in enumerate(zip(declared, comparisons, corrected, strict=True))
    ]
    return build_rows("contrasts", lines)


def _compare(declared: _Declared) -> Comparison | None:
    first, second = declared.first.side, declared.second.side
    if first is None or second is None or declared.reasons:
        return None
    return compare(first, second, declared.contrast.margin)


def _side_title(side: ResolvedSide, operand: Operand) -> str:
    return result_title(operand.name, side.scoring or operand.scoring, operand.control)


def _line(declared: _Declared, comparison: Comparison | None) -> dict[str, Any]:
    """Return the columns that do not depend on the other comparisons."""
    contrast, first, second = declared.contrast, declared.first, declared.second
    left, right = Operand.parse(contrast.classifier), Operand.parse(declared.against)
    reasons = declared.reasons
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
        "subset": ALL_CLIPS if contrast.folds == "all" else WITHOUT_TUNING,
        "classifier_clips": 0 if first.side is None else len(first.side.clips),
        "against_clips": 0 if second.side is None else len(second.side.clips),
        "margin": contrast.margin,
        "reason": reason,
    }
    if comparison is None:
        text = f"{_side_title(first, left)} was not compared with {_side_title(second, right)}: {reason}."
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
    declared: _Declared, comparison: Comparison, corrected: CorrectedP, tests: int
) -> dict[str, Any]:
    """Return the columns that depend on the number of tests, and the verdict."""
    p, p_equivalence = corrected
    return {
        "p_holm": p,
        "p_equivalence_holm": p_equivalence,
        "detectable_difference": comparison.detectable_difference(tests),
        "verdict": verdict(comparison.difference, p, p_equivalence),
        "statement": statement(
            _side_title(declared.first, Operand.parse(declared.contrast.classifier)),
            _side_title(declared.second, Operand.parse(declared.against)),
            comparison,
            p,
            tests=tests,
            margin=declared.contrast.margin,
            p_equivalence=p_equivalence,
        ),
    }
