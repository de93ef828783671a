"""Words and phrases that name each class in a response: names, synonyms and their variants."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from vlm_audio_pipeline.contracts.errors import VlmAudioError, suggestion
from vlm_audio_pipeline.datasets.class_names import class_name

Phrase = tuple[str, ...]
"""Words of a phrase, see `words`."""

_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")
_AROUND = "\"'`“”‘’«»‹›„「」『』【】()[]*_.,:;!?¡¿。、 \n\t"
_ARTICLES = {"a", "an", "the"}
_SOUND = {"sound", "sounds", "noise", "noises"}


def normalise(text: str) -> str:
    """Normalise a text: compatibility forms (ｄｏｇ -> dog), lower case, straight apostrophes.

    >>> normalise("ＤＯＧ isn’t")
    "dog isn't"
    """
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return re.sub(r"[’‘ʼ`´]", "'", text)


def words(text: str) -> Phrase:
    """Split a normalised text into words, at underscores, hyphens and punctuation.

    >>> words("sea-waves, clock_tick")
    ('sea', 'waves', 'clock', 'tick')
    """
    return tuple(_WORD.findall(text))


# Words without a meaning of their own: a class with such a name is recognised only as the whole response.
_FUNCTION_WORDS = frozenset(
    words(
        "a an the i it is on off no yes not up down in out go left right one two other others none unknown background "
        "class label answer sound sounds noise noises audio spectrogram image picture normal true false"
    )
)

# Phrases that contain a synonym but mean none of the classes.
_OTHER_MEANINGS: tuple[Phrase, ...] = (
    *((kind, wave) for kind in words("sound audio acoustic sine square radio shock") for wave in ("wave", "waves")),
    *((wave, "of") for wave in ("wave", "waves")),
    *(("fire", thing) for thing in words("alarm alarms truck engine")),
    *(("hot", "dog"), ("hot", "dogs"), ("dog", "whistle"), ("rapid", "fire")),
    *(("rain", "forest"), ("rain", "stick"), ("baby", "monitor")),
    # Terms for spectrograms: a pulse train, the time-frequency plane, tick marks, the bark scale
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
    """The class that a word or phrase means.

    Attributes:
        names: class names as written in the study.
        phrases: words -> class, or None for a phrase that contains a synonym but means no class. A phrase that could mean
            two classes is None too, because nothing is guessed.
        whole_only: the same for words that count only as the whole response.
        max_words: number of words of the longest phrase.
    """

    names: tuple[str, ...]
    phrases: Mapping[Phrase, str | None]
    whole_only: Mapping[Phrase, str | None]
    max_words: int

    def match_whole(self, text: str) -> str | None:
        """Return the class that a text names, ignoring quotes, punctuation, case and article; None if it is not a name."""
        bare = text.strip().strip(_AROUND).strip()
        for candidate in (text, text.strip(), bare):
            if candidate in self.names:
                return candidate
            equal = [name for name in self.names if normalise(name) == normalise(candidate)]
            if len(equal) == 1:
                return equal[0]
        spoken = words(normalise(text))
        for phrase in (spoken, spoken[1:] if spoken[:1] and spoken[0] in _ARTICLES else spoken):
            if label := self._class_of(phrase) or (
                self._class_of(phrase[:-1]) if phrase[-1:] and phrase[-1] in _SOUND else None
            ):
                return label
        return None

    def _class_of(self, phrase: Phrase) -> str | None:
        return self.whole_only.get(phrase) or self.phrases.get(phrase)


def build_vocabulary(classes: Sequence[str], synonyms: Mapping[str, Sequence[str]] | None = None) -> Vocabulary:
    """Collect the names of the classes.

    A class has its name, its readable name (`sea waves`), the synonyms of the dataset's classes and of the study, all of
    these in singular and plural, and with their words joined (`seawaves`). Names have priority over synonyms, synonyms of the
    study over those of the dataset, synonyms over variants.

    Args:
        classes: the labels of the study.
        synonyms: synonyms of the study: class -> words and phrases.

    Raises:
        VlmAudioError: for synonyms of an unknown class, or a synonym of two classes.
    """
    own = synonyms or {}
    return _vocabulary(tuple(classes), tuple((name, tuple(own[name])) for name in sorted(own)))


@lru_cache(maxsize=32)
def _vocabulary(classes: tuple[str, ...], synonyms: tuple[tuple[str, tuple[str, ...]], ...]) -> Vocabulary:
    own: dict[Phrase, set[str]] = {}
    for name, phrases_of_class in synonyms:
        if name not in classes:
            raise VlmAudioError(f"synonyms are given for '{name}', which is not a class; {suggestion(name, classes)}")
        for phrase in phrases_of_class:
            own.setdefault(words(normalise(phrase)), set()).add(name)
    if twice := {" ".join(phrase): sorted(names) for phrase, names in own.items() if len(names) > 1}:
        raise VlmAudioError(f"a synonym must mean one class, got {twice}; give each to one class only")
    named: dict[Phrase, set[str]] = {}
    of_dataset: dict[Phrase, set[str]] = {}
    for name in classes:
        published = class_name(name)
        for written in (name, published.readable):
            named.setdefault(words(normalise(written)), set()).add(name)
        for written in published.synonyms:
            of_dataset.setdefault(words(normalise(written)), set()).add(name)
    varied: dict[Phrase, set[str]] = {}
    for table in (named, own, of_dataset):
        for name_words, names in table.items():
            for variant in _variants(name_words):
                varied.setdefault(variant, set()).update(names)
    meanings: dict[Phrase, str | None] = {}
    for table in (varied, of_dataset, own, named):  # later tables have priority
        meanings |= {p: next(iter(names)) if len(names) == 1 else None for p, names in table.items() if p}
    whole_only: dict[Phrase, str | None] = {
        p: name for p, name in meanings.items() if len(p) == 1 and (p[0] in _FUNCTION_WORDS or len(p[0]) == 1)
    }
    phrases = dict.fromkeys(_OTHER_MEANINGS) | {p: name for p, name in meanings.items() if p not in whole_only}
    return Vocabulary(classes, phrases, whole_only, max(map(len, phrases)))


def _variants(phrase: Phrase) -> set[Phrase]:
    """Return singular and plural of the last word, and the words joined.

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
    variants: set[Phrase] = {(*first, form) for form in forms}
    if first:
        variants |= {("".join(phrase),)} | {("".join((*first, form)),) for form in forms if last.endswith("s")}
    return variants
