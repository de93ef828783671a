"""Find explicit answers: statements that name a class even if its name is an everyday word, a letter, a number or a sign.

Four forms are explicit: a statement ("the word is left", "I hear seven", "class 2"), a conclusion ("..., so both"), a class in
quotes, and a response that begins with the class ("1 - the first", "Yes, it is."). Behind the class only the end of the clause
may follow: "on the left" does not answer "on", and "no one" does not answer "no".
"""

import re
from collections.abc import Iterator, Sequence

from vlm_audio_pipeline.classifiers.language_models.mentions import Sentence, Token, is_negated, is_negation
from vlm_audio_pipeline.classifiers.language_models.vocabulary import Vocabulary, words

_SUBJECTS = frozenset(
    words(
        "it this that sound sounds noise recording clip audio sample signal segment spectrogram word digit letter number command "
        "utterance speaker voice person patient keyword class label category option breath breathing heartbeat heart lung lungs machine engine "
        "motor fan pump valve slider event condition state status diagnosis result transcription transcript language type kind"
    )
)
_SUBJECTS_WITH_VERB = frozenset(words("it's that's this's"))
_LINKING_VERBS = frozenset(words("is was are be appears seems sounds looks"))
_SENSE_VERBS = frozenset(words("appears seems sounds looks"))
_MODALS = frozenset(
    words(
        "must may might could can should would will likely probably clearly definitely certainly being spoken said heard uttered"
    )
)
_NAMING_VERBS = frozenset(
    words(
        "hear heard choose chose pick picked select selected predict predicted guess say says said pronounces utters speaks spoke"
    )
)
_SORTING_VERBS = re.compile(r"(?:classif|label|identif|recogni|categori|interpret|transcrib)\w*")
_NOUNS_BEFORE_CLASS = frozenset(
    words("class label category option choice digit number letter word keyword command answer diagnosis")
)
_MAX_FILLERS = 8  # words between the verb and the class
_FILLERS = frozenset(
    words(
        "a an the like as to be most more very likely probably clearly definitely certainly perhaps maybe possibly simply just "
        "actually indeed again word digit number letter class label category command option spoken"
    )
)
_TRIGGERS = _LINKING_VERBS | _SUBJECTS_WITH_VERB | _NAMING_VERBS | _NOUNS_BEFORE_CLASS | {"with", "as"}
_MAX_CLAUSE = 40  # words before a verb that can negate it
_ENDS_OF_CLAUSE = frozenset(
    (",", ":", "=", *words("because since as without unlike not rather but while which though although"))
)
_HEDGES = frozenset(words("most likely probably clearly definitely certainly perhaps maybe possibly"))
_WORDS_AFTER_IS = frozenset(words("spoken said heard uttered present audible shown correct best"))
_SOUND_WORDS = frozenset(words("sound sounds noise noises"))
_ALTERNATIVES = frozenset(words("or either neither nor between versus vs"))
_CONCLUSIONS = frozenset(words("so therefore thus hence"))
_CHOICES = frozenset(words("choose chose pick picked select selected"))
_BEFORE_CHOICE = frozenset(map(words, ("i", "i'll", "i will", "i would", "i'd", "so i", "therefore i", "i therefore")))
_INTERJECTIONS = frozenset(words("yes no right stop go"))
"""Class names that also begin a sentence about something else: "No, I see ...", "Right, the image shows ..."."""
_CONFIRMATION = re.compile(
    r"(?:(?:it|that|this)(?:'s| is| was| does| did| sounds| seems| isn't)?(?: not)?(?: the (?:word|answer|class|case))?(?: correct)?"
    r"|i (?:think|believe|guess)(?: so)?|definitely|clearly|certainly|probably|most likely|likely|sir|please)?"
)
_CJK = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
_CJK_BEFORE = (
    r"(?:(?:これ|それ|(?:この)?音|(?:最終)?回答|答え|正解|クラス|ラベル|答案|类别|類別|分类|(?:这个)?声音|(?:這個)?聲音|정답|이것|소리|answer\s*)"
    r"\s*(?:は|是|为|為|은|는|:)?\s*|[这這]?是)?"
)
_CJK_AFTER = r"(?:の音|の声|の鳴き声|的声音|的聲音|소리)?\s*(?:です|だ|である|でしょう|だと思います|입니다|이다)?"
_UNCERTAIN = re.compile(
    r"\b(?:can't|cannot|can not|could not|couldn't|unable|not able|hard|difficult|impossible|no way|not possible) "
    r"(?:to )?(?:\w+ )?(?:tell|say|identify|determine|recogni[sz]e|know|make out|decide|classify)"
    r"|\b(?:not sure|unsure|unclear|uncertain|no idea|don't know|do not know|i can help|let me|let's)\b"
)


