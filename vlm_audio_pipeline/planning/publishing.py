"""Write the record of a study and rebuild the catalogue."""

from dataclasses import asdict
from typing import Any

from vlm_audio_pipeline.planning.graph import Graph
from vlm_audio_pipeline.planning.summaries import cards
from vlm_audio_pipeline.storage.catalogue import rebuild_catalogue, write_study_record


def study_record(graph: Graph) -> dict[str, Any]:
    """Return the record of a study: all partition files it may have, its extra columns, its specs and model cards."""
    files: dict[str, list[str]] = {}
    for node in graph.nodes:
        for table, path in graph.partition_files(node).items():
            files.setdefault(table, []).append(path.relative_to(graph.data_folder.root).as_posix())
    return {
        "partition_files": files,
        "extra_columns": graph.extra_columns(),
        "file": str(graph.study.path) if graph.study.path else None,
        "limit": graph.study.limit,
        "study": graph.study.resolved(),
        "cards": {name: asdict(card) for name, card in cards(graph.study).items()},
    }


def publish_study(graph: Graph, *, rebuild: bool = True) -> None:
    """Write the record of a study and, if `rebuild`, rebuild the catalogue where something changed."""
    write_study_record(graph.data_folder, graph.study.name, study_record(graph))
    if rebuild:
        rebuild_catalogue(graph.data_folder)
