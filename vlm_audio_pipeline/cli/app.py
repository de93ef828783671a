"""The `vlm-audio` application and the options that commands share.

Commands import other modules when they run, so that `--help` is fast.
"""

import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from vlm_audio_pipeline.cli.settings import name_study, set_quiet, set_verbose, settings, start_command
from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.contracts.escapes import escape_terminal, strict_json

if TYPE_CHECKING:
    from vlm_audio_pipeline.planning.graph import Graph
    from vlm_audio_pipeline.storage.data_folder import DataFolder


PANELS = ("Run a study", "Look at results", "Look at images", "Set up")
"""Groups of commands, in the order of `--help`."""


EXIT_CODES = {
    0: "success",
    1: "a step or a check failed (the others are done), or doctor found a fault",
    2: "wrong usage, or a mistake that the message explains",
    130: "stopped with Ctrl-C",
}
"""The exit codes of every command and their meaning."""


def _show_version(value: bool) -> None:
    if value:
        from vlm_audio_pipeline import __version__

        print_line(f"vlm-audio {__version__}")
        raise typer.Exit


def _verbosity(
    quiet: Annotated[
        bool,
        typer.Option(
            "--quiet",
            "-q",
            help="Print only results, warnings and errors.",
            callback=set_quiet,
            expose_value=False,
        ),
    ] = False,
    verbose: Annotated[
        bool,
        typer.Option(
            "--verbose",
            "-v",
            help="Also print each step, and where an error was raised.",
            callback=set_verbose,
            expose_value=False,
        ),
    ] = False,
) -> None:
    """Declare the options of every command."""


class _Commands(TyperGroup):
    def __init__(self, **options: Any):
        super().__init__(**options)
        option_app = typer.Typer(add_completion=False)
        option_app.command()(_verbosity)
        shared_options: Any = get_command(option_app)
        every_command: Any = (self, *self.commands.values())
        for command in every_command:
            command.params += shared_options.params
            for param in command.params:
                if getattr(param, "is_flag", False):
                    param.metavar = ""  # the help would show the type <bool>, although a flag takes no value

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the commands, ordered by panel."""
        commands: Any = self.commands  # click has no panels
        return sorted(super().list_commands(ctx), key=lambda name: PANELS.index(commands[name].rich_help_panel))

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        """Read the arguments of a command, which starts with the default settings."""
        start_command()
        return super().make_context(*arguments, **options)

    def invoke(self, ctx: Any) -> Any:
        """Run a command; an error names its study, and after Ctrl-C the same command continues the run."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            sys.stderr.write("stopped; finished work is kept, and the same command continues from there\n")
            raise typer.Exit(130) from None
        except VlmAudioError as error:
            if settings().verbose:
                print_line(traceback.format_exc(), stderr=True)
            message = name_study(str(error))
            raise error if message == str(error) else VlmAudioError(message) from error


app = typer.Typer(
    cls=_Commands,
    help=(
        "Evaluate vision-language models on spectrograms of sounds. A study file lists a dataset, models and baselines; "
        "`run` computes its leaderboard, and recomputes only what changed.\n\n"
        "Start with `vlm-audio run demo` (offline, one minute). See the results with `vlm-audio leaderboard` and "
        "`vlm-audio ui`. Then try `vlm-audio run baselines` on ESC-10, or `vlm-audio init clips.csv` for your recordings."
    ),
    epilog=f"Exit codes: {'; '.join(f'{code}: {meaning}' for code, meaning in EXIT_CODES.items())}.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


@app.callback()
def _program(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    pass


def complete_study(incomplete: str) -> list[str]:
    """Return the names of studies that begin with a text; the shell completes file names itself."""
    from vlm_audio_pipeline.storage.data_folder import DataFolder
    from vlm_audio_pipeline.storage.study_records import study_records
    from vlm_audio_pipeline.studies.study import BUILT_IN

    names = {path.stem for path in BUILT_IN.glob("*.yaml")}
    with suppress(VlmAudioError, OSError):
        names |= set(study_records(DataFolder.locate(), leave_out_damaged=True))
    return sorted(name for name in names if name.startswith(incomplete))


RunStudyArgument = Annotated[
    str, typer.Argument(help="A study that was run: its name or its file.", autocompletion=complete_study)
]
StudyArgument = Annotated[
    str,
    typer.Argument(
        help="A built-in study (see `vlm-audio studies`), a study file, or the name of a study that was run.",
        autocompletion=complete_study,
    ),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print the tables as JSON: an object of tables, each a list of rows.")
]
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
EngineOption = Annotated[
    str | None,
    typer.Option(
        "--engine",
        help="Where to compute: local, or ray://HOST:PORT for a Ray cluster (ray: the one of this machine). Default: "
        "VLM_AUDIO_ENGINE, else engine.yaml in the data folder, else local.",
        show_default=False,
    ),
]


def open_data_folder(data: Path | None) -> "DataFolder":
    """Return the data folder that a command uses; check its format version."""
    from vlm_audio_pipeline.storage.data_folder import DataFolder

    data_folder = DataFolder.locate(data)
    data_folder.check_format()
    os.environ["VLM_AUDIO_DATA"] = str(data_folder.root)  # for processes of isolated environments
    return data_folder


def open_study(study: str, data: Path | None, limit: int | None = None) -> "Graph":
    """Read a study and build its graph."""
    from vlm_audio_pipeline.planning.opening import open_graph

    graph = open_graph(study, open_data_folder(data), limit)
    settings().study = graph.study.cli_argument
    return graph


def open_run_study(study: str, data: Path | None) -> tuple[str, "DataFolder"]:
    """Return the name of a study that was run, given by its name or file, and the data folder."""
    from vlm_audio_pipeline.planning.opening import find_run_study

    data_folder = open_data_folder(data)
    return find_run_study(study, data_folder), data_folder


def print_line(value: object, *, stderr: bool = False) -> None:
    """Print a text or path, never wrapped and without control codes."""
    (sys.stderr if stderr else sys.stdout).write(escape_terminal(str(value)) + "\n")


def print_to_stdout(view: Any) -> None:
    """Print a text or table to stdout without cutting values."""
    from vlm_audio_pipeline.cli.printing import console, print_view

    print_view(console(), view)


def print_json(tables: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Print tables as one JSON object: the name of a table -> its rows, each an object of column -> value."""
    print_line(strict_json({name: [dict(row) for row in rows] for name, rows in tables.items()}, indent=1))
