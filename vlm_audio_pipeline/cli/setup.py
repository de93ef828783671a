"""Beginning: studies to take, studies to write, this machine."""

from pathlib import Path
from typing import Annotated

import typer

from vlm_audio_pipeline.cli.app import DataOption, app, layout_of, say

PANEL = "Begin"


@app.command(rich_help_panel=PANEL)
def init(
    listing: Annotated[
        Path, typer.Argument(help="A CSV with a line a recording: path and label, perhaps fold and source.")
    ],
    out: Annotated[
        Path | None, typer.Option("--out", help="Study file to write; default: beside the CSV.", show_default=False)
    ] = None,
) -> None:
    """Write a starting study for recordings of your own."""
    from vlm_audio_pipeline.studies.starting import write_starting_study

    path = write_starting_study(listing, out)
    typer.echo(f"wrote {path}; look it over, then: vlm-audio run {path}")


@app.command(rich_help_panel=PANEL)
def studies() -> None:
    """List the built-in studies."""
    from vlm_audio_pipeline.studies.loading import built_in_studies, load_study

    for name, path in built_in_studies().items():
        typer.echo(f"{name:12} {load_study(name).description}\n{'':12} {path}")


@app.command(rich_help_panel=PANEL)
def schema() -> None:
    """Print the JSON Schema of study files, for editors that check and complete YAML."""
    import json

    from vlm_audio_pipeline.studies.schema import study_schema

    typer.echo(json.dumps(study_schema(), indent=1))


@app.command(rich_help_panel=PANEL)
def doctor(data: DataOption = None) -> None:
    """Check this machine: packages, processor, GPU, disk, data folder. Exit code 1 when something must be mended."""
    from vlm_audio_pipeline.engines.doctor import examine

    signs = {"ok": "[green]ok[/green]  ", "warn": "[yellow]warn[/yellow]", "bad": "[red]bad[/red] "}
    findings = examine(layout_of(data))
    for finding in findings:
        say(f"{signs[finding.state]} {finding.what}")
    raise typer.Exit(1 if any(f.state == "bad" for f in findings) else 0)


@app.command(rich_help_panel=PANEL)
def prune(
    days: Annotated[float, typer.Option("--days", min=0, help="What is younger stays.")] = 30.0,
    answers: Annotated[
        bool, typer.Option("--answers", help="Also answers that no study refers to, which may have been paid for.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    data: DataOption = None,
) -> None:
    """Drop what no study needs: old run logs, orphaned parts and rows, leftovers of kills. Shows sizes, and asks."""
    from vlm_audio_pipeline.dagster_app.pruning import find_waste, prune

    layout = layout_of(data)
    wastes = find_waste(layout, days, answers)
    for waste in wastes:
        typer.echo(f"{waste.count:6} {waste.what}: {waste.size / 1e6:.1f} MB")
    if not wastes:
        typer.echo(f"nothing older than {days:g} days may go from {layout.root}")
    elif yes or typer.confirm("Delete these?"):
        typer.echo(f"{layout.root} is {prune(layout, wastes) / 1e6:.1f} MB smaller")
