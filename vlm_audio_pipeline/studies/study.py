"""A checked study: the specs of its dataset, renderings, encoders and classifiers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vlm_audio_pipeline.classifiers.base import CLASSIFIERS, ClassifierSpec
from vlm_audio_pipeline.contracts.control_names import CONTROL_SEPARATOR
from vlm_audio_pipeline.contracts.errors import BadStudy
from vlm_audio_pipeline.contracts.registry import Registry
from vlm_audio_pipeline.contracts.specs import Spec
from vlm_audio_pipeline.datasets.base import DatasetSpec
from vlm_audio_pipeline.encoders.base import ENCODERS, EncoderSpec
from vlm_audio_pipeline.evaluation.contrasts import Contrast
from vlm_audio_pipeline.renderings.recipe import Recipe
from vlm_audio_pipeline.storage.ledger import Budget
from vlm_audio_pipeline.studies.rerun import Rerun

SECTIONS: dict[str, Registry | type[Spec]] = {
    "renderings": Recipe,
    "encoders": ENCODERS,
    "classifiers": CLASSIFIERS,
}
"""Sections of a study file that map names to specs, in data order: a registry of kinds, or the only spec class."""


def spec_classes(section: str) -> Mapping[str, type[Spec]]:
    """Return the spec classes of a section, by kind."""
    family = SECTIONS[section]
    return family.all() if isinstance(family, Registry) else {family.kind: family}


BUILT_IN = Path(__file__).resolve().parent / "built_in"
"""The study files of the package."""

NAME = rf"^(?!.*{CONTROL_SEPARATOR})[a-z][a-z0-9_]*$"
"""Pattern of names in a study: parts of asset keys, folders and SQL; `__` is reserved for controls: `paper__blank`."""

OWNER = r"^(team:[A-Za-z0-9_]+|[^@\s]+@[^@\s]+\.[^@\s]+)$"
"""Pattern of owners that Dagster accepts."""

KEYS: dict[str, str] = {
    "name": "name of the study, lower-case letters, digits and _",
    "description": "the question of the study, in a sentence or two",
    "owner": "who is responsible for it: an e-mail address or team:name, shown in the UI",
    "dataset": "the dataset of the clips",
    "renderings": "clip -> image, by name",
    "encoders": "clip or image -> vector, by name",
    "classifiers": "anything that predicts a label, by name",
    "contrasts": "comparisons declared in advance: they are tested, with a correction for multiple comparisons",
    "budget": "spending limit for paid endpoints over the study's lifetime; without it none is called",
    "rerun": "scheduled reruns: when to check for changed models and recordings",
}
"""Every key of a study file and its meaning."""


@dataclass(frozen=True)
class Study:
    """A checked study.

    Attributes:
        name: its name, unique within a data folder.
        dataset: spec of the dataset.
        renderings: by name, groups of presets expanded.
        encoders: by name.
        classifiers: by name, lists and `like` expanded.
        contrasts: comparisons declared in advance.
        budget: spending limit for paid endpoints; None: nothing may be spent.
        rerun: schedule of its reruns; None: no scheduled reruns.
        description: the question of the study.
        owner: who is responsible for it.
        path: the study file.
        limit: maximum number of clips per fold; results are marked partial and never ranked.
    """

    name: str
    dataset: DatasetSpec
    renderings: Mapping[str, Recipe] = field(default_factory=dict)
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
    def cli_argument(self) -> str:
        """The argument that selects this study on the command line: the name of a built-in study, else its file."""
        if self.path is None:
            return self.name
        return self.path.stem if self.path.parent == BUILT_IN else str(self.path)

    def resolved(self) -> dict[str, Any]:
        """Return the study as plain values, with everything expanded and all defaults."""
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


def refuse_taken_name(study: Study, argument: str, taken: dict[str, str]) -> None:
    """Refuse a study that has the name of another study in the same data folder: they would overwrite each other's results.

    Args:
        study: the study.
        argument: its name or path, as in the command.
        taken: name of a study -> its argument; this study is added.

    Raises:
        BadStudy: for a name that is taken.
    """
    if (other := taken.setdefault(study.name, argument)) != argument:
        raise BadStudy(
            f"{argument}: name: must differ from the name of {other}, got '{study.name}' for both; rename one of them"
        )
