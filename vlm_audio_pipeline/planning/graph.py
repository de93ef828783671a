"""A study as a graph of steps: which tables are made from which, fold by fold.

The planner and the Dagster assets are both made from this graph, so they cannot disagree about what depends on what.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from vlm_audio_pipeline.classifiers.base import ClassifierSpec, Sample
from vlm_audio_pipeline.contracts.errors import BadDataset, BadStudy, NotAvailable, VlmAudioError
from vlm_audio_pipeline.contracts.hashing import fingerprint
from vlm_audio_pipeline.contracts.stages import Cost, Progress, Stage, StageContext, silent
from vlm_audio_pipeline.datasets.base import Dataset
from vlm_audio_pipeline.datasets.inspection import clips_stage
from vlm_audio_pipeline.encoders.weights import Weights
from vlm_audio_pipeline.planning.report_stage import SHOWN_ON_PAGE, report_stage
from vlm_audio_pipeline.planning.summaries import summaries
from vlm_audio_pipeline.renderings.controls import CONTROLS, controlled_name, controlled_stage
from vlm_audio_pipeline.renderings.recipe import Recipe
from vlm_audio_pipeline.storage.layout import Layout
from vlm_audio_pipeline.storage.result_store import RowStore
from vlm_audio_pipeline.storage.schemas import TABLES
from vlm_audio_pipeline.studies.study import Study


class Node(NamedTuple):
    """One step for one fold (None: over all folds): what is run, and what is fresh or stale."""

    step: str
    fold: int | None = None

    def __str__(self) -> str:
        return self.step if self.fold is None else f"{self.step}|{self.fold}"


@dataclass(frozen=True)
class Source:
    """Something outside that is observed, not made: the files of a dataset, a spreadsheet of readings.

    Attributes:
        name: under which steps read it: "dataset", "readings/<classifier>".
        key: its asset key.
        folds: folds observed apart, or None.
        description: shown in the UI.
        versions: looks at the outside: data version by fold; raises NotAvailable where there is nothing.
    """

    name: str
    key: tuple[str, ...]
    folds: tuple[int, ...] | None
    description: str
    versions: Callable[[RowStore], Mapping[Any, str]]

    @property
    def nodes(self) -> tuple[Node, ...]:
        """Its nodes."""
        return tuple(Node(self.name, f) for f in self.folds or (None,))


@dataclass(frozen=True)
class Step:
    """A stage with its place in a study.

    Attributes:
        name: "clips", "embeddings/clap"; unique within the study.
        owner: name of the encoder or classifier it belongs to, "" for the study's own.
        key: its asset key.
        stage: what it does.
        folds: the folds it is made for, or None for one part over all folds.
    """

    name: str
    owner: str
    key: tuple[str, ...]
    stage: Stage
    folds: tuple[int, ...] | None

    @cached_property
    def version(self) -> str:
        """Code version and fingerprint of the parameters, "1:0a1b2c3d4e5f6071"."""
        return f"{self.stage.version}:{fingerprint(dict(self.stage.parameters))}"

    @property
    def nodes(self) -> tuple[Node, ...]:
        """Its nodes."""
        return tuple(Node(self.name, f) for f in self.folds or (None,))


class Graph:
    """The steps of a study in a data folder, each after those it reads.

    Args:
        study: a checked study.
        layout: the data folder.

    Raises:
        BadStudy: when a classifier asks for folds the dataset has not.
        BadDataset: when the dataset's folds cannot be told.
    """

    def __init__(self, study: Study, layout: Layout):
        self.study = study
        self.layout = layout
        self.folds = study.dataset.folds(layout)
        self.sources: dict[str, Source] = {}
        self.steps: dict[str, Step] = {}
        self._opened: Dataset | None = None
        self._models: dict[str, list[Weights]] = {}
        self._check_folds("dataset.tuning_folds", study.dataset.tuning_folds)
        self._add_source(
            Source(
                "dataset",
                ("datasets", study.dataset.asset_name),
                self.folds,
                "Recordings and their listing, as files; the data version of a fold is a digest of both.",
                lambda rows: self.dataset().fold_versions(rows),
            )
        )
        self._add_step("", _limited(clips_stage(study.dataset.on_bad_clip), study.limit))
        for name, rendering in study.renderings.items():
            for stage in rendering.stages(name):
                self._add_step(name, stage)
        for name, encoder in study.encoders.items():
            if encoder.weights is not None:
                self._add_model(encoder.weights)
            for stage in encoder.stages(name):
                self._add_step(name, stage)
        for name, classifier in study.classifiers.items():
            self._check_folds(f"classifiers.{name}.folds", classifier.folds)
            if (readings := getattr(classifier, "readings_file", None)) is not None:
                self._add_readings(name, readings)
            if classifier.weights is not None:
                self._add_model(classifier.weights)
            self._add_controls(classifier)
            for stage in classifier.stages(name, self.folds, study.encoders):
                self._add_step(name, replace(stage, cost=self._cost(classifier)) if stage.paid else stage)
        versions = {name: self.steps[f"predictions/{name}"].version for name in study.classifiers}
        for owner, stage in summaries(
            study, self.folds, lambda name: self.unavailable(f"predictions/{name}"), versions
        ):
            self._add_step(owner, stage)
        self._add_step("", report_stage(self, [name for name in self.steps if name.split("/")[0] in SHOWN_ON_PAGE]))

    def _add_source(self, source: Source) -> None:
        self.sources[source.name] = source

    def _add_model(self, weights: Weights) -> None:
        observed = weights.observed
        same = self._models.setdefault(observed.key, [])  # one model, used by some for more than by others
        same.append(weights)

        def versions(rows: RowStore) -> dict[int | None, str]:
            reasons = [reason for one in same if (reason := one.missing()) is not None]
            if len(reasons) == len(same):
                raise NotAvailable(reasons[0])
            return {None: weights.resolve() or "unknown"}

        name = re.sub(r"[^A-Za-z0-9_./-]", "_", observed.name or "")
        description = f"Weights of {weights.model}; versioned by the hub's commit, or the digest of a folder."
        self._add_source(Source(observed.key, ("models", *name.split("/")), None, description, versions))

    def _add_controls(self, classifier: ClassifierSpec) -> None:
        """Add the pictures, and their vectors, that a classifier's controls are asked about."""
        controls: tuple[str, ...] = getattr(classifier, "controls", ())
        encoder_name: str = "" if classifier.sees else getattr(classifier, "encoder", "")
        encoder = self.study.encoders.get(encoder_name)
        rendering_name: str = getattr(classifier if encoder is None else encoder, "rendering", None) or ""
        recipe = self.study.renderings.get(rendering_name)
        for control in controls:
            if not isinstance(recipe, Recipe) or control not in CONTROLS:
                continue  # the family says what is wrong with a control of something that sees no picture
            if f"spectrograms/{controlled_name(rendering_name, control)}" not in self.steps:
                stage = controlled_stage(rendering_name, recipe, control)
                self._add_step(controlled_name(rendering_name, control), stage)
            if encoder is not None and f"embeddings/{controlled_name(encoder_name, control)}" not in self.steps:
                stage = encoder.controlled_stage(encoder_name, control)
                self._add_step(controlled_name(encoder_name, control), stage)

    def _cost(self, classifier: ClassifierSpec) -> Callable[[int], Cost]:
        """Give what a classifier that may charge takes for so many clips, by the study's own pictures and classes."""
        recipe = self.study.renderings.get(getattr(classifier, "rendering", None) or "")
        words: dict[str, Any] = {"size": (recipe.width, recipe.height)} if isinstance(recipe, Recipe) else {}

        def cost(clips: int) -> Cost:
            known: dict[str, Any] = {"classes": len(self._opened.classes)} if self._opened else {}
            return classifier.cost(clips, **words, **known)

        return cost

    def _add_readings(self, name: str, readings_file: Callable[[Path], Path]) -> None:
        def versions(rows: RowStore) -> dict[int | None, str]:
            path = readings_file(self.dataset().root)
            digest = rows.file_digests([path])[0]
            if digest is None:
                raise NotAvailable(f"readings must be a readable file, got {path}; put it there or correct the path")
            return {None: digest}

        key = (self.study.name, "readings", name)
        self._add_source(
            Source(
                f"readings/{name}", key, None, "Labels given by people, as a file; versioned by its digest.", versions
            )
        )

    def _add_step(self, owner: str, stage: Stage) -> None:
        name = f"{stage.asset}/{owner}" if owner else stage.asset
        for given in stage.inputs:
            if given.key not in self.steps and given.key not in self.sources:
                raise BadStudy(f"step '{name}' must read what is made before it, got '{given.key}'")
        if stage.paid and self.study.budget is None:
            stage = replace(
                stage, unavailable=lambda: "it may cost money: it needs a `budget: {usd: ...}` in the study"
            )
        folds = (stage.folds or self.folds) if stage.per_fold else None
        self.steps[name] = Step(name, owner, (self.study.name, *name.split("/")), stage, folds)

    def _check_folds(self, key: str, folds: tuple[int, ...] | None) -> None:
        strange = sorted(set(folds or ()) - set(self.folds))
        if strange:
            raise BadStudy(
                f"{self.study.path or self.study.name}: {key}: must be among the dataset's folds "
                f"{list(self.folds)}, got {strange}"
            )

    def unavailable(self, name: str) -> str | None:
        """Say why a step cannot run here and now (weights, keys or files missing, its own or upstream), or None."""
        if name in self.sources:
            try:
                if name != "dataset":
                    self.sources[name].versions(self.rows)
            except NotAvailable as error:
                return str(error)
            return None
        stage = self.steps[name].stage
        reasons = [stage.unavailable(), *(self.unavailable(i.key) for i in stage.inputs if not i.optional)]
        return next((r for r in reasons if r), None)

    @cached_property
    def rows(self) -> RowStore:
        """The row store of the data folder."""
        return RowStore(self.layout.rows)

    def dataset(self, progress: Progress = silent) -> Dataset:
        """Open the dataset, once; downloads or synthesises what is not here yet."""
        if self._opened is None:
            self._opened = self.study.dataset.open(self.layout, progress)
        return self._opened

    def look_again(self) -> None:
        """Forget the opened dataset, so that it is listed anew.

        Raises:
            BadDataset: when it has other folds by now: partitions are made when a study is loaded.
        """
        if (now := self.study.dataset.folds(self.layout)) != self.folds:
            raise BadDataset(
                f"the folds of {self.study.dataset.asset_name} must stay while {self.study.name} is loaded, got "
                f"{list(self.folds)} and now {list(now)}; reload the code location (Deployment > Reload in the UI), or "
                "start the command again"
            )
        self._opened = None

    @property
    def nodes(self) -> list[Node]:
        """Every node that can be made, upstream first."""
        return [node for step in self.steps.values() for node in step.nodes]

    def upstream(self, node: Node) -> Iterator[tuple[Node, bool]]:
        """Give the nodes a node reads, each with whether it is optional."""
        for given in self.steps[node.step].stage.inputs:
            for fold in self.upstream_folds(node, given.key):
                yield Node(given.key, fold), given.optional

    def upstream_folds(self, node: Node, name: str) -> tuple[int | None, ...]:
        """Give the folds of one input that a node reads."""
        mapping = next(i.folds for i in self.steps[node.step].stage.inputs if i.key == name)
        there = (self.steps.get(name) or self.sources[name]).folds
        if there is None:
            return (None,)
        if node.fold is None or mapping == "all":
            return there
        return tuple(f for f in there if (f == node.fold) == (mapping == "same"))

    def parts(self, node: Node) -> dict[str, Path]:
        """Give the files of a node, by table."""
        step = self.steps[node.step]
        return {
            t: self.layout.part(
                t,
                self.study.name,
                step.owner if TABLES[t].owner else None,
                node.fold if TABLES[t].per_fold else None,
            )
            for t in step.stage.tables
        }

    def kept_columns(self) -> list[str]:
        """Give the names of the dataset's own columns that the study keeps."""
        return sorted({k for c in self.dataset().clips for k in c.kept})


def _limited(stage: Stage, limit: int | None) -> Stage:
    """Keep at most `limit` clips of each fold, the same ones every time, classes in turn."""
    if limit is None:
        return stage

    def run(context: StageContext) -> dict[str, pa.Table]:
        made = stage.run(context)
        fold, classes = context.fold or 0, len(context.classes)
        if limit < classes:
            raise VlmAudioError(
                f"--limit must be at least {classes}, a clip of each class a fold, got {limit}; raise it"
            )
        return {**made, "clips": Sample(clips=limit).take(made["clips"], (fold,), fold)}

    return replace(stage, run=run, parameters={**stage.parameters, "limit": limit})


def limited(study: Study, limit: int) -> Study:
    """Give a study of its own over at most `limit` clips of each fold; its results never mix with the full study's."""
    return replace(study, name=f"{study.name}_limit{limit}", limit=limit)
