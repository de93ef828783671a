"""Bringing a study up to date."""

from typing import Annotated

import typer

from vlm_audio_pipeline.cli.app import (
    DataOption,
    FoldOption,
    LimitOption,
    OnlyOption,
    StudyArgument,
    app,
    graph_of,
    layout_of,
    say,
)

PANEL = "Run a study"


@app.command(rich_help_panel=PANEL)
def run(
    study: StudyArgument,
    only: OnlyOption = None,
    fold: FoldOption = None,
    limit: LimitOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would run and why, and stop.")] = False,
    data: DataOption = None,
) -> None:
    """Bring a study up to date: run what is missing or stale, nothing else.

    Stop it at any time; the same command goes on where it was.

    - `vlm-audio run demo`
    - `vlm-audio run baselines --only classical_knn --fold 1`
    - `vlm-audio run my_study.yaml --dry-run`
    """
    from vlm_audio_pipeline.cli.display import show_run

    graph = graph_of(study, data, limit)
    raise typer.Exit(show_run(graph, only or (), fold, dry_run=dry_run))


@app.command(rich_help_panel=PANEL)
def plan(
    study: StudyArgument,
    only: OnlyOption = None,
    fold: FoldOption = None,
    limit: LimitOption = None,
    data: DataOption = None,
) -> None:
    """Say what is fresh, what is missing or stale and why, and what running it would take."""
    from vlm_audio_pipeline.cli.display import show_run

    raise typer.Exit(show_run(graph_of(study, data, limit), only or (), fold, dry_run=True))


@app.command(rich_help_panel=PANEL)
def refresh(study: StudyArgument, data: DataOption = None) -> None:
    """Look at the outside anew (recordings, readings, models on the hub), tell Dagster, and rebuild the catalogue."""
    from vlm_audio_pipeline.dagster_app.assets import report_observations
    from vlm_audio_pipeline.dagster_app.instance import open_instance
    from vlm_audio_pipeline.planning.hub_revisions import look_at_models
    from vlm_audio_pipeline.planning.planner import make_plan
    from vlm_audio_pipeline.planning.publishing import publish
    from vlm_audio_pipeline.planning.staleness import observe

    graph = graph_of(study, data)
    for model in look_at_models(graph):
        say(model.words)
    seen = observe(graph)
    report_observations(graph, seen, open_instance(graph.layout))
    publish(graph)
    todo = make_plan(graph, seen).todo
    changed = f"{len(todo)} to do; `vlm-audio run {study}` does it" if todo else "everything is fresh"
    say(f"{len(seen)} sources seen; {changed}")


@app.command(rich_help_panel=PANEL)
def fetch(study: StudyArgument, data: DataOption = None) -> None:
    """Get everything a study needs from outside, now, so that it runs without a network later."""
    from vlm_audio_pipeline.cli.display import show_fetch

    raise typer.Exit(show_fetch(graph_of(study, data)))


@app.command(rich_help_panel=PANEL)
def ui(
    studies: Annotated[
        list[str] | None, typer.Argument(help="Studies to show; default: the built-in ones and those run here.")
    ] = None,
    port: Annotated[int, typer.Option(help="Port on this machine; 0 for any free one.")] = 3000,
    data: DataOption = None,
) -> None:
    """Open the Dagster UI on this machine, with its home in the data folder."""
    from vlm_audio_pipeline.dagster_app.serving import serve

    raise typer.Exit(serve(layout_of(data).made(), studies or [], port))
