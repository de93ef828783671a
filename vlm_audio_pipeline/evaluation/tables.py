"""Plain values -> rows of a declared table."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pyarrow as pa

from vlm_audio_pipeline.storage.schemas import TABLES


def rows_of(table: str, lines: Sequence[Mapping[str, Any]], filled: Collection[str] = ("study",)) -> pa.Table:
    """Make rows of a table from plain values, with its types even where there are none.

    Args:
        table: its name.
        lines: one mapping a row; what a row does not name is null.
        filled: columns that the pipeline fills in, and that are left out here.
    """
    return pa.Table.from_pylist(list(lines), pa.schema([f for f in TABLES[table].arrow if f.name not in filled]))
