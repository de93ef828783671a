"""Types and columns that many tables share: one word, one meaning, one documentation."""

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

STUDY = Column("study", TEXT, "name of the study")
FOLD = Column("fold", INT, "the dataset's official fold")
CLIP = Column("clip", TEXT, "clip id, unique within the dataset")
LABEL = Column("label", TEXT, "true class, canonical name")
SOURCE = Column("source", TEXT, "id of the recording the clip was cut from; clips of one source share a fold")
SCORING = Column(
    "scoring",
    TEXT,
    "how a label was chosen: score (highest score), likelihood, generation, judgement, or examples_knn: k-NN on the very examples a few-shot model was shown",
)
CONTROL = Column(
    "control", TEXT, "what was done to the query picture: none, blank, time_shuffled, other_clip, no_image"
)
TRIAL = Column("trial", INT, "one complete pass: draw of examples, class order, repeat, or one human reader; from 0")
