"""Errors meant for a person.

The command prints the message of a `VlmAudioError` without a traceback; anything else is a defect of ours and keeps
its traceback. Messages follow one grammar: "X must be ..., got ...; do ...".
"""

from collections.abc import Iterable
from difflib import get_close_matches


class VlmAudioError(Exception):
    """Something a person can mend; the message says what and how."""


class BadStudy(VlmAudioError):
    """A study file that cannot be run: names the file, the path of the key, what is wrong and what would be right."""


class BadPath(VlmAudioError, ValueError):
    """A path that begins with the home of nobody; a ValueError too, so that a study file is told the key."""


class BadDataset(VlmAudioError):
    """A dataset whose listing is unusable: missing columns, duplicate ids, unknown labels, empty folds, no files."""


class BadClips(VlmAudioError):
    """Recordings that cannot be used; one error lists every one of them and why."""


class BadTable(VlmAudioError):
    """A table that does not keep its schema; raised before anything is written."""


class NotAvailable(VlmAudioError):
    """Weights, keys or files that cannot be had: what needs them is "not run", and nothing else is stopped."""


class MissingInput(VlmAudioError):
    """A stage was asked to run before what it reads exists."""


def suggestion(wrong: str, options: Iterable[str]) -> str:
    """Say what was probably meant.

    Args:
        wrong: what was given.
        options: the allowed values.

    Returns:
        `did you mean 'probe'? ` or an empty string, followed by `options: a, b, c`.

    >>> suggestion("prob", ["probe", "knn"])
    "did you mean 'probe'? options: knn, probe"
    """
    names = sorted(options)
    close = get_close_matches(str(wrong), names, n=1, cutoff=0.6)
    hint = f"did you mean '{close[0]}'? " if close else ""
    return f"{hint}options: {', '.join(names) or 'none'}"
