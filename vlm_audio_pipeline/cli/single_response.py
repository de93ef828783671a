"""The command `try`: ask a language model about one recording."""

from math import exp
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vlm_audio_pipeline.cli.app import (
    DataOption,
    JsonOption,
    app,
    complete_study,
    open_study,
    print_json,
    print_to_stdout,
)
from vlm_audio_pipeline.contracts.number_text import rounded_text

if TYPE_CHECKING:
    from rich.console import RenderableType

    from vlm_audio_pipeline.classifiers.language_models.messages import Message, MessagePart
    from vlm_audio_pipeline.cli.printing import PlainText
    from vlm_audio_pipeline.planning.single_response import SingleResponse

PANEL = "Look at results"


@app.command("try", rich_help_panel=PANEL)
def try_(
    recording: Annotated[Path, typer.Argument(help="An audio file.", metavar="FILE")],
    study: Annotated[
        str,
        typer.Option(
            "--study",
            help="A built-in study, a study file, or the name of a study that was run.",
            autocompletion=complete_study,
        ),
    ],
    classifier: Annotated[str, typer.Option("--classifier", help="A language model of the study.")],
    messages: Annotated[bool, typer.Option("--messages", help="Show the complete request.")] = False,
    as_json: JsonOption = False,
    data: DataOption = None,
) -> None:
    """Ask a language model about one recording; show its response and the likelihood of each class.

    - `vlm-audio try dog.wav --study demo --classifier janus --messages`
    """
    from vlm_audio_pipeline.planning.single_response import ask_about_recording

    response = ask_about_recording(open_study(study, data), classifier, recording)
    if as_json:
        print_json(_response_tables(response))
    else:
        print_to_stdout(response_view(response, messages=messages))
    raise typer.Exit(1 if response.error else 0)


def _response_tables(response: "SingleResponse") -> dict[str, list[dict[str, Any]]]:
    label = None if response.parsed is None else response.parsed.label
    row = {"text": response.text, "label": label, "outcome": response.outcome, "error": response.error}
    ranked = sorted((response.log_probabilities or {}).items(), key=lambda pair: -pair[1])
    return {"response": [row], "log_probabilities": [{"class": n, "log_probability": value} for n, value in ranked]}


def response_view(response: "SingleResponse", *, messages: bool) -> "RenderableType":
    """Show a response, with the classes from the most to the least likely.

    Args:
        response: the response.
        messages: show the request, too.
    """
    from rich.console import Group, RenderableType

    from vlm_audio_pipeline.cli.printing import PlainText

    lines: list[RenderableType] = []
    if messages:
        rendered = response.rendered_messages
        lines += [PlainText(rendered)] if rendered is not None else [_message_view(m) for m in response.messages]
        lines.append(PlainText())
    if response.error:
        lines.append(PlainText(f"error: {response.error}", style="red"))
    if response.outcome == "refused" and response.text is None:
        lines.append(PlainText("the endpoint refused to answer", style="yellow"))
    if response.text is not None and response.parsed is not None:
        outcome = response.parsed.label or f"({response.parsed.outcome})"
        lines.append(PlainText.assemble("response: ", (repr(response.text), "bold"), f", parsed as {outcome}"))
    if response.log_probabilities:
        ranked = sorted(response.log_probabilities.items(), key=lambda pair: -pair[1])
        total = sum(exp(value - ranked[0][1]) for _, value in ranked)
        width = max(len(name) for name, _ in ranked)
        lines.append(PlainText("log-probability of each class, and its share of the total probability", style="dim"))
        for name, value in ranked:
            share = exp(value - ranked[0][1]) / total
            lines.append(
                PlainText(
                    f"{name:<{width}} {rounded_text(value, 3):>9} {rounded_text(share, 3):>7} {'#' * round(30 * share)}"
                )
            )
    return Group(*lines)


def _message_view(message: "Message") -> "PlainText":
    from vlm_audio_pipeline.classifiers.language_models.messages import ImagePart
    from vlm_audio_pipeline.cli.printing import PlainText

    def describe(part: "MessagePart") -> str:
        if isinstance(part, str):
            return part
        return f"[{'image' if isinstance(part, ImagePart) else 'audio'} {part.sha256[:12]}]"

    return PlainText(f"{message.role}: ", "bold").append(" ".join(describe(part) for part in message.parts), "not bold")
