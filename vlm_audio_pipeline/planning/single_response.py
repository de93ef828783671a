"""One recording, one language model: what it is told, and what it says.

What belongs here: asking a classifier of a study about a file that is not in its dataset. What does not: anything that
enters a result: nothing is written to a table. The answer is kept in the row store, so that it is not paid for twice.
"""

from dataclasses import dataclass
from math import exp
from pathlib import Path

import pyarrow as pa
from rich.console import Group, RenderableType
from rich.text import Text

from vlm_audio_pipeline.classifiers.language_models.asking import ask_all
from vlm_audio_pipeline.classifiers.language_models.backends import backend_of
from vlm_audio_pipeline.classifiers.language_models.language_model import LanguageModel
from vlm_audio_pipeline.classifiers.language_models.messages import Message, Part, Picture, Sound
from vlm_audio_pipeline.classifiers.language_models.parsing import Parsed, parse
from vlm_audio_pipeline.classifiers.language_models.questions import Lookup, Row, pictures, sounds
from vlm_audio_pipeline.contracts.errors import MissingInput, NotAvailable, VlmAudioError, suggestion
from vlm_audio_pipeline.contracts.hashing import digest
from vlm_audio_pipeline.contracts.stages import Progress, StageContext, silent
from vlm_audio_pipeline.datasets.audio import decode, resample, samples_digest
from vlm_audio_pipeline.planning.budget import ledger_of
from vlm_audio_pipeline.planning.graph import Graph, Node
from vlm_audio_pipeline.planning.staleness import up_to_date
from vlm_audio_pipeline.renderings.picture import render
from vlm_audio_pipeline.renderings.recipe import Recipe
from vlm_audio_pipeline.storage.partition_files import read_part
from vlm_audio_pipeline.storage.schemas import TABLES


@dataclass(frozen=True)
class Tried:
    """What came of asking about one recording.

    Attributes:
        messages: what was said, pictures and sounds in brackets.
        as_sent: the text as the model's own template has it; None for an endpoint.
        outcome: answered, refused or error.
        text: the generated answer; None where none was asked for.
        read: what the answer is read as; None where there is none.
        log_probabilities: of each class's answer; None where not asked for.
        error: what went wrong, or None.
    """

    messages: tuple[Message, ...]
    as_sent: str | None
    outcome: str
    text: str | None
    read: Parsed | None
    log_probabilities: dict[str, float] | None
    error: str | None


def try_recording(graph: Graph, classifier: str, file: Path, progress: Progress = silent) -> Tried:
    """Ask one of a study's language models about a recording, as it is asked about clips.

    Args:
        graph: the study.
        classifier: name of a language model in it.
        file: the recording.
        progress: told how far it is.

    Raises:
        VlmAudioError: for a classifier that is no language model, and a file that cannot be decoded.
        MissingInput: when the examples it is shown were not chosen or drawn yet, or from what is no longer so.
        NotAvailable: when the model cannot be asked here.
    """
    spec = graph.study.classifiers.get(classifier)
    if not isinstance(spec, LanguageModel):
        known = [n for n, s in graph.study.classifiers.items() if isinstance(s, LanguageModel)]
        raise VlmAudioError(
            f"--classifier must be a language model of {graph.study.name}, got '{classifier}'; "
            f"{suggestion(classifier, known)}"
        )
    if reason := graph.unavailable(f"answers/{classifier}"):
        raise NotAvailable(f"{classifier} cannot be asked: {reason}")
    spec = spec.model_copy(update={"draws": 1, "orders": 1, "paraphrases": 1, "repeats": 1, "controls": ()})
    dataset = graph.dataset(progress)
    home = {(dataset.root / clip.file).resolve(): clip.fold for clip in dataset.clips}.get(file.resolve())
    asked = spec.folds or graph.folds
    fold = home if home in asked else asked[0]  # a clip of the dataset is asked about with examples of other folds
    today = up_to_date(graph) if spec.shots else set()
    rows = _examples(graph, classifier, fold, today) if spec.shots else []
    if home is not None and home != fold and rows:
        raise VlmAudioError(
            f"{file.name} must be no clip of the folds examples come from, got one of fold {home}; {classifier} is asked "
            f"about folds {list(asked)} only"
        )
    query = _shown(graph, spec, file)
    if itself := [row["clip"] for row in rows if row["content_sha256"] == query.sha256]:
        raise VlmAudioError(
            f"{file.name} must be none of the examples, got a copy of {itself[0]}; try another recording"
        )
    others = _known(graph, classifier, spec, rows, today)

    def look(control: str, clip: str) -> Part | None:
        return query if clip == "" else others(control, clip)

    [question] = spec.form(graph.dataset(progress).classes).questions([""], rows, look)
    context = StageContext(
        study=graph.study.name,
        name=classifier,
        fold=fold,
        classes=graph.dataset().classes,
        inputs={},
        dataset=graph.dataset(),
        rows=graph.rows,
        progress=progress,
        ledger=ledger_of(graph) if spec.paid else None,
    )
    backend = backend_of(spec, context)
    revision = spec.weights.resolve() if spec.weights else None
    made = ask_all(
        [question], spec.asker(), graph.rows, lambda: backend, model=spec.model, revision=revision, progress=progress
    )
    if made.stopped:
        raise VlmAudioError(made.stopped)
    answers = {row["scoring"]: row for row in made.table.to_pylist()}
    text = answers.get("generation", {}).get("text")
    scored = answers.get("likelihood", {}).get("log_probabilities")
    as_sent = getattr(backend, "messages_as_sent", None)
    return Tried(
        messages=question.request.messages,
        as_sent=as_sent(question.request) if as_sent else None,
        outcome=next((row["outcome"] for row in answers.values()), "error"),
        text=text,
        read=parse(text, graph.dataset().classes, spec.synonyms) if text is not None else None,
        log_probabilities=dict(scored) if scored else None,
        error=next((row["error"] for row in answers.values() if row["error"]), None),
    )


