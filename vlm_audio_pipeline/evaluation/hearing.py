"""Verdicts: whether each vision-language model of a study can hear what it sees, by one rule for every study.

The rule (docs/statistics.md, "Can it hear what it sees?"):

- it can: better than chance, and better than the same model on blank images.
- it cannot: not better than chance, and the 95 % interval ends less than `MARGIN` above chance; or better than chance, but
  not better than on blank images, and that interval ends below `MARGIN`: its accuracy does not come from the image.
- cannot be decided: everything else, and every model that was not run, was run in part, or lacks the control it needs.

"Better" is the test of `comparison.compare` after Holm's correction over all tests against chance and blank images of the
study. The other comparisons do not change the answer and are corrected among themselves.

Belongs here: the rule and its numbers. Does not belong here: sentences (`hearing_statements`), the tests (`comparison`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vlm_audio_pipeline.datasets.base import Clip
from vlm_audio_pipeline.evaluation.comparison import Comparison, Side, compare
from vlm_audio_pipeline.evaluation.completeness import ExpectedRun, incomplete_reason
from vlm_audio_pipeline.evaluation.contrasts import Scoring, default_scoring
from vlm_audio_pipeline.evaluation.references import CHANCE
from vlm_audio_pipeline.evaluation.result_names import EXAMPLES_KNN
from vlm_audio_pipeline.evaluation.significance import ALPHA, holm
from vlm_audio_pipeline.measures.predictions import accuracy_interval, split_by_scoring_and_control
from vlm_audio_pipeline.measures.uncertainty import Interval

CAN = "it can"
CANNOT = "it cannot"
UNDECIDED = "cannot be decided"
MARGIN = 0.05
"""Accuracy difference, share of 1, below which a model counts as equal to chance or to its blank control."""
DECISIVE = ("chance", "blank")
"""The comparisons that decide the answer."""
NOT_DECISIVE = ("time_shuffled", "audio", "pixels")
"""The comparisons that are reported beside the answer."""


@dataclass(frozen=True)
class HearingModel:
    """One vision-language model of a study.

    Attributes:
        classifier: its name in the study.
        predictions: `predictions` rows of the folds that exist; None without any.
        expected: its complete run.
        not_run_reason: reason why it has no predictions.
        shots: number of examples of each class in the prompt.
        pixels: name of the probe on the pixels of the same images; None if the study has none.
        caution: why its results are no finding about real models or recordings; empty if they are.
    """

    classifier: str
    predictions: pa.Table | None
    expected: ExpectedRun
    not_run_reason: str
    shots: int = 0
    pixels: str | None = None
    caution: str = ""


@dataclass(frozen=True)
class HearingStudy:
    """The data that all models of a study are compared with.

    Attributes:
        clips: usable clips of the dataset, over all folds.
        classes: every label of the study.
        baselines: `predictions` rows of the classifiers on audio and pixels, by name; those without rows are left out.
        audio: names of the classifiers on audio. The first one that covers the clips is the audio baseline.
        tuning_folds: folds that choices were tuned on.
        limited: whether the run is limited to a part of the clips.
    """

    clips: Sequence[Clip]
    classes: tuple[str, ...]
    baselines: Mapping[str, pa.Table]
    audio: tuple[str, ...]
    tuning_folds: tuple[int, ...] = ()
    limited: bool = False


@dataclass(frozen=True)
class CorrectedComparison:
    """A comparison with its p-value after Holm's correction."""

    numbers: Comparison
    p: float

    @property
    def is_better(self) -> bool:
        """Whether the model is significantly better."""
        return self.p < ALPHA and self.numbers.difference > 0

    @property
    def is_worse(self) -> bool:
        """Whether the model is significantly worse."""
        return self.p < ALPHA and self.numbers.difference < 0


