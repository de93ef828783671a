"""Asking a language model about one recording."""

from pathlib import Path
from typing import Annotated

import typer

from vlm_audio_pipeline.cli.app import DataOption, app, graph_of, say

PANEL = "Look at results"


@app.command("try", rich_help_panel=PANEL)
def try_(
    recording: Annotated[Path, typer.Argument(help="A sound file.", metavar="FILE")],
    study: Annotated[str, typer.Option("--study", help="A built-in study, or a study file.")],
    classifier: Annotated[str, typer.Option("--classifier", help="A language model of the study.")],
    messages: Annotated[bool, typer.Option("--messages", help="Show exactly what the model is told.")] = False,
    data: DataOption = None,
) -> None:
    """Ask a language model about one recording: what it says, and how likely it finds every class.

    - `vlm-audio try dog.wav --study demo --classifier janus --messages`
    """
    from vlm_audio_pipeline.planning.single_response import tried_view, try_recording

    tried = try_recording(graph_of(study, data), classifier, recording)
    say(tried_view(tried, messages=messages))
    raise typer.Exit(1 if tried.error else 0)
