"""Start the Dagster UI on this machine, its home in the data folder."""

import os
import socket
import subprocess
import sys

from vlm_audio_pipeline.orchestration.assets import report_observations
from vlm_audio_pipeline.orchestration.graph import Graph
from vlm_audio_pipeline.orchestration.instance import open_instance
from vlm_audio_pipeline.orchestration.planner import observe
from vlm_audio_pipeline.storage.layout import Layout
from vlm_audio_pipeline.studies.loading import load_study


def free_port() -> int:
    """Give a port nobody listens on at 127.0.0.1."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def serve(layout: Layout, studies: list[str], port: int) -> int:
    """Run webserver and daemon until they are stopped.

    Args:
        layout: the data folder.
        studies: names or paths to show; none: the default ones.
        port: on 127.0.0.1; 0 for a free one.

    Returns:
        Exit code of `dagster dev`.
    """
    with open_instance(layout) as instance:
        for study in studies:  # refuse a bad study here, where its message is seen
            graph = Graph(load_study(study), layout)
            if graph.study.dataset.is_here(layout):
                report_observations(graph, observe(graph), instance)
    environment = {**os.environ, "VLM_AUDIO_DATA": str(layout.root)}
    if studies:
        environment["VLM_AUDIO_STUDIES"] = ",".join(studies)
    port = port or free_port()
    sys.stderr.write(f"Dagster UI: http://127.0.0.1:{port} (stop with Ctrl-C)\n")
    command = [sys.executable, "-m", "dagster", "dev", "-m", "vlm_audio_pipeline.definitions"]
    return subprocess.run(
        [*command, "--host", "127.0.0.1", "--port", str(port), "--log-level", "warning"], env=environment, check=False
    ).returncode