@dataclass
class Evidence:
    """The evidence about one model and scoring.

    Attributes:
        model: the model.
        scoring: how it chooses a label; empty if it was not run.
        incomplete: why its run is incomplete; empty if it is complete.
        side: its accuracy by clip; None if the run is incomplete.
        interval: 95 % interval of its accuracy; None if the run is incomplete.
        blank_answer: whether it gives all blank images the same answer, see `constant_answer`.
        comparisons: with chance, blank, time_shuffled, audio and pixels; only those that were computed.
        missing: why a comparison was not computed, by its name.
        baselines: audio and pixels -> name of the classifier.
        without_label: share of the predictions without a label (unparseable, truncated, refused).
        corrected: the comparisons after Holm's correction.
    """

    model: HearingModel
    scoring: str = ""
    incomplete: str = ""
    side: Side | None = None
    interval: Interval | None = None
    blank_answer: str = ""
    comparisons: dict[str, Comparison] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)
    baselines: dict[str, str] = field(default_factory=dict)
    without_label: float = 0.0
    corrected: dict[str, CorrectedComparison] = field(default_factory=dict)

    @property
    def answer(self) -> str:
        """The answer by the rule of this module."""
        if self.incomplete or self.side is None:
            return UNDECIDED
        chance, blank = self.corrected["chance"], self.corrected.get("blank")
        if not chance.is_better:
            return CANNOT if is_below_margin(chance) else UNDECIDED
        if blank is None:
            return UNDECIDED
        if blank.is_better:
            return CAN
        return CANNOT if is_below_margin(blank) else UNDECIDED

    @property
    def time_order(self) -> str | None:
        """Whether it needs the order in time: yes, no or cannot be decided; None without an answer "it can"."""
        shuffled = self.corrected.get("time_shuffled")
        if self.answer != CAN or shuffled is None:
            return None
        if shuffled.is_better:
            return "yes"
        return "no" if is_below_margin(shuffled) else UNDECIDED


def is_below_margin(comparison: CorrectedComparison) -> bool:
    """Return whether the 95 % interval of the difference ends below `MARGIN`."""
    return comparison.numbers.interval.high < MARGIN


def collect_evidence(models: Sequence[HearingModel], study: HearingStudy) -> list[Evidence]:
    """Compare every model and scoring with chance, its controls and the baselines, and correct the p-values.

    Args:
        models: the vision-language models of the study.
        study: the data that they are compared with.

    Returns:
        One entry for each model and scoring, in the order of the study; one entry for a model that was not run.
    """
    collected = [evidence for model in models for evidence in _evidence_of_model(model, study)]
    for names in (DECISIVE, NOT_DECISIVE):
        tests = [(e, name) for e in collected for name in names if name in e.comparisons]
        for (evidence, name), p in zip(tests, holm([e.comparisons[n].p for e, n in tests]), strict=True):
            evidence.corrected[name] = CorrectedComparison(evidence.comparisons[name], p)
    return collected


def constant_answer(predictions: pa.Table) -> str:
    """Return "all" if all predictions have the same label, "fold" if those of each fold have, "trial" if those of each fold and trial have; otherwise "".

    The accuracy of such predictions is the share of the clips of that class, whatever the images: 1 / classes if each class has as
    many clips.

    Args:
        predictions: `predictions` rows of one scoring and control.
    """
    labels: dict[tuple[int, int], set[str | None]] = {}
    columns = (predictions[name].to_pylist() for name in ("fold", "trial", "predicted"))
    for fold, trial, label in zip(*columns, strict=True):
        labels.setdefault((fold, trial), set()).add(label)
    if not labels or any(len(fold_answers) > 1 or None in fold_answers for fold_answers in labels.values()):
        return ""
    if len(set.union(*labels.values())) == 1:
        return "all"
    fold_labels = {(fold, label) for (fold, _), fold_answers in labels.items() for label in fold_answers}
    return "fold" if len(fold_labels) == len({fold for fold, _ in fold_labels}) else "trial"


