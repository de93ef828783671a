"""Build the rows of a declared table from plain values."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pyarrow as pa

from vlm_audio_pipeline.storage.schemas import TABLES


def build_rows(table: str, lines: Sequence[Mapping[str, Any]], added_columns: Collection[str] = ("study",)) -> pa.Table:
    """Build the rows of a table with its declared types; without rows, an empty table.

    Args:
        table: its name.
        lines: one mapping for each row; a column that a row does not name is null.
        added_columns: columns that the pipeline adds when the table is stored; they are left out here.
    """
    return pa.Table.from_pylist(list(lines), pa.schema([f for f in TABLES[table].arrow if f.name not in added_columns]))
