"""Phrases of a refusal: the model declines, lacks the ability, or asks for the image or audio.

A model that does not know ("I can't tell", "I cannot identify it") does not refuse: it names no class.
"""

import re

_CANNOT = (
    r"(?:can't|cannot|can not|could not|couldn't|won't|will not|am unable to|'m unable to|am not able to|'m not able to|"
    r"unable to|not able to|am not capable of|not possible to|impossible to|don't have the ability to|"
    r"do not have the ability to|don't have the capability to|not designed to)"
)
_VERBS = (
    r"(?:assist|help|determine|identif|classif|analy[sz]|process|hear|listen|see|view|comply|access|interpret|answer|"
    r"provide|recogni[sz]e|accurately|reliably|definitively|directly|confidently|fulfil|engage|perform|make a)"
)

_DOES_NOT_KNOW = (
    r"(?:\w+ly )?(?:identif|recogni[sz]|determine)\w* (?:it|this|that|which|what|them|the (?:word|digit|letter|number|class|answer))\b"
    r"(?![^.]*\b(?:image|picture|spectrogram|audio)\b)"
)

_REFUSAL = re.compile(
    "|".join(
        (
            rf"\b{_CANNOT} (?!{_DOES_NOT_KNOW})(?:\w+ )?{_VERBS}",
            rf"\b(?:sorry|apologi[sz]e|afraid|as an ai)\b.{{0,200}}{_CANNOT}",
            r"^\W*(?:i'm|i am) (?:very )?(?:sorry|afraid)\W*$|^\W*(?:sorry|apologies)\W*$",
            r"\b(?:don't|do not|didn't|did not) (?:see|have|receive) (?:a|an|any|the|access|enough)\b.{0,200}"
            r"(?:image|picture|spectrogram|audio|recording|information|ability|file|attachment)",
            r"\bno (?:image|picture|spectrogram|audio|recording|file)s? (?:is|was|were|has been|have been)? ?"
            r"(?:provided|attached|given|uploaded|included|visible)",
            r"\bplease (?:provide|upload|share|attach|send)\b",
            r"\bagainst my (?:guidelines|policy|programming)\b|\bviolates? (?:my|our|the) (?:guidelines|polic)",
            r"抱歉|对不起|對不起|无法(?:判断|确定|识别|回答|提供|处理)|無法(?:判斷|確定|識別|回答)|申し訳|죄송",
            r"\b(?:lo siento|je suis désolée?|désolée?,|es tut mir leid|mi dispiace|desculpe)\b",
        )
    ),
    re.DOTALL,
)


def is_refusal(text: str) -> bool:
    """Return whether a text (see `mentions.rewrite_negations`) declines to answer.

    >>> is_refusal("i'm sorry, but i can't help with that."), is_refusal("i cannot say it is not a dog")
    (True, False)
    """
    return bool(_REFUSAL.search(text))
