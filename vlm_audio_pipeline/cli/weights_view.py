"""Show the models of a study whose weights are not on this machine, with the size of the download."""

from vlm_audio_pipeline.encoders.weight_sizes import published_size
from vlm_audio_pipeline.planning.graph import Graph
from vlm_audio_pipeline.planning.hub_revisions import study_models
from vlm_audio_pipeline.storage.disk_usage import format_bytes


def missing_weights(graph: Graph) -> list[tuple[str, int | None]]:
    """Return the models that must be downloaded: model, and the size of the download in bytes; None if it is unknown."""
    return [
        (weights.model, published_size(weights))
        for weights in study_models(graph)
        if not weights.is_folder and weights.missing() is not None
    ]


def describe_missing_weights(graph: Graph) -> str:
    """Return the models that must be downloaded, each with its size, and the sum; "" if nothing is missing."""
    models = missing_weights(graph)
    parts = [f"{model} ({'size unknown' if size is None else format_bytes(size)})" for model, size in models]
    if len(models) < 2:
        return "".join(parts)
    sizes = [size for _, size in models if size is not None]
    unknown = f" and {len(models) - len(sizes)} of unknown size" if len(sizes) < len(models) else ""
    return f"{', '.join(parts)}; together {format_bytes(sum(sizes))}{unknown}"
