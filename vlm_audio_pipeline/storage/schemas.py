"""Every table of the project, declared once: the Arrow schema, the check at write and the documentation come from here.

Conventions: times in s, money in USD, rates in Hz, accuracies as a share of 1. A null means "undefined", and where that
is not obvious a column beside it says why.
"""

import pyarrow as pa

from vlm_audio_pipeline.storage.table_schema import Column, TableSchema

__all__ = ["TABLES", "Column", "TableSchema"]

TEXT = pa.string()
INT = pa.int64()
FLOAT = pa.float64()
BOOL = pa.bool_()
TIME = pa.timestamp("us", tz="UTC")
VECTOR = pa.list_(pa.float32())
TEXT_MAP = pa.map_(TEXT, TEXT)
SCORES = pa.map_(TEXT, FLOAT)

STUDY = Column("study", TEXT, "name of the study")
FOLD = Column("fold", INT, "the dataset's official fold")
CLIP = Column("clip", TEXT, "clip id, unique within the dataset")
LABEL = Column("label", TEXT, "true class, canonical name")
SOURCE = Column("source", TEXT, "id of the recording the clip was cut from; clips of one source share a fold")
SCORING = Column("scoring", TEXT, "how a label was chosen: score (highest score), likelihood, generation, judgement")
CONTROL = Column(
    "control", TEXT, "what was done to the query picture: none, blank, time_shuffled, other_clip, no_image"
)
TRIAL = Column("trial", INT, "one complete pass: draw of examples, class order, repeat, or one human reader; from 0")

TABLES: dict[str, TableSchema] = {}


def _declare(schema: TableSchema) -> None:
    TABLES[schema.name] = schema


