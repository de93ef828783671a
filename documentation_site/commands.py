"""The page of the commands, made from the help of `vlm-audio`."""

from typing import Any


def make_page() -> str:
    """Return the page: the help and exit codes of the program, then its commands in the groups and order of `--help`."""
    import typer
    from typer.cli import get_docs_for_click

    from vlm_audio_pipeline.cli import main as cli

    program: Any = typer.main.get_command(cli.app)  # a group of commands
    context = program.make_context("vlm-audio", [], resilient_parsing=True)
    overview = get_docs_for_click(obj=program, ctx=context, name="vlm-audio", title="Commands")
    lines = [overview.partition("**Commands**")[0]]  # its list of commands cuts their help to a few words
    panel = None
    for name in program.list_commands(context):
        command = program.commands[name]
        if command.rich_help_panel != panel:
            panel = command.rich_help_panel
            lines.append(f"## {panel}")
        lines.append(get_docs_for_click(obj=command, ctx=context, indent=2, name=name, call_prefix="vlm-audio"))
    return "\n\n".join(lines)
