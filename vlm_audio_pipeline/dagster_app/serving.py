"""Start the Dagster UI on this machine, its home in the data folder."""

import os
import signal
import socket
import subprocess
import sys
import time

from vlm_audio_pipeline.contracts.errors import BadStudy
from vlm_audio_pipeline.dagster_app.assets import report_observations
from vlm_audio_pipeline.dagster_app.instance import open_instance
from vlm_audio_pipeline.planning.graph import Graph
from vlm_audio_pipeline.planning.staleness import current_input_versions
from vlm_audio_pipeline.storage.data_folder import DataFolder
from vlm_audio_pipeline.studies.loading import load_study
from vlm_audio_pipeline.studies.study import refuse_taken_name


def free_port() -> int:
    """Give a port nobody listens on at 127.0.0.1."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def serve(data_folder: DataFolder, studies: list[str], port: int) -> int:
    """Run webserver and daemon until they are stopped.

    Args:
        data_folder: the data folder.
        studies: names or paths to show; none: the default ones.
        port: on 127.0.0.1; 0 for a free one.

    Returns:
        Exit code of `dagster dev`.

    Raises:
        BadStudy: for a study that cannot be shown, or not beside another.
    """
    with open_instance(data_folder) as instance:
        names: dict[str, str] = {}
        for study in studies:  # refuse a bad study here, where its message is seen
            if "," in study:
                raise BadStudy(f"the path of a study shown in the UI must be without commas, got '{study}'; rename it")
            graph = Graph(load_study(study), data_folder)
            refuse_taken_name(graph.study, study, names)
            if graph.study.dataset.is_local(data_folder):
                report_observations(graph, current_input_versions(graph), instance)
    environment = {**os.environ, "VLM_AUDIO_DATA": str(data_folder.root)}
    if studies:
        environment["VLM_AUDIO_STUDIES"] = ",".join(studies)
    port = port or free_port()
    sys.stderr.write(f"Dagster UI: http://127.0.0.1:{port} (stop with Ctrl-C)\n")
    quiet = "ignore:Function `dev_command` is superseded"
    command = [sys.executable, "-W", quiet, "-m", "dagster", "dev", "-m", "vlm_audio_pipeline.dagster_app.definitions"]
    return _run_until_stopped(
        [*command, "--host", "127.0.0.1", "--port", str(port), "--log-level", "warning"], environment
    )


def _run_until_stopped(command: list[str], environment: dict[str, str]) -> int:
    """Run a command that stops in order at SIGINT, and at nothing else.

    It runs in a session of its own: Ctrl-C, SIGTERM and a closed terminal reach this process alone, which turns the first
    into one SIGINT and waits; the second kills the command with all it started.
    """
    asked: list[int] = []
    stops = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {s: signal.signal(s, lambda number, frame: asked.append(number)) for s in stops}
    child = subprocess.Popen(command, env=environment, start_new_session=True)
    try:
        told = 0
        while True:
            try:
                return child.wait(timeout=0.2)
            except subprocess.TimeoutExpired:
                if asked and not told:
                    sys.stderr.write("stopping; again to stop at once\n")
                    child.send_signal(signal.SIGINT)
                elif len(asked) > told:
                    os.killpg(child.pid, signal.SIGKILL)
                told = len(asked)
    finally:
        _end_group(child.pid)
        for number, handler in before.items():
            signal.signal(number, handler)


def _end_group(group: int) -> None:
    """End what a command left behind: code servers, and runs, which note in their log that they were interrupted."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(group, number)
            for _ in range(50):
                time.sleep(0.1)
                os.killpg(group, 0)
        except ProcessLookupError:
            return
