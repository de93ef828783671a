"""The `vlm-audio` command: its entry point, and how errors meant for a person are shown."""

import sys
from collections.abc import Callable

from vlm_audio_pipeline.commands import pictures, results, running, starting, trying
from vlm_audio_pipeline.commands.base import app
from vlm_audio_pipeline.contracts.errors import VlmAudioError

__all__ = ["app", "main", "pictures", "results", "running", "starting", "trying"]


def main() -> None:
    """Run the command: errors meant for a person are printed without a traceback."""
    sys.exit(_run(app))


def _run(command: Callable[[], None]) -> int | str | None:
    """Give the exit code. It leaves by no exception, whose frames would keep models and databases alive until the end."""
    try:
        command()
    except VlmAudioError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except SystemExit as exited:
        return exited.code
    return 0


if __name__ == "__main__":
    main()