def explicit_labels(sentences: Sequence[Sentence], vocabulary: Vocabulary) -> set[str]:
    """Return the classes with everyday names that sentences state as the answer."""
    return {
        label
        for sentence in sentences
        for start in _statement_starts(sentence)
        if (label := class_at(sentence.tokens[start:], vocabulary)) and label in vocabulary.whole_only.values()
    }


def concluded_labels(sentences: Sequence[Sentence], vocabulary: Vocabulary) -> set[str]:
    """Return the classes that sentences conclude: "crackles and wheezes, so both".

    If the last sentence is a choice ("I choose rain"), it counts as a conclusion, and so do earlier choices, which may contradict it.
    """
    labels = set()
    choices: dict[int, str | None] = {}
    for n, sentence in enumerate(sentences):
        texts = sentence.texts
        for i, word in enumerate(texts[:-1]):
            begins = i == 0 or texts[i - 1] in (",", "and")
            is_choice = word in _CHOICES and texts[:i] in _BEFORE_CHOICE
            if ((word in _CONCLUSIONS and begins) or is_choice) and not sentence.is_question:
                rest = sentence.tokens[i + 1 + (texts[i + 1] == ",") :]
                label = class_at(rest, vocabulary, only_end=True)
                if is_choice:
                    choices[n] = label
                else:
                    labels.add(label)
    if len(sentences) - 1 in choices:
        labels.update(choices.values())
    return labels - {None}  # type: ignore[return-value]


def quoted_labels(text: str, vocabulary: Vocabulary) -> set[str]:
    """Return the classes with everyday names that stand in quotes or are marked, without those after a negation."""
    labels = set()
    for phrase, label in vocabulary.whole_only.items():
        name = r"[\s_-]+".join(map(re.escape, phrase))
        for match in re.finditer(rf"(?<!\w)[\"'“‘`«「『*]+{name}[.,]?[\"'”’`»」』*]+(?!\w)", text):
            before = re.split(r"[.!?;\n]", text[: match.start()])[-1]
            if label and not is_negated(words(before)):
                labels.add(label)
    return labels


def cjk_labels(text: str, vocabulary: Vocabulary) -> set[str]:
    """Return the classes that sentences of Chinese, Japanese or Korean state: "これは犬です" (this is a dog)."""
    names = {name: name for name in vocabulary.names if _CJK.search(name)}
    if not names:
        return set()
    pattern = re.compile(f'{_CJK_BEFORE}[「『"“]?({"|".join(map(re.escape, names))})[」』"”]?{_CJK_AFTER}')
    return {match[1] for part in re.split(r"[。.!?！？\n]", text) if (match := pattern.fullmatch(part.strip()))}


