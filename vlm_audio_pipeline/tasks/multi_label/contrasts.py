"""The comparisons that a multi-label study declares in advance: those of one class per clip, in one of the measures of the task."""

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from vlm_audio_pipeline.evaluation.contrasts import Contrast, Operand
from vlm_audio_pipeline.tasks.multi_label.references import CONSTANT

ContrastMeasure = Literal["cmap", "auroc_macro", "f1_macro", "lwlrap", "exact_match"]


class LabelContrast(Contrast):
    """Comparisons of one classifier with others in one measure, declared in advance."""

    references: ClassVar[tuple[str, ...]] = (CONSTANT,)
    compares_accuracy: ClassVar[bool] = False

    against: tuple[str, ...] = Field(min_length=1)
    """The other sides: the same forms, or `constant`, which has the same score for every clip and predicts every class."""
    measure: ContrastMeasure = "cmap"
    """The measure that is compared. Classifiers without scores have only f1_macro and exact_match."""
    margin: float | None = Field(None, gt=0, lt=1)
    """Also test whether the sides are equivalent: whether their measures differ by less than this share of 1."""

    @model_validator(mode="after")
    def _refuse_scoring_of_reference(self) -> Self:
        for text in self.against:
            if Operand.parse(text).name in self.references and text not in self.references:
                raise ValueError(f"{CONSTANT} has no scoring and no control, got '{text}'; write `{CONSTANT}`")
        return self

    @property
    def settings(self) -> tuple[object, ...]:
        """The settings in which two contrasts of the same sides can differ."""
        return *super().settings, self.measure
