"""Types and columns that many tables share."""

import pyarrow as pa

from vlm_audio_pipeline.storage.table_schema import Column

TEXT = pa.string()
INT = pa.int64()
FLOAT = pa.float64()
BOOL = pa.bool_()
TIME = pa.timestamp("us", tz="UTC")
VECTOR = pa.list_(pa.float32())
TEXT_MAP = pa.map_(TEXT, TEXT)
SCORES = pa.map_(TEXT, FLOAT)

STUDY = Column("study", TEXT, "name of the study", in_preview=False)
FOLD = Column("fold", INT, "fold of the dataset: official, or assigned once")
CLIP = Column("clip", TEXT, "clip id, unique within the dataset")
LABEL = Column("label", TEXT, "true class, canonical name")
CLASS = Column("label", TEXT, "the class, canonical name")
SOURCE = Column(
    "source", TEXT, "source recording: id of the recording that the clip was cut from; all its clips are in one fold"
)
SCORING = Column(
    "scoring",
    TEXT,
    "how a label is chosen: score (highest score), likelihood, generation, first_token (most likely first token; not a likelihood), annotation, or examples_knn (k-NN on the examples in the prompt of a few-shot model)",
)
CONTROL = Column(
    "control",
    TEXT,
    "change of the query: none; the controls blank, time_shuffled, other_clip, no_image; or a change of its audio by `perturb`, such as white_noise_20db, gain_minus_20db, low_pass_4000hz",
)
TRIAL = Column(
    "trial",
    INT,
    "number of the pass over the clips (draw of examples, class order, repeat) or of the annotator, from 0",
)
