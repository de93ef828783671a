"""The report pages in the Dagster UI: links to them, and a server on this machine that serves them.

A browser does not follow a link from the UI to a file. So `vlm-audio ui` serves the folder of the pages beside the UI.
"""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import dagster as dg

from vlm_audio_pipeline.planning.graph import Graph
from vlm_audio_pipeline.planning.nodes import Step

PAGES_URL = "VLM_AUDIO_PAGES_URL"
"""Environment variable with the URL of the served pages; `vlm-audio ui` sets it for the UI."""


def page_link(graph: Graph, step: Step) -> dict[str, Any]:
    """Return the metadata of the step that writes the report: `file`, its path, and `page`, its URL while the pages are served; else {}."""
    if "report" not in step.stage.tables:
        return {}
    page = graph.data_folder.report(graph.study.name) / "index.html"
    metadata: dict[str, Any] = {"file": dg.MetadataValue.path(str(page))}
    if url := os.environ.get(PAGES_URL):
        metadata = {"page": dg.MetadataValue.url(f"{url}/{graph.study.name}/index.html"), **metadata}
    return metadata


class _Handler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: the terminal belongs to the UI."""


@contextmanager
def serve_pages(folder: Path) -> Iterator[str]:
    """Serve the report pages on a free port of 127.0.0.1 during the block; yields the URL."""
    folder.mkdir(parents=True, exist_ok=True)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
