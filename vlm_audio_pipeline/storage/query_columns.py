"""Names of the columns of a query's result."""

import itertools
from collections.abc import Sequence


def unique_names(names: Sequence[str]) -> list[str]:
    """Return the names, with a number for each that occurred before, as DuckDB does in a subquery.

    >>> unique_names(["clip", "label", "clip", "clip_1"])
    ['clip', 'label', 'clip_2', 'clip_1']
    """
    result: list[str] = []
    for i, name in enumerate(names):
        candidates = (f"{name}_{n}" for n in itertools.count(1))
        is_new = name not in names[:i]
        result.append(name if is_new else next(c for c in candidates if c not in names and c not in result))
    return result