_declare(
    TableSchema(
        "clips",
        "Recordings that can be used, one row a clip.",
        key=("clip",),
        columns=(
            STUDY,
            FOLD,
            CLIP,
            LABEL,
            SOURCE,
            Column("file", TEXT, "path relative to the dataset's folder, with / between parts", content=False),
            Column(
                "start_s", FLOAT, "start of the stretch within the file, s; null: from the beginning", nullable=True
            ),
            Column("end_s", FLOAT, "end of the stretch within the file, s; null: to the end", nullable=True),
            Column("samples_sha256", TEXT, "SHA-256 of the decoded samples: float32, mono, at the file's own rate"),
            Column("duration_s", FLOAT, "length, s"),
            Column("rate_hz", INT, "sampling rate of the file, Hz"),
            Column("channels", INT, "channels of the file, averaged to mono when decoded"),
            Column("peak", FLOAT, "largest absolute sample, 1 = full scale"),
            Column("rms", FLOAT, "root mean square of the samples, 1 = full scale; 0 is digital silence"),
            Column("kept", TEXT_MAP, "columns of the dataset's listing that the study keeps, as text", content=False),
        ),
    )
)
_declare(
    TableSchema(
        "rejected_clips",
        "Recordings left out under `on_bad_clip: skip`; every denominator mentions them.",
        key=("clip",),
        columns=(
            STUDY,
            FOLD,
            CLIP,
            LABEL,
            Column("file", TEXT, "path relative to the dataset's folder"),
            Column("reason", TEXT, "why it cannot be used"),
        ),
    )
)
_declare(
    TableSchema(
        "spectrograms",
        "Pictures of clips under a rendering, as files' bytes.",
        key=("clip",),
        owner="rendering",
        columns=(
            STUDY,
            Column("rendering", TEXT, "name of the rendering in the study"),
            FOLD,
            CLIP,
            Column("picture", pa.binary(), "the encoded picture, exactly as a model is shown it"),
            Column("media_type", TEXT, "image/png or image/jpeg"),
            Column("width", INT, "width, pixels"),
            Column("height", INT, "height, pixels"),
            Column("picture_sha256", TEXT, "SHA-256 of `picture`"),
        ),
    )
)
_declare(
    TableSchema(
        "embeddings",
        "Vectors of clips, one row a clip and encoder.",
        key=("clip",),
        owner="encoder",
        columns=(
            STUDY,
            Column("encoder", TEXT, "name of the encoder in the study"),
            FOLD,
            CLIP,
            Column("vector", VECTOR, "the embedding, float32"),
            Column("dimensions", INT, "length of `vector`"),
            Column("model", TEXT, "model id, or the family's own name"),
            Column("revision", TEXT, "hub commit or digest of the weights; null where there are none", nullable=True),
            Column("dtype", TEXT, "number format of the computation"),
            Column("row_key", TEXT, "key of the vector in the row store: a hash of all that determines it"),
        ),
    )
)
_declare(
    TableSchema(
        "probes",
        "What probes learnt from the other folds: a linear map a class, never a pickle.",
        key=("label", "dimension"),
        owner="classifier",
        columns=(
            STUDY,
            Column("classifier", TEXT, "name of the classifier in the study"),
            FOLD,
            LABEL,
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
            Column("c", FLOAT, "inverse regularisation strength that was chosen"),
            Column(
                "inner_accuracy",
                FLOAT,
                "accuracy of that C in the cross-validation inside the training folds; null where C was given",
                nullable=True,
            ),
            Column("training_clips", INT, "clips learnt from"),
        ),
    )
)
_declare(
    TableSchema(
        "examples",
        "Clips shown to a few-shot classifier: from other folds, never from the query's source.",
        key=("trial", "query", "position"),
        owner="classifier",
        columns=(
            STUDY,
            Column("classifier", TEXT, "name of the classifier in the study"),
            FOLD,
            TRIAL,
            Column("query", TEXT, "clip id the examples were chosen for; empty where they serve the whole fold"),
            Column("position", INT, "place in the prompt, from 0"),
            CLIP,
            LABEL,
            SOURCE,
            Column("shown_label", TEXT, "label shown with the example; differs from `label` under permuted_labels"),
            Column("content_sha256", TEXT, "SHA-256 of the picture or samples shown"),
        ),
    )
)
_declare(
    TableSchema(
        "answers",
        "What language models said, raw: expensive, so nothing here is parsed or normalised.",
        key=("scoring", "control", "trial", "clip"),
        owner="classifier",
        columns=(
            STUDY,
            Column("classifier", TEXT, "name of the classifier in the study"),
            FOLD,
            SCORING,
            CONTROL,
            TRIAL,
            CLIP,
            Column("text", TEXT, "generated answer, verbatim", nullable=True),
            Column("log_probabilities", SCORES, "summed log-probability of each class's answer", nullable=True),
            Column(
                "label_tokens", pa.map_(TEXT, INT), "tokens of each class's answer, end token included", nullable=True
            ),
            Column("outcome", TEXT, "answered, refused or error, as the backend reported it"),
            Column("error", TEXT, "what went wrong, where something did", nullable=True),
            Column("model", TEXT, "model id as asked for"),
            Column("revision", TEXT, "hub commit, digest, or the id the endpoint returned", nullable=True),
            Column("row_key", TEXT, "key of the answer in the row store"),
            Column("input_tokens", INT, "tokens of the prompt", nullable=True, content=False),
            Column("cached_tokens", INT, "of these, served from a cache", nullable=True, content=False),
            Column("output_tokens", INT, "tokens generated", nullable=True, content=False),
            Column("seconds", FLOAT, "time to answer, s", nullable=True, content=False),
            Column("usd", FLOAT, "cost, USD", nullable=True, content=False),
            Column("answered_at", TIME, "when the model answered", nullable=True, content=False),
        ),
    )
)
_declare(
    TableSchema(
        "predictions",
        "One row for each (study, classifier, scoring, control, trial, clip), whatever became of it.",
        key=("scoring", "control", "trial", "clip"),
        owner="classifier",
        columns=(
            STUDY,
            Column("classifier", TEXT, "name of the classifier in the study"),
            Column("kind", TEXT, "kind of classifier: probe, knn, human, zero_shot, language_model"),
            FOLD,
            SCORING,
            CONTROL,
            TRIAL,
            CLIP,
            SOURCE,
            LABEL,
            Column("predicted", TEXT, "label predicted; null unless the outcome is answered", nullable=True),
            Column("outcome", TEXT, "answered, unparseable, refused or error: never guessed, never dropped"),
            Column("correct", BOOL, "predicted = label; false for every other outcome"),
            Column(
                "scores",
                SCORES,
                "a score for every class; null for a human reader, who gives a label alone",
                nullable=True,
            ),
            Column("confidence", FLOAT, "score of the predicted label, 0 to 1", nullable=True),
            Column("text", TEXT, "generated answer, verbatim", nullable=True),
            Column("reader", TEXT, "who judged, where a person did", nullable=True),
            Column("model", TEXT, "model id, or the family's own name", nullable=True),
            Column("revision", TEXT, "hub commit, digest or the id the endpoint returned", nullable=True),
            Column("encoder", TEXT, "encoder the classifier stands on", nullable=True),
            Column("rendering", TEXT, "rendering of the picture shown", nullable=True),
            Column("prompt", TEXT, "name of the prompt", nullable=True),
            Column("shots", INT, "examples a class shown in the prompt", nullable=True),
            Column("training_clips", INT, "labelled clips the classifier learnt from", nullable=True),
            Column("tokens", INT, "tokens read and written", nullable=True, content=False),
            Column("seconds", FLOAT, "time to predict, s", nullable=True, content=False),
            Column("usd", FLOAT, "cost, USD", nullable=True, content=False),
            Column(
                "answered_at",
                TIME,
                "when the model or person answered; null where nobody recorded it",
                nullable=True,
                content=False,
            ),
        ),
    )
)
_declare(
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
    )
)
_declare(
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
    )
)
_declare(
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
    )
)
