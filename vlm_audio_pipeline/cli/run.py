"""Commands that run a study."""

from typing import Annotated

import typer

from vlm_audio_pipeline.cli.app import (
    DataOption,
    FoldOption,
    LimitOption,
    OnlyOption,
    StudyArgument,
    app,
    open_data_folder,
    open_study,
    say,
)

PANEL = "Run a study"


@app.command(rich_help_panel=PANEL)
def run(
    study: StudyArgument,
    only: OnlyOption = None,
    fold: FoldOption = None,
    limit: LimitOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would run and why, then stop; the same as `plan`.")
    ] = False,
    data: DataOption = None,
) -> None:
    """Run the steps of a study that are missing or stale, then show the leaderboard.

    Stop it with Ctrl-C at any time: the same command continues where it stopped.

    - `vlm-audio run demo`
    - `vlm-audio run baselines --only classical_knn --fold 1`
    - `vlm-audio run my_study.yaml --dry-run`
    """
    from vlm_audio_pipeline.cli.run_view import run_and_show

    graph = open_study(study, data, limit)
    raise typer.Exit(run_and_show(graph, only or (), fold, dry_run=dry_run))


@app.command(rich_help_panel=PANEL)
def plan(
    study: StudyArgument,
    only: OnlyOption = None,
    fold: FoldOption = None,
    limit: LimitOption = None,
    data: DataOption = None,
) -> None:
    """Show which steps are missing or stale and why, what they cost, and how long they take. Nothing runs."""
    from vlm_audio_pipeline.cli.run_view import run_and_show

    raise typer.Exit(run_and_show(open_study(study, data, limit), only or (), fold, dry_run=True))


@app.command(rich_help_panel=PANEL)
def refresh(study: StudyArgument, data: DataOption = None) -> None:
    """Check recordings, annotation files and model revisions for changes, report them to Dagster, rebuild the catalogue."""
    from vlm_audio_pipeline.dagster_app.assets import report_observations
    from vlm_audio_pipeline.dagster_app.instance import open_instance
    from vlm_audio_pipeline.planning.hub_revisions import check_hub_revisions
    from vlm_audio_pipeline.planning.planner import make_plan
    from vlm_audio_pipeline.planning.publishing import publish_study
    from vlm_audio_pipeline.planning.staleness import current_input_versions

    graph = open_study(study, data)
    for model in check_hub_revisions(graph):
        say(model.message)
    versions = current_input_versions(graph)
    report_observations(graph, versions, open_instance(graph.data_folder))
    publish_study(graph)
    todo = make_plan(graph, versions).todo
    result = f"{len(todo)} steps to do: `vlm-audio run {study}`" if todo else "everything is fresh"
    say(f"{len(versions)} inputs checked; {result}")


@app.command(rich_help_panel=PANEL)
def fetch(study: StudyArgument, data: DataOption = None) -> None:
    """Download the dataset and models of a study, so that it runs without a network later."""
    from vlm_audio_pipeline.cli.fetch_view import fetch_and_show

    raise typer.Exit(fetch_and_show(open_study(study, data)))


@app.command(rich_help_panel=PANEL)
def ui(
    studies: Annotated[
        list[str] | None,
        typer.Argument(help="Studies to show. Default: the built-in ones and those in the data folder."),
    ] = None,
    port: Annotated[int, typer.Option(help="Port on this machine; 0 for any free port.")] = 3000,
    data: DataOption = None,
) -> None:
    """Start the Dagster UI on this machine."""
    from vlm_audio_pipeline.dagster_app.serving import serve

    raise typer.Exit(serve(open_data_folder(data).create(), studies or [], port))
