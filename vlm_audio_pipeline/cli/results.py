"""Looking at what came out."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vlm_audio_pipeline.cli.app import DataOption, LimitOption, StudyArgument, app, graph_of, layout_of, say
from vlm_audio_pipeline.contracts.errors import VlmAudioError

if TYPE_CHECKING:
    import pyarrow as pa

PANEL = "Look at results"

_LEADERBOARD = (
    "SELECT * FROM leaderboard WHERE $1 IS NULL OR study = $1 "
    "ORDER BY study, rank NULLS LAST, accuracy DESC NULLS LAST, classifier"
)


@app.command(rich_help_panel=PANEL)
def leaderboard(
    study: Annotated[str | None, typer.Argument(help="Name of a study that was run; default: all.")] = None,
    data: DataOption = None,
) -> None:
    """Show the leaderboard of one study or of all, with denominators and what was not run."""
    from vlm_audio_pipeline.cli.tables import contrasts_table, leaderboard_table
    from vlm_audio_pipeline.storage.catalogue import query
    from vlm_audio_pipeline.studies.loading import built_in_studies, load_study

    rows = query(layout_of(data), _LEADERBOARD, [study]).to_pylist()
    if not rows:
        raise VlmAudioError(
            f"no leaderboard{f' of {study}' if study else ''} yet; run `vlm-audio run {study or 'demo'}`"
        )
    for name in dict.fromkeys(r["study"] for r in rows):
        about = f": {load_study(name).description}" if name in built_in_studies() else ""
        say(leaderboard_table([r for r in rows if r["study"] == name], f"{name}{about}"))
        contrasts = query(layout_of(data), "SELECT * FROM contrasts WHERE study = $1 ORDER BY position", [name])
        if contrasts.num_rows:
            say(contrasts_table(contrasts.to_pylist(), "contrasts"))


@app.command(rich_help_panel=PANEL)
def show(
    clip: Annotated[str, typer.Argument(help="Clip id, such as 1-100032-A.")],
    classifier: Annotated[str | None, typer.Option("--classifier", help="Only this classifier.")] = None,
    study: Annotated[str | None, typer.Option("--study", help="Only this study.")] = None,
    data: DataOption = None,
) -> None:
    """Show everything about the predictions of one clip: what it is, what was predicted, every class's score."""
    from vlm_audio_pipeline.cli.tables import prediction_view
    from vlm_audio_pipeline.reports.lookup import predictions_of

    say(prediction_view(predictions_of(layout_of(data), clip, classifier, study)))


@app.command(rich_help_panel=PANEL)
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
    rows = catalogue.query(layout_of(data), query)
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

    from vlm_audio_pipeline.cli.display import natural_width
    from vlm_audio_pipeline.cli.tables import cell, console, rows_table

    out = console()
    table = rows_table(rows)
    if not out.is_terminal or natural_width(out, table) <= out.width:
        say(table)
        return
    most = 50
    width = max(len(name) for name in rows.column_names)
    for row in rows.slice(0, most).to_pylist():
        for name, value in row.items():
            say(Text.assemble((f"{name:<{width}}  ", "bold"), cell(value)))
        say("")
    if rows.num_rows > most:
        say(f"... and {rows.num_rows - most} more rows; --format csv prints all")


@app.command(rich_help_panel=PANEL)
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
    for path in export_study(layout_of(data), study, folder):
        typer.echo(path)


@app.command(rich_help_panel=PANEL)
def report(
    study: StudyArgument,
    open_: Annotated[bool, typer.Option("--open", help="Show it in the browser.")] = False,
    single_file: Annotated[
        Path | None, typer.Option("--single-file", help="Write one small file to hand around, here.", metavar="FILE")
    ] = None,
    limit: LimitOption = None,
    data: DataOption = None,
) -> None:
    """Write the page of a study that was run: what hears, how sure that is, and on which clips it fails."""
    import webbrowser

    from vlm_audio_pipeline.dagster_app.running import run_study
    from vlm_audio_pipeline.planning.graph import Node
    from vlm_audio_pipeline.planning.planner import select
    from vlm_audio_pipeline.reports.page.report import write_report

    graph = graph_of(study, data, limit)
    name = graph.study.name
    if single_file is not None:
        page = write_report(graph.layout, name, single_file, single_file=True)
    else:
        page = graph.layout.report(name) / "index.html"
        shown = [name for name, step in graph.steps.items() if step.stage.on_demand]
        if not page.exists():  # who deleted it left behind the record that it was made
            for part in graph.parts(Node("report")).values():
                part.unlink(missing_ok=True)
        failed = run_study(graph, select(graph, shown)).failed
        if failed:
            raise VlmAudioError("; ".join(failed.values()))
    typer.echo(page)
    if open_:
        webbrowser.open(page.absolute().as_uri())


@app.command("reading-sheet", rich_help_panel=PANEL)
def reading_sheet(
    study: Annotated[str, typer.Argument(help="Name of a study that was run.")],
    fold: Annotated[int, typer.Option("--fold", help="The fold whose pictures are read.")] = 1,
    rendering: Annotated[
        str | None,
        typer.Option("--rendering", help="Name of a rendering; default: the study's first.", show_default=False),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="File to write; default: STUDY_reading.html here.", show_default=False)
    ] = None,
    data: DataOption = None,
) -> None:
    """Write a page on which a person reads pictures as the models do; its CSV fills a `human` classifier."""
    from vlm_audio_pipeline.reports.annotation_sheet import write_reading_sheet

    path = write_reading_sheet(layout_of(data), study, fold, rendering, out or Path(f"{study}_reading.html"))
    typer.echo(f"wrote {path}; open it, read, save its CSV, then add to the study's classifiers:")
    typer.echo(f"  readers: {{kind: human, path: THE.csv, folds: [{fold}]}}")
    typer.echo("  (on fold 1 of ESC-10, `reproduces: dixit2024/human experts` sets the published reading beside it)")


@app.command(rich_help_panel=PANEL)
def fiftyone(
    study: Annotated[str, typer.Argument(help="Name of a study that was run.")],
    rendering: Annotated[
        str | None,
        typer.Option("--rendering", help="Pictures to show; default: the study's first.", show_default=False),
    ] = None,
    export: Annotated[
        Path | None, typer.Option("--export", help="Only write the dataset to this folder; needs no FiftyOne.")
    ] = None,
    port: Annotated[int, typer.Option(help="Port of the App on this machine.")] = 5151,
    data: DataOption = None,
) -> None:
    """Open a study in FiftyOne's App: pictures, labels, every classifier and projection (needs the extra `fiftyone`)."""
    from vlm_audio_pipeline.reports.fiftyone import export_fiftyone, open_fiftyone

    if export is not None:
        typer.echo(f"wrote {export_fiftyone(layout_of(data), study, export, rendering)}")
        return
    open_fiftyone(layout_of(data), study, rendering=rendering, port=port)
