"""The requests to language models as they were sent: each distinct request of a classifier once, and its number for each response."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from vlm_audio_pipeline.classifiers.language_models.language_model import LanguageModel
from vlm_audio_pipeline.classifiers.language_models.questions import Lookup, audio_lookup
from vlm_audio_pipeline.classifiers.language_models.stored_requests import (
    Example,
    Query,
    StoredRequest,
    Turn,
    image_hashes,
    rebuild_requests,
)
from vlm_audio_pipeline.contracts.control_names import controlled_name
from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.datasets.base import Dataset
from vlm_audio_pipeline.reports.page.report_writer import ReportWriter
from vlm_audio_pipeline.reports.page.study_results import StudyResults, read_batches

BATCH_SIZE = 512
_COLUMNS = ("scoring", "control", "trial", "clip", "result_key", "revision", "outcome", "error", "reasoning")
ResponseKey = tuple[str, str, int, str]
"""Scoring, control, trial and clip of a response."""


@dataclass(frozen=True)
class ResponseDetails:
    """What the page shows of a response beside its prediction; `request` is the number of its request."""

    error: str | None
    reasoning: str | None
    request: int | None


@dataclass
class ClassifierRequests:
    """The requests of one classifier.

    Attributes:
        classifier: its name.
        is_few_shot: whether its requests contain examples.
        decoding: how text was generated, in words.
        responses: number of responses.
        exact: number of responses whose request has the key of the stored response.
        reason: why requests are not shown, or "".
        turns: the distinct requests, in the order of their numbers.
        uses: for each, the folds, trials and clips that it was sent for.
    """

    classifier: str
    is_few_shot: bool = False
    decoding: str = ""
    responses: int = 0
    exact: int = 0
    reason: str = ""
    turns: dict[tuple[Turn, ...], int] = field(default_factory=dict)
    uses: list[tuple[set[int], set[int], set[str]]] = field(default_factory=list)

    def add(self, request: StoredRequest, fold: int) -> int:
        """Count a request, and return its number."""
        number = self.turns.setdefault(request.turns, len(self.turns))
        if number == len(self.uses):
            self.uses.append((set(), set(), set()))
        folds, trials, clips = self.uses[number]
        folds.add(fold)
        trials.add(request.row["trial"])
        clips.add(request.row["clip"])
        self.responses += 1
        self.exact += request.is_exact
        return number

    def write(self, results: StudyResults, writer: ReportWriter, number: int) -> dict[str, Any]:
        """Write the requests as rows [title, [[role, parts], ...]], and return what the page shows of the classifier.

        A part is a text, the number of an example's clip (-1 if the page does not have it), or null for the query.
        """
        trials = {trial for _, request_trials, _ in self.uses for trial in request_trials}
        folds = {fold for request_folds, _, _ in self.uses for fold in request_folds}
        clips = {clip for *_, request_clips in self.uses for clip in request_clips}

        def title(turns: tuple[Turn, ...], use: tuple[set[int], set[int], set[str]]) -> str:
            if len(use[2]) == 1 < len(clips):
                names = [f"clip {next(iter(use[2]))}"]
            elif use[0] != folds:
                names = [f"clips of {_list_numbers('fold', use[0])}"]
            else:
                names = ["all clips"]
            if use[1] != trials:
                names.append(_list_numbers("trial", use[1]))
            if not any(isinstance(part, Query) for turn in turns for part in turn.parts):
                names.append("without image or audio")
            return ", ".join(names)

        rows = (
            [title(turns, use), [[t.role, [_plain_part(results, part) for part in t.parts]] for t in turns]]
            for turns, use in zip(self.turns, self.uses, strict=True)
        )
        key = f"requests-{number}"
        writer.write_data(key, rows)
        names = ("classifier", "is_few_shot", "decoding", "responses", "exact", "reason")
        return {name: getattr(self, name) for name in names} | {"data": key, "requests": len(self.turns)}


def _list_numbers(noun: str, numbers: set[int]) -> str:
    return f"{noun}{'s' if len(numbers) > 1 else ''} {', '.join(map(str, sorted(numbers)))}"


def _plain_part(results: StudyResults, part: str | Example | Query) -> str | int | None:
    if isinstance(part, str):
        return part
    return results.clip_number.get(part.clip, -1) if isinstance(part, Example) else None


class RequestReader:
    """Reads the responses of a study with their requests.

    Args:
        results: the study.
        max_reasoning_chars: reasoning is cut after this many characters; None: never.
    """

    def __init__(self, results: StudyResults, max_reasoning_chars: int | None = None):
        self._results = results
        self._max_reasoning_chars = max_reasoning_chars
        self._hashes: dict[str, dict[str, str]] = {}
        self.classifiers: dict[str, ClassifierRequests] = {}

    def read(self, classifier: str, fold: int) -> dict[ResponseKey, ResponseDetails]:
        """Return the details of every response of a classifier in a fold; empty unless it is a language model."""
        path = self._results.data_folder.partition_file("responses", self._results.study, classifier, fold)
        rows = [row for batch in read_batches(path, _COLUMNS, BATCH_SIZE) for row in batch]
        if not rows:
            return {}
        requests = self.classifiers.setdefault(classifier, ClassifierRequests(classifier))
        numbers: dict[ResponseKey, int] = {}
        try:
            for request in self._rebuild(classifier, fold, rows, requests):
                numbers[_key(request.row)] = requests.add(request, fold)
        except (VlmAudioError, ValueError, KeyError) as error:  # an older study file, or images that were deleted
            requests.reason = f"the requests cannot be rebuilt: {error}"
        return {
            _key(row): ResponseDetails(row["error"], self._cut(row["reasoning"]), numbers.get(_key(row)))
            for row in rows
        }

    def _rebuild(
        self, classifier: str, fold: int, rows: list[dict[str, Any]], requests: ClassifierRequests
    ) -> Iterator[StoredRequest]:
        results = self._results
        spec = results.language_model(classifier)
        if spec is None:
            requests.reason = "the requests cannot be rebuilt: the study does not contain the classifier any more"
            return
        requests.is_few_shot, requests.decoding = spec.shots > 0, spec.protocol().decoding or ""
        examples = results.query(
            "SELECT * FROM examples WHERE study = $1 AND classifier = $2 AND fold = $3 ORDER BY trial, query, position",
            *(classifier, fold),
        )
        lookup = self._image_lookup(spec) if spec.rendering else self._audio_lookup(spec, fold)
        classes = results.dataset.classes if results.dataset else results.classes
        yield from rebuild_requests(spec, classes, rows, examples, lookup)

    def _image_lookup(self, spec: LanguageModel) -> Lookup:
        rendering = str(spec.rendering)
        names = {
            c: rendering if c == "none" else controlled_name(rendering, c) for c in ("none", *spec.needs().conditions)
        }
        if missing := [name for name in names.values() if name not in self._hashes]:
            self._hashes |= {name: {} for name in missing}
            rows = self._results.query(
                "SELECT rendering, clip, image_sha256 FROM spectrograms WHERE study = $1 AND list_contains($2, rendering)",
                missing,
            )
            for row in rows:
                self._hashes[row["rendering"]][row["clip"]] = row["image_sha256"]
        return image_hashes({control: self._hashes[name] for control, name in names.items()})

    def _audio_lookup(self, spec: LanguageModel, fold: int) -> Lookup:
        # Only the hashes are used, so the recordings may be missing.
        return audio_lookup(cast(Dataset, self._results.dataset), self._results.clips, fold, spec.perturbations)

    def _cut(self, reasoning: str | None) -> str | None:
        limit = self._max_reasoning_chars
        if reasoning is None or limit is None or len(reasoning) <= limit:
            return reasoning or None
        return f"{reasoning[:limit]} … ({len(reasoning) - limit:,} more characters in the folder form of this report)"


def _key(row: dict[str, Any]) -> ResponseKey:
    return row["scoring"], row["control"], row["trial"], row["clip"]


def write_requests(
    results: StudyResults, requests: Sequence[ClassifierRequests], writer: ReportWriter
) -> list[dict[str, Any]]:
    """Write the requests of each classifier, and return what the page shows of it."""
    return [entry.write(results, writer, number) for number, entry in enumerate(requests)]
