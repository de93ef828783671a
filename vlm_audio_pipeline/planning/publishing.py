"""Write the record of a study and rebuild the catalogue."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from vlm_audio_pipeline.contracts.errors import NotAvailable
from vlm_audio_pipeline.planning.graph import Graph
from vlm_audio_pipeline.planning.summaries import cards
from vlm_audio_pipeline.storage.catalogue import rebuild_catalogue
from vlm_audio_pipeline.storage.study_records import has_study_record, study_records, write_study_record


def study_record(graph: Graph) -> dict[str, Any]:
    """Return the record of a study: all partition files it may have, its extra columns, specs, keys and model cards."""
    files: dict[str, list[str]] = {}
    for node in graph.nodes:
        for table, path in graph.partition_files(node).items():
            files.setdefault(table, []).append(path.relative_to(graph.data_folder.root).as_posix())
    return {
        "partition_files": files,
        "extra_columns": graph.extra_columns(),
        "file": str(graph.study.path) if graph.study.path else None,
        "limit": graph.study.limit,
        "study": graph.study.plain_values(),
        "written_keys": graph.study.written_keys(),
        "cards": {name: asdict(card) for name, card in cards(graph.study).items()},
    }


def is_published(graph: Graph) -> bool:
    """Return whether the data folder has the current record of a study; it may have been lost, damaged or deleted."""
    try:
        record = study_record(graph)
    except NotAvailable:  # the dataset is not on this machine: its columns are unknown
        return True
    return has_study_record(graph.data_folder, graph.study.name, record)


def publish_study(graph: Graph, *, rebuild: bool = True) -> None:
    """Write the record of a study and, if `rebuild`, rebuild the catalogue if something changed."""
    write_study_record(graph.data_folder, graph.study.name, study_record(graph))
    if rebuild:
        rebuild_catalogue(graph.data_folder)


def other_file_warning(graph: Graph) -> str | None:
    """Return a warning if the results of a study with this name come from another study file, which still exists."""
    file = (study_records(graph.data_folder, leave_out_damaged=True).get(graph.study.name) or {}).get("file")
    if not file or file == str(graph.study.path) or not Path(file).is_file():
        return None
    return (
        f"'{graph.study.name}' was run from {file} before; its results are now replaced by those of {graph.study.path}. "
        "To keep both, give one of the two studies another name"
    )
