"""Recognise what safety filters report: reasons why a response ended, and errors of requests. Both are refusals.

The names are those of OpenAI and Azure ("content_filter", "ResponsibleAIPolicyViolation"), Gemini ("SAFETY", "RECITATION",
https://ai.google.dev/api/generate-content#FinishReason), Alibaba ("data_inspection_failed"), Bedrock ("guardrail_intervened") and others.
"""

import re

_WORDS = re.compile(
    r"safety|recitation|prohibited|block|spii|filter|refus|guardrail|moderat|sensitive|censor|policy|harm",
    re.IGNORECASE,
)
_CODES = re.compile(
    r"content_?filter|content_?policy|moderation|data_?inspection|responsible_?ai|^invalid_prompt$|safety|guardrail|sensitive",
    re.IGNORECASE,
)
_MESSAGES = re.compile(
    r"content (?:management|filter\w*|moderation|safety) ?(?:policy|polic|system|filter)|blocked by (?:our |the )?(?:content|safety|guardrail)"
    r"|(?:input|prompt|content|image|request|output)s? (?:was|were|is|has been) (?:flagged|blocked)|flagged (?:as|for|by)"
    r"|(?:inappropriate|unsafe|harmful|sensitive) (?:or sensitive )?content|safety (?:system|filter|reasons)"
    r"|violat\w+ .{0,40}(?:usage|content|safety) (?:polic|guideline)|requires moderation",
    re.IGNORECASE,
)
_ACCOUNT = re.compile(r"\b(?:account|organi[sz]ation|api[ _-]?key)\b", re.IGNORECASE)
"""Words of errors that concern the account, not the request."""


def is_filter_reason(stop_reason: str) -> bool:
    """Return whether a response ended because of a safety filter.

    >>> is_filter_reason("PROHIBITED_CONTENT"), is_filter_reason("stop")
    (True, False)
    """
    return _WORDS.search(stop_reason) is not None


def is_filter_error(status: int, code: str, message: str) -> bool:
    """Return whether an error says that a safety filter refused the request.

    Args:
        status: HTTP status.
        code: code of the error, or "".
        message: text of the error.

    >>> is_filter_error(400, "", "Output blocked by content filtering policy"), is_filter_error(403, "", "no access")
    (True, False)
    """
    if not 400 <= status < 500 or status in (401, 402, 404, 429) or _ACCOUNT.search(message):
        return False
    return bool(_CODES.search(code) or _MESSAGES.search(message))
