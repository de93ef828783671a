"""Commands that run a study."""

from typing import Annotated, Any

import typer

from vlm_audio_pipeline.cli.app import (
    DataOption,
    EngineOption,
    FoldOption,
    JsonOption,
    LimitOption,
    OnlyOption,
    StudyArgument,
    app,
    complete_study,
    open_data_folder,
    open_study,
    print_json,
    print_to_stdout,
)
from vlm_audio_pipeline.cli.settings import name_study, settings
from vlm_audio_pipeline.contracts.errors import VlmAudioError

PANEL = "Run a study"


@app.command(rich_help_panel=PANEL)
def run(
    study: StudyArgument,
    only: OnlyOption = None,
    fold: FoldOption = None,
    limit: LimitOption = None,
    again: Annotated[
        list[str] | None,
        typer.Option(
            "--again",
            metavar="STEP",
            help="Ask the language model of this step again although its responses are stored, such as responses/janus. May "
            "cost money again. Repeatable.",
        ),
    ] = None,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run", help="Show the steps that would run, with the reasons, then stop; the same as `plan`."
        ),
    ] = False,
    no_wait: Annotated[
        bool,
        typer.Option(
            "--no-wait", help="Submit batches of requests and end; a later run collects the responses. Default: wait."
        ),
    ] = False,
    engine: EngineOption = None,
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Run the steps of a study that are missing or stale, then show the leaderboard.

    Stop it with Ctrl-C at any time: the same command continues where it stopped.

    - `vlm-audio run demo`
    - `vlm-audio run baselines --only classical_knn --fold 1`
    - `vlm-audio run my_study.yaml --dry-run`
    - `vlm-audio run demo --again responses/janus`
    - `vlm-audio run demo --engine ray`
    """
    from vlm_audio_pipeline.cli.run_view import run_and_show
    from vlm_audio_pipeline.engines.opening import open_engine, read_engine_setting
    from vlm_audio_pipeline.planning.opening import open_graph

    data_folder = open_data_folder(data)
    opened_engine = open_engine(read_engine_setting(engine, data_folder.root))
    options: dict[str, Any] = {"dry_run": dry_run, "again": again or (), "wait": not no_wait, "as_json": as_json}
    try:
        graph = open_graph(study, data_folder, limit, opened_engine)
        settings().study = graph.study.cli_argument
        code = run_and_show(graph, only or (), fold, **options)
    finally:
        opened_engine.close()
    raise typer.Exit(code)


@app.command(rich_help_panel=PANEL)
def plan(
    study: StudyArgument,
    only: OnlyOption = None,
    fold: FoldOption = None,
    limit: LimitOption = None,
    difference: Annotated[
        float | None,
        typer.Option(
            "--difference",
            min=0.001,
            max=0.999,
            help="Also show how many clips, trials and draws the contrasts need to find this difference of accuracies, such "
            "as 0.1 for 10 points.",
        ),
    ] = None,
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Show the steps to do with their reasons, cost and time, and the differences that the contrasts can show. Nothing runs.

    - `vlm-audio plan demo`
    - `vlm-audio plan demo --difference 0.1`
    """
    from vlm_audio_pipeline.cli.run_view import run_and_show

    graph = open_study(study, data, limit)
    raise typer.Exit(run_and_show(graph, only or (), fold, dry_run=True, difference=difference, as_json=as_json))


@app.command(rich_help_panel=PANEL)
def refresh(study: StudyArgument, as_json: JsonOption = False, data: DataOption = None) -> None:
    """Check recordings, annotation files and model revisions for changes, report them to Dagster, rebuild the catalogue."""
    from vlm_audio_pipeline.cli.plan_view import plan_tables

    graph = open_study(study, data)  # before the import of Dagster, so that a mistake is reported at once
    from vlm_audio_pipeline.dagster_app.refreshing import refresh_study

    result = refresh_study(graph)
    models = [name_study(message) for message in result.models]
    if as_json:
        print_json({"models": [{"message": message} for message in models], **plan_tables(graph, result.plan)})
        return
    for message in models:
        print_to_stdout(message)
    is_fresh = not result.plan.todo
    advice = "everything is fresh" if is_fresh else f"{result.plan.steps_to_do}: `{graph.study.run_command}`"
    print_to_stdout(f"{result.inputs} inputs checked; {advice}")


@app.command(rich_help_panel=PANEL)
def fetch(
    study: StudyArgument,
    everywhere: Annotated[
        bool,
        typer.Option(
            "--everywhere",
            help="Also download the models on every node of the cluster that the engine names (`--engine`, VLM_AUDIO_ENGINE or engine.yaml).",
        ),
    ] = False,
    engine: EngineOption = None,
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Download the dataset and models of a study, so that it runs without a network later.

    - `vlm-audio fetch demo`
    - `vlm-audio fetch my_study.yaml --everywhere --engine ray`
    """
    from vlm_audio_pipeline.cli.fetch_view import fetch_and_show

    if not everywhere:
        if engine is not None:
            raise VlmAudioError(
                "--engine of fetch names the cluster of --everywhere; add --everywhere, or leave it out"
            )
        raise typer.Exit(fetch_and_show(open_study(study, data), as_json=as_json))
    from vlm_audio_pipeline.engines.opening import open_engine, read_engine_setting
    from vlm_audio_pipeline.planning.opening import open_graph

    data_folder = open_data_folder(data)
    setting = read_engine_setting(engine, data_folder.root)
    if setting.kind == "local":
        raise VlmAudioError(
            "--everywhere needs a cluster, but the engine is local; add `--engine ray` or `--engine ray://HOST:PORT`"
        )
    opened_engine = open_engine(setting)
    try:
        graph = open_graph(study, data_folder, engine=opened_engine)
        settings().study = graph.study.cli_argument
        code = fetch_and_show(graph, everywhere=True, as_json=as_json)
    finally:
        opened_engine.close()
    raise typer.Exit(code)


@app.command(rich_help_panel=PANEL)
def ui(
    studies: Annotated[
        list[str] | None,
        typer.Argument(
            help="Studies to show: names or files. Default: the built-in ones and those in the data folder.",
            autocompletion=complete_study,
        ),
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on this machine; 0 for any free port.")] = 3000,
    data: DataOption = None,
) -> None:
    """Start the Dagster UI on this machine."""
    for study in studies or []:
        open_study(study, data)  # before the import of Dagster, so that a mistake is reported at once
    from vlm_audio_pipeline.dagster_app.serving import serve

    raise typer.Exit(serve(open_data_folder(data).create(), studies or [], port))
