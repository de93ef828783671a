"""Read values of a response body that is not trusted: it may have any format."""

import math
from typing import Any

MAX_TOKENS = 10_000_000
"""The largest number of tokens of one request that is believed; no model takes more. A larger claim counts as no claim, so
the cost bound of the request stays reserved."""
_MIN_LOG_PROBABILITY = -9999.0
"""vLLM sends this number instead of minus infinity, which JSON does not have."""
_MAX_LOG_PROBABILITY = 0.01
"""More than 0, because servers round."""


def as_dict(value: Any) -> dict[str, Any]:
    """Return the value if it is a JSON object, else an empty one."""
    return value if isinstance(value, dict) else {}


def token_count(value: Any) -> int | None:
    """Return the value if it is a number of tokens, else None."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_TOKENS else None


def valid_unicode(text: str) -> str:
    """Return the text as valid Unicode: half of a surrogate pair (from a text that was cut off) becomes "?"."""
    return text.encode(errors="replace").decode()


def log_probability(value: Any) -> float | None:
    """Return the value as a log-probability; None if it is no number.

    Minus infinity for the number that vLLM sends for it; nan for a value above 0, which is no log-probability.
    """
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    if value <= _MIN_LOG_PROBABILITY:
        return -math.inf
    return float(value) if value <= _MAX_LOG_PROBABILITY else math.nan
