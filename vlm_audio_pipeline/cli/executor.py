"""The executor of the commands."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vlm_audio_pipeline.planning.executor import Executor


def command_executor() -> "Executor":
    """Return the executor of `vlm-audio run` and `report`: Dagster's, so that the UI shows their runs."""
    from vlm_audio_pipeline.dagster_app.executor import DagsterExecutor

    return DagsterExecutor()
