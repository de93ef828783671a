"""Classify what a sentence states about each class it mentions: affirmed, excluded, open or general.

A mention is affirmed only if nothing in its sentence contradicts it. It is excluded if exactly one clear negation does ("not
rain", "rather than rain"). It is general if the sentence describes the class ("rain typically shows ..."), which answers
nothing. Every other mention is open, and an open mention is never an answer. Where in a response to look is in `parsing`.
"""

import re
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from typing import Literal

from vlm_audio_pipeline.classifiers.language_models.vocabulary import Vocabulary, words

Statement = Literal["affirmed", "excluded", "open", "general"]

_CJK = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"

# Negations of several words, and affirmations that contain a negation.
_REWRITES: tuple[tuple[str, str], ...] = (
    (r"\b(?:there(?:'s| is) )?no (?:doubt|question)\b|\bwithout (?:a |any )?doubt\b|\bnone other than\b", " "),
    (r"\b(?:nothing but|(?:can't|cannot|can not) help but)\b", " "),
    (r"\b(?:rather than|instead of|as opposed to|in contrast (?:to|with))\b", " unlike "),
    (r"\bwith no\b", " without "),
    (r"\b(?:anything but|far from|ruled? out|rules out|ruling out|out of (?:the question|place))\b", " not "),
    (r"\btoo (?:[\w-]+,? ){1,6}?(?:for|to (?:be|have|come|match|fit))\b", " not "),  # too regular to be rain
    (r"\b(?:lack|absence|free) of\b|≠|!=|¬|(?<!\S)!(?=\w)", " not "),
    (rf"(?<=[{_CJK}])(?=[a-z0-9])|(?<=[a-z0-9])(?=[{_CJK}])", " "),  # 这是dog -> 这是 dog
    (r"而是|但是|但", " but "),
    (r"\s[-–]\s|[—–、]", ", "),
)
_END = re.compile(r"\n\s*\n|\n(?=\s*(?:[-*•>#|]|\d+[.)]|\w+(?: \w+)?\s*:))|[!?;。](?=\W|$|[^\W\d])|\.(?!\d|\w)")
_TOKEN = re.compile(r"\w+(?:'\w+)*|[,:=]")

_NO = frozenset(
    words(
        "not no never neither nor non none nothing cannot cant dont doesnt isnt wasnt without unlike unlikely hardly barely "
        "except excluding excludes excluded exclude fail fails failed failing lacks lacking absent absence nope wrong incorrect false inconsistent mismatch mismatched "
        "dissimilar contrary opposite improbable implausible doubtful doubt contradict contradicts "
        "least reject rejects rejected eliminate eliminates eliminated ruled "
        "dismiss dismisses dismissed discard discards discarded "
        "nicht kein keine keinen "
        "pas ni sin ningún não nao не нет"
    )
)
_CJK_NO = re.compile(r"[不没沒非无無未]|ない|ません|아니|않")
_DOUBT = frozenset(
    words(
        "if whether unless example than compared versus vs different differs differ distinguish between only just merely "
        "clear sure certain possible similar runner mistake mistaken confuse confused"
    )
)
_DOUBT_AFTER = frozenset(words("if unless would mistaken confused"))
_GENERALLY = frozenset(words("typically usually generally normally often commonly tend tends"))
_BEFORE_A_SUBJECT = frozenset({*words("a an the of sound sounds noise"), ",", *_GENERALLY})
_DANGLING = frozenset(words("while whereas although but because and or"))  # a sentence that ends with one is incomplete
_FILLERS = frozenset(words("a an the any of by from and or sound sounds noise like that this it is to be in"))
# After a comma these begin a clause that an earlier negation does not reach: ", so ...", ", it is ..."
_CLAUSE = frozenset(words("it's that's i'd so therefore thus hence suggesting indicating implying"))
_ARTICLES = frozenset(words("a an the of"))
_SUBJECTS = frozenset(words("it this that"))
_VERBS = frozenset(words("is was sounds looks seems appears must could might matches resembles shows"))
_REASONS = frozenset(words("because since due given"))  # a negation in a reason does not negate its conclusion
_OF_OTHERS = frozenset(words("without unlike lacks lacking"))  # after a class, these negate something else
_HEDGED = frozenset(words("clear sure certain only just merely"))


@dataclass(frozen=True)
class Token:
    """A word or one of , : = and whether it begins and ends a unit (`sea_waves` is one unit of two words)."""

    text: str
    begins: bool = True
    ends: bool = True


@dataclass(frozen=True)
class Sentence:
    """Tokens up to a full stop, and whether the sentence is a question."""

    tokens: tuple[Token, ...]
    asks: bool

    @property
    def texts(self) -> tuple[str, ...]:
        """The tokens' texts."""
        return tuple(t.text for t in self.tokens)

    @property
    def unfinished(self) -> bool:
        """Whether it ends with "while", "but" and similar words, as in a response that is cut off."""
        rest = [text for text in self.texts if text not in _ARTICLES and text != ","]
        return bool(rest) and rest[-1] in _DANGLING


@dataclass(frozen=True)
class Mention:
    """A class named in tokens [start, end) of a sentence."""

    label: str
    start: int
    end: int


def rewrite_negations(text: str) -> str:
    """Replace negations of a normalised text by "not", and remove negations that mean yes."""
    for pattern, replacement in _REWRITES:
        text = re.sub(pattern, replacement, text)
    return text


