"""What the classes may be called in an answer: names, synonyms, and their plain variants.

What belongs here: words and phrases, and which class each means. What does not: what a sentence says of them (`mentions`).
"""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from vlm_audio_pipeline.contracts.errors import VlmAudioError, suggestion
from vlm_audio_pipeline.datasets.esc_classes import class_name

Phrase = tuple[str, ...]
"""Words, as `words` gives them."""

_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")
_AROUND = "\"'`“”‘’«»‹›„「」『』【】()[]*_.,:;!?¡¿。、 \n\t"
_ARTICLES = {"a", "an", "the"}
_SOUND = {"sound", "sounds", "noise", "noises"}


def plain(text: str) -> str:
    """Bring a text to one way of writing: compatibility forms unified (ｄｏｇ -> dog), lower case, straight apostrophes.

    >>> plain("ＤＯＧ isn’t")
    "dog isn't"
    """
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return re.sub(r"[’‘ʼ`´]", "'", text)


def words(text: str) -> Phrase:
    """Cut a plain text into words; underscores, hyphens and punctuation part them.

    >>> words("sea-waves, clock_tick")
    ('sea', 'waves', 'clock', 'tick')
    """
    return tuple(_WORD.findall(text))


# words that say nothing by themselves: a class of such a name is only recognised where it is the whole answer
_FUNCTION_WORDS = frozenset(
    words(
        "a an the i it is on off no yes not up down in out go left right one two other others none unknown background "
        "class label answer sound sounds noise noises audio spectrogram image picture normal true false"
    )
)

# what contains a synonym and means none of the classes
_NOT_MEANT: tuple[Phrase, ...] = (
    *((kind, wave) for kind in words("sound audio acoustic sine square radio shock") for wave in ("wave", "waves")),
    *((wave, "of") for wave in ("wave", "waves")),
    *(("fire", thing) for thing in words("alarm alarms truck engine")),
    *(("hot", "dog"), ("hot", "dogs"), ("dog", "whistle"), ("rapid", "fire")),
    *(("rain", "forest"), ("rain", "stick"), ("baby", "monitor")),
    # words of those who describe a spectrogram: a pulse train, the time-frequency plane, tick marks, the bark scale
    *((train, "of") for train in ("train", "trains")),
    *((kind, train) for kind in words("pulse click impulse burst spike wave") for train in ("train", "trains")),
    *((kind, "plane") for kind in words("frequency time image spectrogram complex")),
    *((tick, thing) for tick in ("tick", "ticks") for thing in words("mark marks label labels")),
    *(("axis", "tick"), ("axis", "ticks"), ("ticks", "on", "the", "axis"), ("ticks", "on", "the", "axes")),
    *((kind, step) for kind in words("in time frequency first next last") for step in ("step", "steps")),
    *(("step", "by", "step"), ("steps", "of"), ("steps", "from")),
    *((crackle, "of") for crackle in words("crackle crackles crackling")),
    *(("bark", thing) for thing in words("scale scales band bands")),
)


@dataclass(frozen=True)
class Vocabulary:
    """Which class a word or phrase means.

    Attributes:
        names: class names as they are written.
        phrases: words -> class, or None for what contains a synonym and means no class. A phrase that could mean two
            classes is None too: it is never guessed.
        alone: the same for what counts only as the whole answer.
        longest: words of the longest phrase.
    """

    names: tuple[str, ...]
    phrases: Mapping[Phrase, str | None]
    alone: Mapping[Phrase, str | None]
    longest: int

    def whole(self, text: str) -> str | None:
        """Give the class that a text is the name of, whatever quotes, punctuation, case and article it comes with."""
        bare = text.strip().strip(_AROUND).strip()
        for written in (text, text.strip(), bare):
            if written in self.names:
                return written
            alike = [name for name in self.names if plain(name) == plain(written)]
            if len(alike) == 1:
                return alike[0]
        said = words(plain(text))
        for phrase in (said, said[1:] if said[:1] and said[0] in _ARTICLES else said):
            if found := self._means(phrase) or (
                self._means(phrase[:-1]) if phrase[-1:] and phrase[-1] in _SOUND else None
            ):
                return found
        return None

    def _means(self, phrase: Phrase) -> str | None:
        return self.alone.get(phrase) or self.phrases.get(phrase)


def vocabulary(classes: Sequence[str], synonyms: Mapping[str, Sequence[str]] | None = None) -> Vocabulary:
    """Gather what the classes may be called.

    A class is called by its name, by what a person says (`sea waves`), by the synonyms of ESC-50's classes, by the study's
    own, by all of these in singular and plural, and with its words joined (`seawaves`). A name goes before a synonym, the
    study's own before those of ESC-50, a synonym before a variant.

    Args:
        classes: the labels of the study.
        synonyms: the study's own: class -> words and phrases.

    Raises:
        VlmAudioError: for synonyms of a class there is not, and one that the study gives to two classes.
    """
    own = synonyms or {}
    return _vocabulary(tuple(classes), tuple((name, tuple(own[name])) for name in sorted(own)))


@lru_cache(maxsize=32)
def _vocabulary(classes: tuple[str, ...], synonyms: tuple[tuple[str, tuple[str, ...]], ...]) -> Vocabulary:
    own: dict[Phrase, set[str]] = {}
    for name, given in synonyms:
        if name not in classes:
            raise VlmAudioError(f"synonyms must be of a class, got '{name}'; {suggestion(name, classes)}")
        for phrase in given:
            own.setdefault(words(plain(phrase)), set()).add(name)
    if twice := {" ".join(phrase): sorted(names) for phrase, names in own.items() if len(names) > 1}:
        raise VlmAudioError(f"a synonym must mean one class, got {twice}; give each to one class alone")
    named: dict[Phrase, set[str]] = {}
    known: dict[Phrase, set[str]] = {}
    for name in classes:
        called = class_name(name)
        for written in (name, called.human):
            named.setdefault(words(plain(written)), set()).add(name)
        for written in called.synonyms:
            known.setdefault(words(plain(written)), set()).add(name)
    varied: dict[Phrase, set[str]] = {}
    for table in (named, own, known):
        for said_so, names in table.items():
            for variant in _variants(said_so):
                varied.setdefault(variant, set()).update(names)
    meant: dict[Phrase, str | None] = {}
    for table in (varied, known, own, named):  # the later go before the earlier
        meant |= {p: next(iter(names)) if len(names) == 1 else None for p, names in table.items() if p}
    alone: dict[Phrase, str | None] = {
        p: name for p, name in meant.items() if len(p) == 1 and (p[0] in _FUNCTION_WORDS or len(p[0]) == 1)
    }
    phrases = dict.fromkeys(_NOT_MEANT) | {p: name for p, name in meant.items() if p not in alone}
    return Vocabulary(classes, phrases, alone, max(map(len, phrases)))


def _variants(phrase: Phrase) -> set[Phrase]:
    """Give singular and plural of the last word, and the words joined.

    >>> sorted(_variants(("clock", "tick")))
    [('clock', 'tickes'), ('clock', 'ticks'), ('clocktick',)]
    """
    if not phrase:
        return set()
    *first, last = phrase
    forms = {last + "s", last + "es"}
    if last.endswith("s") and len(last) > 3 and not last.endswith("ss"):
        forms = {last[:-1]}
    elif last.endswith("y"):
        forms = {last[:-1] + "ies", last + "s"}
    made: set[Phrase] = {(*first, form) for form in forms}
    if first:
        made |= {("".join(phrase),)} | {("".join((*first, form)),) for form in forms if last.endswith("s")}
    return made
