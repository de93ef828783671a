"""Schemas of the task `multi_label`: labels, probes, predictions, measures, the leaderboard and contrasts."""

from collections.abc import Mapping

from vlm_audio_pipeline.storage.checks import DECISIONS_CONSISTENT, EVERY_CLASS_PREDICTED
from vlm_audio_pipeline.storage.columns import BOOL, CLASS, CLIP, CONTROL, FLOAT, FOLD, INT, SOURCE, STUDY, TEXT, TRIAL
from vlm_audio_pipeline.storage.table_schema import Column, TableSchema

_CLASSIFIER = Column("classifier", TEXT, "name of the classifier in the study")
_KIND = Column("kind", TEXT, "kind of classifier: probe, knn, zero_shot, language_model")
_SCORING = Column(
    "scoring",
    TEXT,
    "how a class is decided: score (the score of the class reaches its threshold), likelihood (the probability of yes reaches it), or "
    "generation (the response lists it)",
)
_LOW = "lower end of the 95 % interval of `{}`, by source recording"
_INTERVAL = Column("interval", TEXT, "method of the interval, or why there is none", nullable=True)
_MEASURES: Mapping[str, str] = {
    "cmap": "mean over classes of the average precision (not interpolated; classes with a positive clip)",
    "auroc_macro": "mean over classes of the area under the ROC curve",
    "f1_macro": "mean over classes of F1 at the threshold of each fold",
    "lwlrap": "label-weighted label-ranking average precision",
    "exact_match": "share of clips whose classes are all decided correctly",
}


def _measure_columns() -> tuple[Column, ...]:
    columns = []
    for name, doc in _MEASURES.items():
        columns.append(Column(name, FLOAT, f"{doc} (share of 1; higher is better); null if undefined", nullable=True))
        columns.append(Column(f"{name}_low", FLOAT, _LOW.format(name), nullable=True))
        columns.append(Column(f"{name}_high", FLOAT, "upper end of the 95 % interval", nullable=True))
    return tuple(columns)


