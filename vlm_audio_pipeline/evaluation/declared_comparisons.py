"""What the contrasts of a study compare: every pair of sides once, the predictions of a side, and Holm's correction.

Contrasts of every task use it. Belongs here: names, rows and completeness of a side. Does not belong here: the numbers of a
comparison, and the tables of results.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, Protocol, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from vlm_audio_pipeline.evaluation.completeness import ExpectedRun, incomplete_reason
from vlm_audio_pipeline.evaluation.contrasts import Contrast, Operand, default_scoring
from vlm_audio_pipeline.evaluation.significance import holm


@dataclass(frozen=True)
class ResolvedSide:
    """The scoring of a side, and the reason why it has no clips or is not complete."""

    scoring: str | None = None
    reason: str | None = None


SideT = TypeVar("SideT", bound=ResolvedSide)
ContrastT = TypeVar("ContrastT", bound=Contrast)


class SideRows(NamedTuple):
    """The predictions of a side: rows of one scoring and control, or the reason why there are none or not all."""

    scoring: str | None = None
    rows: pa.Table | None = None
    reason: str | None = None


@dataclass(frozen=True, kw_only=True)
class StudyPredictions:
    """The predictions of a study's classifiers, and what a complete run is.

    Attributes:
        predictions: rows by classifier; a classifier without rows is left out.
        not_run_reason: returns the reason why a classifier has no predictions.
        tuning_folds: folds that choices were tuned on.
        expected: the complete run of each classifier; a classifier without one counts as complete.
        limited: whether the run was limited to a part of the clips; then nothing is compared.
    """

    predictions: Mapping[str, pa.Table]
    not_run_reason: Callable[[str], str]
    tuning_folds: tuple[int, ...]
    expected: Mapping[str, ExpectedRun] = field(default_factory=dict)
    limited: bool = False

    def side_rows(self, operand: Operand, contrast: Contrast) -> SideRows:
        """Select the rows of the classifier, control and scoring that an operand names."""
        if operand.name not in self.predictions:
            return SideRows(reason=f"{operand.name} was not run: {self.not_run_reason(operand.name)}")
        predictions = self.predictions[operand.name]
        rows = predictions.filter(pc.equal(predictions["control"], operand.control))
        if not rows.num_rows:
            controls = ", ".join(sorted(set(predictions["control"].to_pylist())))
            return SideRows(
                reason=f"{operand.name} has no predictions under control {operand.control}, only under {controls}"
            )
        scorings = set(rows["scoring"].to_pylist())
        has_several = len(scorings) > 1
        default = contrast.scoring if has_several and contrast.scoring else default_scoring(scorings)
        scoring = operand.scoring or default
        if scoring not in scorings:
            return SideRows(reason=f"{operand.name} has no scoring {scoring}, only {', '.join(sorted(scorings))}")
        rows = rows.filter(pc.equal(rows["scoring"], scoring))
        reason = "the run is limited to a part of the clips" if self.limited else None
        if reason is None and operand.name in self.expected:
            without_folds = () if contrast.folds == "all" else self.tuning_folds
            reason = incomplete_reason(operand.name, rows, self.expected[operand.name], without_folds)
        return SideRows(scoring, rows, reason)


@dataclass(frozen=True)
class DeclaredComparison(Generic[ContrastT, SideT]):
    """One comparison of a study.

    Attributes:
        contrast: the contrast that declares it.
        against: the second side, as declared.
        first: the first side.
        second: the second side.
    """

    contrast: ContrastT
    against: str
    first: SideT
    second: SideT

    @property
    def reasons(self) -> list[str]:
        """Why the sides cannot be compared."""
        return list(dict.fromkeys(side.reason for side in (self.first, self.second) if side.reason))


def distinct_comparisons(
    contrasts: Sequence[ContrastT], resolve: Callable[[str, ContrastT], SideT]
) -> Iterator[DeclaredComparison[ContrastT, SideT]]:
    """Yield the comparisons in the order declared.

    A comparison declared twice counts once, and a comparison of a side with itself is left out (the name of a group of presets can
    produce both).

    Args:
        contrasts: as declared.
        resolve: returns the side that the text of an operand names.
    """
    computed_keys: set[tuple[Operand, Operand, tuple[object, ...]]] = set()
    for contrast in contrasts:
        for against in contrast.against:
            first, second = resolve(contrast.classifier, contrast), resolve(against, contrast)
            left, right = (
                operand._replace(scoring=resolved.scoring or operand.scoring or contrast.scoring)
                for operand, resolved in ((Operand.parse(contrast.classifier), first), (Operand.parse(against), second))
            )
            key = (left, right, contrast.settings)
            if left == right or key in computed_keys:
                continue
            computed_keys.add(key)
            yield DeclaredComparison(contrast, against, first, second)


class Tested(Protocol):
    """The p-values of a comparison."""

    @property
    def p(self) -> float:
        """p-value of the difference."""

    @property
    def p_equivalence(self) -> float | None:
        """p-value of the equivalence test; None without a margin."""


class CorrectedP(NamedTuple):
    """The p-values of a comparison after Holm's correction."""

    p: float
    p_equivalence: float | None


def correct_p_values(comparisons: Sequence[Tested | None]) -> tuple[list[CorrectedP | None], int]:
    """Correct all p-values of a study together: one for each comparison, and one more for each margin.

    Args:
        comparisons: None for those that could not be computed.

    Returns:
        The corrected values, None for None, and the number of tests.
    """
    p_values = {
        (i, name): p
        for i, comparison in enumerate(comparisons)
        if comparison is not None
        for name, p in (("p", comparison.p), ("p_equivalence", comparison.p_equivalence))
        if p is not None
    }
    corrected = dict(zip(p_values, holm(list(p_values.values())), strict=True))
    found = [
        None if comparison is None else CorrectedP(corrected[i, "p"], corrected.get((i, "p_equivalence")))
        for i, comparison in enumerate(comparisons)
    ]
    return found, len(p_values)
