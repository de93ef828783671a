"""Commands that show the images that models receive."""

from pathlib import Path
from typing import Annotated

import typer

from vlm_audio_pipeline.cli.app import (
    DataOption,
    JsonOption,
    StudyArgument,
    app,
    open_study,
    print_json,
    print_line,
    print_to_stdout,
)
from vlm_audio_pipeline.contracts.errors import VlmAudioError

PANEL = "Look at images"


@app.command(rich_help_panel=PANEL)
def render(
    study: StudyArgument,
    rendering: Annotated[str, typer.Argument(help="Name of a rendering of the study, or of a preset.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the images.")],
    clips: Annotated[
        int | None,
        typer.Option("--clips", min=1, help="Maximum number of clips, balanced over the classes. Default: all."),
    ] = None,
    data: DataOption = None,
) -> None:
    """Render clips of a study as image files, with a contact sheet that has one row per class.

    - `vlm-audio render demo linear --out images --clips 20`
    """
    from vlm_audio_pipeline.cli.progress import progress_bars
    from vlm_audio_pipeline.renderings.recipe import find_recipe
    from vlm_audio_pipeline.reports.images import choose_clips, write_images

    graph = open_study(study, data)
    recipe = find_recipe(rendering, graph.study.renderings)
    with progress_bars(rendering) as display:
        dataset = graph.dataset(display.progress)
        files = write_images(dataset, choose_clips(dataset, clips), recipe, out, display.progress)
    print_to_stdout(f"{len(files) - 1} images in {out}; contact sheet: {files[0]}")


@app.command(rich_help_panel=PANEL)
def renderings(
    out: Annotated[
        Path | None, typer.Option("--out", help="Also write an image with a thumbnail of each preset to this file.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List the rendering presets with their publications.

    - `vlm-audio renderings --out presets.png`
    """
    from vlm_audio_pipeline.cli.printing import PlainTable
    from vlm_audio_pipeline.renderings.presets import GROUPS, PRESETS
    from vlm_audio_pipeline.renderings.recipe import preset_recipes
    from vlm_audio_pipeline.reports.images import render_preset_gallery
    from vlm_audio_pipeline.storage.atomic import write_atomically

    if out is not None and out.is_dir():
        raise VlmAudioError(f"--out must be a file, got the folder {out}; use for example {out / 'presets.png'}")
    rows = [
        {
            "name": name,
            "summary": recipe.summary(),
            "description": PRESETS[name].description,
            "publication": PRESETS[name].publication,
        }
        for name, recipe in preset_recipes().items()
    ]
    if as_json:
        groups = [{"name": name, "presets": list(members)} for name, members in GROUPS.items()]
        print_json({"presets": rows, "groups": groups})
    else:
        table = PlainTable()
        for heading in ("preset", "content"):
            table.add_column(heading)
        for row in rows:
            content = f"{row['summary']}\n{row['description']} Publication: {row['publication']}"
            table.add_row(row["name"], content)
        for name, members in GROUPS.items():
            table.add_row(name, f"group of {', '.join(members)}")
        print_to_stdout(table)
    if out is not None:
        write_atomically(out, render_preset_gallery())
        print_line(f"wrote {out}", stderr=as_json)
