r"""Parse a response: find the class that it names, or report that it names none. Nothing is ever guessed.

The first rule that applies decides:

1. The whole response is a class name, in any quotes, Markdown, case and punctuation.
2. JSON: the value of "class", "label", "answer", ...
3. A marker: "Answer: dog", "the class is dog", <answer>, \boxed; "final answer" has priority over "answer". Several markers
   must agree.
4. A refusal. A refusal with a marker counts as an answer; one that merely names classes does not.
5. The sentences: exactly one class is affirmed, every other mentioned class is excluded ("rain, not sea waves"). A class whose
   name is an everyday word, a letter, a number or a sign must be stated as the answer (`explicit_answers`).

A response that a later sentence retracts ("Wait, no.") is unparseable. Marked reasoning (`reasoning`) is ignored, and so is a
user turn that the model invented; if the reasoning is cut off, there is no answer. Class names are in `vocabulary`, negation is
in `mentions`, markers are in `markers`, phrases of refusal are in `refusals`.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from vlm_audio_pipeline.classifiers.language_models.explicit_answers import (
    cjk_labels,
    concluded_labels,
    explicit_labels,
    leading_label,
    quoted_labels,
)
from vlm_audio_pipeline.classifiers.language_models.markers import NON_ANSWER_WORDS, is_retracted, parse_markers
from vlm_audio_pipeline.classifiers.language_models.mentions import (
    Sentence,
    is_negated,
    rewrite_negations,
    split_sentences,
)
from vlm_audio_pipeline.classifiers.language_models.reasoning import split_reasoning
from vlm_audio_pipeline.classifiers.language_models.refusals import is_refusal
from vlm_audio_pipeline.classifiers.language_models.sentence_answers import ParsedResponse, parse_sentences
from vlm_audio_pipeline.classifiers.language_models.vocabulary import Vocabulary, build_vocabulary, normalise, words

_MAX_LENGTH = 10_000  # characters; a longer response is not an answer
_MAX_JSON_DEPTH = 50

_NEXT_TURN = re.compile(r"\n[^\S\n]*(?:user|human)\s*:", re.IGNORECASE)
_FIRST_TURN = re.compile(r"\A\W*(?:user|human)\s*:", re.IGNORECASE)
_SPECIAL_TOKEN = re.compile(r"<\|[^|<>]*\|>|</?s>|<(?:eos|bos|pad|end_of_turn)>|[<｜]｜[^｜]*｜>", re.IGNORECASE)
_LATEX = re.compile(r"\\(?:text\w*|math\w*)\s*\{([^{}]*)\}")
_FINAL_ANSWER = re.compile(r"\\boxed\s*\{([^{}]*)\}|<answer>((?:(?!<answer>).)*?)</answer>", re.DOTALL | re.IGNORECASE)
_STRIKETHROUGH = re.compile(r"~~.*?~~", re.DOTALL)
_CODE_FENCE = re.compile(r"```\w*\s*\n?(.*?)```", re.DOTALL)
_DENIAL_SIGN = re.compile(r"[❌✗✘✖❎🚫⛔👎☐🙅]|[¬≠](?=\s*\w)|(?<!\S)!(?=\w)|\[ ?\](?!\()|~~")
_SHORT_ANSWER = re.compile(
    r"""\A[\s*_#>"']*(?:the\s+)?(?:final\s+|correct\s+)?(?:answer|class|label|category)[*_"']*\s*(?:is)?\s*[:：]?[*_]*\s+(\S.{0,60})\Z""",
    re.IGNORECASE,
)
_CJK_MARKER = re.compile(r"(?:最终|最終)?(?:答案|类别|類別|答え|回答)\s*(?:是|为|為|は|:)\s*:?")

_BRACKET = re.compile(r"(\w)\s+\((?=[^()\n]*\))|(?m:^)\s*(\w)\)(?= )")
_JSON_KEYS = frozenset(
    words(
        "class label answer prediction predicted category sound result classification final output response best match"
    )
)
_NUMBERED_KEYS = frozenset(("digit", "number"))


def parse_response(
    text: str | None, classes: Sequence[str], synonyms: Mapping[str, Sequence[str]] | None = None
) -> ParsedResponse:
    """Parse a response.

    Args:
        text: the response; None counts as empty.
        classes: the labels of the study.
        synonyms: synonyms of the study, in addition to those of the dataset's classes.

    Returns:
        The class, or why the response names no class. No response raises an error.

    Raises:
        VlmAudioError: if a synonym belongs to an unknown class or to two classes.

    >>> parse_response("It sounds like **rain**, not sea waves.", ["rain", "sea_waves"])
    ParsedResponse(outcome='answered', label='rain', rule='sentence')
    """
    vocabulary = build_vocabulary(classes, synonyms)
    text = text or ""
    if (text in classes or not _DENIAL_SIGN.search(text)) and (label := vocabulary.match_whole(text)):
        return ParsedResponse("answered", label, "whole")
    text = split_reasoning(text)[1]
    if len(text) > _MAX_LENGTH:
        return ParsedResponse("unparseable", None, "too long")
    text = _SPECIAL_TOKEN.sub(" ", text)
    text = _STRIKETHROUGH.sub(" ", _text_before_next_turn(text))
    if not re.search(r"\w", text):
        return ParsedResponse("unparseable", None, "empty")
    if not _DENIAL_SIGN.search(text) and (label := vocabulary.match_whole(text)):
        return ParsedResponse("answered", label, "whole")
    if vocabulary.is_compound(text):
        return ParsedResponse("unparseable", None, "open")
    short_answer = _SHORT_ANSWER.match(text.strip())  # keeps the signs of "c++", which are no words
    if short_answer and (label := vocabulary.match_whole(short_answer[1])):
        return ParsedResponse("answered", label, "marker")
    text = vocabulary.encode_signs(text)
    return _parse_json(text, vocabulary) or _parse_prose(text, vocabulary)


