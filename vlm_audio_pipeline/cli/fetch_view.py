"""Download the dataset and the models of a study, with progress bars; the models also on every node of a cluster."""

from dataclasses import asdict
from typing import Any

from vlm_audio_pipeline.cli.app import print_json
from vlm_audio_pipeline.cli.printing import PlainText, console, print_view
from vlm_audio_pipeline.cli.progress import progress_bars
from vlm_audio_pipeline.cli.settings import name_study
from vlm_audio_pipeline.cli.weights_view import describe_missing_weights
from vlm_audio_pipeline.contracts.errors import NotAvailable
from vlm_audio_pipeline.planning.fetching import ModelOnNode, fetch_on_nodes, model_downloads
from vlm_audio_pipeline.planning.graph import Graph


def fetch_and_show(graph: Graph, *, everywhere: bool = False, as_json: bool = False) -> int:
    """Download the dataset and the weights of every model; a download that fails does not stop the others.

    Args:
        graph: the study.
        everywhere: download the models also on the other nodes of the cluster of the graph's engine.
        as_json: print tables as JSON instead.

    Returns:
        Exit code: 1 if a model is not available, here or on a node.
    """
    out = console(quiet=as_json)
    graph.data_folder.create()
    if text := describe_missing_weights(graph):
        print_view(out, PlainText(f"weights to download: {text}", style="dim"))
    with progress_bars(f"datasets/{graph.study.dataset.asset_name}") as display:
        dataset = graph.dataset(display.progress)
    print_view(out, PlainText(f"{len(dataset.clips)} clips of {dataset.card.title} in {dataset.root}"))
    models: list[dict[str, Any]] = []
    for name, fetch in model_downloads(graph):
        try:
            with progress_bars(name) as display:
                description = fetch(display.progress)
            print_view(out, PlainText(f"{name}: {description}"))
            models.append({"name": name, "description": description, "error": None})
        except NotAvailable as error:
            models.append({"name": name, "description": None, "error": name_study(str(error))})
    errors = dict.fromkeys(model["error"] for model in models if model["error"])  # once for several encoders
    for message in errors:
        print_view(console(stderr=True), PlainText(message, style="yellow"))
    models_on_nodes: list[ModelOnNode] = []
    if everywhere:
        with progress_bars("models on the nodes"):
            models_on_nodes = fetch_on_nodes(graph)
        for model in models_on_nodes:
            text = f"node {model.node}: {model.name}: {name_study(model.error) if model.error else f'revision {model.revision}'}"
            print_view(
                out if model.error is None else console(stderr=True),
                PlainText(text, style="yellow" if model.error else ""),
            )
        if not models_on_nodes:
            print_view(out, PlainText("the cluster has no other node"))
    has_errors = bool(errors) or any(model.error for model in models_on_nodes)
    if as_json:
        folder = {"title": dataset.card.title, "clips": len(dataset.clips), "folder": str(dataset.root)}
        print_json({"dataset": [folder], "models": models, "nodes": [asdict(model) for model in models_on_nodes]})
    return 1 if has_errors else 0
