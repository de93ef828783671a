"""Schemas of the summaries of predictions: metrics, confusion counts, reliability, the leaderboard and contrasts."""

from vlm_audio_pipeline.measures.declarations import MEASURES
from vlm_audio_pipeline.measures.measure import Measure
from vlm_audio_pipeline.storage.checks import ONE_MODEL
from vlm_audio_pipeline.storage.columns import BOOL, CONTROL, FLOAT, INT, LABEL, SCORING, STUDY, TEXT
from vlm_audio_pipeline.storage.table_schema import Column, TableSchema

_CLASSIFIER = Column("classifier", TEXT, "name of the classifier in the study")


def measure_column(measure: Measure) -> Column:
    """Declare the leaderboard's column for a measure."""
    kind = INT if measure.integer else FLOAT
    return Column(measure.name, kind, measure.documentation, nullable=True, in_data_version=measure.in_data_version)


def leaderboard_schema() -> TableSchema:
    """Declare the leaderboard, with a column for each measure that is declared for it."""
    measures = [measure_column(m) for m in MEASURES.values() if m.leaderboard]
    results = [column for column in measures if column.in_data_version]
    interval = Column(
        "interval",
        TEXT,
        "method of the interval; null for classifiers that were not run, and for references",
        nullable=True,
    )
    scope = Column(
        "interval_scope",
        TEXT,
        "what the interval covers: clips; clips, for these examples; or clips and draws of examples; null without interval",
        nullable=True,
    )
    position = 1 + [column.name for column in results].index("accuracy_high")
    results[position:position] = [interval, scope]
    return TableSchema(
        "leaderboard",
        "One row for each (classifier, scoring, control), best first; a classifier that was not run has a row with the reason. Chance and "
        "majority are rows of kind reference.",
        key=("classifier", "scoring", "control"),
        per_fold=False,
        catalogue_kind="table",
        order=(("study", "ascending"), ("rank", "ascending"), ("accuracy", "descending")),
        preview_first=("rank", "classifier", "accuracy", "correct", "predictions"),
        columns=(
            STUDY,
            Column(
                "rank",
                INT,
                "rank among the rows that cover every clip equally often, with control none; null for all other rows",
                nullable=True,
            ),
            _CLASSIFIER,
            Column("kind", TEXT, "kind of classifier; reference for chance and majority, which are never ranked"),
            Column("model", TEXT, "model id; for a method without weights, its name", nullable=True),
            Column("scoring", TEXT, "how a label is chosen; empty if the classifier was not run, and for references"),
            CONTROL,
            *results,
            Column("predictions", INT, "denominator of `accuracy`"),
            Column(
                "correct",
                INT,
                "numerator of `accuracy`; null for references, whose accuracy is an expected value",
                nullable=True,
            ),
            Column("answered", INT, "denominator of `accuracy_answered`"),
            Column("clips", INT, "number of distinct clips with a prediction"),
            Column("dataset_clips", INT, "number of clips of the study's dataset"),
            Column("rejected_clips", INT, "number of clips that cannot be used; no denominator includes them"),
            Column("trials", INT, "number of trials: passes over the clips, or annotators"),
            Column("folds", TEXT, "folds covered, such as 1,2,3,4,5"),
            Column("training_clips", INT, "number of labelled training clips, maximum over folds", nullable=True),
            *(column for column in measures if not column.in_data_version),
            Column(
                "partial",
                BOOL,
                "true if folds are missing, requests failed, two models answered, or the run was limited; such a row is never ranked",
            ),
            Column("note", TEXT, "denominators and reasons in words; 'not run: ...' for a classifier that was not run"),
        ),
    )


