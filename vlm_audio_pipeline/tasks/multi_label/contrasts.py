"""The comparisons that a multi-label study declares in advance: those of one class per clip, in one of the measures of the task."""

from typing import ClassVar, Literal

from pydantic import Field

from vlm_audio_pipeline.evaluation.contrasts import Contrast
from vlm_audio_pipeline.evaluation.references import CHANCE

ContrastMeasure = Literal["cmap", "auroc_macro", "f1_macro", "lwlrap", "exact_match"]


class LabelContrast(Contrast):
    """Comparisons of one classifier with others in one measure, declared in advance."""

    references: ClassVar[tuple[str, ...]] = (CHANCE,)
    compares_accuracy: ClassVar[bool] = False

    against: tuple[str, ...] = Field(min_length=1)
    """The other sides: the same forms, or chance: the scores and decisions of `classifier`, assigned to other recordings at random."""
    measure: ContrastMeasure = "cmap"
    """The measure that is compared. Classifiers without scores have only f1_macro and exact_match."""
    margin: float | None = Field(None, gt=0, lt=1)
    """Also test whether the sides are equivalent: whether their measures differ by less than this share of 1."""

    @property
    def settings(self) -> tuple[object, ...]:
        """The settings in which two contrasts of the same sides can differ."""
        return *super().settings, self.measure
