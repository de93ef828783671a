"""Classify what a sentence states about each class it mentions: affirmed, excluded, open or general.

A mention is affirmed only if nothing in its sentence contradicts it. It is excluded if exactly one clear negation applies to it
("not rain", "rather than rain"). It is general if the sentence describes the class ("rain typically shows ..."), which is
not an answer. Every other mention is open, and an open mention is never an answer. `parsing` chooses the sentences.
"""

import re
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from typing import Literal

from vlm_audio_pipeline.classifiers.language_models.vocabulary import Vocabulary, words

Statement = Literal["affirmed", "excluded", "open", "general"]

_CJK = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"

_EXPLICIT_ANSWER = (
    r"\b(?:answer|class|label|category|prediction|classification|conclusion|choice|verdict)\b[^\n.;()（）]{1,80}"
)
_CONCESSIONS = (
    r"(?:al|even )?though|while|despite|albeit|notwithstanding|in spite of|considered|considering|(?:second|third|close|next) "
    r"(?:choice|guess|option|best|second)|runner-up|alternatives?|candidates?|less (?:likely|probable)|possible|excluded|"
    r"ruled out|rejected|versus|vs|initially|at first|obwohl|obgleich|bien que|aunque|hoewel|embora|sebbene|хотя"
)
# Negations of several words, and affirmations that contain a negation.
_REWRITES: tuple[tuple[str, str], ...] = (
    (r"\b(?:there(?:'s| is) )?no (?:doubt|question)\b|\bwithout (?:a |any )?doubt\b|\bnone other than\b", " "),
    (r"\b(?:nothing but|(?:can't|cannot|can not) help but)\b", " "),
    (r"\b(?:rather than|instead of|as opposed to|in contrast (?:to|with))\b", " unlike "),
    (r"\bwith no\b", " without "),
    (r"(?<!\w)(?:[❌✗✘✖❎🚫⛔👎☐🙅]\ufe0f?|\[ ?\](?!\())", " not "),
    (r"(?<=\w)[❌✗✘✖❎🚫⛔👎☐🙅]", " not "),
    (r"\s*[:=]\s*0(?:\.0{1,4})?\s?%", " is not "),  # dog: 0 %
    (r"\b(\w+(?:[- ]\w+)?)-free\b", r" not \1 "),  # rain-free
    (r"\(\s*(?:(?:al|even )?though|while|despite)\b[^()]*\)", " "),  # a concession
    (
        rf"({_EXPLICIT_ANSWER})[(（](?=[^()（）]*(?:\b(?:{_CONCESSIONS})\b|虽然|雖然|尽管|儘管))"
        r"(?![^()（）]*\b(?:more (?:likely|probable)|actually|better|correct(?:ed)?|revised?)\b)[^()（）]*[)）]",
        r"\1 ",
    ),
    (
        r"\b(?:(?:any|every)thing but|all but|far from|ruled? out|rules out|ruling out|is out(?! of)|is missing|hors de question|"
        r"out of (?:the question|place)|nowhere|unable to (?:confirm|detect|hear|identify|find)|(?:free|devoid) (?:of|from)|"
        r"(?:zero|little|minimal) (?:evidence|signs?|traces?|indications?|hints?) (?:of|for)|incompatible with|nu (?:este|e|sunt)|"
        r"ei (?:ole|ollut)|hindi ito)\b",
        " not ",
    ),
    (r"नहीं|नही|ไม่(?:ใช่|มี)?", " not "),  # signs of these words are no letters in Unicode
    (r"\b(?:let's say|lets say|let us say|hypothetical(?:ly)?|pretend(?:ing)?|in case|what if)\b", " suppose "),
    (r"\btoo (?:[\w-]+,? ){1,6}?(?:for|to (?:be|have|come|match|fit))\b", " not "),  # too regular to be rain
    (r"\b(?:lack|absence) of\b|≠|!=|¬|(?<!\S)!(?=\w)", " not "),
    (rf"(?<=[{_CJK}])(?=[a-z0-9])|(?<=[a-z0-9])(?=[{_CJK}])", " "),  # 这是dog -> 这是 dog
    (r"而是|但是|但", " but "),
    (r"\bin spite of\b|\bbien que\b", " despite "),
    (r"\s[-–]\s|[—–、]", ", "),
)
_SENTENCE_END = re.compile(
    r"\n\s*\n|\n(?=\s*(?:[-*•>#|]|\d+[.)]|\w+(?: \w+)?\s*:))|[!?;。](?=\W|$|[^\W\d])|\.(?!\d|\w)"
)
_TOKEN = re.compile(r"\w+(?:'\w+)*|[,:=]")

