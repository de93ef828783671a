"""The comparisons that a study file declares in advance.

Belongs here: the `contrasts` of a study file and the allowed sides. Does not belong here: computing them
(`contrast_results`).
"""

import re
from collections.abc import Iterable
from typing import Any, ClassVar, Literal, NamedTuple, Self, get_args

from pydantic import Field, field_validator, model_validator

from vlm_audio_pipeline.contracts.specs import Spec
from vlm_audio_pipeline.evaluation.references import REFERENCES

Scoring = Literal["likelihood", "score", "generation", "first_token", "annotation", "examples_knn"]
"""The ways in which a classifier chooses a label. Its default is the first of these that it has."""


def default_scoring(scorings: Iterable[str]) -> str:
    """Return the default scoring of a classifier: the first in the order of `Scoring`.

    >>> default_scoring(["examples_knn", "generation"])
    'generation'
    """
    return min(scorings, key=get_args(Scoring).index)


_OPERAND = re.compile(
    rf"(?P<name>[a-z][a-z0-9_]*)(:(?P<scoring>{'|'.join(get_args(Scoring))}))?(@(?P<control>[a-z0-9_]+))?"
)


class Operand(NamedTuple):
    """One side of a contrast: a classifier, its scoring (None for the default) and its control."""

    name: str
    scoring: str | None
    control: str

    @classmethod
    def parse(cls, text: str) -> "Operand":
        """Parse `name`, `name:scoring`, `name@control` or `name:scoring@control`.

        Raises:
            ValueError: for anything else, and for a scoring or control of chance or majority.

        >>> Operand.parse("janus:likelihood@blank")
        Operand(name='janus', scoring='likelihood', control='blank')
        """
        match = _OPERAND.fullmatch(text)
        if match is None or (match["name"] in REFERENCES and text != match["name"]):
            raise ValueError(
                "must be chance, majority, or name[:scoring][@control] with a scoring of "
                f"{', '.join(get_args(Scoring))}, such as janus:likelihood@blank, got '{text}'"
            )
        return cls(match["name"], match["scoring"], match["control"] or "none")


class Contrast(Spec):
    """Comparisons of one classifier with others, declared in advance."""

    references: ClassVar[tuple[str, ...]] = REFERENCES
    """Names of sides that are no classifiers."""
    compares_accuracy: ClassVar[bool] = True
    """Whether it compares accuracies, whose power a plan can show."""

    classifier: str
    """The first side: `name`, `name:scoring`, `name@control` or `name:scoring@control`."""
    against: tuple[str, ...] = Field(min_length=1)
    """The other sides: the same forms, or chance or majority."""
    scoring: Scoring | None = None
    """The scoring of a side that names none and has several; by default likelihood."""
    folds: Literal["all", "without_tuning"] = "all"
    """`without_tuning` leaves out the clips of the dataset's tuning folds."""
    margin: float | None = Field(None, gt=0, lt=1)
    """Also test whether the sides are equivalent: whether their accuracies differ by less than this share of 1."""

    @field_validator("classifier")
    @classmethod
    def _refuse_reference(cls, text: str) -> str:
        if Operand.parse(text).name in cls.references:
            raise ValueError(f"must name a classifier, got '{text}'; write it under `against`")
        return text

    @field_validator("against")
    @classmethod
    def _check_operands(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        for text in texts:
            Operand.parse(text)
        return texts

    @model_validator(mode="after")
    def _refuse_repeated_sides(self) -> Self:
        sides = (self.classifier, *self.against)
        if len({Operand.parse(side) for side in sides}) < len(sides):
            raise ValueError(f"each side must be named once, got {', '.join(sides)}")
        return self

    def classifier_names(self) -> tuple[str, ...]:
        """Return the names of the classifiers on its sides, without repetition."""
        names = (Operand.parse(text).name for text in (self.classifier, *self.against))
        return tuple(dict.fromkeys(name for name in names if name not in self.references))

    @property
    def settings(self) -> tuple[Any, ...]:
        """The settings in which two contrasts of the same sides can differ."""
        return self.folds, self.margin