def _shown(graph: Graph, spec: LanguageModel, file: Path) -> Picture | Sound:
    """Give the recording as the model is shown it: drawn by its rendering, or as it sounds."""
    samples, rate, _ = decode(file)
    recipe = graph.study.renderings.get(spec.rendering or "")
    if isinstance(recipe, Recipe):
        wanted = recipe.rate or rate
        drawn = render(resample(samples, rate, wanted), wanted, recipe)
        return Picture(drawn.bytes, drawn.media_type, digest(drawn.bytes))
    return Sound(lambda hz: resample(samples, rate, hz), samples_digest(samples, rate), len(samples) / rate)


def _fresh(graph: Graph, node: Node, classifier: str, today: set[Node]) -> pa.Table:
    """Read what a node made, if that is what it would make today."""
    if node not in today:
        raise MissingInput(
            f"{classifier} is shown examples, and {graph.study.name}/{node} must be up to date for that; run "
            f"`vlm-audio run {graph.study.as_asked} --only '{node.step}'`"
        )
    table, path = next(iter(graph.parts(node).items()))
    return read_part(path, TABLES[table])[0]


def _examples(graph: Graph, classifier: str, fold: int, today: set[Node]) -> list[Row]:
    """Give the first trial's examples of a fold. Those chosen for one query each are chosen for none of ours."""
    table = _fresh(graph, Node(f"examples/{classifier}", fold), classifier, today)
    rows = [row for row in table.to_pylist() if row["trial"] == 0]
    if any(row["query"] for row in rows):
        raise VlmAudioError(
            f"examples of '{classifier}' must serve every query to be shown with a new one, got `select: nearest`; try "
            "a classifier that selects otherwise"
        )
    return rows


def _known(graph: Graph, classifier: str, spec: LanguageModel, rows: list[Row], today: set[Node]) -> Lookup:
    """Look up the clips of the dataset that serve as examples."""
    needed = {row["clip"] for row in rows}
    folds = {clip.id: clip.fold for clip in graph.dataset().clips} if needed else {}
    step = "clips" if spec.rendering is None else f"spectrograms/{spec.rendering}"
    tables = [_fresh(graph, Node(step, fold), classifier, today) for fold in sorted({folds[clip] for clip in needed})]
    if spec.rendering is None:
        return sounds(graph.dataset(), [row for table in tables for row in table.to_pylist()], 0)
    joined = pa.concat_tables(tables) if tables else TABLES["spectrograms"].empty()
    return pictures({"none": joined}, {"none": needed})


def tried_view(tried: Tried, *, messages: bool) -> RenderableType:
    """Lay out what was said, and what came of it, the likeliest class first.

    Args:
        tried: the answer.
        messages: show what the model was told, too.
    """
    lines: list[RenderableType] = []
    if messages:
        lines += [Text(tried.as_sent)] if tried.as_sent is not None else [_turn(m) for m in tried.messages]
        lines.append(Text())
    if tried.error:
        lines.append(Text(f"error: {tried.error}", style="red"))
    if tried.outcome == "refused" and tried.text is None:
        lines.append(Text("the endpoint refused to answer", style="yellow"))
    if tried.text is not None and tried.read is not None:
        outcome = tried.read.label or tried.read.outcome
        lines.append(Text.assemble("it says ", (repr(tried.text), "bold"), f", read as {outcome}"))
    if tried.log_probabilities:
        ranked = sorted(tried.log_probabilities.items(), key=lambda pair: -pair[1])
        total = sum(exp(value - ranked[0][1]) for _, value in ranked)
        width = max(len(name) for name, _ in ranked)
        lines.append(Text("log-probability of each class's answer, and its share among them", style="dim"))
        for name, value in ranked:
            share = exp(value - ranked[0][1]) / total
            lines.append(Text(f"{name:<{width}} {value:9.3f} {share:7.3f} {'#' * round(30 * share)}"))
    return Group(*lines)


def _turn(message: Message) -> Text:
    def words(part: Part) -> str:
        if isinstance(part, str):
            return part
        what = "picture" if isinstance(part, Picture) else "sound"
        return f"[{what} {part.sha256[:12]}]"

    return Text.assemble((f"{message.role}: ", "bold"), " ".join(words(part) for part in message.parts))
