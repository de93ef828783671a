"""Schemas of the optional analyses, which a study declares under `analyses`."""

from vlm_audio_pipeline.storage.columns import CONTROL, FLOAT, INT, SCORING, STUDY, TEXT
from vlm_audio_pipeline.storage.table_schema import Column, TableSchema

_CLASSIFIER = Column("classifier", TEXT, "name of the classifier in the study")
_REASON = Column("reason", TEXT, "why the numbers are null", nullable=True)

OPTIONAL_TABLES: tuple[TableSchema, ...] = (
    TableSchema(
        "variance_components",
        "Where differences between the trials of a language model come from: clips, draws of examples, class orders, wordings, repeats and their interactions.",
        key=("classifier", "scoring", "control", "component"),
        per_fold=False,
        catalogue_kind="table",
        columns=(
            STUDY,
            _CLASSIFIER,
            SCORING,
            CONTROL,
            Column(
                "component", TEXT, "clip, draw, class_order, wording, repeat, or an interaction such as clip x draw"
            ),
            Column("levels", INT, "number of levels; of an interaction, the product"),
            Column(
                "variance",
                FLOAT,
                "variance of this effect on `correct` (0 or 1), unbiased; slightly below 0 where there is no effect",
                nullable=True,
            ),
            Column("low", FLOAT, "lower end of the 95 % interval of `variance`, at least 0", nullable=True),
            Column("high", FLOAT, "upper end of the 95 % interval", nullable=True),
            Column(
                "sd",
                FLOAT,
                "standard deviation: root of `variance`, share of 1; 0 if `variance` is below 0",
                nullable=True,
            ),
            Column("sd_low", FLOAT, "root of `low`", nullable=True),
            Column("sd_high", FLOAT, "root of `high`", nullable=True),
            Column(
                "variance_of_mean",
                FLOAT,
                "what the effect adds to the variance of the accuracy: variance / levels",
                nullable=True,
            ),
            Column("clips", INT, "number of clips"),
            Column("sources", INT, "number of source recordings"),
            _REASON,
        ),
    ),
    TableSchema(
        "rendering_effects",
        "Accuracy by class and rendering, with their interaction, of classifiers that differ only in the rendering.",
        key=("group", "scoring", "rendering", "label"),
        per_fold=False,
        catalogue_kind="table",
        columns=(
            STUDY,
            Column("group", TEXT, "the classifiers that are compared, named after the first"),
            _CLASSIFIER,
            SCORING,
            Column("rendering", TEXT, "rendering of the image"),
            Column("label", TEXT, "true class; empty for all classes"),
            Column(
                "accuracy",
                FLOAT,
                "share of the clips that is correct, the mean over trials of each clip",
                nullable=True,
            ),
            Column("low", FLOAT, "lower end of the 95 % interval of `accuracy`, by source recording", nullable=True),
            Column("high", FLOAT, "upper end of the 95 % interval", nullable=True),
            Column(
                "interaction",
                FLOAT,
                "accuracy - mean of the class - mean of the rendering + mean of all; every class counts equally",
                nullable=True,
            ),
            Column(
                "interaction_low", FLOAT, "lower end of its 95 % interval, jackknife by source recording", nullable=True
            ),
            Column("interaction_high", FLOAT, "upper end of the 95 % interval", nullable=True),
            Column(
                "p_rendering",
                FLOAT,
                "permutation test by source recording that all renderings are equal, uncorrected; only in rows with an empty label",
                nullable=True,
            ),
            Column(
                "p_interaction",
                FLOAT,
                "permutation test by source recording that the effect of the rendering is the same for all classes, uncorrected; only in rows with an empty label",
                nullable=True,
            ),
            Column("clips", INT, "number of clips"),
            _REASON,
        ),
    ),
    TableSchema(
        "item_response",
        "A mixed logistic model over clips, models and annotators: logit P(correct) = ability - difficulty.",
        key=("kind", "name", "scoring"),
        per_fold=False,
        catalogue_kind="table",
        columns=(
            STUDY,
            Column(
                "kind",
                TEXT,
                "ability (of a classifier), difficulty (of a clip), spread (of clips, of annotators), or model (it could not be fitted)",
            ),
            Column(
                "name", TEXT, "classifier, clip id, `clips` or `annotators`; empty if the model could not be fitted"
            ),
            Column("scoring", TEXT, "scoring of the classifier; empty otherwise"),
            Column(
                "value",
                FLOAT,
                "posterior mean, logits; for a spread the standard deviation of the effects",
                nullable=True,
            ),
            Column("low", FLOAT, "lower end of the 95 % credible interval", nullable=True),
            Column("high", FLOAT, "upper end of the 95 % credible interval", nullable=True),
            Column("predictions", INT, "number of predictions"),
            _REASON,
        ),
    ),
)
