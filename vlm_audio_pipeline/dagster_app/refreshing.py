"""Check the inputs of a study for changes and report their versions to Dagster."""

from dataclasses import dataclass

from vlm_audio_pipeline.dagster_app.assets import report_observations
from vlm_audio_pipeline.dagster_app.instance import open_instance
from vlm_audio_pipeline.planning.graph import Graph
from vlm_audio_pipeline.planning.hub_revisions import check_hub_revisions
from vlm_audio_pipeline.planning.planner import Plan, make_plan
from vlm_audio_pipeline.planning.publishing import publish_study
from vlm_audio_pipeline.planning.staleness import current_input_versions


@dataclass(frozen=True)
class RefreshResult:
    """The result of `refresh_study`.

    Attributes:
        models: a message about each model of the hub: its revision here and on the hub.
        inputs: number of inputs (recordings of a fold, annotation files, models) that were checked.
        plan: the plan of the study after the check.
    """

    models: list[str]
    inputs: int
    plan: Plan


def refresh_study(graph: Graph) -> RefreshResult:
    """Check recordings, annotation files and model revisions, report them to Dagster, and rebuild the catalogue."""
    models = [model.message for model in check_hub_revisions(graph)]
    versions = current_input_versions(graph)
    report_observations(graph, versions, open_instance(graph.data_folder))
    publish_study(graph)
    return RefreshResult(models, len(versions), make_plan(graph, versions))