SUMMARY_TABLES: tuple[TableSchema, ...] = (
    TableSchema(
        "metrics",
        "Every measure of a classifier, one row for each measure.",
        key=("scoring", "control", "subset", "metric", "label"),
        component="classifier",
        per_fold=False,
        catalogue_kind="table",
        checks=(ONE_MODEL,),
        preview_first=("classifier", "predictions", "label"),
        rows_outside_data_version={"metric": tuple(m.name for m in MEASURES.values() if not m.in_data_version)},
        columns=(
            STUDY,
            _CLASSIFIER,
            SCORING,
            CONTROL,
            Column("subset", TEXT, "clips that it covers: all, 'fold 1', ..., or 'without tuning folds'"),
            Column("metric", TEXT, "name of the measure"),
            Column("label", TEXT, "class that the measure is about; empty for all classes"),
            Column("value", FLOAT, "value of the measure; accuracies as a share of 1", nullable=True),
            Column("reason", TEXT, "why `value` is null", nullable=True),
            Column("predictions", INT, "denominator: number of predictions that it is computed from"),
            Column("clips", INT, "number of distinct clips among these predictions"),
        ),
    ),
    TableSchema(
        "confusion",
        "How often each true class was predicted as each label, or ended with another outcome.",
        key=("scoring", "control", "label", "predicted"),
        component="classifier",
        per_fold=False,
        catalogue_kind="table",
        preview_first=("classifier", "label", "predicted"),
        columns=(
            STUDY,
            _CLASSIFIER,
            SCORING,
            CONTROL,
            LABEL,
            Column("predicted", TEXT, "predicted class, or (unparseable), (truncated), (refused), (error)"),
            Column("count", INT, "number of predictions"),
        ),
    ),
    TableSchema(
        "reliability",
        "Accuracy by confidence: ten bins of equal width; empty bins have no row.",
        key=("scoring", "control", "variant", "bin"),
        component="classifier",
        per_fold=False,
        catalogue_kind="table",
        preview_first=("classifier", "accuracy"),
        columns=(
            STUDY,
            _CLASSIFIER,
            SCORING,
            CONTROL,
            Column(
                "variant",
                TEXT,
                "raw: the confidence as predicted; temperature: the highest score after temperature scaling fitted on "
                "the other folds",
            ),
            Column("bin", INT, "1 to 10; bin 1: confidence up to 0.1; bin 2: above 0.1, up to 0.2; ..."),
            Column("count", INT, "number of predictions in the bin"),
            Column("confidence", FLOAT, "mean confidence of the predictions in the bin, 0 to 1"),
            Column("accuracy", FLOAT, "share of the predictions in the bin that is correct"),
        ),
    ),
    leaderboard_schema(),
    TableSchema(
        "contrasts",
        "The comparisons that a study declares in advance, each with its test; a comparison without a result has the reason.",
        key=("position",),
        per_fold=False,
        catalogue_kind="table",
        preview_first=("classifier", "accuracy"),
        columns=(
            STUDY,
            Column("position", INT, "position in the study file, from 0"),
            Column("classifier", TEXT, "classifier that is compared"),
            Column(
                "scoring",
                TEXT,
                "scoring of `classifier`; null if the classifier has no predictions and the contrast names no scoring",
                nullable=True,
            ),
            CONTROL,
            Column("against", TEXT, "other side of the comparison: a classifier, chance or majority"),
            Column(
                "against_scoring",
                TEXT,
                "scoring of `against`; null for references, and if it has no predictions and the contrast names no scoring",
                nullable=True,
            ),
            Column("against_control", TEXT, "control of `against`"),
            Column("subset", TEXT, "clips that it covers: all, or 'without tuning folds'"),
            Column(
                "accuracy",
                FLOAT,
                "accuracy of `classifier` on the common clips: mean over clips of the share of correct predictions",
                nullable=True,
            ),
            Column("against_accuracy", FLOAT, "accuracy of `against` on the common clips", nullable=True),
            Column("difference", FLOAT, "accuracy - against_accuracy", nullable=True),
            Column("low", FLOAT, "lower end of the 95 % interval of `difference`", nullable=True),
            Column("high", FLOAT, "upper end of the 95 % interval of `difference`", nullable=True),
            Column(
                "interval_scope",
                TEXT,
                "what the interval and the test cover: clips, or, with few-shot classifiers: clips, for these examples",
                nullable=True,
            ),
            Column(
                "p",
                FLOAT,
                "two-sided p-value of the difference: sign flips by source recording; against chance, drawn labels of source "
                "recordings",
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
                "correct_only_classifier",
                INT,
                "number of clips that only `classifier` classifies correctly",
                nullable=True,
            ),
            Column(
                "correct_only_against", INT, "number of clips that only `against` classifies correctly", nullable=True
            ),
            Column(
                "p_mcnemar", FLOAT, "p-value of McNemar's exact test, which assumes independent clips", nullable=True
            ),
            Column(
                "detectable_difference",
                FLOAT,
                "difference that about 8 of 10 studies with as many clips would find after Holm's correction",
                nullable=True,
            ),
            Column("clips", INT, "number of common clips: both sides have an accuracy for them"),
            Column("sources", INT, "number of source recordings of the common clips"),
            Column("classifier_clips", INT, "number of clips with a prediction of `classifier`"),
            Column("against_clips", INT, "number of clips for which `against` has an accuracy"),
            Column(
                "verdict",
                TEXT,
                "better or worse (p_holm below 0.05), equivalent (p_equivalence_holm below 0.05), cannot tell apart, or not "
                "compared (predictions are missing or failed; numbers are null)",
            ),
            Column("statement", TEXT, "the result as sentences with its numbers"),
            Column("reason", TEXT, "why numbers are null", nullable=True),
        ),
    ),
)
