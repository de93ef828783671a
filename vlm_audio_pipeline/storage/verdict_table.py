"""Schema of the table `verdicts`: for each vision-language model, whether it can hear what it sees."""

from vlm_audio_pipeline.storage.columns import FLOAT, INT, STUDY, TEXT
from vlm_audio_pipeline.storage.table_schema import Column, TableSchema

REFERENCES = {
    "chance": "chance",
    "blank": "the control blank",
    "time_shuffled": "the control time_shuffled",
    "audio": "the audio baseline",
    "pixels": "the pixels reference",
}
"""What a model is compared with -> its name in the documentation of the columns."""


def _reference_columns(name: str, title: str) -> tuple[Column, ...]:
    return (
        Column(f"{name}_accuracy", FLOAT, f"accuracy of {title} on the same clips", nullable=True),
        Column(
            f"{name}_low", FLOAT, f"lower end of the 95 % interval of accuracy minus that of {title}", nullable=True
        ),
        Column(
            f"{name}_high", FLOAT, f"upper end of the 95 % interval of accuracy minus that of {title}", nullable=True
        ),
        Column(f"{name}_p", FLOAT, f"p-value of the comparison with {title}, after Holm", nullable=True),
    )


VERDICTS_TABLE = TableSchema(
    "verdicts",
    "Can it hear what it sees? One row for each vision-language model and scoring, with the numbers that the answer rests "
    "on; a model that was not run has a row with the reason.",
    key=("classifier", "scoring"),
    per_fold=False,
    catalogue_kind="table",
    order=(("study", "ascending"), ("position", "ascending")),
    preview_first=("classifier", "scoring", "answer", "caution", "accuracy"),
    columns=(
        STUDY,
        Column("position", INT, "position in the study file, from 0"),
        Column("classifier", TEXT, "name of the classifier in the study"),
        Column("scoring", TEXT, "how a label is chosen; empty if the classifier was not run"),
        Column("answer", TEXT, "it can, it cannot, or cannot be decided"),
        Column("statement", TEXT, "the answer as sentences with its numbers"),
        Column(
            "caution",
            TEXT,
            "why the answer is no finding about real models or recordings: synthetic sounds, a demo model",
            nullable=True,
        ),
        Column(
            "time_order",
            TEXT,
            "whether it needs the order in time: yes, no or cannot be decided; null unless the answer is 'it can'",
            nullable=True,
        ),
        Column("accuracy", FLOAT, "accuracy on the original images; null for a partial run", nullable=True),
        *(column for name, title in REFERENCES.items() for column in _reference_columns(name, title)),
        Column("audio_classifier", TEXT, "classifier on the audio that is the audio baseline", nullable=True),
        Column("pixels_classifier", TEXT, "probe on the pixels of the same images", nullable=True),
        Column("clips", INT, "number of clips with a prediction"),
        Column("dataset_clips", INT, "number of clips of the study's dataset"),
        Column("sources", INT, "number of source recordings of these clips"),
        Column("holm_over", INT, "number of tests against chance and blank in the study, which Holm corrects for"),
        Column("reason", TEXT, "why numbers are null", nullable=True),
    ),
)
