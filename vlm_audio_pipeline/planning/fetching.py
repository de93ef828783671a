"""Download the models of a study."""

from collections.abc import Callable, Iterator
from functools import partial

from vlm_audio_pipeline.contracts.progress import Progress
from vlm_audio_pipeline.encoders.base import EncoderSpec
from vlm_audio_pipeline.encoders.weight_sizes import local_size
from vlm_audio_pipeline.encoders.weights import Weights, fetch_weights
from vlm_audio_pipeline.planning.graph import Graph
from vlm_audio_pipeline.storage.data_folder import DataFolder
from vlm_audio_pipeline.storage.disk_usage import format_bytes


def model_downloads(graph: Graph) -> Iterator[tuple[str, Callable[[Progress], str]]]:
    """Yield (name, function that downloads the model and returns its description) of every model of a study."""
    for name, encoder in graph.study.encoders.items():
        if encoder.weights is not None or encoder.unavailable() is not None:
            yield name, partial(_fetch_encoder, encoder, graph.data_folder)
    for name, classifier in graph.study.classifiers.items():
        if (weights := classifier.needs().weights) is not None:
            yield name, partial(_fetch_classifier, weights)


def _fetch_encoder(encoder: EncoderSpec, data_folder: DataFolder, progress: Progress) -> str:
    encoder.fetch(data_folder, progress)
    return f"{encoder.model_id}, revision {encoder.weights_revision}{_size(encoder.weights)}"


def _fetch_classifier(weights: Weights, progress: Progress) -> str:
    return f"{weights.model}, revision {fetch_weights(weights, progress)}{_size(weights)}"


def _size(weights: Weights | None) -> str:
    size = None if weights is None else local_size(weights)
    return "" if size is None else f", {format_bytes(size)}"
