r"""Parsing: which class an answer gives, or that it gives none. Nothing is ever guessed.

What belongs here: where in an answer to look, in this order; the first that speaks decides.
1. The whole answer is a name, in whatever quotes, Markdown, case and punctuation.
2. JSON: the value of "class", "label", "answer", ...
3. An explicit answer: "Answer: dog", "the class is dog", <answer>, \boxed; "final answer" goes before "answer". Several must agree.
4. A refusal. One with an explicit answer is an answer; one that merely names classes is not.
5. The sentences: exactly one class is affirmed, every other is plainly excluded ("rain, not sea waves"), none is left open.
An answer that a later sentence takes back ("Wait, no.") is none.
Reasoning between <think> tags is not looked at, and where it was cut off there is no answer; nor is a next turn of the user
that the model made up.
What does not: names (`vocabulary`), negation (`mentions`).
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

from vlm_audio_pipeline.classifiers.language_models.mentions import Sentence, is_no, negated, rewritten, said, sentences
from vlm_audio_pipeline.classifiers.language_models.refusals import refuses
from vlm_audio_pipeline.classifiers.language_models.vocabulary import Vocabulary, plain, vocabulary, words

_LONGEST = 10_000  # characters: what rambles on beyond is no answer

_THOUGHT = re.compile(r"\A.*</think(?:ing)?>|<think(?:ing)?>.*\Z", re.DOTALL | re.IGNORECASE)
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
_SECOND_THOUGHTS = frozenset(words("wait scratch reconsider reconsidering"))  # these take back without a "no"


@dataclass(frozen=True)
class Parsed:
    """What became of an answer.

    Attributes:
        outcome: answered, unparseable or refused.
        label: the class, where answered.
        how: what decided (whole, json, marker, sentence), or why nothing did: empty, too long, none (no class is named or
            affirmed), several, open (denied, doubted, asked, cut off or taken back in a way that is not plain), refusal.
    """

    outcome: Literal["answered", "unparseable", "refused"]
    label: str | None
    how: str


def parse(text: str | None, classes: Sequence[str], synonyms: Mapping[str, Sequence[str]] | None = None) -> Parsed:
    """Read an answer.

    Args:
        text: what the model said; None is read as nothing.
        classes: the labels of the study.
        synonyms: the study's own, beside those of ESC-50's classes.

    Returns:
        the class answered, or why there is none; no text makes it raise.

    Raises:
        VlmAudioError: for synonyms that mean no class or two.

    >>> parse("It sounds like **rain**, not sea waves.", ["rain", "sea_waves"])
    Parsed(outcome='answered', label='rain', how='sentence')
    """
    known = vocabulary(classes, synonyms)
    if label := known.whole(text or ""):
        return Parsed("answered", label, "whole")
    text = _THOUGHT.sub(" ", text or "")
    if len(text) > _LONGEST:
        return Parsed("unparseable", None, "too long")
    text = _SPECIAL.sub(" ", text)
    text = _STRUCK.sub(" ", _NEXT_TURN.sub(r"\1", text))
    if not re.search(r"\w", text):
        return Parsed("unparseable", None, "empty")
    if label := known.whole(text):
        return Parsed("answered", label, "whole")
    return _structured(text, known) or _prose(text, known)


def _structured(text: str, known: Vocabulary) -> Parsed | None:
    """Read JSON in a fence, by itself, or with words around it."""
    fenced = _FENCED.findall(text)
    bodies = fenced if len(fenced) == 1 else [text]
    for body in (*bodies, *re.findall(r"\{.*\}", bodies[0], re.DOTALL)):
        value = _value(body.strip())
        if isinstance(value, dict | list):
            found = _of_value(value, known)
            if len(found) == 1 and (label := found.pop()):
                return Parsed("answered", label, "json")
            return Parsed("unparseable", None, "several" if len(found) > 1 else "none")
    return None


def _value(text: str) -> Any:
    if text[:1] not in ("{", "["):
        return None
    for written in (text, text.replace("'", '"')):  # {'class': 'dog'} is how Python writes it
        try:
            return json.loads(written)
        except (ValueError, RecursionError):
            continue
    return None


def _of_value(value: Any, known: Vocabulary) -> set[str | None]:
    """Give the classes a value answers with; None among them for an answer that is none of the classes."""
    if isinstance(value, str):
        return {known.whole(value) or _prose(value, known).label}
    if isinstance(value, list):
        return (
            _of_value(value[0], known) if len(value) == 1 else {found for v in value for found in _of_value(v, known)}
        )
    if isinstance(value, dict):
        answers = [v for k, v in value.items() if _KEYWORDS.issuperset(words(plain(str(k))))]
        if not answers and len(value) == 1:  # {"animal": "dog"} answers, {"excluded": "dog"} does not
            answers = [
                v
                for k, v in value.items()
                if isinstance(v, str | dict | list) and not _says_no(words(rewritten(plain(str(k)))))
            ]
        return {found for v in answers for found in _of_value(v, known)}
    return {None}


def _says_no(key: Sequence[str]) -> bool:
    return negated(key) or not _NOT_ANSWERS.isdisjoint(key)


def _prose(text: str, known: Vocabulary) -> Parsed:
    text = _LATEX.sub(r"\1", text).replace("\\_", "_")
    text = _FINAL.sub(lambda m: f"\n\nfinal answer: {m[1] or m[2] or ''}\n\n", text)
    text = rewritten(_CJK_MARKER.sub("\n\nanswer : ", plain(text)))
    parts = sentences(text)
    for marked in (_marked(parts, known, final=True), _marked(parts, known, final=False)):
        if marked:
            return marked
    if refuses(text):
        return Parsed("refused", None, "refusal")
    answer = _said(parts, known, "sentence")
    if answer.label and _taken_back(answer.label, parts, known):
        return Parsed("unparseable", None, "open")
    return answer


def _said(parts: Sequence[Sentence], known: Vocabulary, how: str) -> Parsed:
    says: dict[str, set[str]] = {}
    for sentence in parts:
        for label, what in said(sentence, known):
            says.setdefault(label, set()).add(what)
    affirmed = [label for label, what in says.items() if "affirmed" in what]
    if len(affirmed) > 1:
        return Parsed("unparseable", None, "several")
    for label in affirmed:
        says[label].discard("general")  # what a class is like does not speak against it
    if any({"open", "general"} & what for what in says.values()) or any(len(says[label]) > 1 for label in affirmed):
        return Parsed("unparseable", None, "open")
    return Parsed("answered", affirmed[0], how) if affirmed else Parsed("unparseable", None, "none")


def _marked(parts: Sequence[Sentence], known: Vocabulary, final: bool) -> Parsed | None:
    """Read what stands after "answer:", "the class is" and the like; None where nothing does."""
    found: list[Parsed] = []
    last = 0
    for n, sentence in enumerate(parts):
        for after in _after_markers(sentence, final):
            segment = Sentence(sentence.tokens[after:], sentence.asks)
            if not segment.tokens and n + 1 < len(parts):
                segment = parts[n + 1]
            answer = _said([segment], known, "marker")
            if answer.how != "none":
                found.append(answer)
                last = n
    if not found:
        return None
    labels = {answer.label for answer in found}
    if len(labels) > 1 or None in labels:
        return Parsed("unparseable", None, "several" if len(labels) > 1 else found[0].how)
    corrected = False
    for sentence in parts[last + 1 :]:
        corrected = corrected or not _CORRECTIONS.isdisjoint(sentence.texts)
        if corrected and any(label not in labels for label, _ in said(sentence, known)):
            return Parsed("unparseable", None, "several")
    taken_back = any(label and _taken_back(label, parts[last:], known) for label in labels)
    return Parsed("unparseable", None, "open") if taken_back else found[0]


def _taken_back(label: str, parts: Sequence[Sentence], known: Vocabulary) -> bool:
    """Say whether a sentence takes back what was said before it, and none from there on affirms the class again."""
    back = False
    for before, sentence in pairwise(parts):
        back = back or _takes_back(sentence, before.asks)
        back = back and (label, "affirmed") not in said(sentence, known)
    return back


def _takes_back(sentence: Sentence, asked: bool) -> bool:
    """Say whether a sentence opens by taking back: "Wait", "Actually, no", "No, ..." where nothing was asked."""
    spoken = [text for text in sentence.texts if text not in ",:="]
    opening = spoken[:4]  # what is denied further on is something else: "actually, the picture shows no harmonics"
    if opening[0] in ("no", "nope") and sentence.texts[1:2] in ((), (",",)):
        return not asked
    if not _SECOND_THOUGHTS.isdisjoint(opening) or _CORRECTIONS.issuperset(spoken):
        return True
    return not _CORRECTIONS.isdisjoint(opening) and any(map(is_no, opening))


def _after_markers(sentence: Sentence, final: bool) -> list[int]:
    """Give the positions after each marker of a sentence that nothing before it denies."""
    texts, found = sentence.texts, []
    for i, word in enumerate(texts):
        before = texts[:i]
        if word not in _MARKERS or ("final" in before[-3:]) != final or sentence.asks:
            continue
        if negated(before) or not _NOT_ANSWERS.isdisjoint(before[-4:]):
            continue
        following = texts[i + 1 : i + 3]
        if following[:1] and following[0] in (":", "=", "is", "was"):
            found.append(i + 2 + (following[1:] == (":",)))
        elif following == ("would", "be") and word not in ("response", "assistant"):
            found.append(i + 3)
    return found
