"""Looking at what models are shown."""

from pathlib import Path
from typing import Annotated

import typer

from vlm_audio_pipeline.cli.app import DataOption, StudyArgument, app, graph_of
from vlm_audio_pipeline.contracts.errors import VlmAudioError

PANEL = "Look at pictures"


@app.command(rich_help_panel=PANEL)
def render(
    study: StudyArgument,
    rendering: Annotated[str, typer.Argument(help="Name of one of the study's renderings, or a preset.")],
    out: Annotated[Path, typer.Option("--out", help="Folder to write the pictures to.")],
    clips: Annotated[
        int | None, typer.Option("--clips", min=1, help="At most so many clips, classes in turn. Default: all.")
    ] = None,
    data: DataOption = None,
) -> None:
    """Draw clips of a study to look at: a file each, and a contact sheet with classes by rows."""
    from vlm_audio_pipeline.cli.display import show_render

    show_render(graph_of(study, data), rendering, out, clips)


@app.command(rich_help_panel=PANEL)
def renderings(
    out: Annotated[
        Path | None, typer.Option("--out", help="Write a picture with a thumbnail of each preset here.")
    ] = None,
) -> None:
    """List the presets of pictures, each with its source; `--out presets.png` draws them."""
    from vlm_audio_pipeline.renderings.presets import GROUPS, PRESETS
    from vlm_audio_pipeline.renderings.recipe import recipes
    from vlm_audio_pipeline.reports.pictures import presets_drawn

    if out is not None and out.is_dir():
        raise VlmAudioError(f"--out must be a file, got the folder {out}; name {out / 'presets.png'}, or another")
    for name, recipe in recipes().items():
        typer.echo(f"{name:24} {recipe.summary()}\n{'':24} {PRESETS[name].about} Source: {PRESETS[name].source}")
    for name, members in GROUPS.items():
        typer.echo(f"{name:24} stands for {', '.join(members)}")
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_bytes(presets_drawn())
        typer.echo(f"wrote {out}")
