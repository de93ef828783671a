"""The entry point of the `vlm-audio` command: exit codes and error messages."""

import atexit
import errno
import gc
import logging
import os
import sys
from collections.abc import Callable
from contextlib import suppress

from vlm_audio_pipeline.cli import run

# isort: split
# `--help` lists the commands of a panel in the order of these imports, and `run` is the first to read.
from vlm_audio_pipeline.cli import batch, renderings, results, setup, single_response
from vlm_audio_pipeline.cli.app import app, print_line
from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.contracts.escapes import escape_terminal

__all__ = ["app", "batch", "main", "renderings", "results", "run", "setup", "single_response"]

_PATH_ERRORS = {
    errno.ENOENT,
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EIO,
    errno.EEXIST,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ENAMETOOLONG,
    errno.ELOOP,
}
"""OS errors caused by a path from the user; reported without a traceback."""
PROGRAM = "vlm-audio"
"""Name of the program in messages, also for `python -m vlm_audio_pipeline`."""
_FULL_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def main() -> None:
    """Run the command; expected errors are printed without a traceback."""
    sys.exit(_run(_call_app))


def program() -> None:
    """Run the command as the main program, and exit without interpreter shutdown.

    Shutdown takes a second with torch loaded, and DuckDB reports types that are still in use as leaks. Exit handlers run.
    """
    # torch and Dagster create a million long-lived objects; to scan them took 7 % of the time.
    gc.set_threshold(50_000, 20, 100)
    code = _run(_run_and_flush)
    atexit._run_exitfuncs()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


def _call_app() -> None:
    app(prog_name=PROGRAM)


def _run_and_flush() -> None:
    """Run the command and write the rest of its output: a full disk behind `> file` is noticed only here."""
    try:
        _call_app()
    finally:
        with suppress(BrokenPipeError):  # the reader, such as `head`, has read enough
            sys.stdout.flush()


class _EscapedFormatter(logging.Formatter):
    """Formats warnings of libraries and of models' code, without control codes."""

    def format(self, record: logging.LogRecord) -> str:
        return escape_terminal(super().format(record))


def _run(command: Callable[[], None]) -> int | str | None:
    """Run the command and return its exit code.

    Exceptions are handled here, because their frames would keep models and databases alive.
    """
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(_EscapedFormatter())
    try:
        command()
    except VlmAudioError as error:
        print_line(f"error: {error}", stderr=True)
        return 2
    except OSError as error:
        if error.errno not in _PATH_ERRORS:
            raise
        path = "the output" if error.filename is None else os.fsdecode(error.filename)
        advice = "free space or use another path" if error.errno in _FULL_DISK else "use another path"
        print_line(f"error: cannot read or write {path}: {os.strerror(error.errno)}; {advice}", stderr=True)
        return 2
    except ValueError as error:
        if "embedded null" not in str(error):
            raise
        print_line(
            "error: an argument or a path contains a NUL byte, which no path can contain; remove it", stderr=True
        )
        return 2
    except SystemExit as exit_request:
        return exit_request.code
    return 0


if __name__ == "__main__":
    main()
