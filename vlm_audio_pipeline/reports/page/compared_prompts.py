"""The prompts of compared results, with the words that differ."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import groupby
from typing import Any

from vlm_audio_pipeline.classifiers.language_models.stored_requests import Example, Query, Turn
from vlm_audio_pipeline.reports.page.compared_results import ComparedResults
from vlm_audio_pipeline.reports.page.requests import RequestReader
from vlm_audio_pipeline.reports.page.wording import NamedReason, group_by_reason

_TOKENS = re.compile(r"\s+|\w+|[^\w\s]")
ROLE_NAMES = {"system": "system", "user": "to the model", "assistant": "label of the example"}
"""Role of a turn -> its name on the page; `transcripts.js` has the same."""
_MIN_SIMILARITY = 0.5
"""Turns that have fewer words in common (ratio of difflib) are marked as a whole: equal words such as "the" say nothing then."""
Tokens = tuple[str, ...]
"""The words, spaces and signs of a turn; an image or audio is one token."""


@dataclass(frozen=True)
class MarkedTurn:
    """One turn of a prompt: its role, and its text as segments (text, whether it differs)."""

    role: str
    segments: tuple[tuple[str, bool], ...]

    @property
    def is_different(self) -> bool:
        """Whether any word differs."""
        return any(is_marked for _, is_marked in self.segments)


@dataclass(frozen=True)
class ComparedPrompt:
    """The prompt of one classifier in each of the compared results.

    Attributes:
        classifier: its name.
        sides: for each of the compared results: its turns, in groups (whether they differ, turns); None if there is no prompt.
        reasons: for each of the compared results: why there is no prompt, or "".
    """

    classifier: str
    sides: list[list[tuple[bool, list[MarkedTurn]]] | None]
    reasons: list[str]

    @property
    def is_equal(self) -> bool:
        """Whether all prompts are there and equal."""
        return all(side is not None and not any(differs for differs, _ in side) for side in self.sides)

    @property
    def is_comparable(self) -> bool:
        """Whether two of the compared results have the prompt."""
        return sum(side is not None for side in self.sides) > 1


def not_compared_prompts(prompts: Sequence[ComparedPrompt], compared: Sequence[ComparedResults]) -> list[NamedReason]:
    """Return the classifiers whose prompts cannot be compared, by the reason."""
    return group_by_reason(
        (prompt.classifier, "; ".join(f"{name}: {reason}" for name, reason in _missing_prompts(prompt, compared)))
        for prompt in prompts
        if not prompt.is_comparable
    )


def _missing_prompts(prompt: ComparedPrompt, compared: Sequence[ComparedResults]) -> list[tuple[str, str]]:
    """Return the compared results without the prompt, with the reason."""
    return [
        (side.name, prompt.reasons[number] or "no prompt")
        for number, side in enumerate(compared)
        if prompt.sides[number] is None
    ]


def compare_prompts(compared: Sequence[ComparedResults]) -> list[ComparedPrompt]:
    """Return the prompts of each language model that at least two of the compared results have.

    Of each, the first prompt counts: that of the first fold and the first clip.
    """
    read = [_first_prompts(side) for side in compared]
    names = dict.fromkeys(name for prompts in read for name in prompts)
    return [
        compare_turns(name, [prompts.get(name, ((), "no result")) for prompts in read])
        for name in names
        if sum(name in prompts for prompts in read) > 1
    ]


def _first_prompts(side: ComparedResults) -> dict[str, tuple[tuple[Turn, ...], str]]:
    """Return the turns of the first request of each language model, or why they are not known."""
    classifiers = dict.fromkeys(entry.classifier for entry in side.entries.values())
    folds = sorted({clip["fold"] for clip in side.results.clips})
    responses = side.results.query("SELECT DISTINCT classifier FROM responses WHERE study = $1")
    names = [name for name in classifiers if name in {row["classifier"] for row in responses}]
    if not side.is_current:
        return dict.fromkeys(names, ((), "the prompts of earlier results are not stored"))
    reader = RequestReader(side.results)
    prompts: dict[str, tuple[tuple[Turn, ...], str]] = {}
    for name in names:
        next((fold for fold in folds if reader.read(name, fold)), None)
        if name in reader.classifiers:
            requests = reader.classifiers[name]
            prompts[name] = (next(iter(requests.turns), ()), requests.reason)
    return prompts


def compare_turns(name: str, prompts: Sequence[tuple[tuple[Turn, ...], str]]) -> ComparedPrompt:
    """Compare the prompts of a classifier with the first one: for each of the compared results, its turns and why there are none."""
    tokens = [[(turn.role, _tokens(turn)) for turn in turns] for turns, _ in prompts]
    marks = [[[False] * len(words) for _, words in turns] for turns in tokens]
    for number in range(1, len(tokens)):
        if tokens[0] and tokens[number]:
            mark_differences(tokens[0], tokens[number], marks[0], marks[number])
    sides: list[list[tuple[bool, list[MarkedTurn]]] | None] = []
    for turns, turn_marks in zip(tokens, marks, strict=True):
        marked = [MarkedTurn(role, _segments(words, m)) for (role, words), m in zip(turns, turn_marks, strict=True)]
        groups = [(differs, list(group)) for differs, group in groupby(marked, key=lambda turn: turn.is_different)]
        sides.append(groups or None)
    return ComparedPrompt(name, sides, [reason for _, reason in prompts])


def _tokens(turn: Turn) -> Tokens:
    tokens: list[str] = []
    for part in turn.parts:
        if isinstance(part, Query):
            tokens.append("\n[the image or audio of the clip]\n")
        elif isinstance(part, Example):
            tokens.append(f"\n[example: clip {part.clip}]\n")
        else:
            tokens += _TOKENS.findall(part)
    return tuple(tokens)


def mark_differences(
    first: Sequence[tuple[str, Tokens]],
    second: Sequence[tuple[str, Tokens]],
    first_marks: list[list[bool]],
    second_marks: list[list[bool]],
) -> None:
    """Set the marks of the tokens that are only in one of two prompts; turns are compared first, then the words of each.

    Args:
        first: role and tokens of each turn.
        second: the same of the other prompt.
        first_marks: a mark for each token of each turn; marks that are set stay.
        second_marks: the same of the other prompt.
    """
    for operation, a, a_end, b, b_end in _differences(first, second):
        if operation == "equal":
            continue
        roles = [[role for role, _ in turns] for turns in (first[a:a_end], second[b:b_end])]
        pairs = [(a + i + n, b + j + n) for i, j, size in _matcher(*roles).get_matching_blocks() for n in range(size)]
        for marks, turns in (
            (first_marks, set(range(a, a_end)) - {i for i, _ in pairs}),
            (second_marks, set(range(b, b_end)) - {j for _, j in pairs}),
        ):
            for turn in turns:  # the other prompt has no turn of this role here
                marks[turn] = [True] * len(marks[turn])
        for i, j in pairs:
            if _matcher(first[i][1], second[j][1]).ratio() < _MIN_SIMILARITY:
                first_marks[i], second_marks[j] = [True] * len(first_marks[i]), [True] * len(second_marks[j])
                continue
            for change, start, end, other_start, other_end in _differences(first[i][1], second[j][1]):
                if change != "equal":
                    first_marks[i][start:end] = [True] * (end - start)
                    second_marks[j][other_start:other_end] = [True] * (other_end - other_start)


def _matcher(first: Sequence[Any], second: Sequence[Any]) -> SequenceMatcher[Any]:
    return SequenceMatcher(None, first, second, autojunk=False)


def _differences(first: Sequence[Any], second: Sequence[Any]) -> Sequence[tuple[str, int, int, int, int]]:
    return _matcher(first, second).get_opcodes()


def _segments(tokens: Tokens, marks: Sequence[bool]) -> tuple[tuple[str, bool], ...]:
    """Join neighbours with the same mark; a space between two marked words is marked, too."""
    between = [
        marks[i] or (0 < i < len(marks) - 1 and tokens[i].isspace() and marks[i - 1] and marks[i + 1])
        for i in range(len(marks))
    ]
    pairs = groupby(zip(tokens, between, strict=True), key=lambda pair: pair[1])
    return tuple(("".join(token for token, _ in group), is_marked) for is_marked, group in pairs)
