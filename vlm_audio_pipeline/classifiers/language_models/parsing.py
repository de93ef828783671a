r"""Parse a response: find the class that it names, or report that it names none. Nothing is ever guessed.

The first rule that applies decides:

1. The whole response is a class name, in any quotes, Markdown, case and punctuation.
2. JSON: the value of "class", "label", "answer", ...
3. A marker: "Answer: dog", "the class is dog", <answer>, \boxed; "final answer" has priority over "answer". Several must agree.
4. A refusal. A refusal with a marker counts as an answer; one that merely names classes does not.
5. The sentences: exactly one class is affirmed, every other is excluded ("rain, not sea waves"), none is left open.

A response that a later sentence retracts ("Wait, no.") is unparseable. Text between <think> tags is ignored, and so is a user
turn that the model invented; if the thinking is cut off, there is no answer. Class names are in `vocabulary`, negation is in
`mentions`, phrases of refusal are in `refusals`.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

from vlm_audio_pipeline.classifiers.language_models.mentions import (
    Sentence,
    class_statements,
    is_negated,
    is_negation,
    rewrite_negations,
    split_sentences,
)
from vlm_audio_pipeline.classifiers.language_models.refusals import is_refusal
from vlm_audio_pipeline.classifiers.language_models.vocabulary import Vocabulary, build_vocabulary, normalise, words

_MAX_LENGTH = 10_000  # characters; a longer response is not an answer

_THINKING = re.compile(r"\A.*</think(?:ing)?>|<think(?:ing)?>.*\Z", re.DOTALL | re.IGNORECASE)
_NEXT_TURN = re.compile(r"\A(?!\W*(?:user|human)\s*:)(.*?\w.*?)\n\s*(?:user|human)\s*:.*\Z", re.DOTALL | re.IGNORECASE)
_SPECIAL = re.compile(r"<\|[^|<>]*\|>|</?s>|<(?:eos|bos|pad|end_of_turn)>|[<｜]｜[^｜]*｜>", re.IGNORECASE)
_LATEX = re.compile(r"\\(?:text\w*|math\w*)\s*\{([^{}]*)\}")
_FINAL = re.compile(r"\\boxed\s*\{([^{}]*)\}|<answer>(.*?)</answer>", re.DOTALL | re.IGNORECASE)
_STRUCK = re.compile(r"~~.*?~~", re.DOTALL)
_FENCED = re.compile(r"```\w*\s*\n?(.*?)```", re.DOTALL)
_CJK_MARKER = re.compile(r"(?:最终|最終)?(?:答案|类别|類別|答え|回答)\s*(?:是|为|為|は|:)\s*:?")

_KEYWORDS = frozenset(
    words(
        "class label answer prediction predicted category sound result classification final output response best match"
    )
)
_MARKERS = frozenset(
    words("answer class label category prediction classification response assistant guess conclusion choice verdict")
)
_NOT_ANSWERS = frozenset(words("example possible other another alternative second third next first previous user"))
_CORRECTIONS = frozenset(words("wait actually correction hmm scratch reconsider reconsidering"))
_SECOND_THOUGHTS = frozenset(words("wait scratch reconsider reconsidering"))  # these retract without a "no"


@dataclass(frozen=True)
class ParsedResponse:
    """The outcome of parsing a response.

    Attributes:
        outcome: answered, unparseable or refused.
        label: the class, if answered.
        rule: the rule that decided (whole, json, marker, sentence), or why none did: empty, too long, none (no class is named
            or affirmed), several, open (denied, doubted, asked, cut off or retracted ambiguously), refusal.
    """

    outcome: Literal["answered", "unparseable", "refused"]
    label: str | None
    rule: str


def parse_response(
    text: str | None, classes: Sequence[str], synonyms: Mapping[str, Sequence[str]] | None = None
) -> ParsedResponse:
    """Parse a response.

    Args:
        text: the response; None counts as empty.
        classes: the labels of the study.
        synonyms: synonyms of the study, in addition to those of the dataset's classes.

    Returns:
        The class, or why there is none. No text raises an error.

    Raises:
        VlmAudioError: for synonyms of an unknown class or of two classes.

    >>> parse_response("It sounds like **rain**, not sea waves.", ["rain", "sea_waves"])
    ParsedResponse(outcome='answered', label='rain', rule='sentence')
    """
    vocabulary = build_vocabulary(classes, synonyms)
    if label := vocabulary.match_whole(text or ""):
        return ParsedResponse("answered", label, "whole")
    text = _THINKING.sub(" ", text or "")
    if len(text) > _MAX_LENGTH:
        return ParsedResponse("unparseable", None, "too long")
    text = _SPECIAL.sub(" ", text)
    text = _STRUCK.sub(" ", _NEXT_TURN.sub(r"\1", text))
    if not re.search(r"\w", text):
        return ParsedResponse("unparseable", None, "empty")
    if label := vocabulary.match_whole(text):
        return ParsedResponse("answered", label, "whole")
    return _parse_json(text, vocabulary) or _parse_prose(text, vocabulary)


def _parse_json(text: str, vocabulary: Vocabulary) -> ParsedResponse | None:
    """Parse JSON in a fence, alone, or with words around it."""
    fenced = _FENCED.findall(text)
    bodies = fenced if len(fenced) == 1 else [text]
    for body in (*bodies, *re.findall(r"\{.*\}", bodies[0], re.DOTALL)):
        value = _load_json(body.strip())
        if isinstance(value, dict | list):
            labels = _classes_of_value(value, vocabulary)
            if len(labels) == 1 and (label := labels.pop()):
                return ParsedResponse("answered", label, "json")
            return ParsedResponse("unparseable", None, "several" if len(labels) > 1 else "none")
    return None


def _load_json(text: str) -> Any:
    if text[:1] not in ("{", "["):
        return None
    for candidate in (text, text.replace("'", '"')):  # {'class': 'dog'} is Python notation
        try:
            return json.loads(candidate)
        except (ValueError, RecursionError):
            continue
    return None


def _classes_of_value(value: Any, vocabulary: Vocabulary) -> set[str | None]:
    """Return the classes that a JSON value names; None stands for a value that is not a class."""
    if isinstance(value, str):
        return {vocabulary.match_whole(value) or _parse_prose(value, vocabulary).label}
    if isinstance(value, list):
        return (
            _classes_of_value(value[0], vocabulary)
            if len(value) == 1
            else {label for v in value for label in _classes_of_value(v, vocabulary)}
        )
    if isinstance(value, dict):
        answers = [v for k, v in value.items() if _KEYWORDS.issuperset(words(normalise(str(k))))]
        if not answers and len(value) == 1:  # {"animal": "dog"} answers, {"excluded": "dog"} does not
            answers = [
                v
                for k, v in value.items()
                if isinstance(v, str | dict | list)
                and not _is_negative_key(words(rewrite_negations(normalise(str(k)))))
            ]
        return {label for v in answers for label in _classes_of_value(v, vocabulary)}
    return {None}


def _is_negative_key(key: Sequence[str]) -> bool:
    return is_negated(key) or not _NOT_ANSWERS.isdisjoint(key)


def _parse_prose(text: str, vocabulary: Vocabulary) -> ParsedResponse:
    text = _LATEX.sub(r"\1", text).replace("\\_", "_")
    text = _FINAL.sub(lambda m: f"\n\nfinal answer: {m[1] or m[2] or ''}\n\n", text)
    text = rewrite_negations(_CJK_MARKER.sub("\n\nanswer : ", normalise(text)))
    sentences = split_sentences(text)
    for marked in (
        _parse_markers(sentences, vocabulary, final=True),
        _parse_markers(sentences, vocabulary, final=False),
    ):
        if marked:
            return marked
    if is_refusal(text):
        return ParsedResponse("refused", None, "refusal")
    answer = _parse_sentences(sentences, vocabulary, "sentence")
    if answer.label and _is_retracted(answer.label, sentences, vocabulary):
        return ParsedResponse("unparseable", None, "open")
    return answer


def _parse_sentences(sentences: Sequence[Sentence], vocabulary: Vocabulary, rule: str) -> ParsedResponse:
    statements: dict[str, set[str]] = {}
    for sentence in sentences:
        for label, statement in class_statements(sentence, vocabulary):
            statements.setdefault(label, set()).add(statement)
    affirmed = [label for label, own in statements.items() if "affirmed" in own]
    if len(affirmed) > 1:
        return ParsedResponse("unparseable", None, "several")
    for label in affirmed:
        statements[label].discard("general")  # a general statement about a class does not contradict it
    if any({"open", "general"} & own for own in statements.values()) or any(
        len(statements[label]) > 1 for label in affirmed
    ):
        return ParsedResponse("unparseable", None, "open")
    return ParsedResponse("answered", affirmed[0], rule) if affirmed else ParsedResponse("unparseable", None, "none")


def _parse_markers(sentences: Sequence[Sentence], vocabulary: Vocabulary, final: bool) -> ParsedResponse | None:
    """Parse the text after "answer:", "the class is" and similar markers; None if there is no such text."""
    answers: list[ParsedResponse] = []
    last = 0
    for n, sentence in enumerate(sentences):
        for after in _after_markers(sentence, final):
            segment = Sentence(sentence.tokens[after:], sentence.asks)
            if not segment.tokens and n + 1 < len(sentences):
                segment = sentences[n + 1]
            answer = _parse_sentences([segment], vocabulary, "marker")
            if answer.rule != "none":
                answers.append(answer)
                last = n
    if not answers:
        return None
    labels = {answer.label for answer in answers}
    if len(labels) > 1 or None in labels:
        return ParsedResponse("unparseable", None, "several" if len(labels) > 1 else answers[0].rule)
    corrected = False
    for sentence in sentences[last + 1 :]:
        corrected = corrected or not _CORRECTIONS.isdisjoint(sentence.texts)
        if corrected and any(label not in labels for label, _ in class_statements(sentence, vocabulary)):
            return ParsedResponse("unparseable", None, "several")
    is_retracted = any(label and _is_retracted(label, sentences[last:], vocabulary) for label in labels)
    return ParsedResponse("unparseable", None, "open") if is_retracted else answers[0]


def _is_retracted(label: str, sentences: Sequence[Sentence], vocabulary: Vocabulary) -> bool:
    """Return whether a sentence retracts the label and no later one affirms it again."""
    retracted = False
    for before, sentence in pairwise(sentences):
        retracted = retracted or _retracts(sentence, before.asks)
        retracted = retracted and (label, "affirmed") not in class_statements(sentence, vocabulary)
    return retracted


def _retracts(sentence: Sentence, after_question: bool) -> bool:
    """Return whether a sentence begins with a retraction: "Wait", "Actually, no", "No, ..." after no question."""
    word_texts = [text for text in sentence.texts if text not in ",:="]
    opening = word_texts[:4]  # a later negation is about something else: "actually, the image shows no harmonics"
    if opening[0] in ("no", "nope") and sentence.texts[1:2] in ((), (",",)):
        return not after_question
    if not _SECOND_THOUGHTS.isdisjoint(opening) or _CORRECTIONS.issuperset(word_texts):
        return True
    return not _CORRECTIONS.isdisjoint(opening) and any(map(is_negation, opening))


def _after_markers(sentence: Sentence, final: bool) -> list[int]:
    """Return the positions after the markers of a sentence that no word before them negates."""
    texts, positions = sentence.texts, []
    for i, word in enumerate(texts):
        before = texts[:i]
        if word not in _MARKERS or ("final" in before[-3:]) != final or sentence.asks:
            continue
        if is_negated(before) or not _NOT_ANSWERS.isdisjoint(before[-4:]):
            continue
        following = texts[i + 1 : i + 3]
        if following[:1] and following[0] in (":", "=", "is", "was"):
            positions.append(i + 2 + (following[1:] == (":",)))
        elif following == ("would", "be") and word not in ("response", "assistant"):
            positions.append(i + 3)
    return positions
