"""Ask one language model of a study about one recording.

No table is written. The response is kept in the result store, so that it is paid for only once.
"""

from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from vlm_audio_pipeline.classifiers.language_models.asking import ask_all
from vlm_audio_pipeline.classifiers.language_models.language_model import LanguageModel
from vlm_audio_pipeline.classifiers.language_models.messages import AudioPart, ImagePart, Message, MessagePart
from vlm_audio_pipeline.classifiers.language_models.questions import Lookup, Row, audio_lookup, image_lookup
from vlm_audio_pipeline.classifiers.language_models.sentence_answers import ParsedResponse
from vlm_audio_pipeline.contracts.errors import MissingInput, NotAvailable, VlmAudioError, suggestion
from vlm_audio_pipeline.contracts.hashing import digest
from vlm_audio_pipeline.contracts.progress import Progress, no_progress
from vlm_audio_pipeline.contracts.stages import StageContext
from vlm_audio_pipeline.datasets.audio import decode, resample, samples_digest
from vlm_audio_pipeline.planning.budget import open_ledger
from vlm_audio_pipeline.planning.graph import Graph
from vlm_audio_pipeline.planning.nodes import Node
from vlm_audio_pipeline.planning.staleness import fresh_nodes
from vlm_audio_pipeline.renderings.image import render
from vlm_audio_pipeline.storage.partition_files import read_partition
from vlm_audio_pipeline.storage.schemas import TABLES


@dataclass(frozen=True)
class SingleResponse:
    """The response of a language model to one recording.

    Attributes:
        messages: the request.
        rendered_messages: the request as text, in the model's own chat template; None for an endpoint.
        outcome: answered, truncated, refused or error, as the backend reported it.
        text: the generated text; None if no text was generated.
        parsed: the label or outcome of `text`; None without text.
        log_probabilities: summed log-probability of each class (natural logarithm); None if the classes were not scored.
        error: the error message, or None.
    """

    messages: tuple[Message, ...]
    rendered_messages: str | None
    outcome: str
    text: str | None
    parsed: ParsedResponse | None
    log_probabilities: dict[str, float] | None
    error: str | None


def ask_about_recording(graph: Graph, classifier: str, file: Path, progress: Progress = no_progress) -> SingleResponse:
    """Ask a language model of a study about a recording, with the same prompt as for clips.

    Args:
        graph: the study.
        classifier: name of a language model in it.
        file: the recording.
        progress: called with the progress of loading the model.

    Raises:
        VlmAudioError: when the classifier is not a language model, the file cannot be decoded, or it is one of the examples.
        MissingInput: when the few-shot examples are missing or stale.
        NotAvailable: when the model cannot run on this machine.
    """
    spec = graph.study.classifiers.get(classifier)
    if not isinstance(spec, LanguageModel):
        names = [n for n, s in graph.study.classifiers.items() if isinstance(s, LanguageModel)]
        advice = suggestion(classifier, names) if names else "it has none: add one, or use `--study demo`"
        raise VlmAudioError(
            f"--classifier must be a language model of {graph.study.name}, got '{classifier}'; {advice}"
        )
    if file.is_dir():
        raise VlmAudioError(f"{file} is a folder; give one recording")
    if reason := graph.unavailable(f"responses/{classifier}"):
        raise NotAvailable(f"{classifier} cannot run: {reason}")
    once = {"draws": 1, "orders": 1, "paraphrases": 1, "repeats": 1, "controls": (), "perturb": None}
    spec = spec.live_model().model_copy(update=once)
    dataset = graph.dataset(progress)
    own_fold = {(dataset.root / clip.file).resolve(): clip.fold for clip in dataset.clips}.get(file.resolve())
    folds = spec.folds or graph.folds
    fold = own_fold if own_fold in folds else folds[0]  # examples of a clip of the dataset come from other folds
    fresh = fresh_nodes(graph) if spec.shots else set()
    examples = _read_examples(graph, classifier, fold, fresh) if spec.shots else []
    if own_fold is not None and own_fold != fold and examples:
        raise VlmAudioError(
            f"{file.name} is a clip of fold {own_fold}, but {classifier} runs only on folds {list(folds)}, so its "
            f"examples may come from fold {own_fold}. Use a recording that is not in the dataset, or a clip of these folds."
        )
    query = _query_part(graph, spec, file)
    if copies := [row["clip"] for row in examples if row["content_sha256"] == query.sha256]:
        raise VlmAudioError(f"{file.name} has the same content as the example {copies[0]}. Use another recording.")
    find_example = _example_lookup(graph, classifier, spec, examples, fresh)

    def find_part(control: str, clip: str) -> MessagePart | None:
        return query if clip == "" else find_example(control, clip)

    [question] = spec.question_builder(graph.dataset(progress).classes).build([""], examples, find_part)
    context = StageContext(
        study=graph.study.name,
        name=classifier,
        fold=fold,
        classes=graph.dataset().classes,
        inputs={},
        dataset=graph.dataset(),
        result_store=graph.result_store,
        engine=graph.engine,
        progress=progress,
        ledger=open_ledger(graph) if spec.paid else None,
    )
    backend = spec.open_backend(context)
    revision = spec.weights.resolve() if spec.weights else None
    result = ask_all(
        [question],
        spec.model_identity(),
        graph.result_store,
        lambda: backend,
        model=spec.model,
        revision=revision,
        progress=progress,
    )
    if result.stop_reason:
        raise VlmAudioError(result.stop_reason)
    rows = {row["scoring"]: row for row in result.table.to_pylist()}
    text = rows.get("generation", {}).get("text")
    log_probabilities = rows.get("likelihood", {}).get("log_probabilities")
    return SingleResponse(
        messages=question.request.messages,
        rendered_messages=backend.render_messages(question.request),
        outcome=next((row["outcome"] for row in rows.values()), "error"),
        text=text,
        parsed=spec.parse_text(text, graph.dataset().classes) if text is not None else None,
        log_probabilities=dict(log_probabilities) if log_probabilities else None,
        error=next((row["error"] for row in rows.values() if row["error"]), None),
    )


