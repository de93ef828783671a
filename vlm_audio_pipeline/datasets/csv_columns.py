"""The columns of a listing (a CSV of clips): which column has which role, and guesses from names and contents."""

import re
from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from vlm_audio_pipeline.contracts.errors import BadDataset
from vlm_audio_pipeline.datasets.audio_suffixes import AV_SUFFIXES, LIBSNDFILE_SUFFIXES, OTHER_SUFFIXES

_SUFFIXES = LIBSNDFILE_SUFFIXES + AV_SUFFIXES + OTHER_SUFFIXES
_COLUMN_NAMES = {
    "path": ("path", "file", "filename", "filepath", "file_path", "file_name", "audio", "wav"),
    "label": ("label", "class", "category", "target_name"),
    "fold": ("fold", "split_id"),
    "source": ("source", "src_file", "recording", "group"),
    "start": ("start", "onset", "start_s"),
    "end": ("end", "offset", "end_s"),
}


class Columns(BaseModel):
    """The names of the columns of a listing, by their role."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str = "path"
    """The recording, relative to `audio_dir`, or absolute."""
    label: str = "label"
    """The class."""
    labels: str | None = None
    """In studies with `task: multi_label`, instead of `label`: all classes of the clip in one cell; empty for none."""
    fold: str | None = "fold"
    """A whole number of 1 or more. With null, or if the column `fold` does not exist, folds are assigned."""
    source: str | None = None
    """The source recording of a clip; by default the column `source` if it exists, else the file."""
    start: str | None = None
    """Start of the clip within the file, s."""
    end: str | None = None
    """End of the clip within the file, s."""
    id: str | None = None
    """Unique name of the clip; by default derived from the path."""


def guess_columns(header: Sequence[str], first_rows: Sequence[Sequence[str]] = ()) -> Columns:
    """Guess the role of each column of a listing from its name and contents.

    Args:
        header: the column names.
        first_rows: the first rows, cells in the order of the header.

    Returns:
        The columns. `source`, `start` and `end` are None if no column fits. `fold` is None if the column `fold` has values that are
        no folds, and keeps its default if no column fits.

    Raises:
        BadDataset: if no column fits the path or the label; the message lists the columns.

    >>> guess_columns(["filename", "category"]).label
    'category'
    """
    by_name = {name.strip().lower(): name for name in reversed(header)}
    cells = {name: [row[index].strip() for row in first_rows if index < len(row)] for index, name in enumerate(header)}

    def column_of_role(role: str) -> str | None:
        return next((by_name[alias] for alias in _COLUMN_NAMES[role] if alias in by_name), None)

    def column_if_matching(name: str | None, pattern: str) -> str | None:
        return name if name and all(re.fullmatch(pattern, c) for c in cells[name] if c) else None

    def file_column() -> str | None:
        return next((n for n in header if cells[n] and all(c.lower().endswith(_SUFFIXES) for c in cells[n])), None)

    required = {"path": column_of_role("path") or file_column(), "label": column_of_role("label")}
    for role, name in required.items():
        if name is None:
            raise BadDataset(
                f"no column of the CSV ({', '.join(header)}) seems to contain the {role} of each clip; name one "
                f"`{role}`, or set it in `columns`"
            )
    return Columns(
        path=required["path"] or "",
        label=required["label"] or "",
        fold=column_if_matching(column_of_role("fold"), r"0*[1-9][0-9]*") or (None if "fold" in header else "fold"),
        source=column_of_role("source"),
        start=column_if_matching(column_of_role("start"), r"[0-9]*\.?[0-9]+"),
        end=column_if_matching(column_of_role("end"), r"[0-9]*\.?[0-9]+"),
    )
