"""Find annotation formats: all of them by name, and that of a file. A new format is one file in this folder with a constant FORMAT."""

import importlib
import pkgutil
from functools import cache
from pathlib import Path

from vlm_audio_pipeline.contracts.errors import BadDataset, suggestion
from vlm_audio_pipeline.contracts.regular_files import open_regular
from vlm_audio_pipeline.datasets import annotations
from vlm_audio_pipeline.datasets.annotations.events import READ_ALL, AnnotationFormat, Annotations, ReadOptions

_HEAD_BYTES = 65_536
GENERAL_TABLE = "table"
"""Format of any table with one event per line."""
_GENERAL = ("audacity", GENERAL_TABLE)
"""Formats that recognise files of more specific formats, too; they are asked last."""


@cache
def annotation_formats() -> dict[str, AnnotationFormat]:
    """Return every format by its name; the general ones are last."""
    modules = pkgutil.iter_modules(annotations.__path__, annotations.__name__ + ".")
    formats = [
        getattr(importlib.import_module(module.name), "FORMAT", None) for module in modules if module.name != __name__
    ]
    formats_by_name = {f.name: f for f in formats if isinstance(f, AnnotationFormat)}
    return dict(sorted(formats_by_name.items(), key=lambda item: (item[0] in _GENERAL, item[0])))


def recognise_format(path: Path) -> AnnotationFormat | None:
    """Return the format of a file by its first lines; None if it has none of them, or cannot be read."""
    try:
        with open_regular(path) as file:
            head = file.read(_HEAD_BYTES)
    except OSError:
        return None
    text = head.decode("utf-8", errors="ignore")  # the last character may be cut off
    if "\0" in text:
        return None
    return next((f for f in annotation_formats().values() if f.recognises(text)), None)


def get_format(name: str) -> AnnotationFormat:
    """Return a format by its name.

    Raises:
        BadDataset: for an unknown name.
    """
    if name not in annotation_formats():
        raise BadDataset(
            f"`format` must be an annotation format, got '{name}'; {suggestion(name, annotation_formats())}"
        )
    return annotation_formats()[name]


def read_annotations(path: Path, format_name: str | None = None, options: ReadOptions = READ_ALL) -> Annotations:
    """Read an annotation file.

    Args:
        path: the file.
        format_name: its format; None: recognise it.
        options: columns and limits.

    Raises:
        BadDataset: for a format that is not recognised, and for a file that cannot be used; with file, line and column.
    """
    annotation_format = get_format(format_name) if format_name else recognise_format(path)
    if annotation_format is None:
        if not path.is_file():
            raise BadDataset(f"{path} does not exist or is not a file; correct `annotations`")
        raise BadDataset(
            f"the format of {path} is not recognised; name it in `format`: {', '.join(annotation_formats())}. If it is UTF-16, save it as UTF-8"
        )
    return annotation_format.read(path, options)
