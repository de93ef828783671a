"""Tables over all folds: what predictions and vectors come to."""

from vlm_audio_pipeline.storage.columns import BOOL, CONTROL, FLOAT, INT, LABEL, SCORING, STUDY, TEXT
from vlm_audio_pipeline.storage.table_schema import Column, TableSchema

SUMMARY_TABLES: tuple[TableSchema, ...] = (
    TableSchema(
        "metrics",
        "Every number of a classifier, one row each.",
        key=("scoring", "control", "subset", "metric", "label"),
        owner="classifier",
        per_fold=False,
        stored="table",
        columns=(
            STUDY,
            Column("classifier", TEXT, "name of the classifier in the study"),
            SCORING,
            CONTROL,
            Column("subset", TEXT, "clips it is over: all, 'fold 1', ..., or 'without tuning folds'"),
            Column("metric", TEXT, "name of the number"),
            Column("label", TEXT, "class the number is about; empty for all"),
            Column("value", FLOAT, "the number; accuracies as a share of 1", nullable=True),
            Column("reason", TEXT, "why `value` is null", nullable=True),
            Column("predictions", INT, "denominator: predictions the number is over"),
            Column("clips", INT, "distinct clips among them"),
        ),
    ),
    TableSchema(
        "confusion",
        "How often each true class was given each label or outcome.",
        key=("scoring", "control", "label", "predicted"),
        owner="classifier",
        per_fold=False,
        stored="table",
        columns=(
            STUDY,
            Column("classifier", TEXT, "name of the classifier in the study"),
            SCORING,
            CONTROL,
            LABEL,
            Column("predicted", TEXT, "label predicted, or (unparseable), (refused), (error)"),
            Column("count", INT, "predictions"),
        ),
    ),
    TableSchema(
        "leaderboard",
        "One row for each (classifier, scoring, control), best first; what was not run says why.",
        key=("classifier", "scoring", "control"),
        per_fold=False,
        stored="table",
        columns=(
            STUDY,
            Column(
                "rank",
                INT,
                "place among the rows over every clip, each equally often, with the real input; null for all others",
                nullable=True,
            ),
            Column("classifier", TEXT, "name of the classifier in the study"),
            Column("kind", TEXT, "kind of classifier"),
            Column("model", TEXT, "model id, or the family's own name", nullable=True),
            Column("scoring", TEXT, "how a label was chosen; empty where not run"),
            CONTROL,
            Column("accuracy", FLOAT, "correct / predictions, unparseable and errors counted as wrong", nullable=True),
            Column("accuracy_answered", FLOAT, "correct / answered", nullable=True),
            Column(
                "accuracy_without_tuning_folds", FLOAT, "accuracy over the folds no choice was tuned on", nullable=True
            ),
            Column("macro_f1", FLOAT, "mean over classes of F1", nullable=True),
            Column("predictions", INT, "denominator of `accuracy`"),
            Column("correct", INT, "numerator of `accuracy`"),
            Column("answered", INT, "denominator of `accuracy_answered`"),
            Column("clips", INT, "distinct clips predicted"),
            Column("of_clips", INT, "clips of the study's dataset"),
            Column("rejected_clips", INT, "clips left out as unusable, in no denominator"),
            Column("trials", INT, "passes, or human readers"),
            Column("folds", TEXT, "folds covered, such as 1,2,3,4,5"),
            Column("training_clips", INT, "labelled clips learnt from, the most over folds", nullable=True),
            Column("partial", BOOL, "true where folds are missing, or the run was limited: never ranked"),
            Column("note", TEXT, "denominators and reasons in words; 'not run: ...' where there is no number"),
        ),
    ),
)
