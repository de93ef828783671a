"""After a step: let the catalogue know which parts belong to the study, and bring it up to date."""

from dataclasses import asdict
from typing import Any

from vlm_audio_pipeline.planning.graph import Graph
from vlm_audio_pipeline.planning.summaries import cards
from vlm_audio_pipeline.storage.catalogue import refresh, write_manifest


def manifest(graph: Graph) -> dict[str, Any]:
    """Describe a study to the catalogue: every part it may have, the columns it keeps, and the study as it was run."""
    parts: dict[str, list[str]] = {}
    for node in graph.nodes:
        for table, path in graph.parts(node).items():
            parts.setdefault(table, []).append(path.relative_to(graph.layout.root).as_posix())
    return {
        "parts": parts,
        "kept": graph.kept_columns(),
        "file": str(graph.study.path) if graph.study.path else None,
        "limit": graph.study.limit,
        "study": graph.study.resolved(),
        "cards": {name: asdict(card) for name, card in cards(graph.study).items()},
    }


def publish(graph: Graph, *, rebuild: bool = True) -> None:
    """Write the study's manifest and, if asked, rebuild the catalogue where something changed."""
    write_manifest(graph.layout, graph.study.name, manifest(graph))
    if rebuild:
        refresh(graph.layout)
