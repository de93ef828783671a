"""Schemas of the summaries of predictions: metrics, confusion counts, reliability, the leaderboard and contrasts."""

from vlm_audio_pipeline.measures.declarations import MEASURES
from vlm_audio_pipeline.measures.measure import Measure
from vlm_audio_pipeline.storage.columns import BOOL, CONTROL, FLOAT, INT, LABEL, SCORING, STUDY, TEXT
from vlm_audio_pipeline.storage.table_schema import Column, TableSchema

_CLASSIFIER = Column("classifier", TEXT, "name of the classifier in the study")


def measure_column(measure: Measure) -> Column:
    """Declare the leaderboard's column for a measure."""
    kind = INT if measure.integer else FLOAT
    return Column(measure.name, kind, measure.documentation, nullable=True, content=measure.content)


def leaderboard_schema() -> TableSchema:
    """Declare the leaderboard, with a column for each measure that is declared for it."""
    measures = [measure_column(m) for m in MEASURES.values() if m.leaderboard]
    results = [column for column in measures if column.content]
    interval = Column(
        "interval",
        TEXT,
        "method of the interval: bootstrap by source, or Wilson if all are correct or all are wrong; null for "
        "classifiers that were not run, and for references",
        nullable=True,
    )
    results.insert(1 + [column.name for column in results].index("accuracy_high"), interval)
    return TableSchema(
        "leaderboard",
        "One row for each (classifier, scoring, control), best first; a classifier that was not run has the reason. Chance and "
        "majority are rows of kind reference.",
        key=("classifier", "scoring", "control"),
        per_fold=False,
        stored="table",
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
            Column("model", TEXT, "model id, or the family's own name", nullable=True),
            Column("scoring", TEXT, "how a label was chosen; empty where not run, and for references"),
            CONTROL,
            *results,
            Column("predictions", INT, "denominator of `accuracy`"),
            Column(
                "correct", INT, "numerator of `accuracy`; null for references, whose share is expected", nullable=True
            ),
            Column("answered", INT, "denominator of `accuracy_answered`"),
            Column("clips", INT, "distinct clips predicted"),
            Column("dataset_clips", INT, "clips of the study's dataset"),
            Column("rejected_clips", INT, "unusable clips, in no denominator"),
            Column("trials", INT, "passes over the clips, or annotators"),
            Column("folds", TEXT, "folds covered, such as 1,2,3,4,5"),
            Column("training_clips", INT, "labelled training clips, maximum over folds", nullable=True),
            *(column for column in measures if not column.content),
            Column("partial", BOOL, "true where folds are missing, or the run was limited: never ranked"),
            Column("note", TEXT, "denominators and reasons in words; 'not run: ...' where there is no number"),
        ),
    )


SUMMARY_TABLES: tuple[TableSchema, ...] = (
    TableSchema(
        "metrics",
        "Every measure of a classifier, one row each.",
        key=("scoring", "control", "subset", "metric", "label"),
        component="classifier",
        per_fold=False,
        stored="table",
        preview_first=("classifier", "predictions", "label"),
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
            Column("predictions", INT, "denominator: predictions that it is computed from"),
            Column("clips", INT, "distinct clips among them"),
        ),
    ),
    TableSchema(
        "confusion",
        "How often each true class was predicted as each label, or ended with another outcome.",
        key=("scoring", "control", "label", "predicted"),
        component="classifier",
        per_fold=False,
        stored="table",
        preview_first=("classifier", "label", "predicted"),
        columns=(
            STUDY,
            _CLASSIFIER,
            SCORING,
            CONTROL,
            LABEL,
            Column("predicted", TEXT, "label predicted, or (unparseable), (refused), (error)"),
            Column("count", INT, "predictions"),
        ),
    ),
    TableSchema(
        "reliability",
        "Accuracy by confidence: ten bins of equal width, without the empty ones.",
        key=("scoring", "control", "variant", "bin"),
        component="classifier",
        per_fold=False,
        stored="table",
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
            Column("bin", INT, "1 to 10; bin 1 holds confidences up to 0.1, bin 2 those above it up to 0.2, ..."),
            Column("count", INT, "predictions in the bin"),
            Column("confidence", FLOAT, "mean confidence of these, a share of 1"),
            Column("accuracy", FLOAT, "share of these that is correct"),
        ),
    ),
    leaderboard_schema(),
    TableSchema(
        "contrasts",
        "The comparisons that a study declares in advance, each with its test; a comparison that could not be made has the reason.",
        key=("position",),
        per_fold=False,
        stored="table",
        preview_first=("classifier", "accuracy"),
        columns=(
            STUDY,
            Column("position", INT, "place in the study file, from 0"),
            Column("classifier", TEXT, "classifier that is compared"),
            Column("scoring", TEXT, "its scoring; null where there is none to compare", nullable=True),
            CONTROL,
            Column("against", TEXT, "what it is compared with: a classifier, chance or majority"),
            Column("against_scoring", TEXT, "its scoring; null for references, or where there is none", nullable=True),
            Column("against_control", TEXT, "its control"),
            Column("subset", TEXT, "clips that it covers: all, or 'without tuning folds'"),
            Column(
                "accuracy",
                FLOAT,
                "accuracy on the clips that both have: mean over clips of the share that is correct",
                nullable=True,
            ),
            Column("against_accuracy", FLOAT, "accuracy of `against` on the same clips", nullable=True),
            Column("difference", FLOAT, "accuracy - against_accuracy", nullable=True),
            Column("low", FLOAT, "lower end of the 95 % interval of `difference`", nullable=True),
            Column("high", FLOAT, "upper end of the 95 % interval of `difference`", nullable=True),
            Column("p", FLOAT, "p-value of the sign-flip test by source recording, two-sided", nullable=True),
            Column("p_method", TEXT, "exact, or the number of random flips", nullable=True),
            Column("p_holm", FLOAT, "`p` after Holm's correction; the verdict uses this one", nullable=True),
            Column("holm_over", INT, "contrasts of the study that could be tested, over which Holm corrects"),
            Column("correct_only_classifier", INT, "clips that only `classifier` classifies correctly", nullable=True),
            Column("correct_only_against", INT, "clips that only `against` classifies correctly", nullable=True),
            Column("p_mcnemar", FLOAT, "of McNemar's exact test, which assumes independent clips", nullable=True),
            Column(
                "detectable_difference",
                FLOAT,
                "smallest difference that a single test would detect with 80 % power on these clips",
                nullable=True,
            ),
            Column("clips", INT, "clips that both have"),
            Column("sources", INT, "source recordings of these"),
            Column("classifier_clips", INT, "clips that `classifier` has"),
            Column("against_clips", INT, "clips that `against` has"),
            Column("verdict", TEXT, "better, worse, cannot tell apart (p_holm of 0.05 or more), or not compared"),
            Column("statement", TEXT, "the same in a sentence with its numbers"),
            Column("reason", TEXT, "why numbers are null", nullable=True),
        ),
    ),
)
