"""A study, read and checked: specs composed from the rooms they live in."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vlm_audio_pipeline.classifiers.base import CLASSIFIERS, ClassifierSpec
from vlm_audio_pipeline.contracts.errors import BadStudy
from vlm_audio_pipeline.contracts.registry import Registry
from vlm_audio_pipeline.datasets.base import DatasetSpec
from vlm_audio_pipeline.encoders.base import ENCODERS, EncoderSpec
from vlm_audio_pipeline.evaluation.contrasts import Contrast
from vlm_audio_pipeline.renderings.base import RENDERINGS, RenderingSpec
from vlm_audio_pipeline.storage.ledger import Budget
from vlm_audio_pipeline.studies.rerun import Rerun

SECTIONS: dict[str, Registry] = {
    "renderings": RENDERINGS,
    "encoders": ENCODERS,
    "classifiers": CLASSIFIERS,
}
"""Sections of a study file that map names to specs, in the order in which data flows."""

BUILT_IN = Path(__file__).resolve().parent / "built_in"
"""The studies that come with the package."""

NAME = r"^(?!.*__)[a-z][a-z0-9_]*$"
"""What names in a study look like: parts of asset keys, folders and SQL. `__` is kept for controls: `paper__blank`."""

OWNER = r"^(team:[A-Za-z0-9_]+|[^@\s]+@[^@\s]+\.[^@\s]+)$"
"""What Dagster takes for an owner."""

KEYS: dict[str, str] = {
    "name": "name of the study, lower-case letters, digits and _",
    "description": "what the study asks, in a sentence or two",
    "owner": "who answers for it: an e-mail address or team:name, shown in the UI",
    "dataset": "where the clips come from",
    "renderings": "clip -> picture, by name",
    "encoders": "clip or picture -> vector, by name",
    "classifiers": "whatever predicts a label, by name",
    "contrasts": "comparisons declared in advance: they are tested, and corrected for being several",
    "budget": "what may be spent at endpoints that charge, over the study's lifetime; without it none is called",
    "rerun": "keep it up to date by itself: when to look for changed models and recordings",
}
"""Every key of a study file and what it is for."""


@dataclass(frozen=True)
class Study:
    """A checked study.

    Attributes:
        name: its name, unique within a data folder.
        dataset: where the clips come from.
        renderings: by name, groups of presets expanded.
        encoders: by name.
        classifiers: by name, lists and `like` expanded.
        contrasts: comparisons declared in advance.
        budget: what may be spent at endpoints that charge; None: nothing.
        rerun: when it is kept up to date by itself; None: never.
        description: what the study asks.
        owner: who answers for it.
        path: the file it was read from.
        limit: use only so many clips of each fold; results are marked partial and never ranked.
    """

    name: str
    dataset: DatasetSpec
    renderings: Mapping[str, RenderingSpec] = field(default_factory=dict)
    encoders: Mapping[str, EncoderSpec] = field(default_factory=dict)
    classifiers: Mapping[str, ClassifierSpec] = field(default_factory=dict)
    contrasts: tuple[Contrast, ...] = ()
    budget: Budget | None = None
    rerun: Rerun | None = None
    description: str = ""
    owner: str = ""
    path: Path | None = None
    limit: int | None = None

    @property
    def as_asked(self) -> str:
        """What a command is told to mean this study: the name of a built-in one, else its file."""
        if self.path is None:
            return self.name
        return self.path.stem if self.path.parent == BUILT_IN else str(self.path)

    def resolved(self) -> dict[str, Any]:
        """Give the study as plain values, everything expanded and every default spelled out."""
        return {
            "name": self.name,
            "description": self.description,
            "dataset": {"kind": self.dataset.kind, **self.dataset.model_dump(mode="json")},
            **{
                section: {
                    name: {"kind": spec.kind, **spec.model_dump(mode="json")}
                    for name, spec in getattr(self, section).items()
                }
                for section in SECTIONS
            },
            "contrasts": [contrast.model_dump(mode="json") for contrast in self.contrasts],
            "budget": None if self.budget is None else self.budget.model_dump(mode="json"),
            "rerun": None if self.rerun is None else self.rerun.model_dump(mode="json"),
        }


def refuse_taken_name(study: Study, given: str, taken: dict[str, str]) -> None:
    """Refuse a study under the name of another one that is shown beside it: their results would be one another's.

    Args:
        study: the study.
        given: its name or path, as asked for.
        taken: names of studies -> what was asked for; this one is added.

    Raises:
        BadStudy: for a name that is taken.
    """
    if (other := taken.setdefault(study.name, given)) != given:
        raise BadStudy(
            f"{given}: name: must tell this study from that of {other}, got '{study.name}' for both; give one of them "
            "another name"
        )
