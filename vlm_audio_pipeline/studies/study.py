"""A checked study: the specs of its dataset, renderings, encoders and classifiers."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from vlm_audio_pipeline.classifiers.base import CLASSIFIERS, ClassifierSpec
from vlm_audio_pipeline.contracts.control_names import CONTROL_SEPARATOR
from vlm_audio_pipeline.contracts.errors import BadStudy
from vlm_audio_pipeline.contracts.registry import Registry
from vlm_audio_pipeline.contracts.specs import Spec
from vlm_audio_pipeline.datasets.base import DatasetSpec
from vlm_audio_pipeline.datasets.perturbation import Perturb
from vlm_audio_pipeline.encoders.base import ENCODERS, EncoderSpec
from vlm_audio_pipeline.evaluation.contrasts import Contrast
from vlm_audio_pipeline.evaluation.projections import DEFAULT_PROJECTION, Projection
from vlm_audio_pipeline.renderings.recipe import Recipe
from vlm_audio_pipeline.storage.ledger import Budget
from vlm_audio_pipeline.studies.rerun import Rerun
from vlm_audio_pipeline.tasks.multi_label.pooling import Pooling
from vlm_audio_pipeline.tasks.registry import DEFAULT_TASK, TASKS

SECTIONS: dict[str, Registry[Any] | type[Spec]] = {
    "renderings": Recipe,
    "encoders": ENCODERS,
    "classifiers": CLASSIFIERS,
}
"""Sections of a study file that map names to specs, in the order of the data flow: a registry of kinds, or the only spec class. The
registry of classifiers is that of the default task; see `section_spec_classes`."""


def section_spec_classes(section: str, task: str = DEFAULT_TASK) -> Mapping[str, type[Spec]]:
    """Return the spec classes of a section in a study of a task, by kind."""
    family = TASKS[task].classifiers if section == "classifiers" else SECTIONS[section]
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
    "task": "what is predicted: " + "; ".join(f"{name}, {task.doc}" for name, task in TASKS.items()),
    "dataset": "the dataset of the clips",
    "renderings": "clip -> image, by name",
    "encoders": "clip or image -> vector, by name",
    "classifiers": "anything that predicts a label, by name",
    "perturb": "changes of the audio (noise, gain, low-pass) under which every classifier is tested again",
    "contrasts": "comparisons declared in advance: they are tested, with a correction for multiple comparisons",
    "pooling": "how the segments of a recording are pooled for results of whole recordings, with several classes per clip: max, mean, any",
    "analyses": "optional analyses, each a table of its own",
    "projection": "how embeddings are projected to two dimensions for maps",
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
        perturb: changes of the audio for every classifier that does not declare its own; None: no changes.
        contrasts: comparisons declared in advance.
        pooling: how segments are pooled for results of whole recordings; empty: no such results.
        analyses: names of the optional analyses.
        projection: how embeddings are projected to two dimensions.
        budget: spending limit for paid endpoints; None: nothing may be spent.
        rerun: schedule of its reruns; None: no scheduled reruns.
        description: the question of the study.
        owner: who is responsible for it.
        path: the study file.
        limit: maximum number of clips per fold; None: all. Results of a limited run are marked partial and never ranked.
        task: name of its task, a key of `TASKS`.
    """

    name: str
    dataset: DatasetSpec
    renderings: Mapping[str, Recipe] = field(default_factory=dict)
    encoders: Mapping[str, EncoderSpec] = field(default_factory=dict)
    classifiers: Mapping[str, ClassifierSpec] = field(default_factory=dict)
    perturb: Perturb | None = None
    contrasts: tuple[Contrast, ...] = ()
    pooling: tuple[Pooling, ...] = ()
    analyses: tuple[str, ...] = ()
    projection: Projection = DEFAULT_PROJECTION
    budget: Budget | None = None
    rerun: Rerun | None = None
    description: str = ""
    owner: str = ""
    path: Path | None = None
    limit: int | None = None
    task: str = DEFAULT_TASK

    @property
    def cli_argument(self) -> str:
        """The argument that selects this study on the command line, quoted for the shell: the name of a built-in study, else its file."""
        if self.path is None:
            return self.name
        if self.path.parent == BUILT_IN:
            return self.path.stem
        folder = Path.cwd()
        return shlex.quote(str(self.path.relative_to(folder) if self.path.is_relative_to(folder) else self.path))

    @property
    def run_command(self) -> str:
        """The command that runs this study, for hints."""
        return f"vlm-audio run {self.cli_argument}" + ("" if self.limit is None else f" --limit {self.limit}")

    @property
    def ledger_name(self) -> str:
        """The study whose budget it spends: a limited run spends from the budget of the whole study."""
        return self.name if self.limit is None else self.name.removesuffix(f"_limit{self.limit}")

    def plain_values(self) -> dict[str, Any]:
        """Return the study as plain values, with everything expanded and all defaults."""
        return {
            "name": self.name,
            "description": self.description,
            **({} if self.task == DEFAULT_TASK else {"task": self.task}),
            "dataset": {"kind": self.dataset.kind, **self.dataset.model_dump(mode="json")},
            **{
                section: {
                    name: {"kind": spec.kind, **spec.model_dump(mode="json")}
                    for name, spec in getattr(self, section).items()
                }
                for section in SECTIONS
            },
            **({} if self.perturb is None else {"perturb": self.perturb.model_dump(mode="json")}),
            "contrasts": [contrast.model_dump(mode="json") for contrast in self.contrasts],
            **({"pooling": list(self.pooling)} if self.pooling else {}),
            "analyses": list(self.analyses),
            "projection": self.projection.model_dump(mode="json"),
            "budget": None if self.budget is None else self.budget.model_dump(mode="json"),
            "rerun": None if self.rerun is None else self.rerun.model_dump(mode="json"),
        }

    def written_keys(self) -> dict[str, Any]:
        """Return the keys that the study file sets, also through `like` and presets: of the dataset, and by section of each entry."""
        return {
            "dataset": sorted(self.dataset.model_fields_set),
            **{
                section: {name: sorted(spec.model_fields_set) for name, spec in getattr(self, section).items()}
                for section in SECTIONS
            },
        }


def with_devices(study: Study, has_gpu: bool) -> Study:
    """Return the study with the device of each model fixed: cuda if the workers have a GPU, else cpu.

    Neither the fingerprint of a model nor its displayed number format depends on it; the number format of its results does.
    """

    def fix(specs: Mapping[str, Any]) -> dict[str, Any]:
        return {name: spec.with_device(has_gpu) for name, spec in specs.items()}

    return replace(study, encoders=fix(study.encoders), classifiers=fix(study.classifiers))


def check_unique_name(study: Study, argument: str, arguments: dict[str, str]) -> None:
    """Check that no other study in the data folder has the same name: they would overwrite each other's results.

    Args:
        study: the study.
        argument: its name or path, as in the command.
        arguments: name -> argument of the studies so far; this study is added.

    Raises:
        BadStudy: for the name of another study.
    """
    if (other_argument := arguments.setdefault(study.name, argument)) != argument:
        raise BadStudy(f"{argument}: name: '{study.name}' is also the name of {other_argument}; rename one of them")
