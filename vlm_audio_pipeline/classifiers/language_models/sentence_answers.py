"""Find the class that sentences affirm."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from vlm_audio_pipeline.classifiers.language_models.mentions import Sentence, class_statements
from vlm_audio_pipeline.classifiers.language_models.vocabulary import Vocabulary


@dataclass(frozen=True)
class ParsedResponse:
    """The outcome of parsing a response.

    Attributes:
        outcome: answered, unparseable or refused.
        label: the class, if answered.
        rule: the rule that decided (whole, json, marker, sentence), or why none did: empty, too long, none (no class is named
            or affirmed), several, open (denied, doubted, in a question, cut off or retracted ambiguously), refusal.
    """

    outcome: Literal["answered", "unparseable", "refused"]
    label: str | None
    rule: str


def parse_sentences(sentences: Sequence[Sentence], vocabulary: Vocabulary, rule: str) -> ParsedResponse:
    """Return the one class that sentences affirm, or why there is none; `rule` names the rule in the result."""
    statements: dict[str, set[str]] = {}
    for sentence in sentences:
        for label, statement in class_statements(sentence, vocabulary):
            statements.setdefault(label, set()).add(statement)
    affirmed = [label for label, kinds in statements.items() if "affirmed" in kinds]
    if len(affirmed) > 1:
        return ParsedResponse("unparseable", None, "several")
    for label in affirmed:
        statements[label].discard("general")  # a general statement about a class does not contradict it
    if any({"open", "general"} & kinds for kinds in statements.values()) or any(
        len(statements[label]) > 1 for label in affirmed
    ):
        return ParsedResponse("unparseable", None, "open")
    return ParsedResponse("answered", affirmed[0], rule) if affirmed else ParsedResponse("unparseable", None, "none")
