"""The table `multi_label_contrasts`: every comparison that a study declares, with its test and its verdict.

A comparison of a side that is not complete has a reason and no numbers.

Belongs here: the rows and the sentences. Does not belong here: the predictions of a side and Holm's correction
(`evaluation.declared_comparisons`), and the numbers of one comparison (`comparison`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from vlm_audio_pipeline.contracts.number_text import rounded_text
from vlm_audio_pipeline.evaluation.contrasts import Operand
from vlm_audio_pipeline.evaluation.declared_comparisons import (
    CorrectedP,
    DeclaredComparison,
    ResolvedSide,
    StudyPredictions,
    correct_p_values,
    distinct_comparisons,
)
from vlm_audio_pipeline.evaluation.references import CHANCE
from vlm_audio_pipeline.evaluation.significance import p_text
from vlm_audio_pipeline.evaluation.tables import build_rows
from vlm_audio_pipeline.evaluation.verdicts import NOT_COMPARED, verdict
from vlm_audio_pipeline.measures.predictions import ALL_CLIPS, WITHOUT_TUNING
from vlm_audio_pipeline.tasks.multi_label.comparison import LabelComparison, compare_labels, compare_with_chance
from vlm_audio_pipeline.tasks.multi_label.contrasts import LabelContrast
from vlm_audio_pipeline.tasks.multi_label.measures.arrays import LabelArrays
from vlm_audio_pipeline.tasks.multi_label.measures.declarations import TITLES
from vlm_audio_pipeline.tasks.multi_label.prediction_arrays import read_arrays


@dataclass(frozen=True)
class LabelSide(ResolvedSide):
    """A side and its predictions; chance has none of its own."""

    arrays: LabelArrays | None = None


@dataclass(frozen=True, kw_only=True)
class LabelContrastData(StudyPredictions):
    """The data that contrasts are computed from.

    Attributes:
        classes: every class of the study.
    """

    classes: tuple[str, ...]

    def resolve(self, text: str, contrast: LabelContrast) -> LabelSide:
        """Return the side that the text of an operand names."""
        operand = Operand.parse(text)
        if operand.name == CHANCE:
            return LabelSide()
        scoring, rows, reason = self.side_rows(operand, contrast)
        side = LabelSide(scoring, reason, None if rows is None else read_arrays(rows, self.classes))
        if side.arrays is None or contrast.folds == "all":
            return side
        return replace(side, arrays=side.arrays.select(~np.isin(side.arrays.fold, self.tuning_folds)))


_Declared = DeclaredComparison[LabelContrast, LabelSide]


def label_contrasts_table(contrasts: Sequence[LabelContrast], data: LabelContrastData) -> pa.Table:
    """Compute every comparison that a study declares.

    Holm's correction covers all tests that could be computed: one for each comparison, and one more for each margin.

    Args:
        contrasts: as declared; see `distinct_comparisons`.
        data: predictions and clips.

    Returns:
        `multi_label_contrasts` rows without `study`, in the order declared.
    """
    declared = list(distinct_comparisons(contrasts, data.resolve))
    results = [_compare(d) for d in declared]
    corrected, tests = correct_p_values([None if isinstance(r, str) else r for r in results])
    lines = [
        {**_line(d, result, p, tests), "position": i, "holm_over": tests}
        for i, (d, result, p) in enumerate(zip(declared, results, corrected, strict=True))
    ]
    return build_rows("multi_label_contrasts", lines)


def _compare(declared: _Declared) -> LabelComparison | str:
    """Return the numbers, or why there are none."""
    first, second = declared.first.arrays, declared.second.arrays
    if first is None or declared.reasons:
        return "; ".join(declared.reasons)
    measure, margin = declared.contrast.measure, declared.contrast.margin
    if second is None:
        return compare_with_chance(first, measure, margin)
    return compare_labels(first, second, measure, margin)


def _line(
    declared: _Declared, result: LabelComparison | str, corrected: CorrectedP | None, tests: int
) -> dict[str, Any]:
    contrast = declared.contrast
    left, right = Operand.parse(contrast.classifier), Operand.parse(declared.against)
    line: dict[str, Any] = {
        "measure": contrast.measure,
        "classifier": left.name,
        "scoring": declared.first.scoring,
        "control": left.control,
        "against": right.name,
        "against_scoring": declared.second.scoring,
        "against_control": right.control,
        "subset": ALL_CLIPS if contrast.folds == "all" else WITHOUT_TUNING,
        "margin": contrast.margin,
    }
    if isinstance(result, str) or corrected is None:
        text = f"{contrast.classifier} was not compared with {declared.against}: {result}."
        zeros = dict.fromkeys(("clips", "sources", "positives", "classes"), 0)
        return {**line, **zeros, "verdict": NOT_COMPARED, "statement": text, "reason": result}
    return {
        **line,
        **{name: value for name, value in vars(result).items() if name != "standard_error"},
        "difference": result.difference,
        "p_holm": corrected.p,
        "p_equivalence_holm": corrected.p_equivalence,
        "detectable_difference": result.detectable_difference(tests),
        "verdict": verdict(result.difference, *corrected),
        "statement": statement(contrast, declared.against, result, corrected, tests),
        "reason": None
        if result.standard_error
        else "detectable_difference is undefined: the difference is the same without each source recording",
    }


def statement(
    contrast: LabelContrast, against: str, comparison: LabelComparison, corrected: CorrectedP, tests: int
) -> str:
    """Write the result of a comparison as sentences: both values, their difference, p after Holm.

    Args:
        contrast: the contrast that declares it.
        against: the other side, as declared.
        comparison: the numbers.
        corrected: p-values after Holm.
        tests: number of tests that Holm corrects for.
    """
    title, first = TITLES[contrast.measure], contrast.classifier
    result = verdict(comparison.difference, *corrected)
    finding = {
        "equivalent": f"{first} is equivalent to {against} in {title} (less than {contrast.margin} apart)",
        "better": f"{first} has a higher {title} than {against}",
        "worse": f"{first} has a lower {title} than {against}",
        "cannot tell apart": f"{first} and {against} cannot be told apart in {title}",
    }[result]
    low, high = (rounded_text(value, 3, sign=True) for value in (comparison.low, comparison.high))
    is_corrected = tests > 1
    sentences = [
        f"{finding}: {rounded_text(comparison.value, 3)} against {rounded_text(comparison.against_value, 3)} on "
        f"{comparison.clips:,} clips of {comparison.sources:,} recordings, a difference of "
        f"{rounded_text(comparison.difference, 3, sign=True)} (95 % interval {low} to {high}"
        f"{', not corrected' if is_corrected else ''}; {p_text(corrected.p)}"
        f"{f', corrected for {tests} tests' if is_corrected else ''})."
    ]
    if corrected.p_equivalence is not None:
        sentences.append(f"Equivalence within {contrast.margin}: {p_text(corrected.p_equivalence)}.")
    detectable = comparison.detectable_difference(tests)
    if result == "cannot tell apart" and detectable is not None:
        sentences.append(
            f"With as many recordings, about 8 of 10 studies would find a true difference of {rounded_text(detectable, 3)}."
        )
    return " ".join(sentences)
