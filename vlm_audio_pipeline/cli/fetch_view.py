"""Download what a study needs, with progress."""

from collections.abc import Callable, Iterator
from functools import partial

from rich.text import Text

from vlm_audio_pipeline.cli.printing import console, print_view
from vlm_audio_pipeline.cli.progress import progress_bars
from vlm_audio_pipeline.contracts.errors import NotAvailable
from vlm_audio_pipeline.contracts.progress import Progress
from vlm_audio_pipeline.encoders.base import EncoderSpec
from vlm_audio_pipeline.encoders.weights import Weights, fetch_weights
from vlm_audio_pipeline.planning.graph import Graph
from vlm_audio_pipeline.storage.data_folder import DataFolder


def fetch_and_show(graph: Graph) -> int:
    """Download the dataset and the weights of every model; a download that fails does not stop the others.

    Returns:
        Exit code: 1 if a model is not available.
    """
    graph.data_folder.create()
    with progress_bars(f"datasets/{graph.study.dataset.asset_name}") as display:
        dataset = graph.dataset(display.progress)
    print_view(console(), Text(f"{len(dataset.clips)} clips of {dataset.card.title} in {dataset.root}"))
    errors: dict[str, None] = {}  # one model of several encoders is reported once
    for name, fetch in _downloads(graph):
        try:
            with progress_bars(name) as display:
                description = fetch(display.progress)
            print_view(console(), Text(f"{name}: {description}"))
        except NotAvailable as error:
            errors[str(error)] = None
    for message in errors:
        print_view(console(stderr=True), Text(message, style="yellow"))
    return 1 if errors else 0


def _downloads(graph: Graph) -> Iterator[tuple[str, Callable[[Progress], str]]]:
    """Yield (name, function that downloads the model and returns its description) of every model of a study."""
    for name, encoder in graph.study.encoders.items():
        if encoder.weights is not None or encoder.unavailable() is not None:
            yield name, partial(_fetch_encoder, encoder, graph.data_folder)
    for name, classifier in graph.study.classifiers.items():
        if (weights := classifier.needs().weights) is not None:
            yield name, partial(_fetch_classifier, weights)


def _fetch_encoder(encoder: EncoderSpec, data_folder: DataFolder, progress: Progress) -> str:
    encoder.fetch(data_folder, progress)
    return f"{encoder.model_id}, revision {encoder.weights_revision}"


def _fetch_classifier(weights: Weights, progress: Progress) -> str:
    return f"{weights.model}, revision {fetch_weights(weights, progress)}"
