"""The `vlm-audio` application and the options that commands share.

Commands import what they need when they run, so that `--help` is fast.
"""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

if TYPE_CHECKING:
    from vlm_audio_pipeline.planning.graph import Graph
    from vlm_audio_pipeline.storage.data_folder import DataFolder


PANELS = ("Run a study", "Look at results", "Look at images", "Set up")
"""Groups of commands, in the order of `--help`."""


class _Commands(TyperGroup):
    def list_commands(self, ctx: Any) -> list[str]:
        """Return the commands, ordered by panel."""
        commands: Any = self.commands  # click does not know panels
        return sorted(super().list_commands(ctx), key=lambda name: PANELS.index(commands[name].rich_help_panel))

    def invoke(self, ctx: Any) -> Any:
        """Run a command; after Ctrl-C, print that the same command continues the run."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            sys.stderr.write("stopped; finished work is kept, and the same command continues from there\n")
            raise typer.Exit(130) from None


app = typer.Typer(
    cls=_Commands,
    help=(
        "Evaluate vision-language models on spectrograms of sounds. A study file lists a dataset, models and baselines; "
        "`run` makes its leaderboard and recomputes only what changed.\n\n"
        "Start with `vlm-audio run demo` (offline, one minute). See the results with `vlm-audio leaderboard` and "
        "`vlm-audio ui`. Then try `vlm-audio run baselines` on ESC-10, or `vlm-audio init clips.csv` for your recordings."
    ),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)

StudyArgument = Annotated[str, typer.Argument(help="A built-in study (see `vlm-audio studies`) or a study file.")]
DataOption = Annotated[
    Path | None,
    typer.Option(
        "--data",
        help="Data folder with all results. Default: VLM_AUDIO_DATA, else data/ in the working directory.",
        show_default=False,
    ),
]
OnlyOption = Annotated[
    list[str] | None,
    typer.Option(
        "--only",
        help='Only these steps and their inputs: an encoder, a classifier, or a pattern such as "embeddings/*".',
    ),
]
FoldOption = Annotated[int | None, typer.Option("--fold", help="Only this fold and its inputs.")]
LimitOption = Annotated[
    int | None,
    typer.Option(
        "--limit",
        min=1,
        help="At most this many clips per fold. The results are stored separately, marked partial and not ranked.",
    ),
]


def open_data_folder(data: Path | None) -> "DataFolder":
    """Choose the data folder, and check its format version."""
    from vlm_audio_pipeline.storage.data_folder import DataFolder

    data_folder = DataFolder.default(data)
    data_folder.check_format()
    os.environ["VLM_AUDIO_DATA"] = str(data_folder.root)  # for processes of isolated environments
    return data_folder


def open_study(study: str, data: Path | None, limit: int | None = None) -> "Graph":
    """Read a study and build its graph."""
    from vlm_audio_pipeline.planning.clip_limit import limit_study
    from vlm_audio_pipeline.planning.graph import Graph
    from vlm_audio_pipeline.studies.loading import load_study

    loaded = load_study(study)
    return Graph(limit_study(loaded, limit) if limit else loaded, open_data_folder(data))


def say(view: Any) -> None:
    """Print a text or table without cutting values."""
    from vlm_audio_pipeline.cli.printing import console, print_view

    print_view(console(), view)
