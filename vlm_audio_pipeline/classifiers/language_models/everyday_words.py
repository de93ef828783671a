"""Class names that are everyday words, letters or numbers: they name a class only in an explicit answer.

"The energy is on the left" does not answer "left", and "three bursts" does not answer "three". The parser reads such a
class where a response states it as its answer (`explicit_answers`).
"""

_NUMBER_WORDS = """
    zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen
    nineteen twenty
"""
NUMBERS = tuple(_NUMBER_WORDS.split())
"""The number words from 0 to 20, each at the position of its number."""

_FREQUENT_WORDS = """
    a an the i it is are be on off no yes not up down in out go stop left right both either neither all any some none
    one other others another unknown unsure maybe background class label answer option sound sounds noise noises audio
    recording clip signal spectrogram image picture word digit letter number
    normal abnormal true false good bad positive negative present absent healthy sick clean dirty open closed start end
    high low mid middle medium long short loud quiet soft strong weak fast slow steady early late big small large wide
    narrow dark bright light rising falling single double multiple many few single sharp flat same different new old front
    back top bottom first second third last next follow following forward backward learn wow happy
    clear faint mild severe moderate regular irregular natural artificial real fake
"""
_EVERYDAY_WORDS = frozenset((*_FREQUENT_WORDS.split(), *NUMBERS))


def is_everyday_word(word: str) -> bool:
    """Return whether a word in lower case is common in any description of a sound or an image, a letter or a number.

    >>> [is_everyday_word(word) for word in ("left", "seven", "b", "10", "dog")]
    [True, True, True, True, False]
    """
    return word in _EVERYDAY_WORDS or len(word) == 1 or word.isdecimal()


def other_form_of_number(word: str) -> str | None:
    """Return the digits of a number word or the word of digits, from 0 to 20; None for any other word.

    >>> other_form_of_number("seven"), other_form_of_number("7"), other_form_of_number("dog")
    ('7', 'seven', None)
    """
    if word in NUMBERS:
        return str(NUMBERS.index(word))
    return NUMBERS[int(word)] if word.isascii() and word.isdecimal() and int(word) < len(NUMBERS) else None
