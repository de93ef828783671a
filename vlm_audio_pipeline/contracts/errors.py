"""Errors that a user can fix.

The command prints the message of a `VlmAudioError` without a traceback. Other exceptions are defects of this program
and keep their traceback. A message states what is wrong, what was found, and what to do.
"""

from collections.abc import Iterable
from difflib import SequenceMatcher


class VlmAudioError(Exception):
    """A problem that the user can fix; the message explains how."""


class BadStudy(VlmAudioError):
    """A study file that cannot be run; the message names the file and the key."""


class BadPath(VlmAudioError, ValueError):
    """A path that cannot be used: a NUL byte, bytes that are not UTF-8, the home folder of an unknown user, signs in a data folder.

    Also a ValueError, so that pydantic reports the key of the study file.
    """


class BadDataset(VlmAudioError):
    """A dataset whose listing is unusable: missing columns, duplicate ids, unknown labels, empty folds, no files."""


class BadClips(VlmAudioError):
    """Recordings that cannot be used; the message lists all of them with reasons."""


class BadTable(VlmAudioError):
    """A table that does not match its schema; raised before the table is written."""


class NotAvailable(VlmAudioError):
    """Weights, API keys or files that are missing: the steps that need them are not run, other steps run."""


class MissingInput(VlmAudioError):
    """An input of a stage does not exist yet."""


ALL_OPTIONS = 12
"""Largest number of options of which a message lists all."""
MAX_OPTIONS = 8
"""Number of options that a message lists of more than that."""
MIN_SIMILARITY = 0.6
"""Similarity from which a name is suggested: the share of matching characters, of 1 (difflib's ratio)."""


def suggestion(unknown_name: str, options: Iterable[str]) -> str:
    """Suggest a valid name instead of an unknown one.

    Args:
        unknown_name: the name that is not allowed.
        options: the allowed values.

    Returns:
        `did you mean 'probe'? ` or an empty string, followed by `options: a, b, c`. Of more than twelve options, the eight most
        similar ones are listed, the closest first, and the others are counted. Equally similar options are in alphabetical order.

    >>> suggestion("prob", ["probe", "knn"])
    "did you mean 'probe'? options: knn, probe"
    """
    names = sorted(set(options))
    similarities = {name: SequenceMatcher(None, name.lower(), str(unknown_name).lower()).ratio() for name in names}
    ranked = sorted(names, key=lambda name: (-similarities[name], name))
    hint = f"did you mean '{ranked[0]}'? " if ranked and similarities[ranked[0]] >= MIN_SIMILARITY else ""
    if len(names) <= ALL_OPTIONS:
        return f"{hint}options: {', '.join(names) or 'none'}"
    return f"{hint}options: {', '.join(ranked[:MAX_OPTIONS])}, ... {len(names) - MAX_OPTIONS} more"
