"""The Dagster job of a study: its runs have the name of the study, in the UI and from the command."""

from collections.abc import Sequence
from typing import Any

import dagster as dg

from vlm_audio_pipeline.planning.graph import Graph

STUDY_TAG = "study"
"""Tag of every run: name of the study."""


def study_jobs(graph: Graph) -> dict[tuple[int, ...] | None, Any]:
    """Return the job of a study, by folds; None is the key of the job named like the study.

    Dagster allows one set of partitions in a job. So classifiers with folds of their own are in a job for these folds.
    """
    steps: dict[tuple[int, ...] | None, list[dg.AssetKey]] = {None: []}
    for step in graph.steps.values():
        folds = None if step.folds in (None, graph.folds) else step.folds
        steps.setdefault(folds, []).append(dg.AssetKey(step.key))
    name = graph.study.name
    return {
        folds: dg.define_asset_job(
            name if folds is None else f"{name}_folds_{'_'.join(map(str, folds))}",
            selection=dg.AssetSelection.assets(*keys),
            tags={STUDY_TAG: name},
            description=f"The steps of {name}" + ("" if folds is None else f" for folds {', '.join(map(str, folds))}"),
        )
        for folds, keys in steps.items()
    }


class StudyRuns:
    """Starts runs of a study in this process.

    Args:
        graph: the study.
        assets: its assets.
    """

    def __init__(self, graph: Graph, assets: Sequence[Any]):
        jobs = study_jobs(graph)
        definitions = dg.Definitions(assets=assets, jobs=list(jobs.values()))
        self._graph = graph
        self._jobs = {folds: definitions.resolve_job_def(job.name) for folds, job in jobs.items()}

    def execute(
        self, steps: Sequence[str], fold: int | None, instance: dg.DagsterInstance | None, config: dict[str, Any]
    ) -> dg.ExecuteInProcessResult:
        """Run some steps for one fold, or steps over all folds.

        Args:
            steps: names of steps with the same folds.
            fold: the fold; None for steps over all folds.
            instance: Dagster's instance.
            config: Dagster's run configuration.
        """
        folds = next((self._graph.steps[step].folds for step in steps), None)
        return self._jobs[folds if folds in self._jobs else None].execute_in_process(
            asset_selection=[dg.AssetKey(self._graph.steps[step].key) for step in steps],
            partition_key=None if fold is None else str(fold),
            instance=instance,
            run_config=config,
            raise_on_error=False,
        )
