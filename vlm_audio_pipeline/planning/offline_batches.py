"""Write the requests of a study to a file, and store the responses of a file, for batches that run without this program."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from vlm_audio_pipeline.classifiers.language_models.asking import AskResult, ask_all
from vlm_audio_pipeline.classifiers.language_models.endpoint.batches.offline import (
    OfflineBackend,
    RequestWriter,
    ResponseReader,
)
from vlm_audio_pipeline.classifiers.language_models.endpoint.language_model import EndpointLanguageModel
from vlm_audio_pipeline.classifiers.language_models.stages import build_questions
from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.contracts.stages import StageContext
from vlm_audio_pipeline.planning.execution import read_inputs, read_other_folds
from vlm_audio_pipeline.planning.executor import Executor
from vlm_audio_pipeline.planning.graph import Graph
from vlm_audio_pipeline.planning.nodes import Node
from vlm_audio_pipeline.planning.run import run_study
from vlm_audio_pipeline.storage.atomic import atomic_path
from vlm_audio_pipeline.storage.batch_log import BatchLog


def select_classifiers(graph: Graph, classifier: str | None) -> dict[str, EndpointLanguageModel]:
    """Return the classifiers with `backend: openai`, or the named one.

    Raises:
        VlmAudioError: if there is none, if they ask several models (such a file is processed by one model), or if one has
            another protocol or no generated text.
    """
    specs = {n: s for n, s in graph.study.classifiers.items() if isinstance(s, EndpointLanguageModel)}
    if classifier is not None:
        specs = {n: s for n, s in specs.items() if n == classifier}
    if not specs:
        raise VlmAudioError(
            f"{graph.study.name} must have a classifier with `backend: openai`"
            + (f" of the name {classifier}; correct --classifier" if classifier else "")
        )
    if len(models := {spec.model for spec in specs.values()}) > 1:
        raise VlmAudioError(
            f"a file is for one model, got {', '.join(sorted(models))}; name a classifier with --classifier: "
            f"{', '.join(specs)}"
        )
    for name, spec in specs.items():
        if spec.endpoint.protocol != "openai":
            raise VlmAudioError(
                f"{name} must have `protocol: openai`, the form of the requests in files, got {spec.endpoint.protocol}; use "
                "`batch: true`, or name another classifier with --classifier"
            )
        if "generation" not in spec.scorings:
            raise VlmAudioError(
                f"{name} must have the scoring generation, which files contain, got {', '.join(sorted(spec.scorings))}; run it live"
            )
    return specs


def write_requests(
    graph: Graph, specs: dict[str, EndpointLanguageModel], file: Path, executor: Executor | None = None
) -> int:
    """Write the requests without a stored response to a file, and return their number.

    The steps that the requests need (clips, images, examples) are run first. No request is sent.
    """
    _prepare(graph, specs, executor)
    with atomic_path(file) as temporary, temporary.open("wb") as opened:
        writer = RequestWriter(opened, graph.result_store)
        for _ in _ask_each(graph, specs, writer):
            pass
    return len(writer.ids)


def read_responses(
    graph: Graph, specs: dict[str, EndpointLanguageModel], file: Path, executor: Executor | None = None
) -> tuple[int, dict[str, int]]:
    """Store the responses in a file; return their number, and error message -> number of requests that failed."""
    try:
        lines = file.read_bytes().splitlines()
    except OSError as error:
        raise VlmAudioError(f"--read must name an output file of a batch, got {file}: {error.strerror}") from error
    _prepare(graph, specs, executor)
    reader, errors = ResponseReader(lines, graph.result_store), dict[str, int]()
    for result in _ask_each(graph, specs, reader):
        for message, count in result.errors.items():
            errors[message] = errors.get(message, 0) + count
    return reader.count, errors


def _prepare(graph: Graph, specs: dict[str, EndpointLanguageModel], executor: Executor | None) -> None:
    """Run the steps that the requests need."""
    upstream = {
        node for target in _nodes(graph, specs) for node, _ in graph.upstream_nodes(target) if node in graph.nodes
    }
    summary = run_study(graph, upstream, executor=executor)
    for reason in summary.failed.values():
        raise VlmAudioError(f"the requests are not known, because a step that they need failed: {reason}")


def _nodes(graph: Graph, specs: dict[str, EndpointLanguageModel]) -> list[Node]:
    return [node for name in specs for node in graph.steps[f"responses/{name}"].nodes]


def _ask_each(graph: Graph, specs: dict[str, EndpointLanguageModel], backend: OfflineBackend) -> Iterator[AskResult]:
    """Pass the requests of each fold to a backend that sends nothing.

    The responses of a fold must be of the same model as those of its other folds, also of those that are not in partition files yet.
    """
    tables: dict[str, list[pa.Table]] = {name: [] for name in specs}
    for node in _nodes(graph, specs):
        name = graph.steps[node.step].component
        spec = specs[name]
        context = StageContext(
            study=graph.study.name,
            name=name,
            fold=node.fold,
            classes=graph.dataset().classes,
            inputs=read_inputs(graph, node)[0],
            dataset=graph.dataset(),
            result_store=graph.result_store,
            engine=graph.engine,
        )
        backend.set_target(spec.model, spec.endpoint, spec.model_identity())
        result = ask_all(
            build_questions(spec, name, graph.folds, context),
            spec.model_identity(),
            graph.result_store,
            lambda: backend,
            model=spec.model,
            revision=None,
            accepted_models=spec.accepted_models,
            other_folds=[*read_other_folds(graph, node), *tables[name]],
        )
        tables[name].append(result.table)
        yield result


def forget_batch(graph: Graph, batch: str) -> int:
    """Abandon a submitted batch: its price counts as spent; return the number of requests that are sent again.

    Raises:
        VlmAudioError: if no open batch of the data folder has this id.
    """
    with BatchLog(graph.result_store) as log:
        if not (requests := log.forget(batch)):
            raise VlmAudioError(
                f"--forget must name a batch that was submitted from this data folder and is still open, got '{batch}'; a run that "
                "waits for batches shows their ids"
            )
    return requests
