"""The verdicts on vision-language models as sentences, and the table `verdicts`.

An undecided sentence gives only the p-value of the test that did not decide, so that "cannot be decided" never stands beside
the p-value of a test that did.

Belongs here: wording. Does not belong here: the rule (`hearing`).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from vlm_audio_pipeline.evaluation.hearing import (
    CAN,
    DECISIVE,
    MARGIN,
    NOT_DECISIVE,
    UNDECIDED,
    CorrectedComparison,
    Evidence,
    HearingModel,
    HearingStudy,
    collect_evidence,
    comparison_columns,
)
from vlm_audio_pipeline.evaluation.significance import p_text
from vlm_audio_pipeline.evaluation.tables import build_rows

_MARGIN_TEXT = f"the margin of {100 * MARGIN:.0f} points"
_MIN_WITHOUT_LABEL = 0.05  # share of predictions without a label from which a sentence mentions them


def verdicts_table(models: Sequence[HearingModel], study: HearingStudy) -> pa.Table:
    """Decide for every vision-language model of a study whether it can hear what it sees.

    Args:
        models: the vision-language models, in the order of the study file.
        study: the data that they are compared with.

    Returns:
        `verdicts` rows without `study`, one for each model and scoring.
    """
    collected = collect_evidence(models, study)
    holm_over = sum(name in evidence.comparisons for evidence in collected for name in DECISIVE)
    return build_rows("verdicts", [_line(i, e, study, holm_over) for i, e in enumerate(collected)])


def _line(position: int, evidence: Evidence, study: HearingStudy, holm_over: int) -> dict[str, Any]:
    side, rows = evidence.side, evidence.model.predictions
    columns: dict[str, Any] = {}
    for name in (*DECISIVE, *NOT_DECISIVE):
        columns |= comparison_columns(name, evidence)
    return {
        "position": position,
        "classifier": evidence.model.classifier,
        "scoring": evidence.scoring,
        "answer": evidence.answer,
        "statement": statement(evidence, study),
        "time_order": evidence.time_order,
        "accuracy": None if side is None else float(side.accuracy.mean()),
        **columns,
        "audio_classifier": evidence.baselines.get("audio"),
        "pixels_classifier": evidence.baselines.get("pixels"),
        "clips": 0 if rows is None else len(set(rows["clip"].to_pylist())),
        "dataset_clips": len(study.clips),
        "sources": 0 if side is None else len(np.unique(side.sources)),
        "holm_over": holm_over,
        "reason": "; ".join([evidence.incomplete] if evidence.incomplete else evidence.missing.values()) or None,
    }


def statement(evidence: Evidence, study: HearingStudy) -> str:
    """Return the verdict as sentences: accuracies in percent, differences in points, p-values after Holm."""
    name = evidence.model.classifier
    if evidence.scoring not in ("", "score"):
        name += f" ({evidence.scoring})"
    if evidence.side is None:
        return f"It cannot be decided whether {name} can hear what it sees: {evidence.incomplete}."
    if evidence.answer == UNDECIDED:
        return " ".join([_undecided(name, evidence), *_limits(evidence, study)])
    first = (_can if evidence.answer == CAN else _cannot)(name, evidence)
    examples = ["This holds for the examples in its prompt; other examples may give another result."]
    sentences = [first, *_time_order(evidence), *_baselines(evidence), *(examples if evidence.model.shots else [])]
    return " ".join([*sentences, *_limits(evidence, study)])


def _can(name: str, evidence: Evidence) -> str:
    chance, blank = evidence.corrected["chance"], evidence.corrected["blank"]
    return (
        f"{name} can hear what it sees: {_accuracy(evidence)} correct, better than chance ({_against(chance)}) and "
        f"better than with blank images ({_against(blank)})."
    )


def _cannot(name: str, evidence: Evidence) -> str:
    chance = evidence.corrected["chance"]
    if chance.is_better:
        blank = evidence.corrected["blank"]
        return (
            f"{name} cannot hear what it sees: {_accuracy(evidence)} correct, better than chance ({_against(chance)}), "
            f"but its accuracy does not come from the image: with blank images it is {blank.numbers.against_accuracy:.1%}. "
            f"{_upper_end('The image adds', blank)}, less than {_MARGIN_TEXT}."
        )
    worse = f", worse than chance ({_against(chance)})" if chance.is_worse else ""
    chance_level = "" if worse else f" ({chance.numbers.against_accuracy:.1%})"
    return (
        f"{name} cannot hear what it sees: {_accuracy(evidence)} correct{worse}. {_upper_end('It is', chance)} above "
        f"chance{chance_level}, less than {_MARGIN_TEXT}."
    )


def _undecided(name: str, evidence: Evidence) -> str:
    chance, blank = evidence.corrected["chance"], evidence.corrected.get("blank")
    lead = f"It cannot be decided whether {name} can hear what it sees: {_accuracy(evidence)} correct"
    if chance.is_better and blank is None:
        return (
            f"{lead}, better than chance ({chance.numbers.against_accuracy:.1%}), but {evidence.missing['blank']}, which "
            "would show whether the accuracy comes from the image."
        )
    if chance.is_better and blank is not None:
        return (
            f"{lead}, better than chance ({chance.numbers.against_accuracy:.1%}), but not shown to be better than with "
            f"blank images ({_against(blank)}). {_upper_end('The image may add', blank)}. More clips are needed."
        )
    return (
        f"{lead}, not shown to be better than chance ({_against(chance)}). {_upper_end('It may be', chance)} above chance, "
        f"and only less than {_MARGIN_TEXT} counts as chance. More clips are needed."
    )


def _time_order(evidence: Evidence) -> list[str]:
    shuffled = evidence.corrected.get("time_shuffled")
    if evidence.time_order is None or shuffled is None:
        return []
    accuracy = f"{shuffled.numbers.against_accuracy:.1%} with the image shuffled in time"
    if evidence.time_order == "yes":
        return [f"It uses the order in time: {accuracy} ({p_text(shuffled.p)})."]
    if evidence.time_order == "no":
        return [f"It does not use the order in time: {accuracy}. {_upper_end('The order adds', shuffled)}."]
    return [f"Whether it uses the order in time cannot be decided: {accuracy} ({p_text(shuffled.p)})."]


def _baselines(evidence: Evidence) -> list[str]:
    sentences = []
    for kind, title in (
        ("audio", "{}, which receives the audio"),
        ("pixels", "{}, a linear probe on the pixels of the same images"),
    ):
        if kind in evidence.corrected:
            compared, name = evidence.corrected[kind], title.format(evidence.baselines[kind])
            verb = "is worse than" if compared.is_worse else "is better than" if compared.is_better else None
            sentences.append(
                f"It {verb} {name} ({_against(compared)})."
                if verb
                else f"No difference from {name}, is shown ({_against(compared)})."
            )
    return sentences


def _limits(evidence: Evidence, study: HearingStudy) -> list[str]:
    assert evidence.side is not None
    sentences = []
    if evidence.without_label >= _MIN_WITHOUT_LABEL:
        sentences.append(f"{evidence.without_label:.1%} of its responses have no label and count as wrong.")
    if len(evidence.side.clips) < len(study.clips):
        sentences.append(
            f"It is run on {len(evidence.side.clips):,} of {len(study.clips):,} clips, as the study declares."
        )
    if tuned := sorted(set(study.tuning_folds) & set(evidence.side.folds.tolist())):
        sentences.append(f"Choices were tuned on fold {', '.join(map(str, tuned))}, which is included.")
    return sentences


def _accuracy(evidence: Evidence) -> str:
    assert evidence.side is not None
    return f"{evidence.side.accuracy.mean():.1%} of {len(evidence.side.clips):,} clips"


def _against(comparison: CorrectedComparison) -> str:
    return f"{comparison.numbers.against_accuracy:.1%}, {p_text(comparison.p)}"


def _upper_end(lead: str, comparison: CorrectedComparison) -> str:
    """Return "It is at most 3.6 points", from the upper end of the 95 % interval of the difference."""
    return f"{lead} at most {max(0.0, 100 * comparison.numbers.interval.high):.1f} points"
