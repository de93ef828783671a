"""Commands that show results."""

import io
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from vlm_audio_pipeline.cli.app import (
    DataOption,
    JsonOption,
    LimitOption,
    RunStudyArgument,
    StudyArgument,
    app,
    complete_study,
    open_data_folder,
    open_run_study,
    open_study,
    print_json,
    print_line,
    print_to_stdout,
)
from vlm_audio_pipeline.contracts.errors import VlmAudioError

PANEL = "Look at results"


@app.command(rich_help_panel=PANEL)
def leaderboard(
    study: Annotated[
        str | None,
        typer.Argument(help="A study that was run: its name or its file. Default: all.", autocompletion=complete_study),
    ] = None,
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Show the leaderboard of one study or of all studies, its verdicts, contrasts and the published results that it repeats."""
    from vlm_audio_pipeline.cli.label_tables import label_contrasts_table, label_leaderboard_table, recordings_table
    from vlm_audio_pipeline.cli.published_view import published_view
    from vlm_audio_pipeline.cli.tables import CONTRASTS_TITLE, contrasts_table, leaderboard_table
    from vlm_audio_pipeline.cli.verdicts_view import verdicts_table
    from vlm_audio_pipeline.reports.lookup import MULTI_LABEL_RECORDINGS, find_leaderboards
    from vlm_audio_pipeline.storage.catalogue import query
    from vlm_audio_pipeline.storage.study_records import study_records

    name, data_folder = (None, open_data_folder(data)) if study is None else open_run_study(study, data)

    def read(table: str) -> "list[dict[str, Any]]":
        sql = f"SELECT * FROM {table} WHERE $1 IS NULL OR study = $1 ORDER BY study, "
        sql += "publication, system, setting, variant, split, classifier" if table == "published" else "position"
        rows: list[dict[str, Any]] = query(data_folder, sql, [name], leave_out_damaged=True).to_pylist()
        return rows

    leaderboards = {table: rows.to_pylist() for table, rows in find_leaderboards(data_folder, name).items()}
    tables = {"verdicts": read("verdicts"), **leaderboards}
    recordings = query(data_folder, MULTI_LABEL_RECORDINGS, [name], leave_out_damaged=True)
    tables |= {"multi_label_recordings": recordings.to_pylist()}
    tables |= {name: read(name) for name in ("contrasts", "multi_label_contrasts", "published")}
    if as_json:
        print_json(tables)
        return
    records = study_records(data_folder, leave_out_damaged=True)
    descriptions = {study: record["study"].get("description") for study, record in records.items()}
    for title in sorted({row["study"] for rows in leaderboards.values() for row in rows}):
        study_tables = {table: [row for row in rows if row["study"] == title] for table, rows in tables.items()}
        if study_tables["verdicts"]:
            print_to_stdout(verdicts_table(study_tables["verdicts"], title))
        description = f": {text}" if (text := descriptions.get(title)) else ""
        if study_tables["leaderboard"]:
            print_to_stdout(leaderboard_table(study_tables["leaderboard"], f"{title}{description}", title))
        if study_tables["multi_label_leaderboard"]:
            print_to_stdout(
                label_leaderboard_table(study_tables["multi_label_leaderboard"], f"{title}{description}", title)
            )
        if study_tables["multi_label_recordings"]:
            print_to_stdout(recordings_table(study_tables["multi_label_recordings"], "whole recordings", title))
        if study_tables["contrasts"]:
            print_to_stdout(contrasts_table(study_tables["contrasts"], CONTRASTS_TITLE, title))
        if study_tables["multi_label_contrasts"]:
            print_to_stdout(label_contrasts_table(study_tables["multi_label_contrasts"], CONTRASTS_TITLE, title))
        if (view := published_view(study_tables["published"], "published and measured")) is not None:
            print_to_stdout(view)


@app.command(rich_help_panel=PANEL)
def show(
    clip: Annotated[str, typer.Argument(help="Clip id, such as 2-1-A-0 of the demo.")],
    classifier: Annotated[str | None, typer.Option("--classifier", help="Only this classifier.")] = None,
    study: Annotated[
        str | None,
        typer.Option("--study", help="Only this study: its name or its file.", autocompletion=complete_study),
    ] = None,
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Show one clip and all its predictions, with the score of every class.

    - `vlm-audio show 2-1-A-0 --study demo`
    """
    from vlm_audio_pipeline.cli.tables import prediction_view
    from vlm_audio_pipeline.reports.lookup import find_predictions

    name, data_folder = (None, open_data_folder(data)) if study is None else open_run_study(study, data)
    rows = find_predictions(data_folder, clip, classifier, name)
    if as_json:
        print_json({"predictions": rows.to_pylist(maps_as_pydicts="strict")})
    else:
        print_to_stdout(prediction_view(rows.to_pylist()))


@app.command(rich_help_panel=PANEL)
def sql(
    query: Annotated[str, typer.Argument(help='A query such as "SELECT classifier, accuracy FROM leaderboard".')],
    format: Annotated[str, typer.Option("--format", help="One of table, csv, json.")] = "table",
    allow_files: Annotated[
        bool,
        typer.Option(
            "--allow-files",
            help="Let the query read and write other files (COPY, ATTACH) and load extensions of DuckDB. By default it only "
            "reads the data folder.",
        ),
    ] = False,
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Query the results in SQL (DuckDB). `SHOW TABLES` lists the tables, `DESCRIBE predictions` the columns of one.

    The query can read only the data folder, and it can write nothing, unless you give `--allow-files`.
    """
    from vlm_audio_pipeline.cli.rows_view import print_rows
    from vlm_audio_pipeline.contracts.escapes import strict_json
    from vlm_audio_pipeline.reports.export import write_csv
    from vlm_audio_pipeline.storage import catalogue

    if format not in ("table", "csv", "json"):
        raise VlmAudioError(f"--format must be table, csv or json, got '{format}'; choose one of them")
    rows = catalogue.query(open_data_folder(data), query, is_trusted=allow_files)
    if as_json:
        print_json({"rows": rows.to_pylist(maps_as_pydicts="strict")})
    elif format == "csv" and not sys.stdout.isatty():
        write_csv(rows, sys.stdout.buffer)
    elif format == "csv":
        file = io.BytesIO()
        write_csv(rows, file)
        print_line(file.getvalue().decode().removesuffix("\n"))
    elif format == "json":
        print_line(strict_json(rows.to_pylist(maps_as_pydicts="strict"), indent=1))
    else:
        print_rows(rows)


@app.command(rich_help_panel=PANEL)
def export(
    study: RunStudyArgument,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="Folder to write. Default: STUDY_export in the working directory; for another format STUDY_FORMAT.",
            show_default=False,
        ),
    ] = None,
    format: Annotated[str, typer.Option("--format", help="One of tables, huggingface, inspect, lmms-eval.")] = "tables",
    data: DataOption = None,
) -> None:
    """Write a study into a folder: its tables, or a folder that another tool reads.

    - tables: CSV and parquet, the leaderboard as LaTeX, citations as BibTeX, and the provenance

    - huggingface: audio, images, labels and predictions for `datasets.load_dataset`

    - inspect: the responses of language models for `inspect view`

    - lmms-eval: the responses of language models as its samples and results
    """
    from vlm_audio_pipeline.reports.exports.formats import export_as

    name, data_folder = open_run_study(study, data)
    for path in export_as(data_folder, name, format, out):
        print_line(path)


@app.command(rich_help_panel=PANEL)
def report(
    study: StudyArgument,
    others: Annotated[
        list[str] | None,
        typer.Argument(
            help="Compare with these studies that were run, or with earlier results: STUDY@2026-11-20.",
            show_default=False,
            autocompletion=complete_study,
        ),
    ] = None,
    open_: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    single_file: Annotated[
        Path | None,
        typer.Option("--single-file", help="Write the page as one self-contained file, at this path.", metavar="FILE"),
    ] = None,
    limit: LimitOption = None,
    data: DataOption = None,
) -> None:
    """Write the report page of a study: results with confidence intervals, comparisons, and the clips that models get wrong.

    With several studies, write a page that compares the others with the first, clip by clip. STUDY@2026-11-20 means the results at
    the end of that day (UTC).
    """
    import webbrowser

    from vlm_audio_pipeline.cli.comparison import compare_studies

    if others:
        page = compare_studies(open_data_folder(data), [study, *others], limit, single_file)
    else:
        page = _write_page(study, limit, single_file, data)
    if single_file is not None:
        print_line(f"{page.stat().st_size / 1e6:.1f} MB", stderr=True)
    print_line(page)
    if open_:
        webbrowser.open(page.absolute().as_uri())


def _write_page(study: str, limit: int | None, single_file: Path | None, data: Path | None) -> Path:
    from vlm_audio_pipeline.cli import executor
    from vlm_audio_pipeline.cli.progress import progress_bars
    from vlm_audio_pipeline.planning.report_page import update_report_page, write_single_file

    graph = open_study(study, data, limit)
    with progress_bars("report") as display:
        if single_file is not None:
            return write_single_file(graph, single_file, display.progress)
        return update_report_page(
            graph, executor.command_executor(), display.progress, on_plan=display.on_plan, on_step=display.on_step
        )


@app.command("annotation-sheet", rich_help_panel=PANEL)
def annotation_sheet(
    study: RunStudyArgument,
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
    """Write a page that shows an annotator the images of a fold; a classifier of kind `annotations` reads the CSV that it saves."""
    from vlm_audio_pipeline.reports.annotation_sheet import write_annotation_sheet

    name, data_folder = open_run_study(study, data)
    path = write_annotation_sheet(data_folder, name, fold, rendering, out or Path(f"{name}_annotation_sheet.html"))
    print_line(f"wrote {path}; open it, annotate the images, save the CSV, then add to the study's classifiers:")
    print_line(f"  annotators: {{kind: annotations, path: THE.csv, folds: [{fold}]}}")
    print_line("  (on fold 1 of ESC-10, `reproduces: dixit2024/human experts` compares with the published result)")


@app.command(rich_help_panel=PANEL)
def fiftyone(
    study: RunStudyArgument,
    rendering: Annotated[
        str | None,
        typer.Option(
            "--rendering", help="Rendering of the images. Default: the first of the study.", show_default=False
        ),
    ] = None,
    export: Annotated[
        Path | None, typer.Option("--export", help="Write the dataset to this folder and stop; works without FiftyOne.")
    ] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the FiftyOne App on this machine.")] = 5151,
    data: DataOption = None,
) -> None:
    """Open a study in the FiftyOne App, with images, labels, predictions and projections (needs the extra `fiftyone`)."""
    from vlm_audio_pipeline.reports.fiftyone import export_fiftyone, open_fiftyone

    name, data_folder = open_run_study(study, data)
    if export is not None:
        print_line(f"wrote {export_fiftyone(data_folder, name, export, rendering)}")
        return
    open_fiftyone(data_folder, name, rendering=rendering, port=port)
