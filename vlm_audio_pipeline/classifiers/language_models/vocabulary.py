"""Words and phrases that name each class in a response: names, synonyms and their variants."""

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from vlm_audio_pipeline.classifiers.language_models.everyday_words import is_everyday_word, other_form_of_number
from vlm_audio_pipeline.contracts.errors import VlmAudioError, suggestion
from vlm_audio_pipeline.datasets.class_names import class_name, class_synonyms

Phrase = tuple[str, ...]
"""Words of a phrase, see `words`."""

_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")
_SURROUNDING_CHARACTERS = "\"'`“”‘’«»‹›„「」『』【】()[]*_.,:;!?¡¿。、 \n\t"
_ARTICLES = {"a", "an", "the"}
_LIST = re.compile(r"\w\s*[,;/|]\s*\w")
_MEASUREMENT = r"(?<!\w)[-−+±]\d[\d.]*|(?<!\w)\d[\d.]*\s?(?:[%‰°]|(?:k?hz|db|ms|s|seconds?)\b)"
"""A number that names no class: "-1", "2 kHz"."""
_SIGNS = re.compile(r"[^\w\s'.-]")  # of a class name, such as "c++"
_SOUND_WORDS = {"sound", "sounds", "noise", "noises"}


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


# Words of class names that responses replace by another word of the same meaning.
_EQUAL_WORDS = {"children": ("kids",), "child": ("kid", "kids"), "baby": ("infant",), "airplane": ("aeroplane",)}
_MAX_COMPOUND_LENGTH = 60  # characters
_MIN_INFLECTED_LENGTH = 5  # letters; shorter names ("stop") are often commands, of which each form is another word
_DESCRIPTIONS = {
    *words(
        "maybe perhaps outside inside outdoors indoors nearby here there class audio recording clip spectrogram image"
    )
}

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
    """Words and phrases, each with the class that it names.

    Attributes:
        names: class names as written in the study.
        phrases: words -> class, or None for a phrase that contains a synonym but means no class. A phrase that could mean
            two classes is also None, because nothing is guessed.
        whole_only: the same for everyday words, letters and numbers, which name a class only in an explicit answer.
        max_words: number of words of the longest phrase.
        signs: pattern of a class name that contains signs -> the word that stands for it (see `encode_signs`).
    """

    names: tuple[str, ...]
    phrases: Mapping[Phrase, str | None]
    whole_only: Mapping[Phrase, str | None]
    max_words: int
    signs: Mapping[str, str]

    def encode_signs(self, text: str) -> str:
        """Replace each class name with signs ("c++") by one word, because signs are no words."""
        for pattern, word in self.signs.items():
            text = re.sub(pattern, word, text, flags=re.IGNORECASE)
        return text

    def match_whole(self, text: str) -> str | None:
        """Return the class whose name is the whole text, apart from quotes, punctuation, case and article, or None."""
        stripped = text.strip().strip(_SURROUNDING_CHARACTERS).strip()
        for candidate in (text, text.strip(), stripped):
            if candidate in self.names:
                return candidate
            equal_names = [name for name in self.names if normalise(name) == normalise(candidate)]
            if len(equal_names) == 1:
                return equal_names[0]
        if _LIST.search(stripped) or re.match(_MEASUREMENT, stripped):
            return None
        text_words = words(normalise(text))
        for phrase in (text_words, text_words[1:] if text_words[:1] and text_words[0] in _ARTICLES else text_words):
            if label := self.label_of(phrase) or (
                self.label_of(phrase[:-1]) if phrase[-1:] and phrase[-1] in _SOUND_WORDS else None
            ):
                return label
        is_split_word = len(text_words) == 2 and not any(map(str.isdigit, text_words))  # "jack hammer", not "1.0"
        return self.label_of(("".join(text_words),)) if is_split_word else None

    def label_of(self, phrase: Phrase) -> str | None:
        """Return the class that a phrase names in an explicit answer, or None."""
        return self.whole_only.get(phrase) or self.phrases.get(phrase)

    def is_compound(self, text: str) -> bool:
        """Return whether a text is a class name and one more noun: an "air conditioner hum" may be another sound.

        The last word is taken as a noun unless it is a form of a verb ("siren wailing", "dog barks") or describes the answer.
        """
        if len(text) > _MAX_COMPOUND_LENGTH:
            return False
        *first, last = words(normalise(text)) or ("",)
        name = tuple(first[1:] if first[:1] and first[0] in _ARTICLES else first)
        return (
            self.label_of(name) is not None
            and re.fullmatch(r"\W*[^\W_]+(?:[\s_-]+[^\W_]+)*\W*", text) is not None
            and last not in _SOUND_WORDS | _DESCRIPTIONS
            and last.isascii()
            and last.isalpha()
            and not last.endswith(("ing", "ed", "s", "ly"))
            and self.label_of((last,)) is None
        )


def build_vocabulary(classes: Sequence[str], synonyms: Mapping[str, Sequence[str]] | None = None) -> Vocabulary:
    """Collect the words and phrases that name the classes.

    A class has its name, its readable name (`sea waves`), the synonyms of the dataset's classes and of the study, all of
    these in singular and plural, as a verb ("dog barking"), and with their words joined (`seawaves`); numbers are also written
    in digits and in words. The synonyms of a dataset apply only if all classes are on its card: elsewhere the same word may mean
    another class. Names have priority over synonyms, synonyms of the
    study over those of the dataset, synonyms over variants.

    Args:
        classes: the labels of the study.
        synonyms: synonyms of the study: class -> words and phrases.

    Raises:
        VlmAudioError: if a synonym belongs to an unknown class or to two classes.
    """
    by_class = synonyms or {}
    return _vocabulary(tuple(classes), tuple((name, tuple(by_class[name])) for name in sorted(by_class)))