MULTI_LABEL_TABLES: tuple[TableSchema, ...] = (
    TableSchema(
        "clip_labels",
        "The classes of each clip, one row per clip and class; a clip without classes has no row.",
        key=("clip", "label"),
        preview_first=("clip", "label"),
        columns=(STUDY, FOLD, CLIP, CLASS),
    ),
    TableSchema(
        "clip_events",
        "The annotated events of the study's classes in each clip, one row per clip and event, if the dataset has events with times. An event "
        "that several clips contain has a row for each of them.",
        key=("clip", "event"),
        preview_first=("clip", "event", "label", "start_s", "end_s"),
        columns=(
            STUDY,
            FOLD,
            CLIP,
            Column("event", INT, "number of the event in its recording, by start, from 1; the same in every clip"),
            CLASS,
            Column(
                "start_s", FLOAT, "start of the event within the recording, s; it may be before the start of the clip"
            ),
            Column("end_s", FLOAT, "end of the event within the recording, s; it may be after the end of the clip"),
            Column(
                "low_hz", FLOAT, "lower frequency bound of the event, Hz; null if it is not annotated", nullable=True
            ),
            Column(
                "high_hz", FLOAT, "upper frequency bound of the event, Hz; null if it is not annotated", nullable=True
            ),
        ),
    ),
    TableSchema(
        "multi_label_probes",
        "Coefficients of the linear probes, trained on the other folds: an independent logistic regression per class.",
        key=("label", "dimension"),
        component="classifier",
        preview_first=("classifier", "label"),
        columns=(
            STUDY,
            _CLASSIFIER,
            FOLD,
            CLASS,
            Column("dimension", INT, "index into the embedding; -1 is the intercept"),
            Column(
                "coefficient",
                FLOAT,
                "weight on the standardised embedding; logit = sum of coefficient * (x - mean) / scale + intercept",
            ),
            Column("mean", FLOAT, "mean of this dimension over the training clips; 0 for the intercept"),
            Column(
                "scale", FLOAT, "standard deviation over the training clips (1 where constant); 1 for the intercept"
            ),
            Column("c", FLOAT, "inverse regularisation strength, the same for all classes"),
            Column(
                "threshold", FLOAT, "lowest probability at which the class is predicted, chosen in the training folds"
            ),
            Column(
                "inner_cmap",
                FLOAT,
                "mean average precision of this C in the cross-validation within the training folds",
            ),
            Column("positives", INT, "number of training clips that have the class"),
            Column("training_clips", INT, "number of training clips"),
        ),
    ),
    TableSchema(
        "multi_label_predictions",
        "One row for each (study, classifier, scoring, control, trial, clip, class), with any outcome.",
        key=("scoring", "control", "trial", "clip", "label"),
        component="classifier",
        checks=(DECISIONS_CONSISTENT, EVERY_CLASS_PREDICTED),
        preview_first=("classifier", "clip", "label", "truth", "predicted", "score"),
        columns=(
            STUDY,
            _CLASSIFIER,
            _KIND,
            FOLD,
            _SCORING,
            CONTROL,
            TRIAL,
            CLIP,
            SOURCE,
            CLASS,
            Column("truth", BOOL, "whether the clip has the class"),
            Column(
                "score",
                FLOAT,
                "score of the class, higher for a more certain class; null without a score",
                nullable=True,
            ),
            Column(
                "threshold",
                FLOAT,
                "lowest score at which the class is predicted, chosen on other folds; null without a score",
                nullable=True,
            ),
            Column(
                "predicted",
                BOOL,
                "whether the class is predicted; null unless the outcome is answered",
                nullable=True,
            ),
            Column(
                "outcome",
                TEXT,
                "answered, unparseable, truncated, refused or error; without a decision, nothing is guessed and the row is kept",
            ),
            Column("model", TEXT, "model id; for a method without weights, its name", nullable=True),
            Column("revision", TEXT, "hub commit, digest, or the id that the endpoint returned", nullable=True),
            Column("encoder", TEXT, "encoder whose vectors the classifier uses", nullable=True),
            Column("training_clips", INT, "number of labelled training clips", nullable=True),
        ),
    ),
    TableSchema(
        "multi_label_metrics",
        "Every measure of a classifier, one row for each measure, with its interval and the numbers of labels that it covers.",
        key=("scoring", "control", "subset", "metric", "label"),
        component="classifier",
        per_fold=False,
        catalogue_kind="table",
        preview_first=("classifier", "metric", "label", "value", "positives"),
        columns=(
            STUDY,
            _CLASSIFIER,
            _SCORING,
            CONTROL,
            Column("subset", TEXT, "clips that it covers: all, 'fold 1', ..., or 'without tuning folds'"),
            Column(
                "metric",
                TEXT,
                "of a class: ap (average precision), auroc, f1; of all classes: cmap, auroc_macro, f1_macro, lwlrap, exact_match",
            ),
            Column("label", TEXT, "class that the measure is about; empty for all classes"),
            Column("value", FLOAT, "value of the measure, share of 1", nullable=True),
            Column("reason", TEXT, "why `value` is null", nullable=True),
            Column("low", FLOAT, _LOW.format("value"), nullable=True),
            Column("high", FLOAT, "upper end of the 95 % interval", nullable=True),
            _INTERVAL,
            Column("positives", INT, "number of labels: clips that have the class, summed over classes"),
            Column("negatives", INT, "number of pairs of a clip and a class that it does not have"),
            Column("clips", INT, "number of distinct clips that it covers"),
            Column("classes", INT, "number of classes that it covers"),
        ),
    ),
    TableSchema(
        "multi_label_leaderboard",
        "One row for each (classifier, scoring, control), best first; a classifier that was not run has a row with the reason. A constant "
        "score for every clip is a row of kind reference.",
        key=("classifier", "scoring", "control"),
        per_fold=False,
        catalogue_kind="table",
        order=(("study", "ascending"), ("rank", "ascending"), ("cmap", "descending")),
        preview_first=("rank", "classifier", "cmap", "positives", "clips"),
        columns=(
            STUDY,
            Column(
                "rank",
                INT,
                "rank by `cmap` among the rows that cover every clip equally often, with control none; null for all other rows",
                nullable=True,
            ),
            _CLASSIFIER,
            Column("kind", TEXT, "kind of classifier; reference for constant scores, which are never ranked"),
            Column("model", TEXT, "model id; for a method without weights, its name", nullable=True),
            Column("scoring", TEXT, "how a class is decided; empty if the classifier was not run, and for references"),
            CONTROL,
            *_measure_columns(),
            Column("positives", INT, "number of labels: clips that have a class, summed over classes"),
            Column("classes", INT, "number of classes with a positive clip"),
            Column("predictions", INT, "number of predictions, one for each trial, clip and class"),
            Column("answered", INT, "number of predictions with a decision"),
            Column("clips", INT, "number of distinct clips with a prediction"),
            Column("dataset_clips", INT, "number of clips of the study's dataset"),
            Column("rejected_clips", INT, "number of clips that cannot be used; no measure includes them"),
            Column("trials", INT, "number of trials: passes over the clips"),
            Column("folds", TEXT, "folds covered, such as 1,2,3,4,5"),
            Column("training_clips", INT, "number of labelled training clips, maximum over folds", nullable=True),
            Column(
                "partial",
                BOOL,
                "true if folds are missing, requests failed, two models answered, or the run was limited; such a row is never ranked",
            ),
            Column("note", TEXT, "denominators and reasons in words; 'not run: ...' for a classifier that was not run"),
        ),
    ),
    TableSchema(
        "multi_label_contrasts",
        "The comparisons that a multi-label study declares in advance, each in one measure with its test; a comparison without a result "
        "has the reason.",
        key=("position",),
        per_fold=False,
        catalogue_kind="table",
        preview_first=("classifier", "against", "measure", "value", "against_value"),
        columns=(
            STUDY,
            Column("position", INT, "position in the study file, from 0"),
            Column("measure", TEXT, "measure that is compared: cmap, auroc_macro, f1_macro, lwlrap or exact_match"),
            Column("classifier", TEXT, "classifier that is compared"),
            Column("scoring", TEXT, "scoring of `classifier`; null without predictions to compare", nullable=True),
            CONTROL,
            Column("against", TEXT, "other side of the comparison: a classifier or chance"),
            Column(
                "against_scoring",
                TEXT,
                "scoring of `against`; null for chance, or without predictions to compare",
                nullable=True,
            ),
            Column("against_control", TEXT, "control of `against`"),
            Column("subset", TEXT, "clips that it covers: all, or 'without tuning folds'"),
            Column(
                "value",
                FLOAT,
                "`measure` of `classifier` on the common clips, share of 1; against a classifier, equal scores are in random order",
                nullable=True,
            ),
            Column(
                "against_value",
                FLOAT,
                "`measure` of `against` on the common clips; of chance: with the scores of `classifier` assigned to other recordings",
                nullable=True,
            ),
            Column("difference", FLOAT, "value - against_value", nullable=True),
            Column("low", FLOAT, _LOW.format("difference"), nullable=True),
            Column("high", FLOAT, "upper end of the 95 % interval of `difference`", nullable=True),
            Column(
                "p",
                FLOAT,
                "two-sided p-value of the difference: sign flips of the influence of each source recording; against chance, drawn labels of "
                "source recordings",
                nullable=True,
            ),
            Column("p_method", TEXT, "the test of `p`, and whether it is exact or uses random draws", nullable=True),
            Column("p_holm", FLOAT, "`p` after Holm's correction, which decides the verdict", nullable=True),
            Column(
                "margin",
                FLOAT,
                "declared margin of equivalence, a share of 1; null: equivalence is not tested",
                nullable=True,
            ),
            Column(
                "p_equivalence",
                FLOAT,
                "p-value of two one-sided tests that the difference is smaller than `margin`",
                nullable=True,
            ),
            Column(
                "p_equivalence_holm",
                FLOAT,
                "`p_equivalence` after Holm's correction, which decides the verdict",
                nullable=True,
            ),
            Column(
                "holm_over",
                INT,
                "number of tests that were made and that Holm corrects for: one for each contrast, one more for each margin",
            ),
            Column(
                "detectable_difference",
                FLOAT,
                "difference that about 8 of 10 studies with as many recordings would find after Holm's correction",
                nullable=True,
            ),
            Column("clips", INT, "number of common clips"),
            Column("sources", INT, "number of source recordings of the common clips"),
            Column("positives", INT, "number of labels that the measure of `classifier` covers"),
            Column("classes", INT, "number of classes that the measure of `classifier` covers"),
            Column(
                "verdict",
                TEXT,
                "better or worse (p_holm below 0.05), equivalent (p_equivalence_holm below 0.05), cannot tell apart, or not "
                "compared (numbers are null)",
            ),
            Column("statement", TEXT, "the result as sentences with its numbers"),
            Column("reason", TEXT, "why numbers are null", nullable=True),
        ),
    ),
    TableSchema(
        "multi_label_recordings",
        "Measures of whole recordings, in studies with `pooling`: one row for each scoring, control and pooling of a classifier. A run that is "
        "not finished has a row with the reason.",
        key=("scoring", "control", "pooling"),
        component="classifier",
        per_fold=False,
        catalogue_kind="table",
        preview_first=("classifier", "pooling", "cmap", "f1_macro", "recordings"),
        columns=(
            STUDY,
            _CLASSIFIER,
            _KIND,
            _SCORING,
            CONTROL,
            Column(
                "pooling",
                TEXT,
                "how the segments of a source recording are pooled: max (highest score; predicted in a segment), mean (mean score, no "
                "decisions) or any (predicted in a segment, no scores)",
            ),
            *_measure_columns(),
            Column("positives", INT, "number of labels: recordings that have a class, summed over classes"),
            Column("classes", INT, "number of classes with a positive recording"),
            Column("recordings", INT, "number of source recordings with a prediction"),
            Column("clips", INT, "number of distinct clips with a prediction"),
            Column(
                "note", TEXT, "denominators and reasons in words; 'not finished: ...' for a run that is not complete"
            ),
        ),
    ),
)