def _evidence_of_model(model: HearingModel, study: HearingStudy) -> list[Evidence]:
    if model.predictions is None:
        return [Evidence(model, incomplete=f"not run: {model.not_run_reason}")]
    rows = {(scoring, control): table for scoring, control, table in split_by_scoring_and_control(model.predictions)}
    scorings = [s for s in get_args(Scoring) if (s, "none") in rows and s != EXAMPLES_KNN]
    if not scorings:
        return [Evidence(model, incomplete="it has no predictions on its original images")]
    return [
        _evidence_of_scoring(model, scoring, {c: table for (s, c), table in rows.items() if s == scoring}, study)
        for scoring in scorings
    ]


def _evidence_of_scoring(
    model: HearingModel, scoring: str, controls: Mapping[str, pa.Table], study: HearingStudy
) -> Evidence:
    evidence = Evidence(model, scoring, incomplete=_incomplete_reason(controls["none"], model, study))
    if evidence.incomplete:
        return evidence
    outcomes = controls["none"]["outcome"].to_pylist()
    evidence.without_label = 1 - outcomes.count("answered") / len(outcomes)  # a complete run has no errors
    evidence.side = Side.from_predictions(controls["none"], study.classes)
    evidence.interval = accuracy_interval(controls["none"])
    sides = {"chance": Side.from_reference(CHANCE, study.clips, study.classes)}
    for control, title in (("blank", "blank"), ("time_shuffled", "time-shuffled")):
        if control not in controls:
            evidence.missing[control] = f"there is no control with {title} images"
        elif reason := _incomplete_reason(controls[control], model, study):
            evidence.missing[control] = f"the control with {title} images is incomplete: {reason}"
        else:
            sides[control] = Side.from_predictions(controls[control], study.classes)
            if control == "blank":
                evidence.blank_answer = constant_answer(controls[control])
    pixels = () if model.pixels is None else (model.pixels,)
    for kind, names, reason in (
        ("audio", study.audio, "no classifier on audio covers these clips"),
        ("pixels", pixels, "no probe on the pixels of these images covers these clips"),
    ):
        chosen = next(
            (n for n in names if (side := _baseline_side(n, study)) and _has_clips_of(side, evidence.side)), None
        )
        if chosen is None:
            evidence.missing[kind] = reason
        else:
            evidence.baselines[kind] = chosen
            sides[kind] = _baseline_side(chosen, study)  # type: ignore[assignment]
    compared = {name: compare(evidence.side, side) for name, side in sides.items()}
    evidence.comparisons = {name: comparison for name, comparison in compared.items() if comparison is not None}
    return evidence


def _incomplete_reason(rows: pa.Table, model: HearingModel, study: HearingStudy) -> str:
    """Return why predictions are incomplete, or an empty text. A request that failed is no prediction."""
    if study.limited:
        return "the run is limited to a part of the clips"
    return incomplete_reason(model.classifier, rows, model.expected) or ""


def _baseline_side(name: str, study: HearingStudy) -> Side | None:
    """Return the side of a baseline by its default scoring on its original input, or None without predictions."""
    rows = study.baselines.get(name)
    if rows is None:
        return None
    rows = rows.filter(pc.equal(rows["control"], "none"))
    if not rows.num_rows:
        return None
    scoring = default_scoring(set(rows["scoring"].to_pylist()))
    return Side.from_predictions(rows.filter(pc.equal(rows["scoring"], scoring)), study.classes)


def _has_clips_of(side: Side, other: Side) -> bool:
    return bool(np.isin(other.clips, side.clips).all())


def comparison_columns(name: str, evidence: Evidence) -> dict[str, Any]:
    """Return the columns of `verdicts` for one comparison; null where it was not computed."""
    corrected = evidence.corrected.get(name)
    if corrected is None:
        return dict.fromkeys((f"{name}_accuracy", f"{name}_low", f"{name}_high", f"{name}_p"))
    return {
        f"{name}_accuracy": corrected.numbers.against_accuracy,
        f"{name}_low": corrected.numbers.interval.low,
        f"{name}_high": corrected.numbers.interval.high,
        f"{name}_p": corrected.p,
    }