_NEGATION_WORDS = frozenset(
    words(
        "not no never neither nor non none nothing cannot cant dont doesnt isnt wasnt without unlike unlikely hardly barely "
        "except excluding excludes excluded exclude fail fails failed failing lacks lacking absent absence nope wrong incorrect false inconsistent mismatch mismatched "
        "dissimilar contrary opposite improbable implausible doubtful doubt contradict contradicts "
        "least reject rejects rejected eliminate eliminates eliminated ruled "
        "dismiss dismisses dismissed discard discards discarded "
        "nobody refuse refuses refused aint discounted dispute disputed disproved disproves "
        "nicht kein keine keinen keiner keines keinem ohne nie niemals ausgeschlossen geen niet nooit zonder uitgesloten "
        "ingen inget intet inte ikke ikkje utan uten uden aldri aldrig "
        "pas aucun aucune sans jamais ni sin ningún ninguna ninguno nunca jamás tampoco não nao sem nenhum nenhuma "
        "nessun nessuno nessuna senza nici fără "
        "brak bez nije ne není nem nincs δεν όχι ούτε χωρίς не нет без ні немає "
        "bukan tidak tanpa değil yok không chẳng ليس ليست بدون غير لا לא אין בלי "
    )
)
_MIN_PART_LENGTH = 3  # letters of each part of a word that was split
_CJK_NEGATION = re.compile(r"[不没沒非无無未]|ない|ません|아니|아닙|않|없")
_DOUBT_WORDS = frozenset(
    words(
        "suppose supposing assume assuming imagine if whether unless example than compared versus vs different differs differ distinguish between only just merely "
        "clear sure certain possible similar runner mistake mistaken confuse confused"
    )
)
_DOUBT_WORDS_AFTER = frozenset(words("if unless would mistaken confused"))
_GENERALITY_WORDS = frozenset(words("typically usually generally normally often commonly tend tends"))
_WORDS_BEFORE_SUBJECT = frozenset({*words("a an the of sound sounds noise"), ",", *_GENERALITY_WORDS})
# A sentence that ends with such a word is incomplete.
_INCOMPLETE_ENDINGS = frozenset(words("while whereas although but because and or"))
_FILLER_WORDS = frozenset(words("a an the any of by from and or sound sounds noise like that this it is to be in"))
# After a comma these begin a clause to which an earlier negation does not apply: ", so ...", ", it is ..."
_CLAUSE_OPENINGS = frozenset(words("it's that's i'd so therefore thus hence suggesting indicating implying"))
_ARTICLES = frozenset(words("a an the of"))
_SUBJECTS = frozenset(words("it this that there"))
_VERBS = frozenset(words("is was sounds looks seems appears must could might matches resembles shows"))
_CONCESSION_WORDS = frozenset(
    words("although though albeit despite notwithstanding regardless obwohl obgleich aunque hoewel embora sebbene хотя")
)
_REVISION_WORDS = frozenset(words("actually rather more better instead correct corrected revised"))
_REASON_WORDS = frozenset(words("because since due given"))  # a negation in a reason does not negate its conclusion
# After a class, these negate something else.
_NEGATIONS_OF_OTHER_WORDS = frozenset(words("without unlike lacks lacking"))
_CERTAINTY_WORDS = frozenset(words("clear sure certain"))
_HEDGE_WORDS = _CERTAINTY_WORDS | {"only", "just", "merely"}
_CLEAR_DOUBT_WORDS = _DOUBT_WORDS - _HEDGE_WORDS


