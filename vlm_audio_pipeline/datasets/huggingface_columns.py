"""The columns of a Hugging Face dataset by their meaning: which are the audio and the class, and the classes of a row.

Belongs here: finding columns by their features and usual names, and reading labels. Does not belong here: files
(`huggingface_files`) and folds (`huggingface_folder`).
"""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from vlm_audio_pipeline.contracts.errors import BadDataset, suggestion
from vlm_audio_pipeline.datasets.huggingface_files import DataFile, read_features

_USUAL_LABELS = ("label", "labels", "category", "class")


class HubColumns(BaseModel):
    """The columns of the dataset, by their meaning; null: found by their features and usual names."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    audio: str | None = None
    """Recordings; by default the column with the feature Audio."""
    label: str | None = None
    """Class, or list of classes; by default the column with the feature ClassLabel, otherwise `label`, `labels`, `category` or `class`."""
    id: str | None = None
    """Id of the clip; by default the name of its recording, or else its split and number."""
    fold: str | None = None
    """Official fold, a whole number of 1 or more; by default `fold` if there is such a column."""
    source: str | None = None
    """Source recording; by default `source` if there is such a column."""


def resolve_columns(columns: HubColumns, file: DataFile, origin: Path) -> HubColumns:
    """Return the columns to read; those that the study does not name are found.

    Args:
        columns: the columns that the study names.
        file: the first file.
        origin: the folder, for messages.

    Raises:
        BadDataset: for names that are no columns, and if there is no audio or no class.
    """
    options, features = file.schema().names, read_features(file)
    for role, name in columns:
        if name is not None and name not in options:
            raise BadDataset(
                f"{origin}: `columns.{role}` must name a column, got '{name}'; {suggestion(name, options)}"
            )
    audio = audio_column(file, columns.audio)
    if audio is None:
        raise BadDataset(
            f"{origin} has no column with audio inside, only {', '.join(options)}; name it in `columns.audio`"
        )
    class_labels = [name for name in options if class_names(features.get(name))]
    usual = [name for name in _USUAL_LABELS if name in options]
    label = columns.label or next(iter(class_labels if len(class_labels) == 1 else usual), None)
    if label is None:
        raise BadDataset(
            f"{origin}: no column is known to be the class; name one of {', '.join(options)} in `columns.label`"
        )
    found = {name: name for name in ("fold", "source") if name in options}
    values = {**found, **{role: name for role, name in columns if name is not None}}
    return HubColumns(**{**values, "audio": audio, "label": label})


def audio_column(file: DataFile, name: str | None) -> str | None:
    """Return the column with audio inside: a struct of bytes and path."""
    schema, features = file.schema(), read_features(file)
    candidates = [
        field.name
        for field in schema
        if str(field.type).startswith("struct<") and {"bytes", "path"} <= {f.name for f in field.type}
    ]
    if name is not None:
        return name if name in candidates else None
    audio = [c for c in candidates if isinstance(features.get(c), dict) and features[c].get("_type") == "Audio"]
    return next(iter(audio or [c for c in candidates if c == "audio"]), None)


def class_names(feature: Any) -> tuple[str, ...]:
    """Return the names of a ClassLabel, also of a list of them; () for another feature."""
    if isinstance(feature, list) and feature:
        return class_names(feature[0])
    if not isinstance(feature, dict):
        return ()
    if feature.get("_type") == "ClassLabel" and isinstance(feature.get("names"), list):
        return tuple(map(str, feature["names"]))
    return class_names(feature.get("feature"))


def read_labels(value: Any, names: tuple[str, ...], origin: str) -> tuple[str, ...] | None:
    """Return the classes of a row; None without a label, as in a test split (null or -1)."""
    values = value if isinstance(value, list) else [value]
    if value is None or (not isinstance(value, list) and value in (-1, "")):
        return None
    if not names or all(isinstance(v, str) for v in values):
        return tuple(str(v) for v in values)
    if wrong := [v for v in values if not isinstance(v, int) or not 0 <= v < len(names)]:
        raise BadDataset(
            f"{origin}: a class must be a number from 0 to {len(names) - 1}, got {wrong[0]!r}; save the dataset again"
        )
    return tuple(names[v] for v in values)
