"""Rows of a declared table from plain values."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pyarrow as pa

from vlm_audio_pipeline.storage.schemas import TABLES


def rows_of(table: str, lines: Sequence[Mapping[str, Any]], filled: Collection[str] = ("study",)) -> pa.Table:
    """Build rows of a table with its declared types, also where there are none.

    Args:
        table: its name.
        lines: one mapping for each row; a column that a row does not name is null.
        filled: columns that the pipeline adds when the table is stored; they are left out.
    """
    return pa.Table.from_pylist(list(lines), pa.schema([f for f in TABLES[table].arrow if f.name not in filled]))