def split_sentences(text: str) -> list[Sentence]:
    """Split a rewritten text into sentences with words; a single line break ends one only before an item or "x:"."""
    result, start = [], 0
    ends = [(end.start(), end.end(), end[0]) for end in _END.finditer(text)]
    for stop, following, mark in [*ends, (len(text), len(text), "")]:
        tokens = tuple(token for match in _TOKEN.findall(text[start:stop]) for token in _tokens_of_unit(match))
        if any(t.text not in ",:=" for t in tokens):
            result.append(Sentence(tokens, "?" in mark))
        start = following
    return result


def _tokens_of_unit(unit: str) -> list[Token]:
    texts = [text for text in unit.split("_") if text]
    return [Token(text, i == 0, i == len(texts) - 1) for i, text in enumerate(texts)]


def find_mentions(tokens: Sequence[Token], vocabulary: Vocabulary) -> list[Mention]:
    """Find the mentioned classes, longest phrase first; a part of a unit is not a mention."""
    mentions, i = [], 0
    while i < len(tokens):
        for length in range(min(vocabulary.max_words, len(tokens) - i), 0, -1):
            phrase = tuple(t.text.removesuffix("'s") for t in tokens[i : i + length])
            if phrase in vocabulary.phrases and tokens[i].begins and tokens[i + length - 1].ends:
                if (label := vocabulary.phrases[phrase]) is not None:
                    mentions.append(Mention(label, i, i + length))
                i += length
                break
        else:
            i += 1
    return mentions


def class_statements(sentence: Sentence, vocabulary: Vocabulary) -> Iterator[tuple[str, Statement]]:
    """Yield each class that a sentence mentions, with the statement about it."""
    mentions = find_mentions(sentence.tokens, vocabulary)
    texts = sentence.texts
    taken = {i for mention in mentions for i in range(mention.start, mention.end)}
    for n, mention in enumerate(mentions):
        begin = _clause_start(texts, mention.start)
        before = [texts[i] for i in range(begin, mention.start) if i not in taken]
        following = mentions[n + 1].start if n + 1 < len(mentions) else len(texts)
        after = list(texts[mention.end : _clause_end(texts, mention.end, following)])
        if following < len(texts):
            after = _without_next_negation(after)
        is_single = not _is_alternative(texts, mention, taken) and not sentence.unfinished
        statement = _classify(before, after, sentence.asks) if is_single else "open"
        yield mention.label, "general" if statement == "affirmed" and _is_general(before, after) else statement


def _is_alternative(texts: Sequence[str], mention: Mention, taken: Set[int]) -> bool:
    """Return whether a mention is beside "or" and a word that is not a class: "wind or rain" chooses nothing."""
    before, after = mention.start - 1, mention.end
    while before > 0 and texts[before] in _ARTICLES:
        before -= 1
    if before > 0 and texts[before] == "or" and before - 1 - (texts[before - 1] == ",") not in taken:
        return True
    beyond = after + 1
    while beyond < len(texts) and texts[beyond] in _ARTICLES:
        beyond += 1
    return after < len(texts) and texts[after] == "or" and beyond < len(texts) and beyond not in taken


def is_negated(before: Sequence[str]) -> bool:
    """Return whether the last clause of these words negates or doubts what follows."""
    rest = before[_clause_start(before, len(before)) :]
    return any(is_negation(w) or w in _DOUBT - {"certain", "sure", "clear"} for w in rest)


def _classify(before: list[str], after: list[str], asks: bool) -> Statement:
    negations = sum(map(is_negation, before))
    is_negated_after = any(is_negation(word) and word not in _OF_OTHERS for word in after)
    is_doubtful = asks or is_negated_after or not _DOUBT_AFTER.isdisjoint(after)
    if is_doubtful or negations > 1 or (negations and not _HEDGED.isdisjoint(before)):
        return "open"
    if negations:
        return "excluded"
    return "affirmed" if (_DOUBT - _HEDGED).isdisjoint(before) else "open"


def _is_general(before: list[str], after: list[str]) -> bool:
    """Return whether a class is the subject of a general statement ("rain typically shows", not "typically, this is rain")."""
    if not after or not _BEFORE_A_SUBJECT.issuperset(before):
        return False
    following = next((word for word in after if word not in _FILLERS and word != "are"), "")
    return following in _GENERALLY or not _GENERALLY.isdisjoint(before)


def is_negation(word: str) -> bool:
    """Return whether a word is a negation."""
    return word in _NO or word.endswith("n't") or bool(_CJK_NO.search(word))


def _clause_start(texts: Sequence[str], position: int) -> int:
    """Return where the clause of `position` begins: after "but", ", so", ", it is"."""
    for i in range(position - 1, -1, -1):
        if _ends_a_clause(texts, i):
            return i + 1
    return 0


def _clause_end(texts: Sequence[str], start: int, stop: int) -> int:
    return next((i for i in range(start, stop) if _ends_a_clause(texts, i) or texts[i] in _REASONS), stop)


def _ends_a_clause(texts: Sequence[str], i: int) -> bool:
    if texts[i] in ("but", "instead"):
        return True
    if texts[i] not in (",", "however"):
        return False
    first, second, third = (*texts[i + 1 : i + 4], "", "", "")[:3]
    return first in _CLAUSE or (first in _SUBJECTS and second in _VERBS and third != ",")  # but not ", it seems,"


def _without_next_negation(after: list[str]) -> list[str]:
    """Drop a negation that belongs to the next mention: "rain, not (sea waves)" does not negate rain."""
    for i in range(len(after) - 1, -1, -1):
        if is_negation(after[i]):
            return after[:i]
        if after[i] not in _FILLERS and after[i] != ",":
            break
    return after
