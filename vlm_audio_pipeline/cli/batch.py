"""The command `batch`: requests and responses in files, and abandoned batches."""

from pathlib import Path
from typing import Annotated

import typer

from vlm_audio_pipeline.cli.app import DataOption, StudyArgument, app, open_study, print_to_stdout

PANEL = "Run a study"


@app.command(rich_help_panel=PANEL)
def batch(
    study: StudyArgument,
    write: Annotated[
        Path | None,
        typer.Option("--write", help="Write the requests without a response to this file, in OpenAI's batch format."),
    ] = None,
    read: Annotated[
        Path | None,
        typer.Option("--read", help="Store the responses in this file, the output of a batch."),
    ] = None,
    classifier: Annotated[
        str | None,
        typer.Option("--classifier", help="Only this classifier. Required if the study asks several models."),
    ] = None,
    forget: Annotated[
        str | None,
        typer.Option(
            "--forget",
            help="Abandon a submitted batch, by its id: its price counts as spent, and its requests are sent again.",
            metavar="BATCH",
        ),
    ] = None,
    data: DataOption = None,
) -> None:
    """Write the requests of a study to a file, or store the responses of a file. Nothing is sent.

    - `vlm-audio batch my_study.yaml --write requests.jsonl`
    - `vllm run-batch -i requests.jsonl -o responses.jsonl --model Qwen/Qwen2.5-VL-3B-Instruct`
    - `vlm-audio batch my_study.yaml --read responses.jsonl`
    """
    from vlm_audio_pipeline.cli.executor import command_executor
    from vlm_audio_pipeline.contracts.errors import VlmAudioError
    from vlm_audio_pipeline.planning.offline_batches import (
        forget_batch,
        read_responses,
        select_classifiers,
        write_requests,
    )

    if sum(option is not None for option in (write, read, forget)) != 1:
        raise VlmAudioError("give one of --write, --read and --forget")
    graph = open_study(study, data)
    if forget is not None:
        requests = forget_batch(graph, forget)
        print_to_stdout(f"{requests} requests of {forget} are sent again by the next run")
        return
    specs = select_classifiers(graph, classifier)
    if write is not None:
        count = write_requests(graph, specs, write, command_executor())
        print_to_stdout(
            f"{count} requests written to {write}; store the responses with `vlm-audio batch {graph.study.cli_argument} --read FILE`"
        )
    elif read is not None:
        count, errors = read_responses(graph, specs, read, command_executor())
        print_to_stdout(f"{count} responses stored; `{graph.study.run_command}` uses them")
        for message, number in errors.items():
            print_to_stdout(f"{number} requests ended in an error ({message})")
        raise typer.Exit(1 if errors or not count else 0)