def _text_before_next_turn(text: str) -> str:
    """Return the text before the first user turn that the model invented after its answer."""
    first_word = re.search(r"\w", text)
    if first_word is None or _FIRST_TURN.match(text):
        return text
    next_turn = _NEXT_TURN.search(text, first_word.start())
    return text[: next_turn.start()] if next_turn else text


def _parse_json(text: str, vocabulary: Vocabulary) -> ParsedResponse | None:
    """Parse JSON that is in a code fence, alone, or inside other text."""
    fenced = _CODE_FENCE.findall(text)
    bodies = fenced if len(fenced) == 1 else [text]
    for body in (*bodies, bodies[0][max(bodies[0].find("{"), 0) : bodies[0].rfind("}") + 1]):
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


def _classes_of_value(value: Any, vocabulary: Vocabulary, depth: int = 1) -> set[str | None]:
    """Return the classes that a JSON value names; None stands for a value that is not a class, or is nested too deep."""
    if depth > _MAX_JSON_DEPTH:
        return {None}
    if isinstance(value, str):
        return {vocabulary.match_whole(value) or _parse_prose(value, vocabulary).label}
    if isinstance(value, int):
        return {vocabulary.match_whole(str(value))}  # "True" of a bool: case does not matter
    if isinstance(value, list):
        return {label for v in value for label in _classes_of_value(v, vocabulary, depth + 1)}
    if isinstance(value, dict):
        answers = [v for k, v in value.items() if _JSON_KEYS.issuperset(words(normalise(str(k))))]
        if not answers and len(value) == 1:  # {"animal": "dog"} answers, {"excluded": "dog"} does not
            answers = [
                v
                for k, v in value.items()
                if (isinstance(v, str | dict | list) or k in _NUMBERED_KEYS)
                and not _is_negative_key(words(rewrite_negations(normalise(str(k)))))
            ]
        return {label for v in answers for label in _classes_of_value(v, vocabulary, depth + 1)}
    return {None}


def _is_negative_key(key: Sequence[str]) -> bool:
    return is_negated(key) or not NON_ANSWER_WORDS.isdisjoint(key)


def _parse_prose(text: str, vocabulary: Vocabulary) -> ParsedResponse:
    text = _LATEX.sub(r"\1", text).replace("\\_", "_")
    text = _FINAL_ANSWER.sub(lambda m: f"\n\nfinal answer: {m[1] or m[2] or ''}\n\n", text)
    text = _CJK_MARKER.sub("\n\nanswer : ", normalise(text))
    text = _BRACKET.sub(lambda match: f"{match[1] or match[2]}, ", rewrite_negations(text))
    sentences = split_sentences(text)
    for parsed in (
        parse_markers(sentences, vocabulary, final=True),
        parse_markers(sentences, vocabulary, final=False),
    ):
        if parsed:
            return parsed
    if is_refusal(text):
        return ParsedResponse("refused", None, "refusal")
    answer = parse_sentences(sentences, vocabulary, "sentence")
    answer = _parse_explicit_answers(sentences, text, vocabulary, answer)
    if answer.label and is_retracted(answer.label, sentences, vocabulary):
        return ParsedResponse("unparseable", None, "open")
    return answer


def _parse_explicit_answers(
    sentences: Sequence[Sentence], text: str, vocabulary: Vocabulary, answer: ParsedResponse
) -> ParsedResponse:
    """Revise the answer of the sentences (`answer`) by explicit answers with everyday words, letters or numbers.

    A conclusion decides between the classes that the sentences weigh. A statement that contradicts the sentences makes the
    response ambiguous.
    """
    conclusions = concluded_labels(sentences, vocabulary)
    if (
        len(conclusions) == 1
        and (label := next(iter(conclusions))) != answer.label
        and answer.rule in ("none", "several")
    ):
        return ParsedResponse("answered", label, "sentence")
    stated = explicit_labels(sentences, vocabulary)
    if answer.rule == "none":
        stated = stated or quoted_labels(text, vocabulary) or cjk_labels(text, vocabulary)
        leading = leading_label(sentences, text, vocabulary) if not stated else None
        stated = stated or ({leading} if leading else set())
        if len(stated) == 1:
            return ParsedResponse("answered", stated.pop(), "sentence")
    if answer.label and stated - {answer.label}:
        return ParsedResponse("unparseable", None, "several")
    return answer