def leading_label(sentences: Sequence[Sentence], text: str, vocabulary: Vocabulary) -> str | None:
    """Return the class with an everyday name that a response begins with, or None.

    The rest must not name another class or say that the model does not know. After "yes", "no" or "right" with a comma, only a
    confirmation may follow.
    """
    tokens = sentences[0].tokens if sentences else ()
    for length in range(min(vocabulary.max_words, len(tokens)), 0, -1):
        label = vocabulary.whole_only.get(tuple(t.text for t in tokens[:length]))
        rest = [t.text for t in tokens[length:]]
        if not label:
            continue
        if (rest and rest[0] not in (",", ":", "=")) or sentences[0].is_question or _UNCERTAIN.search(text):
            return None
        if rest[1:] and is_negation(rest[1]):  # "left, not right"
            rest = []
        others = [*rest[1:], *(word for sentence in sentences[1:] for word in sentence.texts)]
        if tokens[0].text in _INTERJECTIONS and others and not _CONFIRMATION.fullmatch(" ".join(others)):
            return None
        named = {
            vocabulary.label_of((word,)) for word in others if word not in ("a", "i", "an", "on", "in", "to", "the")
        }
        return label if named <= {label, None} else None
    return None


def class_at(tokens: Sequence[Token], vocabulary: Vocabulary, only_end: bool = False) -> str | None:
    """Return the class that tokens begin with if its clause ends behind it, or None.

    Args:
        tokens: tokens of a sentence, from the class on; articles and words such as "probably" may precede it.
        vocabulary: the classes.
        only_end: the sentence, not only the clause, must end behind the class.
    """
    texts = [token.text for token in tokens]
    for start in range(min(len(texts), _MAX_FILLERS)):
        for length in range(min(vocabulary.max_words, len(texts) - start), 0, -1):
            label = vocabulary.label_of(tuple(texts[start : start + length]))
            if label:
                rest = texts[start + length :]
                rest = rest[1:] if rest[:1] and rest[0] in _SOUND_WORDS else rest
                if not rest or (not only_end and _ends_clause(rest, label, vocabulary)):
                    return label
        if texts[start] not in _FILLERS and texts[start] not in (":", "="):
            return None
    return None


def _ends_clause(rest: Sequence[str], label: str, vocabulary: Vocabulary) -> bool:
    """Return whether a clause about a class ends before these words; a list of classes does not."""
    if rest[0] in ("is", "was") and len(rest) > 1 and not any(map(is_negation, rest)):
        return rest[1] in _WORDS_AFTER_IS or (rest[1] == "the" and rest[2:3] in (["best"], ["most"], ["correct"]))
    return rest[0] in _ENDS_OF_CLAUSE and vocabulary.label_of(tuple(rest[1:2])) in (None, label)


def _statement_starts(sentence: Sentence) -> Iterator[int]:
    """Yield the positions at which a statement may name its class."""
    texts = sentence.texts
    if sentence.is_question or not _ALTERNATIVES.isdisjoint(texts):
        return
    if texts[0] in _HEDGES:
        yield 0
    for i, word in enumerate(texts[:-1]):
        if word not in _TRIGGERS:
            continue
        clause = _last_clause(texts[max(i - _MAX_CLAUSE, 0) : i])
        if is_negated(clause) or any(map(is_negation, clause)):
            continue
        subject = next((text for text in reversed(clause) if text not in _MODALS), "")
        is_statement = (
            (word in _LINKING_VERBS and (subject in _SUBJECTS or (i == 0 and word in _SENSE_VERBS)))
            or word in _SUBJECTS_WITH_VERB
            or word in _NAMING_VERBS
            or (word == "with" and bool(clause) and clause[-1] in ("go", "going", "went"))
            or (word == "as" and any(_SORTING_VERBS.fullmatch(text) for text in clause[-4:]))
            or word in _NOUNS_BEFORE_CLASS
        )
        if is_statement:
            yield i + 1


def _last_clause(texts: Sequence[str]) -> Sequence[str]:
    """Return the words behind the last comma."""
    commas = [i for i, text in enumerate(texts) if text in (",", "but")]
    return texts[commas[-1] + 1 :] if commas else texts
