"""The graph of a study: its steps, and the tables and folds that each step reads.

The planner and the Dagster assets are both built from this graph, so they agree on every dependency.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from vlm_audio_pipeline.classifiers.base import ClassifierSpec
from vlm_audio_pipeline.contracts.control_names import controlled_name
from vlm_audio_pipeline.contracts.errors import BadDataset, BadStudy, NotAvailable
from vlm_audio_pipeline.contracts.progress import Progress, no_progress
from vlm_audio_pipeline.contracts.stages import Cost, Stage
from vlm_audio_pipeline.contracts.work import Engine
from vlm_audio_pipeline.datasets.base import Dataset
from vlm_audio_pipeline.datasets.inspection import clips_stage
from vlm_audio_pipeline.datasets.perturbation import Perturbation, perturbed_stage
from vlm_audio_pipeline.encoders.model_card import ModelCard
from vlm_audio_pipeline.encoders.weights import Weights
from vlm_audio_pipeline.engines import LocalEngine
from vlm_audio_pipeline.planning.clip_limit import limit_clips
from vlm_audio_pipeline.planning.input_assets import annotations_asset, dataset_asset, weights_asset
from vlm_audio_pipeline.planning.nodes import InputAsset, Node, Step
from vlm_audio_pipeline.planning.task_graphs import TASK_GRAPHS
from vlm_audio_pipeline.renderings.controls import CONTROLS, control_stage
from vlm_audio_pipeline.renderings.stage import rendering_stage
from vlm_audio_pipeline.storage.data_folder import DataFolder
from vlm_audio_pipeline.storage.result_store import ResultStore
from vlm_audio_pipeline.storage.schemas import TABLES
from vlm_audio_pipeline.studies.study import Study, with_devices

LOCAL_ENGINE = LocalEngine()


class Graph:
    """The steps of a study in a data folder; each step comes after the steps that it reads.

    Args:
        study: a checked study.
        data_folder: the data folder.
        engine: executes expensive works. The devices of the study's models are those of its workers.

    Raises:
        BadStudy: if `tuning_folds` or a classifier names folds that the dataset does not have, or two steps would be the same asset.
        BadDataset: if the folds of the dataset cannot be read.
    """

    def __init__(self, study: Study, data_folder: DataFolder, engine: Engine = LOCAL_ENGINE):
        has_gpu = engine.has_gpu()
        self.study = study if has_gpu is None else with_devices(study, has_gpu)
        self.engine = engine
        self.data_folder = data_folder
        self.folds = study.dataset.folds(data_folder)
        self.input_assets: dict[str, InputAsset] = {}
        self.steps: dict[str, Step] = {}
        self._dataset: Dataset | None = None
        self._weights: dict[str, list[Weights]] = {}
        self._partition_files: dict[Node, dict[str, Path]] = {}
        self._check_folds("dataset.tuning_folds", study.dataset.tuning_folds)
        study = self.study
        self._add_input_asset(dataset_asset(study.dataset, self.folds, self.dataset, data_folder))
        task = TASK_GRAPHS[study.task]
        self._add_step("", task.clips(limit_clips(clips_stage(study.dataset.on_bad_clip), study.limit)))
        for name, rendering in study.renderings.items():
            self._add_step(name, rendering_stage(rendering))
        for name, encoder in study.encoders.items():
            self._add_weights(encoder.weights, encoder.card)
            for stage in encoder.stages(name):
                self._add_step(name, stage)
        for name, classifier in study.classifiers.items():
            self._add_classifier(name, classifier)
        versions = {name: self.steps[f"predictions/{name}"].version for name in study.classifiers}
        for component, stage in task.summaries(
            study, self.folds, lambda name: self.unavailable(f"predictions/{name}"), versions
        ):
            self._add_step(component, stage)
        self._add_step("", task.report(data_folder, list(self.steps)))

    def _add_input_asset(self, asset: InputAsset) -> None:
        self.input_assets[asset.name] = asset

    def _add_weights(self, weights: Weights | None, card: ModelCard | None) -> None:
        if weights is None:
            return
        all_weights = self._weights.setdefault(weights.input_asset.key, [])
        all_weights.append(weights)
        self._add_input_asset(weights_asset(all_weights, card))

    def _add_classifier(self, name: str, classifier: ClassifierSpec) -> None:
        self._check_folds(f"classifiers.{name}.folds", classifier.folds)
        needs = classifier.needs()
        if needs.annotations is not None:
            is_local = partial(self.study.dataset.is_local, self.data_folder)
            self._add_input_asset(annotations_asset(self.study.name, name, needs.annotations, self.dataset, is_local))
        self._add_weights(needs.weights, needs.card)
        self._add_controls(classifier)
        for stage in classifier.stages(name, self.folds, self.study.encoders):
            self._add_step(name, replace(stage, cost=self._cost(classifier)) if stage.paid else stage)

    def _add_controls(self, classifier: ClassifierSpec) -> None:
        """Add the steps of the images and vectors that a classifier needs for its controls and for changed audio."""
        needs = classifier.needs()
        encoder_name = "" if needs.asks_per_clip else needs.encoder or ""
        encoder = self.study.encoders.get(encoder_name)
        rendering_name = (needs.rendering if encoder is None else encoder.image_rendering) or ""
        recipe = self.study.renderings.get(rendering_name)
        for control in needs.controls:
            if recipe is None or control not in CONTROLS:
                continue  # `classifier.stages` raises the error for this
            images = controlled_name(rendering_name, control)
            if f"spectrograms/{images}" not in self.steps:
                self._add_step(images, control_stage(rendering_name, recipe, control))
            embeddings = controlled_name(encoder_name, control)
            if encoder is not None and f"embeddings/{embeddings}" not in self.steps:
                self._add_step(embeddings, encoder.controlled_stage(encoder_name, control))
        for change in needs.perturbations:
            if recipe is not None:
                self._add_perturbed_step(rendering_name, perturbed_stage(rendering_stage(recipe), change), change)
            if encoder is not None:
                self._add_perturbed_step(encoder_name, encoder.perturbed_stage(encoder_name, change), change)

    def _add_perturbed_step(self, name: str, stage: Stage, change: Perturbation) -> None:
        """Add a step of changed audio, which several classifiers may share.

        Raises:
            BadStudy: if another classifier gives its name to another change.
        """
        component = controlled_name(name, change.name)
        earlier = self.steps.get(f"{stage.asset}/{component}")
        if earlier is None:
            self._add_step(component, stage)
        elif earlier.stage.parameters != stage.parameters:
            raise BadStudy(
                f"{self.study.path or self.study.name}: '{change.name}' stands for two different changes of the audio; rename a "
                "file of noise, or use one seed"
            )

    def _cost(self, classifier: ClassifierSpec) -> Callable[[int], Cost]:
        """Return the cost bound of a paid classifier by number of clips, for the study's image size and classes."""
        recipe = self.study.renderings.get(classifier.needs().rendering or "")
        size: dict[str, Any] = {"size": (recipe.width, recipe.height)} if recipe else {}

        def cost(clips: int) -> Cost:
            classes: dict[str, Any] = {"classes": len(self._dataset.classes)} if self._dataset else {}
            return classifier.cost(clips, **size, **classes)

        return cost

    def _add_step(self, component: str, stage: Stage) -> None:
        name = f"{stage.asset}/{component}" if component else stage.asset
        for stage_input in stage.inputs:
            if stage_input.key not in self.steps and stage_input.key not in self.input_assets:
                raise BadStudy(f"step '{name}' reads '{stage_input.key}', which no earlier step writes")
        if stage.paid and self.study.budget is None:
            stage = replace(stage, unavailable=lambda: "it may cost money, so the study needs a `budget: {usd: ...}`")
        folds = (stage.folds or self.folds) if stage.per_fold else None
        # The UI shows only the last part of a key, so that part names the component and the table.
        key = (self.study.name, f"{component}_{stage.asset}" if component else stage.asset)
        if other := next((other.name for other in self.steps.values() if other.key == key), None):
            raise BadStudy(
                f"{self.study.path or self.study.name}: the steps '{other}' and '{name}' would both be the asset "
                f"'{'/'.join(key)}'; rename '{component}'"
            )
        self.steps[name] = Step(name, component, key, stage, folds)

    def _check_folds(self, key: str, folds: tuple[int, ...] | None) -> None:
        unknown_folds = sorted(set(folds or ()) - set(self.folds))
        if unknown_folds:
            raise BadStudy(
                f"{self.study.path or self.study.name}: {key}: must be among the dataset's folds "
                f"{list(self.folds)}, got {unknown_folds}"
            )

    def unavailable(self, name: str) -> str | None:
        """Return why a step cannot run on this machine now (it or an upstream step lacks weights, keys or files), or None."""
        if name in self.input_assets:
            try:
                if name != "dataset":
                    self.input_assets[name].versions(self.result_store)
            except NotAvailable as error:
                return str(error)
            return None
        stage = self.steps[name].stage
        reasons = [stage.unavailable(), *(self.unavailable(i.key) for i in stage.inputs if not i.optional)]
        return next((r for r in reasons if r), None)

    @cached_property
    def result_store(self) -> ResultStore:
        """The result store of the data folder."""
        return ResultStore(self.data_folder.result_store)

    def dataset(self, progress: Progress = no_progress) -> Dataset:
        """Open the dataset on the first call; recordings that are not on this machine are downloaded or synthesised."""
        if self._dataset is None:
            dataset = self.study.dataset.open(self.data_folder, progress)
            TASK_GRAPHS[self.study.task].check_dataset(dataset)
            self._dataset = dataset
        return self._dataset

    def reload_dataset(self) -> None:
        """Close the dataset, so that the next use reads its files again.

        Raises:
            BadDataset: if its folds have changed: the partitions are fixed when a study is loaded.
        """
        if (new_folds := self.study.dataset.folds(self.data_folder)) != self.folds:
            raise BadDataset(
                f"the folds of {self.study.dataset.asset_name} changed from {list(self.folds)} to {list(new_folds)} while "
                f"{self.study.name} was loaded; reload the code location (Deployment > Reload in the UI), or "
                "start the command again"
            )
        self._dataset = None

    @property
    def nodes(self) -> list[Node]:
        """All nodes, upstream first."""
        return [node for step in self.steps.values() for node in step.nodes]

    def upstream_nodes(self, node: Node) -> Iterator[tuple[Node, bool]]:
        """Yield each node that a node reads, and whether it is optional."""
        for stage_input in self.steps[node.step].stage.inputs:
            for fold in self.upstream_folds(node, stage_input.key):
                yield Node(stage_input.key, fold), stage_input.optional

    def upstream_folds(self, node: Node, name: str) -> tuple[int | None, ...]:
        """Return the folds of one input that a node reads."""
        mapping = next(i.folds for i in self.steps[node.step].stage.inputs if i.key == name)
        folds = (self.steps.get(name) or self.input_assets[name]).folds
        if folds is None:
            return (None,)
        if node.fold is None or mapping == "all":
            return folds
        return tuple(f for f in folds if (f == node.fold) == (mapping == "same"))

    def partition_files(self, node: Node) -> dict[str, Path]:
        """Return the partition files of a node, by table. Do not change the returned object."""
        if node not in self._partition_files:
            step = self.steps[node.step]
            self._partition_files[node] = {
                t: self.data_folder.partition_file(
                    t,
                    self.study.name,
                    step.component if TABLES[t].component else None,
                    node.fold if TABLES[t].per_fold else None,
                )
                for t in step.stage.tables
            }
        return self._partition_files[node]

    def node_name(self, node: Node) -> str:
        """Return the name of a node with its study, under which the result store records it."""
        return f"{self.study.name}.{node}"

    def extra_columns(self) -> list[str]:
        """Return the names of the dataset's own columns that the study keeps."""
        return sorted({k for c in self.dataset().clips for k in c.extra})
