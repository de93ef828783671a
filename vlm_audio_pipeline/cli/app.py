"""The `vlm-audio` application: what its commands share. Every command imports what it needs when it runs."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

if TYPE_CHECKING:
    from vlm_audio_pipeline.planning.graph import Graph
    from vlm_audio_pipeline.storage.layout import Layout


PANELS = ("Run a study", "Look at results", "Look at pictures", "Begin")
"""What people want, in the order in which `--help` shows it."""


class _Commands(TyperGroup):
    def list_commands(self, ctx: Any) -> list[str]:
        """Give the commands panel by panel."""
        commands: Any = self.commands  # click knows nothing of panels
        return sorted(super().list_commands(ctx), key=lambda name: PANELS.index(commands[name].rich_help_panel))

    def invoke(self, ctx: Any) -> Any:
        """Run a command; Ctrl-C leaves all resumable, and says so."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            sys.stderr.write("stopped; what was finished is kept, and the same command goes on from there\n")
            raise typer.Exit(130) from None


app = typer.Typer(
    cls=_Commands,
    help=(
        "Can a vision-language model hear what it sees? Give a study, get a leaderboard; change one thing, and only that "
        "thing is recomputed.\n\n"
        "Start with `vlm-audio run demo` (offline, a minute), look with `vlm-audio leaderboard` and `vlm-audio ui`, then "
        "`vlm-audio run baselines` on real ESC-10, or `vlm-audio init clips.csv` for recordings of your own."
    ),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)

StudyArgument = Annotated[str, typer.Argument(help="A built-in study (see `vlm-audio studies`) or a study file.")]
DataOption = Annotated[
    Path | None,
    typer.Option("--data", help="Folder of results. Default: VLM_AUDIO_DATA, else data/ here.", show_default=False),
]
OnlyOption = Annotated[
    list[str] | None,
    typer.Option(
        "--only", help='Only steps that fit, and what they need: an encoder or classifier, or "embeddings/*".'
    ),
]
FoldOption = Annotated[int | None, typer.Option("--fold", help="Only this fold, and what it needs.")]
LimitOption = Annotated[
    int | None,
    typer.Option(
        "--limit", min=1, help="At most so many clips of each fold, kept apart, marked partial, never ranked."
    ),
]


def layout_of(data: Path | None) -> "Layout":
    """Give the data folder."""
    from vlm_audio_pipeline.storage.layout import Layout

    layout = Layout.default(data)
    os.environ["VLM_AUDIO_DATA"] = str(layout.root)  # isolated environments find their own way there
    return layout


def graph_of(study: str, data: Path | None, limit: int | None = None) -> "Graph":
    """Read a study and compose it."""
    from vlm_audio_pipeline.planning.graph import Graph, limited
    from vlm_audio_pipeline.studies.loading import load_study

    loaded = load_study(study)
    return Graph(limited(loaded, limit) if limit else loaded, layout_of(data))


def say(what: Any) -> None:
    """Print for a person: nothing cut, nothing wrapped for a window that is not there."""
    from vlm_audio_pipeline.cli.display import tell
    from vlm_audio_pipeline.cli.tables import console

    tell(console(), what)
