"""Why a response ended: which outcome the `finish_reason` of a chat completion means."""

import re
from typing import Literal

from vlm_audio_pipeline.classifiers.language_models.endpoint.safety_filters import is_filter_reason

_PREFIX = re.compile(r"^finish_?reason[._]", re.IGNORECASE)
_COMPLETE = {
    *("", "stop", "eos", "eos_token", "end_turn", "stop_sequence", "stop_token", "stop_string"),
    *("complete", "completed", "finish", "finished", "end", "done", "normal"),
}
_CUT_OFF = re.compile(
    r"max_?\w*(?:tokens|length)\w*|token_limit\w*|(?:model_)?(?:context_)?length|\w*context_window\w*"
)

_LIMIT_MESSAGE = re.compile(r"max_\w*tokens or model output limit was reached", re.IGNORECASE)


def outcome_of(stop_reason: str) -> Literal["answered", "truncated", "refused", "error"]:
    """Return the outcome of a response. Servers use names of OpenAI, Gemini, Anthropic, Mistral and their own; "" counts as complete.

    >>> [outcome_of(reason) for reason in ("STOP", "FinishReason.MAX_TOKENS", "SAFETY", "abort")]
    ['answered', 'truncated', 'refused', 'error']
    """
    reason = _PREFIX.sub("", stop_reason.strip()).lower()
    if is_filter_reason(reason):
        return "refused"
    if _CUT_OFF.fullmatch(reason):
        return "truncated"
    return "answered" if reason in _COMPLETE else "error"


def is_limit_error(status: int, message: str) -> bool:
    """Return whether an error says that a response reached the maximum length: OpenAI's reasoning models send one with status 400."""
    return status == 400 and _LIMIT_MESSAGE.search(message) is not None