@lru_cache(maxsize=32)
def _vocabulary(classes: tuple[str, ...], synonyms: tuple[tuple[str, tuple[str, ...]], ...]) -> Vocabulary:
    study_synonyms: dict[Phrase, set[str]] = {}
    for name, phrases_of_class in synonyms:
        if name not in classes:
            raise VlmAudioError(f"`synonyms` contains '{name}', which is not a class; {suggestion(name, classes)}")
        for phrase in phrases_of_class:
            study_synonyms.setdefault(words(normalise(phrase)), set()).add(name)
    if ambiguous := {" ".join(phrase): sorted(names) for phrase, names in study_synonyms.items() if len(names) > 1}:
        raise VlmAudioError(f"a synonym must mean one class, got {ambiguous}; list each synonym under one class only")
    class_phrases: dict[Phrase, set[str]] = {}
    dataset_synonyms: dict[Phrase, set[str]] = {}
    for name in classes:
        dataset_name = class_name(name)
        for text in (name, dataset_name.readable_name):
            if _SIGNS.search(name) and any(words(normalise(name)) == words(normalise(o)) for o in classes if o != name):
                continue
            class_phrases.setdefault(words(normalise(text)), set()).add(name)
        for text in class_synonyms(name, classes):
            dataset_synonyms.setdefault(words(normalise(text)), set()).add(name)
    variants: dict[Phrase, set[str]] = {}
    for table in (class_phrases, study_synonyms, dataset_synonyms):
        for name_words, names in table.items():
            for variant in _variants(name_words, table is class_phrases):
                variants.setdefault(variant, set()).update(names)
    meanings: dict[Phrase, str | None] = {}
    for table in (variants, dataset_synonyms, study_synonyms, class_phrases):  # later tables have priority
        meanings |= {p: next(iter(names)) if len(names) == 1 else None for p, names in table.items() if p}
    whole_only: dict[Phrase, str | None] = {
        p: name for p, name in meanings.items() if len(p) == 1 and is_everyday_word(p[0])
    }
    signs = _sign_words(classes)
    whole_only |= {(word,): name for name, (_, word) in signs.items()}
    phrases = dict.fromkeys(_OTHER_MEANINGS) | {p: name for p, name in meanings.items() if p not in whole_only}
    patterns = dict(signs.values())
    if any(len(name) == 1 and name.isalpha() for name in classes):
        patterns[r"(?<!\w)[a-z](?:\+\+?|#)(?!\w)"] = "anothersign"  # "c++" does not name the class "c"
    if any(other_form_of_number(name) for name in classes):
        patterns[_MEASUREMENT] = "anothernumber"
    return Vocabulary(classes, phrases, whole_only, max(map(len, phrases)), patterns)


def _sign_words(classes: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Map each class name with words and signs to its pattern in a text and to the word that stands for it; longest first."""
    names = sorted((n for n in classes if _SIGNS.search(n) and re.search(r"[^\W_]", n)), key=len, reverse=True)
    return {n: (rf"(?<![\w+#]){re.escape(n)}(?![\w+#])", f"classwithsigns{'x' * i}") for i, n in enumerate(names)}


def _variants(phrase: Phrase, is_name: bool = False) -> set[Phrase]:
    """Return the phrase with its last word in singular or plural, and with its words joined.

    Args:
        phrase: the words.
        is_name: whether it is the name of a class; then other forms of a verb, equal words and numbers are added.

    >>> sorted(_variants(("clock", "tick")))
    [('clock', 'tickes'), ('clock', 'ticks'), ('clocktick',)]
    """
    if not phrase:
        return set()
    *first, last = phrase
    if not first and is_everyday_word(last):  # "goes" does not mean "go"
        return {(number,)} if is_name and (number := other_form_of_number(last)) else set()
    forms = {last + "s", last + "es"}
    if last.endswith("s") and len(last) > 3 and not last.endswith("ss"):
        forms = {last[:-1]}
    elif last.endswith("y"):
        forms = {last[:-1] + "ies", last + "s"}
    variants: set[Phrase] = {(*first, form) for form in forms}
    if first:
        variants |= {("".join(phrase),)} | {("".join((*first, form)),) for form in forms if last.endswith("s")}
    if is_name:
        if first or len(last) >= _MIN_INFLECTED_LENGTH:
            variants |= {(*first, form) for form in _verb_forms(last)}
        for i, word in enumerate(phrase):
            variants |= {(*phrase[:i], other, *phrase[i + 1 :]) for other in _EQUAL_WORDS.get(word, ())}
        if first:
            variants |= {("".join((*first, form)),) for form in forms}
    return variants


def _verb_forms(word: str) -> set[str]:
    """Return "barking" for "bark" and "bark" for "barking"; forms of words that are no verbs do no harm.

    >>> sorted(_verb_forms("idling")), sorted(_verb_forms("wheeze"))
    (['idl', 'idle'], ['wheezing'])
    """
    if word.endswith("ing"):
        stem = word[:-3]
        return {stem, stem + "e"} if len(stem) > 2 and not is_everyday_word(stem) else set()
    return {word.removesuffix("e") + "ing"} - {"following"}
