"""Download the models of a study, on this machine or on every node of a cluster."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from vlm_audio_pipeline.contracts.errors import NotAvailable
from vlm_audio_pipeline.contracts.progress import Progress
from vlm_audio_pipeline.encoders.base import EncoderSpec
from vlm_audio_pipeline.encoders.weight_sizes import local_size
from vlm_audio_pipeline.encoders.weights import Weights, fetch_weights
from vlm_audio_pipeline.planning.graph import Graph
from vlm_audio_pipeline.storage.data_folder import DataFolder
from vlm_audio_pipeline.storage.disk_usage import format_bytes


@dataclass(frozen=True)
class ModelOnNode:
    """A model on a node of a cluster.

    Attributes:
        node: name and address of the node.
        name: the encoder or classifier.
        revision: revision of its weights on the node; None if it has none.
        error: why the model is not available, or how its revision differs from that of this machine; None otherwise.
    """

    node: str
    name: str
    revision: str | None
    error: str | None


def model_downloads(graph: Graph) -> Iterator[tuple[str, Callable[[Progress], str]]]:
    """Yield (name, function that downloads the model and returns its description) of every model of a study."""
    for name, model in _models(graph):
        if isinstance(model, Weights):
            yield name, partial(_fetch_classifier, model)
        else:
            yield name, partial(_fetch_encoder, model, graph.data_folder)


def fetch_on_nodes(graph: Graph) -> list[ModelOnNode]:
    """Download the models of a study on every other node of the engine's cluster, one task for each node.

    Fetch them on this machine first: the revisions must be equal, because they are part of the result keys.
    """
    models = _models(graph)
    rows: list[ModelOnNode] = []
    for call in graph.engine.call_everywhere(NodeFetch(tuple(model for _, model in models))):
        states = [(None, call.error)] * len(models) if call.result is None else call.result
        for (name, model), (revision, error) in zip(models, states, strict=True):
            expected = _revision(model)
            if error is None and revision != expected:
                error = f"revision {revision} instead of {expected}, which this machine has; run the command again"
            rows.append(ModelOnNode(call.node, name, revision, error))
    return rows


@dataclass(frozen=True)
class NodeFetch:
    """Downloads models on the machine where it is called; picklable.

    Attributes:
        models: encoders, and the weights of classifiers.
    """

    models: tuple[EncoderSpec | Weights, ...]

    def __call__(self) -> list[tuple[str | None, str | None]]:
        """Return the revision of each model, or why it is not available; a download that fails does not stop the others."""
        states: list[tuple[str | None, str | None]] = []
        for model in self.models:
            try:
                if isinstance(model, Weights):
                    fetch_weights(model)
                else:
                    model.fetch(DataFolder.locate())
                states.append((_revision(model), None))
            except NotAvailable as error:
                states.append((None, str(error)))
        return states


def _models(graph: Graph) -> list[tuple[str, EncoderSpec | Weights]]:
    models: list[tuple[str, EncoderSpec | Weights]] = [
        (name, encoder)
        for name, encoder in graph.study.encoders.items()
        if encoder.weights is not None or encoder.unavailable() is not None
    ]
    for name, classifier in graph.study.classifiers.items():
        if (weights := classifier.needs().weights) is not None:
            models.append((name, weights))
    return models


def _revision(model: EncoderSpec | Weights) -> str | None:
    return model.resolve() if isinstance(model, Weights) else model.weights_revision


def _fetch_encoder(encoder: EncoderSpec, data_folder: DataFolder, progress: Progress) -> str:
    encoder.fetch(data_folder, progress)
    return f"{encoder.model_id}, revision {encoder.weights_revision}{_size(encoder.weights)}"


def _fetch_classifier(weights: Weights, progress: Progress) -> str:
    return f"{weights.model}, revision {fetch_weights(weights, progress)}{_size(weights)}"


def _size(weights: Weights | None) -> str:
    size = None if weights is None else local_size(weights)
    return "" if size is None else f", {format_bytes(size)}"
