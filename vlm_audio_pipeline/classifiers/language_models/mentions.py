"""What a text says of the classes it names: each mention is affirmed, excluded, left open, or spoken of in general.

What belongs here: sentences, negation, doubt. A mention is affirmed only where nothing in its sentence speaks against it; it
is excluded where one plain negation does ("not rain", "rather than rain"); it is general where the sentence tells what the
class is like ("rain typically shows ..."), which answers nothing; everything else is open, and an open mention is never an
answer. What does not: where in an answer to look (`parsing`).
"""

import re
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from typing import Literal

from vlm_audio_pipeline.classifiers.language_models.vocabulary import Vocabulary, words

Says = Literal["affirmed", "excluded", "open", "general"]

_CJK = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"

# ways of saying no that are several words, and ways of saying yes that contain a no
_REWRITTEN: tuple[tuple[str, str], ...] = (
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
_DANGLING = frozenset(words("while whereas although but because and or"))  # what they announce has not come
_FILLERS = frozenset(words("a an the any of by from and or sound sounds noise like that this it is to be in"))
# after a comma, these begin something a negation before does not reach: ", so ...", ", it is ..."
_CLAUSE = frozenset(words("it's that's i'd so therefore thus hence suggesting indicating implying"))
_ARTICLES = frozenset(words("a an the of"))
_SUBJECTS = frozenset(words("it this that"))
_VERBS = frozenset(words("is was sounds looks seems appears must could might matches resembles shows"))
_REASONS = frozenset(
    words("because since due given")
)  # a "no" in a reason says nothing against what it is a reason for
_OF_OTHERS = frozenset(words("without unlike lacks lacking"))  # after a class, these deny something else
_HEDGED = frozenset(words("clear sure certain only just merely"))


@dataclass(frozen=True)
class Token:
    """A word or one of , : = with whether it begins and ends a unit (`sea_waves` is one unit of two words)."""

    text: str
    begins: bool = True
    ends: bool = True


@dataclass(frozen=True)
class Sentence:
    """Tokens up to a full stop, and whether it asks."""

    tokens: tuple[Token, ...]
    asks: bool

    @property
    def texts(self) -> tuple[str, ...]:
        """The tokens' texts."""
        return tuple(t.text for t in self.tokens)

    @property
    def unfinished(self) -> bool:
        """Whether it breaks off after "while", "but" and the like, as answers do that are cut off."""
        rest = [text for text in self.texts if text not in _ARTICLES and text != ","]
        return bool(rest) and rest[-1] in _DANGLING


@dataclass(frozen=True)
class Mention:
    """A class named in tokens [start, end) of a sentence."""

    label: str
    start: int
    end: int


def rewritten(text: str) -> str:
    """Bring ways of saying no to the word "not", and take away a no that means yes; of a `plain` text."""
    for pattern, instead in _REWRITTEN:
        text = re.sub(pattern, instead, text)
    return text


def sentences(text: str) -> list[Sentence]:
    """Cut a rewritten text into sentences that have words; a single line break ends one only before an item or "x:"."""
    made, start = [], 0
    ends = [(end.start(), end.end(), end[0]) for end in _END.finditer(text)]
    for stop, following, mark in [*ends, (len(text), len(text), "")]:
        tokens = tuple(token for found in _TOKEN.findall(text[start:stop]) for token in _unit(found))
        if any(t.text not in ",:=" for t in tokens):
            made.append(Sentence(tokens, "?" in mark))
        start = following
    return made


def _unit(found: str) -> list[Token]:
    parts = [p for p in found.split("_") if p]
    return [Token(p, i == 0, i == len(parts) - 1) for i, p in enumerate(parts)]


def mentions(tokens: Sequence[Token], vocabulary: Vocabulary) -> list[Mention]:
    """Find the classes named, the longest phrase first; what is part of a unit is not found."""
    found, i = [], 0
    while i < len(tokens):
        for length in range(min(vocabulary.longest, len(tokens) - i), 0, -1):
            phrase = tuple(t.text.removesuffix("'s") for t in tokens[i : i + length])
            if phrase in vocabulary.phrases and tokens[i].begins and tokens[i + length - 1].ends:
                if (label := vocabulary.phrases[phrase]) is not None:
                    found.append(Mention(label, i, i + length))
                i += length
                break
        else:
            i += 1
    return found


def said(sentence: Sentence, vocabulary: Vocabulary) -> Iterator[tuple[str, Says]]:
    """Say of each class named in a sentence what it says."""
    found = mentions(sentence.tokens, vocabulary)
    texts = sentence.texts
    taken = {i for mention in found for i in range(mention.start, mention.end)}
    for n, mention in enumerate(found):
        begin = _clause_start(texts, mention.start)
        before = [texts[i] for i in range(begin, mention.start) if i not in taken]
        following = found[n + 1].start if n + 1 < len(found) else len(texts)
        after = list(texts[mention.end : _clause_end(texts, mention.end, following)])
        if following < len(texts):
            after = _without_the_next_ones_no(after)
        chosen = not _one_of_two(texts, mention, taken) and not sentence.unfinished
        says = _judge(before, after, sentence.asks) if chosen else "open"
        yield mention.label, "general" if says == "affirmed" and _in_general(before, after) else says


def _one_of_two(texts: Sequence[str], mention: Mention, taken: Set[int]) -> bool:
    """Say whether a mention stands beside "or" and something that is no class: "wind or rain" chooses nothing."""
    before, after = mention.start - 1, mention.end
    while before > 0 and texts[before] in _ARTICLES:
        before -= 1
    if before > 0 and texts[before] == "or" and before - 1 - (texts[before - 1] == ",") not in taken:
        return True
    beyond = after + 1
    while beyond < len(texts) and texts[beyond] in _ARTICLES:
        beyond += 1
    return after < len(texts) and texts[after] == "or" and beyond < len(texts) and beyond not in taken


def negated(before: Sequence[str]) -> bool:
    """Say whether words leave what follows them denied or in doubt, seen from the last clause."""
    rest = before[_clause_start(before, len(before)) :]
    return any(is_no(w) or w in _DOUBT - {"certain", "sure", "clear"} for w in rest)


def _judge(before: list[str], after: list[str], asks: bool) -> Says:
    noes = sum(map(is_no, before))
    denied = any(is_no(word) and word not in _OF_OTHERS for word in after)
    doubt = asks or denied or not _DOUBT_AFTER.isdisjoint(after)
    if doubt or noes > 1 or (noes and not _HEDGED.isdisjoint(before)):
        return "open"
    if noes:
        return "excluded"
    return "affirmed" if (_DOUBT - _HEDGED).isdisjoint(before) else "open"


def _in_general(before: list[str], after: list[str]) -> bool:
    """Say whether a class is what a general statement is about: "rain typically shows", not "typically, this is rain"."""
    if not after or not _BEFORE_A_SUBJECT.issuperset(before):
        return False
    following = next((word for word in after if word not in _FILLERS and word != "are"), "")
    return following in _GENERALLY or not _GENERALLY.isdisjoint(before)


def is_no(word: str) -> bool:
    """Say whether a word denies."""
    return word in _NO or word.endswith("n't") or bool(_CJK_NO.search(word))


def _clause_start(texts: Sequence[str], position: int) -> int:
    """Give where the reach of a negation before `position` begins: after "but", ", so", ", it is"."""
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


def _without_the_next_ones_no(after: list[str]) -> list[str]:
    """Drop a negation that belongs to the next mention: "rain, not (sea waves)" says nothing against rain."""
    for i in range(len(after) - 1, -1, -1):
        if is_no(after[i]):
            return after[:i]
        if after[i] not in _FILLERS and after[i] != ",":
            break
    return after
