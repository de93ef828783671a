"""Start the Dagster UI on this machine. Dagster's home is in the data folder."""

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
    """Return a free port of 127.0.0.1."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def serve(data_folder: DataFolder, studies: list[str], port: int) -> int:
    """Run Dagster's webserver and daemon until they are stopped.

    Args:
        data_folder: the data folder.
        studies: names or paths of the studies to show; empty: the default studies.
        port: port on 127.0.0.1; 0: a free port.

    Returns:
        Exit code of `dagster dev`.

    Raises:
        BadStudy: if a study cannot be loaded, or two studies have the same name.
    """
    with open_instance(data_folder) as instance:
        names: dict[str, str] = {}
        for study in studies:  # Dagster would show the error of a bad study only in its log
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
    """Run a command that shuts down cleanly only after SIGINT.

    The command runs in its own session, so Ctrl-C, SIGTERM and a closed terminal reach only this process. After the first
    of these signals it sends one SIGINT to the command and waits; after the second it kills the command and its children.
    """
    received: list[int] = []
    stop_signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {s: signal.signal(s, lambda number, frame: received.append(number)) for s in stop_signals}
    child = subprocess.Popen(command, env=environment, start_new_session=True)
    try:
        handled = 0
        while True:
            try:
                return child.wait(timeout=0.2)
            except subprocess.TimeoutExpired:
                if received and not handled:
                    sys.stderr.write("stopping; press Ctrl-C again to stop at once\n")
                    child.send_signal(signal.SIGINT)
                elif len(received) > handled:
                    os.killpg(child.pid, signal.SIGKILL)
                handled = len(received)
    finally:
        _end_group(child.pid)
        for number, handler in before.items():
            signal.signal(number, handler)


def _end_group(group: int) -> None:
    """End the remaining processes of a command: code servers, and runs, whose log then says that they were interrupted."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(group, number)
            for _ in range(50):
                time.sleep(0.1)
                os.killpg(group, 0)
        except ProcessLookupError:
            return
