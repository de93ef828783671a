"""Commands to set up: write and list studies, check the machine, free disk space."""

from pathlib import Path
from typing import Annotated

import typer

from vlm_audio_pipeline.cli.app import (
    DataOption,
    EngineOption,
    JsonOption,
    app,
    complete_study,
    open_data_folder,
    print_json,
    print_line,
    print_to_stdout,
)
from vlm_audio_pipeline.contracts.errors import VlmAudioError

PANEL = "Set up"


@app.command(rich_help_panel=PANEL)
def init(
    listing: Annotated[
        Path | None,
        typer.Argument(
            help="CSV file with one line per recording: path and label, optionally fold and source. A folder with one folder "
            "per class. A folder of recordings with annotation files (Raven, Audacity, Label Studio, ...), or one of these files. Or the "
            "folder of a known dataset.",
            metavar="LISTING",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            help="Study file to write. Default: next to the listing; with --from, my_NAME.yaml in the working directory.",
            show_default=False,
        ),
    ] = None,
    built_in: Annotated[
        str | None,
        typer.Option(
            "--from",
            help="Copy this built-in study instead, to change it.",
            metavar="NAME",
            autocompletion=complete_study,
        ),
    ] = None,
) -> None:
    """Write a study file for your own recordings, or a copy of a built-in study.

    - `vlm-audio init clips.csv`
    - `vlm-audio init recordings`
    - `vlm-audio init field/site1.Table.1.selections.txt`
    - `vlm-audio init --from baselines`
    """
    from vlm_audio_pipeline.studies.first_study import copy_built_in_study, write_first_study
    from vlm_audio_pipeline.studies.loading import load_study

    if (listing is None) == (built_in is None):
        got = "neither" if listing is None else "both"
        raise VlmAudioError(
            f"init needs a CSV file or a folder, or --from NAME for a built-in study, got {got}; give one"
        )
    path = write_first_study(listing, out) if listing is not None else copy_built_in_study(str(built_in), out)
    print_line(f"wrote {path}; check it, then run: {load_study(path).run_command}")


@app.command(rich_help_panel=PANEL)
def studies(as_json: JsonOption = False, data: DataOption = None) -> None:
    """List the built-in studies, and those that were run in the data folder."""
    from vlm_audio_pipeline.cli.printing import PlainTable
    from vlm_audio_pipeline.storage.study_records import study_records
    from vlm_audio_pipeline.studies.loading import built_in_studies, load_study

    built_in = built_in_studies()
    rows: list[dict[str, str | None]] = [
        {"name": n, "description": load_study(n).description, "file": str(path)} for n, path in built_in.items()
    ]
    for name, record in study_records(open_data_folder(data), leave_out_damaged=True).items():
        if name not in built_in:
            description = record["study"].get("description", "")
            rows.append({"name": name, "description": description, "file": record.get("file")})
    if as_json:
        print_json({"studies": rows})
        return
    table = PlainTable()
    for heading in ("study", "description and file"):
        table.add_column(heading)
    for row in rows:
        table.add_row(row["name"], "\n".join(filter(None, (row["description"], row["file"]))))
    print_to_stdout(table)


@app.command(rich_help_panel=PANEL)
def schema() -> None:
    """Print the JSON Schema of study files, for editors that check YAML."""
    import json

    from vlm_audio_pipeline.studies.schema import study_schema

    print_line(json.dumps(study_schema(), indent=1))


@app.command(rich_help_panel=PANEL)
def doctor(
    folder: Annotated[
        Path | None,
        typer.Argument(help="Data folder to check. Default: that of --data.", metavar="DATA", show_default=False),
    ] = None,
    engine: EngineOption = None,
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Check this machine and the data folder: packages, processor, GPU, disk, and every stored file. Nothing is changed.

    Each line says what is wrong and what to do. The exit code is 1 if something must be fixed, else 0.

    - `vlm-audio doctor`
    - `vlm-audio doctor data`
    - `vlm-audio doctor --engine ray`
    """
    from vlm_audio_pipeline.cli.printing import PlainText
    from vlm_audio_pipeline.planning.doctor_checks import run_all_checks
    from vlm_audio_pipeline.storage.data_folder import DataFolder

    colors = {"ok": "green", "warn": "yellow", "bad": "red"}
    findings = run_all_checks(DataFolder.locate(folder or data), engine)
    if as_json:
        print_json({"checks": [{"state": finding.state, "text": finding.text} for finding in findings]})
    for finding in [] if as_json else findings:
        print_to_stdout(PlainText.assemble((f"{finding.state:<4}", colors[finding.state]), f" {finding.text}"))
    raise typer.Exit(1 if any(f.state == "bad" for f in findings) else 0)


@app.command(rich_help_panel=PANEL)
def prune(
    days: Annotated[
        float, typer.Option("--days", min=0, help="Keep everything that is newer than this many days.")
    ] = 30.0,
    responses: Annotated[
        bool,
        typer.Option("--responses", help="Also delete model responses that no study uses; they may have cost money."),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Delete without asking.")] = False,
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Delete old run logs, temporary files, and partition files and results that no study needs. The command lists them first and asks for confirmation.

    With `--json` it only lists them, unless `--yes` is given.
    """
    from vlm_audio_pipeline.dagster_app.run_history import find_old_runs
    from vlm_audio_pipeline.planning.pruning import find_unused_items, prune

    data_folder = open_data_folder(data)
    unused = [*find_unused_items(data_folder, days, responses), *find_old_runs(data_folder, days)]
    if as_json:
        rows = [{"description": i.description, "count": i.count, "size_bytes": i.size} for i in unused]
        print_json({"unused": rows})
        if yes and unused:
            prune(data_folder, unused)
        return
    for items in unused:
        print_to_stdout(f"{items.count:6} {items.description}: {items.size / 1e6:.1f} MB")
    if not unused:
        print_to_stdout(f"nothing to delete in {data_folder.root}")
    elif yes or typer.confirm("Delete these?"):
        print_line(f"{data_folder.root} is {prune(data_folder, unused) / 1e6:.1f} MB smaller")
