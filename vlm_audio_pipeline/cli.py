"""The `vlm-audio` command. Every command imports what it needs when it runs, so that `--help` answers at once."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from vlm_audio_pipeline.contracts.errors import VlmAudioError

if TYPE_CHECKING:
    import pyarrow as pa

    from vlm_audio_pipeline.orchestration.graph import Graph
    from vlm_audio_pipeline.storage.layout import Layout


class _Commands(TyperGroup):
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


def _layout(data: Path | None) -> "Layout":
    from vlm_audio_pipeline.storage.layout import Layout

    layout = Layout.default(data)
    os.environ["VLM_AUDIO_DATA"] = str(layout.root)  # isolated environments find their own way there
    return layout


def _graph(study: str, data: Path | None, limit: int | None = None) -> "Graph":
    from vlm_audio_pipeline.orchestration.graph import Graph, limited
    from vlm_audio_pipeline.studies.loading import load_study

    loaded = load_study(study)
    return Graph(limited(loaded, limit) if limit else loaded, _layout(data))


def _print(what: Any) -> None:
    from vlm_audio_pipeline.orchestration.display import tell
    from vlm_audio_pipeline.reports.terminal import console

    tell(console(), what)


@app.command()
def run(
    study: StudyArgument,
    only: OnlyOption = None,
    fold: FoldOption = None,
    limit: LimitOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would run and why, and stop.")] = False,
    data: DataOption = None,
) -> None:
    """Bring a study up to date: run what is missing or stale, nothing else.

    Stop it at any time; the same command goes on where it was.

    - `vlm-audio run demo`
    - `vlm-audio run baselines --only classical_knn --fold 1`
    - `vlm-audio run my_study.yaml --dry-run`
    """
    from vlm_audio_pipeline.orchestration.display import show_run

    graph = _graph(study, data, limit)
    raise typer.Exit(show_run(graph, only or (), fold, dry_run=dry_run))


@app.command()
def plan(
    study: StudyArgument,
    only: OnlyOption = None,
    fold: FoldOption = None,
    limit: LimitOption = None,
    data: DataOption = None,
) -> None:
    """Say what is fresh, what is missing or stale and why, and what running it would take."""
    from vlm_audio_pipeline.orchestration.display import show_run

    raise typer.Exit(show_run(_graph(study, data, limit), only or (), fold, dry_run=True))


@app.command()
def refresh(study: StudyArgument, data: DataOption = None) -> None:
    """Look at the outside anew (files of the dataset, readings), tell Dagster, and rebuild the catalogue."""
    from vlm_audio_pipeline.orchestration.assets import report_observations
    from vlm_audio_pipeline.orchestration.instance import open_instance
    from vlm_audio_pipeline.orchestration.planner import make_plan
    from vlm_audio_pipeline.orchestration.publishing import publish
    from vlm_audio_pipeline.orchestration.state import observe

    graph = _graph(study, data)
    seen = observe(graph)
    report_observations(graph, seen, open_instance(graph.layout))
    publish(graph)
    todo = make_plan(graph, seen).todo
    changed = f"{len(todo)} to do; `vlm-audio run {study}` does it" if todo else "everything is fresh"
    _print(f"{len(seen)} sources seen; {changed}")


@app.command()
def fetch(study: StudyArgument, data: DataOption = None) -> None:
    """Get everything a study needs from outside, now, so that it runs without a network later."""
    from vlm_audio_pipeline.orchestration.display import show_fetch

    raise typer.Exit(show_fetch(_graph(study, data)))


@app.command()
def ui(
    studies: Annotated[
        list[str] | None, typer.Argument(help="Studies to show; default: the built-in ones and those run here.")
    ] = None,
    port: Annotated[int, typer.Option(help="Port on this machine; 0 for any free one.")] = 3000,
    data: DataOption = None,
) -> None:
    """Open the Dagster UI on this machine, with its home in the data folder."""
    from vlm_audio_pipeline.orchestration.serving import serve

    raise typer.Exit(serve(_layout(data).made(), studies or [], port))


_LEADERBOARD = (
    "SELECT * FROM leaderboard WHERE $1 IS NULL OR study = $1 "
    "ORDER BY study, rank NULLS LAST, accuracy DESC NULLS LAST, classifier"
)


@app.command()
def leaderboard(
    study: Annotated[str | None, typer.Argument(help="Name of a study that was run; default: all.")] = None,
    data: DataOption = None,
) -> None:
    """Show the leaderboard of one study or of all, with denominators and what was not run."""
    from vlm_audio_pipeline.reports.terminal import leaderboard_table
    from vlm_audio_pipeline.storage.catalogue import query

    rows = query(_layout(data), _LEADERBOARD, [study]).to_pylist()
    if not rows:
        raise VlmAudioError(
            f"no leaderboard{f' of {study}' if study else ''} yet; run `vlm-audio run {study or 'demo'}`"
        )
    for name in dict.fromkeys(r["study"] for r in rows):
        _print(leaderboard_table([r for r in rows if r["study"] == name], name))


@app.command()
def show(
    clip: Annotated[str, typer.Argument(help="Clip id, such as 1-100032-A.")],
    classifier: Annotated[str | None, typer.Option("--classifier", help="Only this classifier.")] = None,
    study: Annotated[str | None, typer.Option("--study", help="Only this study.")] = None,
    data: DataOption = None,
) -> None:
    """Show everything about the predictions of one clip: what it is, what was predicted, every class's score."""
    from vlm_audio_pipeline.reports.lookup import predictions_of
    from vlm_audio_pipeline.reports.terminal import prediction_view

    _print(prediction_view(predictions_of(_layout(data), clip, classifier, study)))


