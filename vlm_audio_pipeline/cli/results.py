"""Commands that show results."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vlm_audio_pipeline.cli.app import DataOption, LimitOption, StudyArgument, app, open_data_folder, open_study, say
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
    study: Annotated[str | None, typer.Argument(help="Name of a study that was run. Default: all.")] = None,
    data: DataOption = None,
) -> None:
    """Show the leaderboard of one study or of all studies."""
    from vlm_audio_pipeline.cli.tables import contrasts_table, leaderboard_table
    from vlm_audio_pipeline.storage.catalogue import query
    from vlm_audio_pipeline.studies.loading import built_in_studies, load_study

    rows = query(open_data_folder(data), _LEADERBOARD, [study]).to_pylist()
    if not rows:
        raise VlmAudioError(
            f"no leaderboard{f' of {study}' if study else ''} yet; run `vlm-audio run {study or 'demo'}`"
        )
    for name in dict.fromkeys(r["study"] for r in rows):
        description = f": {load_study(name).description}" if name in built_in_studies() else ""
        say(leaderboard_table([r for r in rows if r["study"] == name], f"{name}{description}"))
        contrasts = query(open_data_folder(data), "SELECT * FROM contrasts WHERE study = $1 ORDER BY position", [name])
        if contrasts.num_rows:
            say(contrasts_table(contrasts.to_pylist(), "contrasts"))


@app.command(rich_help_panel=PANEL)
def show(
    clip: Annotated[str, typer.Argument(help="Clip id, such as 1-100032-A.")],
    classifier: Annotated[str | None, typer.Option("--classifier", help="Only this classifier.")] = None,
    study: Annotated[str | None, typer.Option("--study", help="Only this study.")] = None,
    data: DataOption = None,
) -> None:
    """Show one clip and all its predictions, with the score of every class.

    - `vlm-audio show 1-100032-A --study demo`
    """
    from vlm_audio_pipeline.cli.tables import prediction_view
    from vlm_audio_pipeline.reports.lookup import find_predictions

    say(prediction_view(find_predictions(open_data_folder(data), clip, classifier, study)))


@app.command(rich_help_panel=PANEL)
def sql(
    query: Annotated[str, typer.Argument(help='A query such as "SELECT classifier, accuracy FROM leaderboard".')],
    format: Annotated[str, typer.Option("--format", help="One of table, csv, json.")] = "table",
    data: DataOption = None,
) -> None:
    """Query the results in SQL (DuckDB). `SHOW TABLES` lists the tables, `DESCRIBE predictions` the columns of one."""
    import json

    from vlm_audio_pipeline.reports.export import write_csv
    from vlm_audio_pipeline.storage import catalogue

    if format not in ("table", "csv", "json"):
        raise VlmAudioError(f"--format must be table, csv or json, got '{format}'; choose one of them")
    rows = catalogue.query(open_data_folder(data), query)
    if format == "csv":
        write_csv(rows, sys.stdout.buffer)
    elif format == "json":
        sys.stdout.write(json.dumps(rows.to_pylist(), default=_json, indent=1) + "\n")
    else:
        _print_rows(rows)


def _json(value: Any) -> Any:
    """Convert values that JSON does not have: decimals (a DuckDB sum) to numbers, others to text."""
    from decimal import Decimal

    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return str(value)


def _print_rows(rows: "pa.Table") -> None:
    """Print rows as a table, or one value per line if the terminal is too narrow."""
    from rich.text import Text

    from vlm_audio_pipeline.cli.printing import console, natural_width
    from vlm_audio_pipeline.cli.tables import cell, rows_table

    out = console()
    table = rows_table(rows)
    if not out.is_terminal or natural_width(out, table) <= out.width:
        say(table)
        return
    max_rows = 50
    width = max(len(name) for name in rows.column_names)
    for row in rows.slice(0, max_rows).to_pylist():
        for name, value in row.items():
            say(Text.assemble((f"{name:<{width}}  ", "bold"), cell(value)))
        say("")
    if rows.num_rows > max_rows:
        say(f"... and {rows.num_rows - max_rows} more rows; --format csv prints all")


@app.command(rich_help_panel=PANEL)
def export(
    study: Annotated[str, typer.Argument(help="Name of a study that was run.")],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", help="Folder to write. Default: STUDY_export in the working directory.", show_default=False
        ),
    ] = None,
    data: DataOption = None,
) -> None:
    """Write the tables of a study as CSV and parquet, its leaderboard as LaTeX, citations as BibTeX, and the provenance."""
    from vlm_audio_pipeline.reports.export import export_study

    folder = out or Path(f"{study}_export")
    for path in export_study(open_data_folder(data), study, folder):
        typer.echo(path)


@app.command(rich_help_panel=PANEL)
def report(
    study: StudyArgument,
    open_: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    single_file: Annotated[
        Path | None,
        typer.Option("--single-file", help="Write the page as one self-contained file, at this path.", metavar="FILE"),
    ] = None,
    limit: LimitOption = None,
    data: DataOption = None,
) -> None:
    """Write the report page of a study: results with confidence intervals, comparisons, and the clips that models get wrong."""
    import webbrowser

    from vlm_audio_pipeline.cli import executor
    from vlm_audio_pipeline.planning.nodes import Node
    from vlm_audio_pipeline.planning.planner import select_nodes
    from vlm_audio_pipeline.planning.run import run_study
    from vlm_audio_pipeline.reports.page.report import write_report

    graph = open_study(study, data, limit)
    name = graph.study.name
    if single_file is not None:
        page = write_report(graph.data_folder, name, single_file, single_file=True)
        typer.echo(f"{page.stat().st_size / 1e6:.1f} MB", err=True)
    else:
        page = graph.data_folder.report(name) / "index.html"
        steps = [name for name, step in graph.steps.items() if step.stage.on_demand]
        if not page.exists():  # the page was deleted, so the step that wrote it is not fresh
            for file in graph.partition_files(Node("report")).values():
                file.unlink(missing_ok=True)
        failed = run_study(graph, select_nodes(graph, steps), executor=executor.command_executor()).failed
        if failed:
            raise VlmAudioError("; ".join(failed.values()))
    typer.echo(page)
    if open_:
        webbrowser.open(page.absolute().as_uri())


@app.command("annotation-sheet", rich_help_panel=PANEL)
def annotation_sheet(
    study: Annotated[str, typer.Argument(help="Name of a study that was run.")],
    fold: Annotated[int, typer.Option("--fold", help="The fold whose images are annotated.")] = 1,
    rendering: Annotated[
        str | None,
        typer.Option("--rendering", help="Name of a rendering. Default: the first of the study.", show_default=False),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="File to write. Default: STUDY_annotation_sheet.html in the working directory.",
            show_default=False,
        ),
    ] = None,
    data: DataOption = None,
) -> None:
    """Write a page that shows an annotator the images of a fold; its CSV is the file of an `annotations` classifier."""
    from vlm_audio_pipeline.reports.annotation_sheet import write_annotation_sheet

    path = write_annotation_sheet(
        open_data_folder(data), study, fold, rendering, out or Path(f"{study}_annotation_sheet.html")
    )
    typer.echo(f"wrote {path}; open it, annotate the images, save the CSV, then add to the study's classifiers:")
    typer.echo(f"  annotators: {{kind: annotations, path: THE.csv, folds: [{fold}]}}")
    typer.echo("  (on fold 1 of ESC-10, `reproduces: dixit2024/human experts` compares with the published result)")


@app.command(rich_help_panel=PANEL)
def fiftyone(
    study: Annotated[str, typer.Argument(help="Name of a study that was run.")],
    rendering: Annotated[
        str | None,
        typer.Option(
            "--rendering", help="Rendering of the images. Default: the first of the study.", show_default=False
        ),
    ] = None,
    export: Annotated[
        Path | None, typer.Option("--export", help="Write the dataset to this folder and stop; works without FiftyOne.")
    ] = None,
    port: Annotated[int, typer.Option(help="Port of the FiftyOne App on this machine.")] = 5151,
    data: DataOption = None,
) -> None:
    """Open a study in the FiftyOne App, with images, labels, predictions and projections (needs the extra `fiftyone`)."""
    from vlm_audio_pipeline.reports.fiftyone import export_fiftyone, open_fiftyone

    if export is not None:
        typer.echo(f"wrote {export_fiftyone(open_data_folder(data), study, export, rendering)}")
        return
    open_fiftyone(open_data_folder(data), study, rendering=rendering, port=port)
