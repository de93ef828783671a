"""Start the Dagster UI on this machine. Dagster's home is in the data folder."""

import os
import signal
import socket
import subprocess
import sys
import time

from vlm_audio_pipeline.contracts.errors import BadStudy, VlmAudioError
from vlm_audio_pipeline.dagster_app.assets import report_observations
from vlm_audio_pipeline.dagster_app.instance import open_instance
from vlm_audio_pipeline.dagster_app.pages import PAGES_URL, serve_pages
from vlm_audio_pipeline.planning.opening import open_graph
from vlm_audio_pipeline.planning.staleness import current_input_versions
from vlm_audio_pipeline.storage.catalogue import study_records
from vlm_audio_pipeline.storage.data_folder import DataFolder
from vlm_audio_pipeline.studies.study import check_unique_name

DEFINITIONS = "vlm_audio_pipeline.dagster_app.definitions"
"""The module that the UI loads."""


def free_port() -> int:
    """Return a free port of 127.0.0.1."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _check_port(port: int) -> None:
    """Raise a VlmAudioError if another program uses a port of 127.0.0.1."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port that was used a moment ago is free
        try:
            listener.bind(("127.0.0.1", port))
        except OSError as error:
            raise VlmAudioError(
                f"port {port} cannot be used: {error.strerror}; choose another one with --port, or --port 0 for a free one"
            ) from error


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
        files = []
        for study in studies:  # Dagster would show the error of a bad study only in its log
            graph = open_graph(study, data_folder)
            files.append(str(graph.study.path or study))
            if "," in files[-1]:
                raise BadStudy(f"the UI cannot show a study whose path contains a comma: '{files[-1]}'; rename it")
            check_unique_name(graph.study, study, names)
            if graph.study.dataset.is_local(data_folder):
                report_observations(graph, current_input_versions(graph), instance)
    environment = {**os.environ, "VLM_AUDIO_DATA": str(data_folder.root)}
    if studies:
        environment["VLM_AUDIO_STUDIES"] = ",".join(files)
    port = port or free_port()
    _check_port(port)
    path = group_path(data_folder, list(names))
    sys.stderr.write(f"Dagster UI: http://127.0.0.1:{port}{path} (stop with Ctrl-C)\n")
    warning_filter = "ignore:Function `dev_command` is superseded"
    command = [
        sys.executable,
        "-W",
        warning_filter,
        "-m",
        "dagster",
        "dev",
        "-m",
        DEFINITIONS,
    ]
    with serve_pages(data_folder.reports) as pages_url:
        return _run_until_stopped(
            [*command, "--host", "127.0.0.1", "--port", str(port), "--log-level", "warning"],
            {**environment, PAGES_URL: pages_url},
        )


def group_path(data_folder: DataFolder, studies: list[str]) -> str:
    """Return the path of the page of the UI with the graph of a study.

    Args:
        data_folder: the data folder.
        studies: names of the studies that are shown; the page is that of the first. Empty: the default studies; the page is that of a
            study that was run in the data folder, or of the demo.
    """
    records = study_records(data_folder, leave_out_damaged=True)
    run_studies = [name for name, record in records.items() if record.get("limit") is None]
    study = next(iter([*studies, *run_studies]), "demo")
    return f"/locations/{DEFINITIONS}/asset-groups/{study}/lineage"


def _run_until_stopped(command: list[str], environment: dict[str, str]) -> int:
    """Run a command that shuts down cleanly only after SIGINT.

    The command runs in its own session, so Ctrl-C, SIGTERM and a closed terminal reach only this process. After the first
    of these signals it sends one SIGINT to the command and waits; after the second it kills the command and its children.
    """
    received_signals: list[int] = []
    stop_signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    previous_handlers = {
        s: signal.signal(s, lambda number, frame: received_signals.append(number)) for s in stop_signals
    }
    child = subprocess.Popen(command, env=environment, start_new_session=True)
    try:
        handled = 0
        while True:
            try:
                return child.wait(timeout=0.2)
            except subprocess.TimeoutExpired:
                if received_signals and not handled:
                    sys.stderr.write("stopping; press Ctrl-C again to stop at once\n")
                    child.send_signal(signal.SIGINT)
                elif len(received_signals) > handled:
                    os.killpg(child.pid, signal.SIGKILL)
                handled = len(received_signals)
    finally:
        _end_group(child.pid)
        for number, handler in previous_handlers.items():
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
