"""The stages of a language model in this task that differ from those of one class per clip: examples and predictions.

Belongs here: inputs and parameters of these stages, and how stored responses become decisions and scores. Does not belong here: the
responses themselves (`classifiers.language_models.stages`), and the text of questions and answers (`label_questions`).
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vlm_audio_pipeline.contracts.stages import Input, Stage, StageContext
from vlm_audio_pipeline.storage.schemas import TABLES
from vlm_audio_pipeline.tasks.multi_label.classifiers.base import CLIP_LABELS, require_both_truths, truth_matrix
from vlm_audio_pipeline.tasks.multi_label.classifiers.label_examples import select_label_examples
from vlm_audio_pipeline.tasks.multi_label.classifiers.label_questions import yes_probabilities
from vlm_audio_pipeline.tasks.multi_label.classifiers.list_parsing import parse_list
from vlm_audio_pipeline.tasks.multi_label.measures.decisions import best_threshold

if TYPE_CHECKING:
    from vlm_audio_pipeline.tasks.multi_label.classifiers.language_model import LabelLanguageModel

_COPIED_COLUMNS = ("scoring", "control", "trial", "clip", "model", "revision")
_COLUMNS = (*_COPIED_COLUMNS, "source", "label", "truth", "score", "threshold", "predicted", "outcome")


def examples_stage(spec: "LabelLanguageModel") -> Stage:
    """Return the stage that chooses examples with and without each class from the other folds."""
    images = () if spec.rendering is None else (Input("spectrograms", spec.rendering, folds="all"),)

    def run(context: StageContext) -> dict[str, pa.Table]:
        clips = context.inputs["clips"]
        table, column = (context.inputs[images[0].key], "image_sha256") if images else (clips, "samples_sha256")
        content = dict(zip(table["clip"].to_pylist(), table[column].to_pylist(), strict=True))
        truth = truth_matrix(clips, context.inputs[CLIP_LABELS], context.classes)
        builder, tables = spec.question_builder(context.classes), []
        for trial in spec.trials:
            chosen = select_label_examples(
                clips,
                truth,
                context.classes,
                int(context.fold or 0),
                shots=spec.shots,
                seed=spec.seed,
                draw=trial.draw,
                order=builder.class_order(trial),
                question=spec.question,
                content=content,
            )
            tables.append(chosen.append_column("trial", pa.array([trial.trial] * chosen.num_rows, pa.int64())))
        return {"examples": pa.concat_tables(tables)}

    names = {"shots", "question", "draws", "orders", "paraphrases", "repeats"}
    return Stage(
        asset="examples",
        tables=("examples",),
        version=1,
        parameters={**spec.model_dump(mode="json", include=names, exclude_defaults=True), "seed": spec.seed},
        inputs=(Input("clips", folds="all"), *images),
        run=run,
        description=f"Clips of other folds as examples: {spec.shots} with each class and {spec.shots} without it.",
        folds=spec.folds,
    )


def predictions_stage(spec: "LabelLanguageModel", name: str) -> Stage:
    """Return the stage that turns responses into decisions, and for yes and no into scores."""
    is_list = spec.question == "list"
    reads: Literal["same", "all"] = "all" if spec.chooses_threshold else "same"

    def run(context: StageContext) -> dict[str, pa.Table]:
        clips, responses = context.inputs["clips"], context.inputs[f"responses/{name}"]
        truth = truth_matrix(clips, context.inputs[CLIP_LABELS], context.classes)
        names = spec.class_names(context.classes)
        if is_list:
            rows = predict_from_lists(responses, clips, truth, names)
        else:
            in_fold = pc.equal(responses["fold"], int(context.fold or 0))
            if spec.threshold is not None:
                thresholds = np.full(len(context.classes), spec.threshold)
            else:
                others = responses.filter(pc.invert(in_fold))
                thresholds = fit_thresholds(others, clips, truth, context.classes, name, context.fold)
            rows = predict_from_yes_no(responses.filter(in_fold), clips, truth, context.classes, thresholds)
        constants: dict[str, Any] = {"kind": spec.kind, "training_clips": _training_clips(context, spec, name)}
        for column, value in constants.items():
            rows = rows.append_column(column, pa.array([value] * rows.num_rows))
        return {"multi_label_predictions": rows}

    return Stage(
        asset="predictions",
        tables=("multi_label_predictions",),
        version=3,  # increase it also when the parser changes
        parameters={
            "label_form": spec.label_form,
            **spec.model_dump(mode="json", include={"question", "threshold", "shots"}, exclude_defaults=True),
        },
        inputs=(
            Input("clips", folds=reads),
            Input("responses", name, folds=reads),
            *((Input("examples", name),) if spec.shots else ()),
        ),
        run=run,
        description="The classes that each response lists; a response that is no list of classes has no answer."
        if is_list
        else "The probability of yes among yes and no for each class.",
        folds=spec.folds,
    )


def _training_clips(context: StageContext, spec: "LabelLanguageModel", name: str) -> int:
    """Return the number of labelled clips in the prompt; with several draws, of all draws."""
    return len(set(context.inputs[f"examples/{name}"]["clip"].to_pylist())) if spec.shots else 0


def fit_thresholds(
    responses: pa.Table,
    clips: pa.Table,
    truth: np.ndarray,
    classes: tuple[str, ...],
    classifier: str,
    fold: int | None,
) -> np.ndarray:
    """Return the threshold of each class with the highest F1 on responses of other folds to original images.

    Args:
        responses: `responses` rows of the other folds.
        clips: `clips` rows of all folds.
        truth: (clips, classes) bool.
        classes: every class of the study.
        classifier: its name, for the error.
        fold: the fold that is predicted, for the error.

    Raises:
        VlmAudioError: if a class has no answered clips with it, or none without it.
    """
    row_of_clip = {clip: i for i, clip in enumerate(clips["clip"].to_pylist())}
    answered = [r for r in responses.to_pylist() if r["control"] == "none" and r["outcome"] == "answered"]
    scores = np.array([yes_probabilities(dict(r["log_probabilities"]), classes) for r in answered])
    of_answered = truth[[row_of_clip[r["clip"]] for r in answered]]
    require_both_truths(of_answered, classes, classifier, fold)
    return np.array([best_threshold(of_answered[:, k], scores[:, k]) for k in range(len(classes))])


def predict_from_yes_no(
    responses: pa.Table, clips: pa.Table, truth: np.ndarray, classes: tuple[str, ...], thresholds: np.ndarray
) -> pa.Table:
    """Turn likelihoods of yes and no into rows of `multi_label_predictions`; an outcome other than "answered" has no score.

    Args:
        responses: `responses` rows of a fold, scoring likelihood.
        clips: `clips` rows, of the fold or of all folds.
        truth: (clips, classes) bool, columns in the order of `classes`.
        classes: every class of the study.
        thresholds: (classes,) float.
    """
    rows = []
    for response in responses.to_pylist():
        if response["outcome"] == "answered":
            scores = yes_probabilities(dict(response["log_probabilities"]), classes)
            cells = [
                {"score": float(s), "threshold": float(t), "predicted": bool(s >= t)}
                for s, t in zip(scores, thresholds, strict=True)
            ]
        else:
            cells = [{} for _ in classes]
        rows.append((response, response["outcome"], dict(zip(classes, cells, strict=True))))
    return _prediction_rows(rows, clips, truth)


def predict_from_lists(responses: pa.Table, clips: pa.Table, truth: np.ndarray, names: Mapping[str, str]) -> pa.Table:
    """Turn responses into rows of `multi_label_predictions`, without scores.

    A list that was cut off is `truncated`. A response with the outcome "refused" or "error" keeps it.

    Args:
        responses: `responses` rows of a fold.
        clips: `clips` rows of the fold.
        truth: (clips, classes) bool, columns in the order of `names`.
        names: class -> its name in the prompt.
    """
    rows = []
    for response in responses.to_pylist():
        outcome = response["outcome"]
        labels: frozenset[str] = frozenset()
        if outcome == "answered":
            parsed = parse_list(response["text"], names)
            outcome, labels = parsed.outcome, parsed.labels
        decisions = {label: {"predicted": label in labels} if outcome == "answered" else {} for label in names}
        rows.append((response, outcome, decisions))
    return _prediction_rows(rows, clips, truth)


def _prediction_rows(
    rows: list[tuple[dict[str, Any], str, dict[str, dict[str, Any]]]], clips: pa.Table, truth: np.ndarray
) -> pa.Table:
    """Return a row for each class of each response.

    Args:
        rows: the response, its outcome, and for each class the columns of its decision.
        clips: `clips` rows.
        truth: (clips, classes) bool, columns in the order of the classes.
    """
    row_of_clip = {clip: i for i, clip in enumerate(clips["clip"].to_pylist())}
    sources = clips["source"].to_pylist()
    lines = [
        {
            **{name: response[name] for name in _COPIED_COLUMNS},
            "source": sources[row_of_clip[response["clip"]]],
            "label": label,
            "truth": bool(truth[row_of_clip[response["clip"]], k]),
            "outcome": outcome,
            **decision,
        }
        for response, outcome, decisions in rows
        for k, (label, decision) in enumerate(decisions.items())
    ]
    return pa.Table.from_pylist(lines, pa.schema([TABLES["multi_label_predictions"].arrow.field(c) for c in _COLUMNS]))