@dataclass(frozen=True)
class Token:
    """A word or one of , : = and whether it begins and ends a unit (`sea_waves` is one unit of two words)."""

    text: str
    begins_unit: bool = True
    ends_unit: bool = True


@dataclass(frozen=True)
class Sentence:
    """Tokens up to a full stop, and whether the sentence is a question."""

    tokens: tuple[Token, ...]
    is_question: bool

    @property
    def texts(self) -> tuple[str, ...]:
        """The tokens' texts."""
        return tuple(t.text for t in self.tokens)

    @property
    def is_unfinished(self) -> bool:
        """Whether it ends with "while", "but" and similar words, as in a response that is cut off."""
        last_words = [text for text in self.texts if text not in _ARTICLES and text != ","]
        return bool(last_words) and last_words[-1] in _INCOMPLETE_ENDINGS


@dataclass(frozen=True)
class Mention:
    """A class named in tokens [start, end) of a sentence."""

    label: str
    start: int
    end: int


def rewrite_negations(text: str) -> str:
    """Replace negations of several words in a normalised text with one word, and remove negations that mean yes."""
    for pattern, replacement in _REWRITES:
        text = re.sub(pattern, replacement, text)
    return text


def split_sentences(text: str) -> list[Sentence]:
    """Split a text (after `rewrite_negations`) into sentences that contain words.

    A single line break ends a sentence only before a list item or "x:".
    """
    result, start = [], 0
    ends = [(end.start(), end.end(), end[0]) for end in _SENTENCE_END.finditer(text)]
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
            if phrase in vocabulary.phrases and tokens[i].begins_unit and tokens[i + length - 1].ends_unit:
                if (label := vocabulary.phrases[phrase]) is not None:
                    mentions.append(Mention(label, i, i + length))
                i += length
                break
        else:
            if label := _label_of_split_word(tokens[i : i + 2], vocabulary):
                mentions.append(Mention(label, i, i + 2))
                i += 1
            i += 1
    return mentions


def _label_of_split_word(tokens: Sequence[Token], vocabulary: Vocabulary) -> str | None:
    """Return the class whose name of one word was written as these two: "jack hammer"."""
    if len(tokens) < 2 or min(len(t.text) for t in tokens) < _MIN_PART_LENGTH:
        return None
    return vocabulary.phrases.get(("".join(t.text for t in tokens),))


def drop_concession(tokens: tuple[Token, ...], vocabulary: Vocabulary) -> tuple[Token, ...]:
    """Drop a remark about other classes after the first class: "rooster, although rain was considered"."""
    mentions = find_mentions(tokens, vocabulary)
    for i in range(mentions[0].end if mentions else len(tokens), len(tokens)):
        word, following = tokens[i].text, tokens[i + 1].text if i + 1 < len(tokens) else ""
        if word in _CONCESSION_WORDS or (word in ("having", "after") and following in ("considered", "considering")):
            is_revised = any(token.text in _REVISION_WORDS for token in tokens[i:])
            return tokens if is_revised else tokens[:i]
    return tokens


def class_statements(sentence: Sentence, vocabulary: Vocabulary) -> Iterator[tuple[str, Statement]]:
    """Yield each class that a sentence mentions, with the statement about it."""
    mentions = find_mentions(sentence.tokens, vocabulary)
    texts = sentence.texts
    class_positions = {i for mention in mentions for i in range(mention.start, mention.end)}
    is_unfinished = sentence.is_unfinished
    before, position = _WordsBefore(), 0
    for n, mention in enumerate(mentions):
        for i in range(position, mention.start):
            if _ends_a_clause(texts, i):
                before = _WordsBefore()
            elif i not in class_positions:
                before.add(texts[i])
        position = mention.start
        following = mentions[n + 1].start if n + 1 < len(mentions) else len(texts)
        after = list(texts[mention.end : _clause_end(texts, mention.end, following)])
        if following < len(texts):
            after = _drop_next_negation(after)
        is_single = not _is_alternative(texts, mention, class_positions) and not is_unfinished
        statement = _classify(before, after, sentence.is_question) if is_single else "open"
        yield mention.label, "general" if statement == "affirmed" and _is_general(before, after) else statement


