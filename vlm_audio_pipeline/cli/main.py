"""The `vlm-audio` command: its entry point, and how errors meant for a person are shown."""

import atexit
import errno
import gc
import os
import sys
from collections.abc import Callable

from vlm_audio_pipeline.cli import renderings, results, run, setup, single_response
from vlm_audio_pipeline.cli.app import app
from vlm_audio_pipeline.contracts.errors import VlmAudioError

__all__ = ["app", "main", "renderings", "results", "run", "setup", "single_response"]

_NOT_OURS = {
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EEXIST,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ENAMETOOLONG,
    errno.ELOOP,
}
"""What the system says of places that a person named: they cannot be written or read, and that is no defect of ours."""


def main() -> None:
    """Run the command: errors meant for a person are printed without a traceback."""
    sys.exit(_run(app))


def program() -> None:
    """Run the command as a process of its own, and end it without taking the interpreter apart.

    With torch loaded that takes a second, and DuckDB's binding reports types that others still hold as leaks. What is to
    be done at exit (handlers, temporary files) is done.
    """
    gc.set_threshold(50_000, 20, 100)  # torch and Dagster make a million objects that stay; looking them over took 7 %
    code = _run(app)
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


def _run(command: Callable[[], None]) -> int | str | None:
    """Give the exit code. It leaves by no exception, whose frames would keep models and databases alive until the end."""
    try:
        command()
    except VlmAudioError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except OSError as error:
        if error.errno not in _NOT_OURS or error.filename is None:
            raise
        sys.stderr.write(
            f"error: {error.filename} must be a place to write to or read from, got: {error.strerror}; name another\n"
        )
        return 2
    except SystemExit as exited:
        return exited.code
    return 0


if __name__ == "__main__":
    main()
