"""Commands that show the images that models receive."""

from pathlib import Path
from typing import Annotated

import typer

from vlm_audio_pipeline.cli.app import DataOption, StudyArgument, app, open_study, say
from vlm_audio_pipeline.contracts.errors import VlmAudioError, suggestion

PANEL = "Look at images"


@app.command(rich_help_panel=PANEL)
def render(
    study: StudyArgument,
    rendering: Annotated[str, typer.Argument(help="Name of a rendering of the study, or of a preset.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the images.")],
    clips: Annotated[
        int | None,
        typer.Option("--clips", min=1, help="Maximum number of clips, taken evenly from the classes. Default: all."),
    ] = None,
    data: DataOption = None,
) -> None:
    """Render clips of a study as image files, with a contact sheet that has one row per class.

    - `vlm-audio render demo linear --out images --clips 20`
    """
    from vlm_audio_pipeline.cli.progress import progress_bars
    from vlm_audio_pipeline.renderings.recipe import preset_recipes
    from vlm_audio_pipeline.reports.images import choose_clips, write_images

    graph = open_study(study, data)
    recipes = {**preset_recipes(), **graph.study.renderings}
    recipe = recipes.get(rendering)
    if recipe is None:
        raise VlmAudioError(
            f"'{rendering}' is neither a rendering of the study nor a preset; {suggestion(rendering, recipes)}"
        )
    with progress_bars(rendering) as display:
        dataset = graph.dataset(display.progress)
        files = write_images(dataset, choose_clips(dataset, clips), recipe, out, display.progress)
    say(f"{len(files) - 1} images in {out}; contact sheet: {files[0]}")


@app.command(rich_help_panel=PANEL)
def renderings(
    out: Annotated[
        Path | None, typer.Option("--out", help="Also write an image with a thumbnail of each preset to this file.")
    ] = None,
) -> None:
    """List the rendering presets with their publications.

    - `vlm-audio renderings --out presets.png`
    """
    from vlm_audio_pipeline.renderings.presets import GROUPS, PRESETS
    from vlm_audio_pipeline.renderings.recipe import preset_recipes
    from vlm_audio_pipeline.reports.images import render_preset_gallery

    if out is not None and out.is_dir():
        raise VlmAudioError(f"--out must be a file, got the folder {out}; use for example {out / 'presets.png'}")
    for name, recipe in preset_recipes().items():
        preset = PRESETS[name]
        typer.echo(f"{name:24} {recipe.summary()}\n{'':24} {preset.description} Publication: {preset.publication}")
    for name, members in GROUPS.items():
        typer.echo(f"{name:24} group of {', '.join(members)}")
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_bytes(render_preset_gallery())
        typer.echo(f"wrote {out}")
