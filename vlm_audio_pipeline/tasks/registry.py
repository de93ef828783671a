"""The tasks of a study, by name."""

from dataclasses import dataclass

from vlm_audio_pipeline.classifiers.base import CLASSIFIERS, ClassifierSpec
from vlm_audio_pipeline.contracts.registry import Registry
from vlm_audio_pipeline.evaluation.contrasts import Contrast
from vlm_audio_pipeline.tasks.multi_label.classifiers.base import MULTI_LABEL_CLASSIFIERS
from vlm_audio_pipeline.tasks.multi_label.contrasts import LabelContrast

DEFAULT_TASK = "single_label"


@dataclass(frozen=True)
class Task:
    """What a study predicts for each clip.

    Attributes:
        doc: its meaning, for the documentation of study files.
        classifiers: the kinds of classifiers that a study of this task can have.
        contrast: what an entry of `contrasts` can say.
        has_analyses: whether a study of this task can declare optional analyses.
        has_pooling: whether a study of this task can pool the segments of recordings.
    """

    doc: str
    classifiers: Registry[ClassifierSpec]
    contrast: type[Contrast]
    has_analyses: bool
    has_pooling: bool


TASKS: dict[str, Task] = {
    DEFAULT_TASK: Task("exactly one class for each clip", CLASSIFIERS, Contrast, has_analyses=True, has_pooling=False),
    "multi_label": Task(
        "any number of classes for each clip, also none",
        MULTI_LABEL_CLASSIFIERS,
        LabelContrast,
        has_analyses=False,
        has_pooling=True,
    ),
}
"""Every task by name; the graph of each is in `planning.task_graphs`."""
