"""The entry point of the `vlm-audio` command: exit codes and error messages."""

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

_PATH_ERRORS = {
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
"""OS errors caused by a path from the user; reported without a traceback."""


def main() -> None:
    """Run the command; expected errors are printed without a traceback."""
    sys.exit(_run(app))


def program() -> None:
    """Run the command as the main program, and exit without interpreter shutdown.

    Shutdown takes a second with torch loaded, and DuckDB reports types that are still in use as leaks. Exit handlers run.
    """
    gc.set_threshold(50_000, 20, 100)  # torch and Dagster create a million lasting objects: scanning them took 7 %
    code = _run(app)
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


def _run(command: Callable[[], None]) -> int | str | None:
    """Return the exit code. Exceptions end here, because their frames would keep models and databases alive."""
    try:
        command()
    except VlmAudioError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except OSError as error:
        if error.errno not in _PATH_ERRORS or error.filename is None:
            raise
        sys.stderr.write(f"error: cannot read or write {error.filename}: {error.strerror}; use another path\n")
        return 2
    except SystemExit as exited:
        return exited.code
    return 0


if __name__ == "__main__":
    main()
