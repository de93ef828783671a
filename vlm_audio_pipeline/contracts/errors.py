"""Errors that a user can fix.

The command prints the message of a `VlmAudioError` without a traceback. Other exceptions are defects of this program
and keep their traceback. A message states what is wrong, what was found, and what to do.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class VlmAudioError(Exception):
    """A problem that the user can fix; the message tells how."""


class BadStudy(VlmAudioError):
    """A study file that cannot be run; the message names the file and the key."""


class BadPath(VlmAudioError, ValueError):
    """A path whose `~user` does not exist. Also a ValueError, so that pydantic reports the key of the study file."""


class BadDataset(VlmAudioError):
    """A dataset whose listing is unusable: missing columns, duplicate ids, unknown labels, empty folds, no files."""


class BadClips(VlmAudioError):
    """Recordings that cannot be used; the message lists all of them with reasons."""


class BadTable(VlmAudioError):
    """A table that does not match its schema; raised before it is written."""


class NotAvailable(VlmAudioError):
    """Weights, API keys or files that are missing: the steps that need them are not run, other steps run."""


class MissingInput(VlmAudioError):
    """An input of a stage does not exist yet."""


def suggestion(wrong: str, options: Iterable[str]) -> str:
    """Suggest a valid name in place of an unknown one.

    Args:
        wrong: the unknown name.
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
