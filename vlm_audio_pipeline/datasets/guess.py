"""What a first study says about a folder or file that a kind of dataset recognises."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class DatasetGuess:
    """What a first study says about a folder or file of a user.

    Attributes:
        fields: values of the dataset's fields; a path is absolute.
        notes: field -> comment for the study file.
    """

    fields: Mapping[str, Any]
    notes: Mapping[str, str] = field(default_factory=dict)
