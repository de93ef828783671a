"""How much the current command prints, and which study it is about. Python functions have the default settings."""

import logging
from contextvars import ContextVar
from dataclasses import dataclass

from vlm_audio_pipeline.contracts import advice

_LOG = logging.getLogger("vlm_audio_pipeline")


@dataclass
class Settings:
    """The settings of one command.

    Attributes:
        quiet: print only results, warnings and errors.
        verbose: also print a line for each step, log messages, and where an error was raised.
        study: the argument that selects the study, quoted for the shell; None: the command has no study.
    """

    quiet: bool = False
    verbose: bool = False
    study: str | None = None


_SETTINGS: ContextVar[Settings] = ContextVar("settings")


def settings() -> Settings:
    """Return the settings of the current command; the defaults outside of a command."""
    return _SETTINGS.get(Settings())


def start_command() -> None:
    """Set the default settings for the next command."""
    _SETTINGS.set(Settings())
    _LOG.setLevel(logging.NOTSET)


def set_quiet(quiet: bool) -> None:
    """Set `quiet` if the option is given, before or after the name of the command."""
    settings().quiet |= quiet


def set_verbose(verbose: bool) -> None:
    """Set `verbose` if the option is given, and show log messages of this package."""
    settings().verbose |= verbose
    if verbose:
        _LOG.setLevel(logging.INFO)
        if not logging.getLogger().handlers and not _LOG.handlers:
            _LOG.addHandler(_StderrHandler())


def name_study(text: str, study: str | None = None) -> str:
    """Put the study into advice such as `vlm-audio fetch STUDY`.

    Args:
        text: a message.
        study: the argument that selects the study; None: that of the current command.
    """
    study = study or settings().study
    return text if study is None else advice.name_study(text, study)


class _StderrHandler(logging.Handler):
    """Writes log messages to the current stderr, without control codes."""

    def emit(self, record: logging.LogRecord) -> None:
        from vlm_audio_pipeline.cli.printing import print_progress_line  # imports rich

        print_progress_line(record.getMessage())
