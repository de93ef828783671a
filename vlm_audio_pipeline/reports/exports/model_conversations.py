"""The requests of a study to its language models: the messages as they were sent, the response, and the prediction.

Messages are not stored. They are built again from the study, its examples and its images; the key of the stored response is
a hash of every word and image that was sent, so it shows whether they are the same.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any

from vlm_audio_pipeline.classifiers.language_models.language_model import LanguageModel
from vlm_audio_pipeline.classifiers.language_models.messages import (
    AudioPart,
    ImagePart,
    Message,
    MessagePart,
    Request,
    Scoring,
)
from vlm_audio_pipeline.classifiers.language_models.questions import NO_IMAGE, Lookup, QuestionBuilder, audio_lookup
from vlm_audio_pipeline.classifiers.language_models.stored_requests import is_request_of
from vlm_audio_pipeline.contracts.control_names import controlled_name
from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.reports.exports.sorted_lookup import SortedLookup
from vlm_audio_pipeline.reports.exports.stored_images import StoredImages
from vlm_audio_pipeline.reports.page.study_results import StudyResults, read_batches
from vlm_audio_pipeline.storage.schemas import TABLES

Row = dict[str, Any]
AUDIO_RATE_HZ = 16000
"""Sample rate of audio in an export, also for a local model, which receives samples instead of a file."""
_BATCH_SIZE = 256  # rows in memory at a time


@dataclass(frozen=True)
class Conversation:
    """A request to a language model, its response, and the prediction from it.

    Attributes:
        prediction: row of `predictions`.
        response: row of `responses`.
        messages: the messages of the request; empty if they cannot be built.
        note: why the messages are missing, or may differ from those that were sent; None if the key of the response shows
            that they are the same.
    """

    prediction: Row
    response: Row
    messages: tuple[Message, ...]
    note: str | None


@dataclass(frozen=True)
class ModelRun:
    """All requests of one language model of a study with one scoring and one control.

    Attributes:
        results: the study.
        classifier: name of the language model in the study.
        spec: the language model.
        scoring: the scoring.
        control: "none", or a control.
    """

    results: StudyResults
    classifier: str
    spec: LanguageModel
    scoring: Scoring
    control: str

    @property
    def name(self) -> str:
        """Name within the study: the classifier, the scoring, and a control if there is one."""
        name = f"{self.classifier}_{self.scoring}"
        return name if self.control == "none" else controlled_name(name, self.control)

    def rows(self, table: str, columns: tuple[str, ...], fold: int) -> Iterator[Row]:
        """Yield the rows of this run in a fold of `predictions` or `responses`, sorted by trial and clip."""
        path = self.results.data_folder.partition_file(table, self.results.study, self.classifier, fold)
        for batch in read_batches(path, columns, _BATCH_SIZE):
            for row in batch:
                if (row["scoring"], row["control"]) == (self.scoring, self.control):
                    yield row

    def conversations(self, *folds: int) -> Iterator[Conversation]:
        """Yield every request that has a response, by fold, trial and clip; a few are in memory at a time.

        Args:
            folds: only these folds; all folds if none is given.

        Raises:
            VlmAudioError: for a damaged partition file.
        """
        for fold in folds or sorted({row["fold"] for row in self.results.clips}):
            yield from self._conversations_of_fold(fold)

    def _conversations_of_fold(self, fold: int) -> Iterator[Conversation]:
        responses = SortedLookup(
            ((row["trial"], row["clip"]), row) for row in self.rows("responses", _columns("responses"), fold)
        )
        examples = SortedLookup(self._examples(fold))
        common: tuple[int, list[Row] | None] = (-1, None)  # the examples that all clips of a trial share
        for prediction in self.rows("predictions", _columns("predictions"), fold):
            trial, clip = prediction["trial"], prediction["clip"]
            if common[0] != trial:
                common = trial, examples.get((trial, ""))
            response = responses.get((trial, clip))
            if response is None:
                continue
            shown_examples = common[1] if common[1] is not None else examples.get((trial, clip))
            yield self._conversation(prediction, response, shown_examples or [], fold)

    def _examples(self, fold: int) -> Iterator[tuple[tuple[int, str], list[Row]]]:
        path = self.results.data_folder.partition_file("examples", self.results.study, self.classifier, fold)
        columns = ("trial", "query", "position", "clip", "example_label")
        rows = (row for batch in read_batches(path, columns, _BATCH_SIZE) for row in batch)
        for key, group in groupby(rows, key=lambda row: (row["trial"], row["query"])):
            yield key, list(group)

    def _conversation(self, prediction: Row, response: Row, examples: list[Row], fold: int) -> Conversation:
        try:
            request = self._request(prediction, examples, fold)
        except (VlmAudioError, KeyError) as error:
            return Conversation(prediction, response, (), f"the messages cannot be built again: {error}")
        return Conversation(prediction, response, request.messages, self._difference(request, response))

    def _request(self, prediction: Row, examples: list[Row], fold: int) -> Request:
        if self.spec.shots and not examples:
            raise VlmAudioError("its examples are missing")
        lookup = self._lookup(fold)
        shown_examples: list[tuple[MessagePart, str]] = []
        for row in examples:
            part = lookup("none", row["clip"])
            assert part is not None, "only a control has no part"
            shown_examples.append((part, self._builder.names[row["example_label"]]))
        trial = self.spec.trials[prediction["trial"]]
        return self._builder.build_one(trial, self.control, prediction["clip"], shown_examples, lookup).request

    @cached_property
    def _builder(self) -> QuestionBuilder:
        dataset = self.results.dataset
        return self.spec.question_builder(dataset.classes if dataset else self.results.classes)

    def _lookup(self, fold: int) -> Lookup:
        if self.spec.rendering is None:
            if self.results.dataset is None:
                raise VlmAudioError(self.results.dataset_missing_reason)
            return audio_lookup(self.results.dataset, self.results.clips, fold, self.spec.perturbations)
        return self._find_image

    def _find_image(self, control: str, clip: str) -> ImagePart | None:
        if control == NO_IMAGE:
            return None
        return (self._images if control == "none" else self._controlled_images).image(clip)

    @cached_property
    def _images(self) -> StoredImages:
        return StoredImages(self.results, str(self.spec.rendering))

    @cached_property
    def _controlled_images(self) -> StoredImages:
        return StoredImages(self.results, controlled_name(str(self.spec.rendering), self.control))

    def _difference(self, request: Request, response: Row) -> str | None:
        try:
            if is_request_of(self.spec, request, response):
                return None
        except VlmAudioError as error:
            return f"the messages were built again and not compared with those that were sent: {error}"
        return (
            "the messages were built again and differ from those that were sent: the study or its model changed since"
        )


def _columns(table: str) -> tuple[str, ...]:
    schema = TABLES[table]
    return tuple(name for name in schema.arrow.names if name != "study")


def read_model_runs(results: StudyResults) -> list[ModelRun]:
    """Return every run of a language model with stored responses, by classifier, scoring and control."""
    rows = results.query(
        "SELECT DISTINCT classifier, scoring, control FROM responses WHERE study = $1 "
        "ORDER BY classifier, scoring, control <> 'none', control"
    )
    specs = {name: results.language_model(name) for name in {row["classifier"] for row in rows}}
    return [
        ModelRun(results, row["classifier"], spec, row["scoring"], row["control"])
        for row in rows
        if (spec := specs[row["classifier"]]) is not None
    ]


def require_model_runs(results: StudyResults) -> list[ModelRun]:
    """Return every run of a language model with stored responses.

    Raises:
        VlmAudioError: if the study has none.
    """
    if runs := read_model_runs(results):
        return runs
    raise VlmAudioError(
        f"study '{results.study}' has no responses of a language model, which this format contains; add a classifier of kind "
        "language_model and run the study, or choose --format tables or huggingface"
    )


def prompt_text(messages: tuple[Message, ...]) -> str:
    """Return the texts of messages, verbatim, with `<image>` and `<audio>` in the places of images and audio.

    Several messages are separated by empty lines and begin with their role.
    """
    texts = ["".join(part if isinstance(part, str) else _placeholder(part) for part in m.parts) for m in messages]
    if len(texts) == 1:
        return texts[0]
    return "\n\n".join(f"{message.role}: {text}" for message, text in zip(messages, texts, strict=True))


def _placeholder(part: ImagePart | AudioPart) -> str:
    return "<image>" if isinstance(part, ImagePart) else "<audio>"


def messages_json(messages: tuple[Message, ...]) -> list[Row]:
    """Return messages as JSON values: role and content, with the SHA-256 of images and audio in their places."""
    return [{"role": message.role, "content": [_part_json(part) for part in message.parts]} for message in messages]


def _part_json(part: MessagePart) -> Row:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    return {"type": "image" if isinstance(part, ImagePart) else "audio", "sha256": part.sha256}
