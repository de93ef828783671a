"""Parse the text after markers of an answer ("Answer: dog", "the class is dog"), and find answers that are retracted."""

from collections.abc import Sequence
from itertools import pairwise

from vlm_audio_pipeline.classifiers.language_models.explicit_answers import class_at
from vlm_audio_pipeline.classifiers.language_models.mentions import (
    Sentence,
    class_statements,
    drop_concession,
    is_negation,
    negated_positions,
)
from vlm_audio_pipeline.classifiers.language_models.sentence_answers import ParsedResponse, parse_sentences
from vlm_audio_pipeline.classifiers.language_models.vocabulary import Vocabulary, words

_MARKER_WORDS = frozenset(
    words(
        "answer class label category prediction classification response assistant guess conclusion choice verdict output result"
    )
)
NON_ANSWER_WORDS = frozenset(words("example possible other another alternative second third next first previous user"))
"""Words before a marker that say that the text after it is not the answer."""
_CORRECTION_WORDS = frozenset(words("wait actually correction hmm scratch reconsider reconsidering"))
_RETRACTION_WORDS = frozenset(words("wait scratch reconsider reconsidering"))  # these retract without a "no"


def parse_markers(sentences: Sequence[Sentence], vocabulary: Vocabulary, final: bool) -> ParsedResponse | None:
    """Parse the text after "answer:", "the class is" and similar markers.

    Args:
        sentences: the sentences of a response.
        vocabulary: the names of the classes.
        final: True: only markers with "final" before them ("final answer:"); False: only markers without it.

    Returns:
        The answer, or why it is not clear (see `ParsedResponse.rule`); None if no text after a marker names or affirms a class.
    """
    answers: list[ParsedResponse] = []
    last = 0
    for n, sentence in enumerate(sentences):
        markers = _find_markers(sentence, final)
        ends = [start for start, _ in markers[1:]] + [len(sentence.tokens)]
        for (_, after), end in zip(
            markers, ends, strict=False
        ):  # up to the next marker: a model that loops writes many
            after_marker = Sentence(drop_concession(sentence.tokens[after:end], vocabulary), sentence.is_question)
            if not after_marker.tokens and n + 1 < len(sentences):
                after_marker = sentences[n + 1]
            answer = _parse_after_marker(after_marker, vocabulary)
            if answer.rule != "none":
                answers.append(answer)
                last = n
    if not answers:
        return None
    labels = {answer.label for answer in answers}
    if len(labels) > 1 or None in labels:
        return ParsedResponse("unparseable", None, "several" if len(labels) > 1 else answers[0].rule)
    is_corrected = False
    for sentence in sentences[last + 1 :]:
        is_corrected = is_corrected or not _CORRECTION_WORDS.isdisjoint(sentence.texts)
        if is_corrected and any(label not in labels for label, _ in class_statements(sentence, vocabulary)):
            return ParsedResponse("unparseable", None, "several")
    if any(label and is_retracted(label, sentences[last:], vocabulary) for label in labels):
        return ParsedResponse("unparseable", None, "open")
    return answers[0]


def _parse_after_marker(after_marker: Sentence, vocabulary: Vocabulary) -> ParsedResponse:
    """Parse the text after a marker.

    A class with an everyday name (a word, letter or number of `everyday_words`) must stand at the beginning of that text.
    """
    because_position = next(
        (i for i, text in enumerate(after_marker.texts) if text in ("because", "since")), len(after_marker.tokens)
    )
    answer = parse_sentences([after_marker], vocabulary, "marker")
    conclusion = parse_sentences(
        [Sentence(after_marker.tokens[:because_position], after_marker.is_question)], vocabulary, "marker"
    )
    if conclusion.rule == "none" and (
        label := vocabulary.match_whole(" ".join(after_marker.texts)) or class_at(after_marker.tokens, vocabulary)
    ):
        return ParsedResponse("answered", label, "marker")
    return answer


def is_retracted(label: str, sentences: Sequence[Sentence], vocabulary: Vocabulary) -> bool:
    """Return whether a sentence after the first retracts the label, and neither it nor a later one affirms the label again."""
    has_retraction = False
    for before, sentence in pairwise(sentences):
        has_retraction = has_retraction or _retracts(sentence, before.is_question)
        has_retraction = has_retraction and (label, "affirmed") not in class_statements(sentence, vocabulary)
    return has_retraction


def _retracts(sentence: Sentence, after_question: bool) -> bool:
    """Return whether a sentence begins with a retraction: "Wait", "Actually, no", or "No, ...", which after a question is its answer."""
    word_texts = [text for text in sentence.texts if text not in ",:="]
    opening = word_texts[:4]  # a later negation is about something else: "actually, the image shows no harmonics"
    if opening[0] in ("no", "nope") and sentence.texts[1:2] in ((), (",",)):
        return not after_question
    if not _RETRACTION_WORDS.isdisjoint(opening) or _CORRECTION_WORDS.issuperset(word_texts):
        return True
    return not _CORRECTION_WORDS.isdisjoint(opening) and any(map(is_negation, opening))


def _find_markers(sentence: Sentence, final: bool) -> list[tuple[int, int]]:
    """Return the token positions of each marker and of the text after it.

    Left out are markers in questions, negated markers, and markers after a word that says that no answer follows
    (`NON_ANSWER_WORDS`: "for example, answer: ...").
    """
    texts, positions = sentence.texts, []
    negated = negated_positions(texts)
    for i, word in enumerate(texts):
        if word not in _MARKER_WORDS or ("final" in texts[max(i - 3, 0) : i]) != final or sentence.is_question:
            continue
        if negated[i] or not NON_ANSWER_WORDS.isdisjoint(texts[max(i - 4, 0) : i]):
            continue
        following = texts[i + 1 : i + 3]
        if following[:1] and following[0] in (":", "=", "is", "was"):
            positions.append((i, i + 2 + (following[1:] == (":",))))
        elif following == ("would", "be") and word not in ("response", "assistant"):
            positions.append((i, i + 3))
    return positions
