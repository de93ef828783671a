"""Read from an error which parameters an endpoint rejects, in the words of many providers."""

import re
from typing import get_args

from vlm_audio_pipeline.classifiers.language_models.endpoint.spec import OptionalParameter

OPTIONAL: tuple[str, ...] = get_args(OptionalParameter)
_CODES = ("unsupported_parameter", "unsupported_value", "unknown_parameter")
_WORDS = re.compile(
    r"unsupported|not support|unknown|unrecogni[sz]ed|unexpected|extra (inputs|fields)|not permitted|not allowed|cannot find"
    r"|deprecated|(?:can ?not|can't|must not|may not) (?:both )?be (?:specified|set|used|given|combined)|mutually exclusive"
    r"|only one of|only (?:the default|\S+) (?:\S+ )?is (?:allowed|supported|accepted)|not (?:available|compatible|valid) (?:for|with)"
    r"|may only be (?:set|used)|no longer|removed|unavailable|is forbidden|must (?:not be|be (?:unset|omitted|removed))"
    r"|do(?:es)? not (?:accept|allow)",
    re.IGNORECASE,
)
_EXCLUSIVE_WORDS = re.compile(r"\bboth\b|only one of|mutually exclusive|together", re.IGNORECASE)
_PARENT_PARAMETER = {"json_schema": "response_format", "strict": "response_format"}
_NEUTRAL = ("top_p", "temperature", "seed", "n")
"""Parameters whose value means the same as no value (`top_p` 1) or the nearest to it, so that a rejected value is left out."""
_RANGE = (
    r"\W{0,3}(?:input )?(?:value )?(?:(?:must|should|has to) be\b|is out of range|only (?:accepts|supports|allows))"
)
_INVALID = r"invalid (?:value (?:\S+ )?(?:for|of) )?\W?"


def rejected_parameters(code: str, parameter: str, message: str, limit_name: str) -> tuple[list[str], bool]:
    """Return the parameters that an error (400, 422) rejects, and whether one of them is accepted without the others.

    Args:
        code: code of the error, or "".
        parameter: parameter that the error names, or "".
        message: text of the error.
        limit_name: name of the maximum length in the request; an error about its value does not reject it.

    >>> rejected_parameters("", "", "`top_p` must be > 0.0 and < 1.0", "max_tokens")
    (['top_p'], False)
    """
    if code not in _CODES and not _WORDS.search(message):
        patterns = {name: rf"\b{name}{_RANGE}|{_INVALID}{name}\b" for name in _NEUTRAL}
        return [name for name, pattern in patterns.items() if re.search(pattern, message, re.IGNORECASE)], False
    named = [parameter, *re.findall(r"[\"'`]([\w.\[\]]+)[\"'`]", message)]
    if not parameter and not set(named) & {*OPTIONAL, limit_name, *_PARENT_PARAMETER}:
        named = [name for name in OPTIONAL if re.search(rf"\b{name}\b", message)]  # a name without quotes
    is_exclusive = _EXCLUSIVE_WORDS.search(message) is not None
    if is_exclusive:
        named = [name for name in OPTIONAL if name in named]
    last_parts = (name.rsplit(".", 1)[-1] for name in named)
    names = [_PARENT_PARAMETER.get(name, name) for name in last_parts]
    return [name for name in names if name in (*OPTIONAL, limit_name)], is_exclusive
