"""Commands to set up: write and list studies, check the machine, free disk space."""

from pathlib import Path
from typing import Annotated

import typer

from vlm_audio_pipeline.cli.app import DataOption, app, open_data_folder, say

PANEL = "Set up"


@app.command(rich_help_panel=PANEL)
def init(
    listing: Annotated[
        Path, typer.Argument(help="CSV file with one line per recording: path and label, optionally fold and source.")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", help="Study file to write. Default: next to the CSV.", show_default=False)
    ] = None,
) -> None:
    """Write a study file for your own recordings."""
    from vlm_audio_pipeline.studies.starting import write_starting_study

    path = write_starting_study(listing, out)
    typer.echo(f"wrote {path}; check it, then run: vlm-audio run {path}")


@app.command(rich_help_panel=PANEL)
def studies() -> None:
    """List the built-in studies."""
    from vlm_audio_pipeline.studies.loading import built_in_studies, load_study

    for name, path in built_in_studies().items():
        typer.echo(f"{name:12} {load_study(name).description}\n{'':12} {path}")


@app.command(rich_help_panel=PANEL)
def schema() -> None:
    """Print the JSON Schema of study files, for editors that check YAML."""
    import json

    from vlm_audio_pipeline.studies.schema import study_schema

    typer.echo(json.dumps(study_schema(), indent=1))


@app.command(rich_help_panel=PANEL)
def doctor(data: DataOption = None) -> None:
    """Check this machine: packages, processor, GPU, disk, data folder. The exit code is 1 if something must be fixed."""
    from vlm_audio_pipeline.datasets.local_copies import check_local_copies
    from vlm_audio_pipeline.engines.doctor import check_machine

    signs = {"ok": "[green]ok[/green]  ", "warn": "[yellow]warn[/yellow]", "bad": "[red]bad[/red] "}
    findings = [*check_machine(open_data_folder(data)), *check_local_copies()]
    for finding in findings:
        say(f"{signs[finding.state]} {finding.text}")
    raise typer.Exit(1 if any(f.state == "bad" for f in findings) else 0)


@app.command(rich_help_panel=PANEL)
def prune(
    days: Annotated[
        float, typer.Option("--days", min=0, help="Keep everything that is newer than this many days.")
    ] = 30.0,
    responses: Annotated[
        bool,
        typer.Option("--responses", help="Also delete model responses that no study uses; they may have cost money."),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Delete without asking.")] = False,
    data: DataOption = None,
) -> None:
    """Delete what no study needs: old run logs, unused partition files and results, temporary files. Lists them first and asks for confirmation."""
    from vlm_audio_pipeline.dagster_app.run_history import find_old_runs
    from vlm_audio_pipeline.planning.pruning import find_waste, prune

    data_folder = open_data_folder(data)
    wastes = [*find_waste(data_folder, days, responses), *find_old_runs(data_folder, days)]
    for waste in wastes:
        typer.echo(f"{waste.count:6} {waste.description}: {waste.size / 1e6:.1f} MB")
    if not wastes:
        typer.echo(f"nothing to delete in {data_folder.root}")
    elif yes or typer.confirm("Delete these?"):
        typer.echo(f"{data_folder.root} is {prune(data_folder, wastes) / 1e6:.1f} MB smaller")