def _is_alternative(texts: Sequence[str], mention: Mention, class_positions: Set[int]) -> bool:
    """Return whether a mention is beside "or" and a word that is not a class: "wind or rain" is no answer."""
    before, after = mention.start - 1, mention.end
    while before > 0 and texts[before] in _ARTICLES:
        before -= 1
    if before > 0 and texts[before] == "or" and before - 1 - (texts[before - 1] == ",") not in class_positions:
        return True
    beyond = after + 1
    while beyond < len(texts) and texts[beyond] in _ARTICLES:
        beyond += 1
    return after < len(texts) and texts[after] == "or" and beyond < len(texts) and beyond not in class_positions


def is_negated(before: Sequence[str]) -> bool:
    """Return whether the last clause of these words negates or doubts what follows."""
    return negated_positions((*before, ""))[-1]


def negated_positions(texts: Sequence[str]) -> list[bool]:
    """Return for each position whether `is_negated` is true of the words before it."""
    result, negated = [], False
    for i, word in enumerate(texts):
        result.append(negated)
        negated = not _ends_a_clause(texts, i) and (negated or _negates(word))
    return result


def _negates(word: str) -> bool:
    return is_negation(word) or word in _DOUBT_WORDS - _CERTAINTY_WORDS


@dataclass
class _WordsBefore:
    """What the words between the start of a clause and a mention contain, counted once for all mentions of a sentence."""

    negations: int = 0
    has_hedge: bool = False
    has_doubt: bool = False
    has_generality: bool = False
    has_other_words: bool = False

    def add(self, word: str) -> None:
        self.negations += is_negation(word)
        self.has_hedge |= word in _HEDGE_WORDS
        self.has_doubt |= word in _CLEAR_DOUBT_WORDS
        self.has_generality |= word in _GENERALITY_WORDS
        self.has_other_words |= word not in _WORDS_BEFORE_SUBJECT


def _classify(before: _WordsBefore, after: list[str], is_question: bool) -> Statement:
    is_negated_after = any(is_negation(word) and word not in _NEGATIONS_OF_OTHER_WORDS for word in after)
    is_doubtful = is_question or is_negated_after or not _DOUBT_WORDS_AFTER.isdisjoint(after)
    if is_doubtful or before.negations > 1 or (before.negations and before.has_hedge):
        return "open"
    if before.negations:
        return "excluded"
    return "open" if before.has_doubt else "affirmed"


def _is_general(before: _WordsBefore, after: list[str]) -> bool:
    """Return whether a class is the subject of a general statement ("rain typically shows", not "typically, this is rain")."""
    if not after or before.has_other_words:
        return False
    following = next((word for word in after if word not in _FILLER_WORDS and word != "are"), "")
    return following in _GENERALITY_WORDS or before.has_generality


def is_negation(word: str) -> bool:
    """Return whether a word is a negation."""
    return word in _NEGATION_WORDS or word.endswith("n't") or bool(_CJK_NEGATION.search(word))


def _clause_end(texts: Sequence[str], start: int, stop: int) -> int:
    return next((i for i in range(start, stop) if _ends_a_clause(texts, i) or texts[i] in _REASON_WORDS), stop)


def _ends_a_clause(texts: Sequence[str], i: int) -> bool:
    """Return whether a clause ends at a position: at "but", and at the comma of ", so" and ", it is"."""
    if texts[i] in ("but", "instead"):
        return True
    if texts[i] not in (",", "however"):
        return False
    first, second, third = (*texts[i + 1 : i + 4], "", "", "")[:3]
    # ", it seems," does not end a clause.
    return first in _CLAUSE_OPENINGS or (first in _SUBJECTS and second in _VERBS and third != ",")


def _drop_next_negation(after: list[str]) -> list[str]:
    """Drop a negation that belongs to the next mention: "rain, not (sea waves)" does not negate rain."""
    for i in range(len(after) - 1, -1, -1):
        if is_negation(after[i]):
            return after[:i]
        if after[i] not in _FILLER_WORDS and after[i] != ",":
            break
    return after
