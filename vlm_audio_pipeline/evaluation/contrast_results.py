"""The table of a study's contrasts: every comparison it declares, with its test and its verdict in words.

What belongs here: which predictions a side means, Holm's correction and the wording. What does not: the numbers of one
comparison (`comparison`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vlm_audio_pipeline.datasets.base import Clip
from vlm_audio_pipeline.evaluation.comparison import Comparison, Side, compared
from vlm_audio_pipeline.evaluation.contrasts import Contrast, Operand, meant
from vlm_audio_pipeline.evaluation.references import REFERENCES
from vlm_audio_pipeline.evaluation.rows import WITHOUT_TUNING
from vlm_audio_pipeline.evaluation.significance import ALPHA, holm
from vlm_audio_pipeline.storage.schemas import TABLES


class _Declared(NamedTuple):
    """One comparison, as written."""

    left: str
    right: str
    scoring: str | None
    folds: str


@dataclass(frozen=True)
class _Found:
    """What a side turned out to be: the scoring taken and its clips, or why there are none."""

    scoring: str | None = None
    side: Side | None = None
    reason: str | None = None


@dataclass(frozen=True)
class Evidence:
    """What contrasts are made from.

    Attributes:
        predictions: `predictions` rows by classifier; one without rows is absent.
        not_run: says why a classifier has none.
        clips: usable clips of the dataset, over all folds.
        classes: how many labels the study has.
        tuning_folds: folds that choices were tuned on.
    """

    predictions: Mapping[str, pa.Table]
    not_run: Callable[[str], str]
    clips: Sequence[Clip]
    classes: int
    tuning_folds: tuple[int, ...]

    def find(self, text: str, declared: _Declared) -> _Found:
        """Give the side that the text of an operand means."""
        operand = Operand.parse(text)
        if operand.name in REFERENCES:
            found = _Found(side=Side.reference(operand.name, self.clips, self.classes))
        elif operand.name in self.predictions:
            found = _chosen(operand, declared.scoring, self.predictions[operand.name])
        else:
            found = _Found(reason=f"{operand.name} was not run: {self.not_run(operand.name)}")
        if found.side is None or declared.folds == "all":
            return found
        return _Found(found.scoring, found.side.where(~np.isin(found.side.folds, self.tuning_folds)))


def _chosen(operand: Operand, wanted: str | None, predictions: pa.Table) -> _Found:
    """Take the rows of one control and one scoring."""
    here = predictions.filter(pc.equal(predictions["control"], operand.control))
    if not here.num_rows:
        there = ", ".join(sorted(set(predictions["control"].to_pylist())))
        return _Found(reason=f"{operand.name} has no predictions under control {operand.control}, only under {there}")
    scorings = set(here["scoring"].to_pylist())
    scoring = operand.scoring or (wanted if len(scorings) > 1 and wanted else meant(scorings))
    if scoring not in scorings:
        return _Found(reason=f"{operand.name} has no scoring {scoring}, only {', '.join(sorted(scorings))}")
    return _Found(scoring, Side.of(here.filter(pc.equal(here["scoring"], scoring))))


def contrasts_table(contrasts: Sequence[Contrast], evidence: Evidence) -> pa.Table:
    """Make every comparison a study declares; Holm corrects over all that could be made.

    Args:
        contrasts: as declared; a comparison declared twice counts once, and one with itself not at all (a name that
            stands for several entries gives such).
        evidence: what they are made from.

    Returns:
        `contrasts` rows without `study`, in the order declared.
    """
    made: list[tuple[_Declared, _Found, _Found, Comparison | None]] = []
    taken: set[tuple[Operand, Operand, str]] = set()
    for each in (_Declared(c.classifier, a, c.scoring, c.folds) for c in contrasts for a in c.against):
        first, second = evidence.find(each.left, each), evidence.find(each.right, each)
        left, right = (
            operand._replace(scoring=found.scoring or operand.scoring or each.scoring)
            for operand, found in ((Operand.parse(each.left), first), (Operand.parse(each.right), second))
        )
        if left == right or (left, right, each.folds) in taken:
            continue
        taken.add((left, right, each.folds))
        both = compared(first.side, second.side) if first.side and second.side else None
        made.append((each, first, second, both))
    tested = [both.p for *_, both in made if both is not None]
    corrected = iter(holm(tested))
    lines = [
        {"position": i, "holm_over": len(tested), **_line(each, first, second, both, next(corrected) if both else None)}
        for i, (each, first, second, both) in enumerate(made)
    ]
    return pa.Table.from_pylist(lines, pa.schema([f for f in TABLES["contrasts"].arrow if f.name != "study"]))


def _line(
    each: _Declared, first: _Found, second: _Found, both: Comparison | None, p_holm: float | None
) -> dict[str, Any]:
    left, right = Operand.parse(each.left), Operand.parse(each.right)
    reasons = [found.reason for found in (first, second) if found.reason]
    if both is None and not reasons:
        reasons.append("they have no clips in common")
    if both is not None and both.discordant is None:
        reasons.append("McNemar's test needs one prediction a clip on both sides")
    if both is not None and both.detectable is None:
        reasons.append("what could be shown is not known, for the difference is the same on every recording")
    reason = "; ".join(reasons) or None
    line: dict[str, Any] = {
        "classifier": left.name,
        "scoring": first.scoring,
        "control": left.control,
        "against": right.name,
        "against_scoring": second.scoring,
        "against_control": right.control,
        "subset": "all" if each.folds == "all" else WITHOUT_TUNING,
        "classifier_clips": 0 if first.side is None else len(first.side.clips),
        "against_clips": 0 if second.side is None else len(second.side.clips),
        "reason": reason,
    }
    if both is None or p_holm is None:
        said = f"{each.left} was not compared with {each.right}: {reason}."
        return {**line, "clips": 0, "sources": 0, "verdict": "not compared", "statement": said}
    only = both.discordant or (None, None)
    return {
        **line,
        "accuracy": both.accuracy,
        "against_accuracy": both.against_accuracy,
        "difference": both.difference,
        "low": both.interval.low,
        "high": both.interval.high,
        "p": both.p,
        "p_method": both.p_method,
        "p_holm": p_holm,
        "only_classifier": only[0],
        "only_against": only[1],
        "p_mcnemar": both.p_mcnemar,
        "detectable": both.detectable,
        "clips": both.clips,
        "sources": both.sources,
        "verdict": _verdict(both, p_holm),
        "statement": _statement(each.left, each.right, both, p_holm),
    }


def _verdict(both: Comparison, p: float) -> str:
    if p >= ALPHA:
        return "cannot tell apart"
    return "better" if both.difference > 0 else "worse"


def _statement(left: str, right: str, both: Comparison, p: float) -> str:
    """Say what was found in a sentence.

    Accuracies in percent, their difference in points, p after Holm.
    """
    begins = {
        "better": f"{left} is right more often than {right}",
        "worse": f"{left} is right less often than {right}",
        "cannot tell apart": f"{left} and {right} cannot be told apart",
    }[_verdict(both, p)]
    said = (
        f"{begins}: {both.accuracy:.1%} against {both.against_accuracy:.1%} of {both.clips} clips, "
        f"{100 * both.difference:+.1f} points (95 % interval {100 * both.interval.low:+.1f} to "
        f"{100 * both.interval.high:+.1f}, {'p < 0.001' if p < 0.001 else f'p = {p:.3f}'})"
    )
    if p >= ALPHA and both.detectable is not None:
        said += f"; so many clips would show {100 * both.detectable:.1f} points, 8 times of 10"
    return f"{said}."