def _query_part(graph: Graph, spec: LanguageModel, file: Path) -> ImagePart | AudioPart:
    """Return the recording in the form that the model receives: a rendered image, or audio."""
    samples, sample_rate_hz, _ = decode(file)
    recipe = graph.study.renderings.get(spec.rendering or "")
    if recipe is not None:
        rendering_rate_hz = recipe.rate or sample_rate_hz
        image = render(resample(samples, sample_rate_hz, rendering_rate_hz), rendering_rate_hz, recipe)
        return ImagePart(image.bytes, image.media_type, digest(image.bytes))
    return AudioPart(
        lambda rate_hz: resample(samples, sample_rate_hz, rate_hz),
        samples_digest(samples, sample_rate_hz),
        len(samples) / sample_rate_hz,
    )


def _read_fresh_table(graph: Graph, node: Node, classifier: str, fresh: set[Node]) -> pa.Table:
    """Read the first table of a node, which must be up to date."""
    if node not in fresh:
        raise MissingInput(
            f"{classifier} needs examples from {graph.study.name}/{node}, which is missing or stale; run "
            f"`{graph.study.run_command} --only '{node.step}'`"
        )
    table, path = next(iter(graph.partition_files(node).items()))
    return read_partition(path, TABLES[table])[0]


def _read_examples(graph: Graph, classifier: str, fold: int, fresh: set[Node]) -> list[Row]:
    """Read the examples of the first trial of a fold.

    Raises:
        VlmAudioError: if the classifier selects examples for each clip, so that a new recording has none.
    """
    table = _read_fresh_table(graph, Node(f"examples/{classifier}", fold), classifier, fresh)
    rows = [row for row in table.to_pylist() if row["trial"] == 0]
    if any(row["query"] for row in rows):
        raise VlmAudioError(
            f"'{classifier}' selects examples for each clip (`select: nearest`), so it has none for a new recording. "
            "Use a classifier with another selection."
        )
    return rows


def _example_lookup(
    graph: Graph, classifier: str, spec: LanguageModel, examples: list[Row], fresh: set[Node]
) -> Lookup:
    """Return a function that finds the images or audio of the examples."""
    clips = {row["clip"] for row in examples}
    fold_of = {clip.id: clip.fold for clip in graph.dataset().clips} if clips else {}
    step = "clips" if spec.rendering is None else f"spectrograms/{spec.rendering}"
    folds = sorted({fold_of[clip] for clip in clips})
    tables = [_read_fresh_table(graph, Node(step, fold), classifier, fresh) for fold in folds]
    if spec.rendering is None:
        return audio_lookup(graph.dataset(), [row for table in tables for row in table.to_pylist()], 0)
    joined = pa.concat_tables(tables) if tables else TABLES["spectrograms"].empty_table()
    return image_lookup({"none": joined}, {"none": clips})