@app.command()
def sql(
    query: Annotated[str, typer.Argument(help='Such as "SELECT classifier, accuracy FROM leaderboard".')],
    format: Annotated[str, typer.Option("--format", help="One of table, csv, json.")] = "table",
    data: DataOption = None,
) -> None:
    """Ask the results a question in SQL (DuckDB). `SHOW TABLES` lists them, `DESCRIBE predictions` their columns."""
    import json

    from vlm_audio_pipeline.reports.export import write_csv
    from vlm_audio_pipeline.storage import catalogue

    if format not in ("table", "csv", "json"):
        raise VlmAudioError(f"--format must be table, csv or json, got '{format}'; choose one of them")
    rows = catalogue.query(_layout(data), query)
    if format == "csv":
        write_csv(rows, sys.stdout.buffer)
    elif format == "json":
        sys.stdout.write(json.dumps(rows.to_pylist(), default=_json, indent=1) + "\n")
    else:
        _print_rows(rows)


def _json(value: Any) -> Any:
    """Write what JSON has no word for: whole numbers of any size (a sum, in DuckDB) as such, the rest as text."""
    from decimal import Decimal

    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return str(value)


def _print_rows(rows: "pa.Table") -> None:
    """Print rows as a table, or, where the window is too narrow for it, one value a line."""
    from rich.text import Text

    from vlm_audio_pipeline.orchestration.display import natural_width
    from vlm_audio_pipeline.reports.terminal import cell, console, rows_table

    out = console()
    table = rows_table(rows)
    if not out.is_terminal or natural_width(out, table) <= out.width:
        _print(table)
        return
    most = 50
    width = max(len(name) for name in rows.column_names)
    for row in rows.slice(0, most).to_pylist():
        for name, value in row.items():
            _print(Text.assemble((f"{name:<{width}}  ", "bold"), cell(value)))
        _print("")
    if rows.num_rows > most:
        _print(f"... and {rows.num_rows - most} more rows; --format csv prints all")


@app.command()
def export(
    study: Annotated[str, typer.Argument(help="Name of a study that was run.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder to write; default: STUDY_export here.", show_default=False)
    ] = None,
    data: DataOption = None,
) -> None:
    """Write a study's tables as CSV and parquet, its leaderboard as LaTeX, citations as BibTeX, and where all came from."""
    from vlm_audio_pipeline.reports.export import export_study

    folder = out or Path(f"{study}_export")
    for path in export_study(_layout(data), study, folder):
        typer.echo(path)


@app.command()
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
    from vlm_audio_pipeline.orchestration.display import show_render

    show_render(_graph(study, data), rendering, out, clips)


@app.command()
def renderings(
    out: Annotated[
        Path | None, typer.Option("--out", help="Write a picture with a thumbnail of each preset here.")
    ] = None,
) -> None:
    """List the presets of pictures, each with its source; `--out presets.png` draws them."""
    from vlm_audio_pipeline.renderings.presets import GROUPS, PRESETS
    from vlm_audio_pipeline.renderings.recipe import recipes
    from vlm_audio_pipeline.reports.pictures import presets_drawn

    for name, recipe in recipes().items():
        typer.echo(f"{name:24} {recipe.summary()}\n{'':24} {PRESETS[name].about} Source: {PRESETS[name].source}")
    for name, members in GROUPS.items():
        typer.echo(f"{name:24} stands for {', '.join(members)}")
    if out is not None:
        out.write_bytes(presets_drawn())
        typer.echo(f"wrote {out}")


@app.command()
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


@app.command()
def studies() -> None:
    """List the built-in studies."""
    from vlm_audio_pipeline.studies.loading import built_in_studies, load_study

    for name, path in built_in_studies().items():
        typer.echo(f"{name:12} {load_study(name).description}\n{'':12} {path}")


@app.command()
def schema() -> None:
    """Print the JSON Schema of study files, for editors that check and complete YAML."""
    import json

    from vlm_audio_pipeline.studies.schema import study_schema

    typer.echo(json.dumps(study_schema(), indent=1))


@app.command()
def doctor(data: DataOption = None) -> None:
    """Check this machine: packages, processor, GPU, disk, data folder. Exit code 1 when something must be mended."""
    from vlm_audio_pipeline.engines.doctor import examine

    signs = {"ok": "[green]ok[/green]  ", "warn": "[yellow]warn[/yellow]", "bad": "[red]bad[/red] "}
    findings = examine(_layout(data))
    for finding in findings:
        _print(f"{signs[finding.state]} {finding.what}")
    raise typer.Exit(1 if any(f.state == "bad" for f in findings) else 0)


def main() -> None:
    """Run the command: errors meant for a person are printed without a traceback."""
    sys.exit(_run(app))


def _run(command: Callable[[], None]) -> int | str | None:
    """Give the exit code. It leaves by no exception, whose frames would keep models and databases alive until the end."""
    try:
        command()
    except VlmAudioError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except SystemExit as exited:
        return exited.code
    return 0


if __name__ == "__main__":
    main()
