"""Parquet parts with provenance: written whole or not at all, and saying in their footer what they were made from.

The footer, not run history, is what the planner reads: delete, move or restore files and it still tells the truth.
"""

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vlm_audio_pipeline.contracts import faults
from vlm_audio_pipeline.contracts.hashing import canonical, digest
from vlm_audio_pipeline.storage.result_store import RowStore
from vlm_audio_pipeline.storage.schemas import TableSchema

FOOTER_KEY = b"vlm_audio_pipeline"


PICTURES_A_GROUP = 64
"""Rows of a row group where rows hold files: who reads some of them holds no more than so many."""


@dataclass(frozen=True)
class Provenance:
    """What a part was made from.

    Attributes:
        step: the step's name within its study, such as "predictions/probe".
        version: the step's code version and spec fingerprint, "1:0a1b2c3d4e5f6071".
        inputs: data version actually read, by "<step>|<fold>".
        data_version: hash of the step's content, over all its tables.
        details: what a person may want to know (package version, seconds, written at); never compared.
    """

    step: str
    version: str
    inputs: dict[str, str]
    data_version: str
    details: dict[str, Any] = field(default_factory=dict)


def data_version(schema: TableSchema, table: pa.Table) -> str:
    """Hash the content of a table: its rows in key order, without latency, cost and dates.

    Floating-point columns are rounded to 6 significant digits, so that a last bit that differs between processors does
    not make everything downstream stale; vectors come from the row store and are hashed bit by bit.

    Args:
        schema: the table's schema.
        table: conformed to it (sorted by key).

    Returns:
        64 hexadecimal digits.
    """
    chunks: list[bytes] = [schema.name.encode()]
    for name in schema.content_columns:
        column = table[name]
        chunks.append(name.encode())
        if pa.types.is_list(column.type):
            lists = column.combine_chunks()
            lengths = np.diff(lists.offsets.to_numpy())
            chunks += [lengths.tobytes(), np.ascontiguousarray(lists.flatten().to_numpy()).tobytes()]
        elif pa.types.is_binary(column.type):  # its chunks stay apart: one array holds no more than 2 GiB
            chunks += [digest(value.as_buffer()).encode() for value in column]
        else:
            chunks.append(canonical([_plain(value) for value in column.to_pylist()]).encode())
    return digest(*chunks)


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return f"{value + 0.0:.6g}"  # -0.0 + 0.0 = 0.0
    if isinstance(value, list):  # a map column gives (key, value) pairs; their order carries no meaning
        return sorted([str(k), _plain(v)] for k, v in value)
    if value is None or isinstance(value, str | int):
        return value
    return str(value)


def write_part(path: Path, table: pa.Table, provenance: Provenance) -> None:
    """Write a part whole: to a hidden temporary name beside it, flushed, then moved into place.

    Args:
        path: where it goes; its folder is made.
        table: conformed to its schema.
        provenance: goes into the footer.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    footer = {FOOTER_KEY: json.dumps(asdict(provenance)).encode()}
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), **footer})
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            group = PICTURES_A_GROUP if any(pa.types.is_binary(f.type) for f in table.schema) else None
            pq.write_table(table, file, compression="zstd", write_page_checksum=True, row_group_size=group)
            file.flush()
            os.fsync(file.fileno())
        faults.point("part")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_provenance(path: Path) -> Provenance | None:
    """Read what a part was made from; None where it is absent, truncated or not ours (all of which mean: make it)."""
    try:
        return _provenance(pq.read_schema(path))
    except (pa.ArrowInvalid, OSError, UnicodeDecodeError):
        return None


def _provenance(schema: pa.Schema) -> Provenance | None:
    """Take the provenance out of a footer; None where it is not one of ours, or of another version's making."""
    try:
        return Provenance(**json.loads((schema.metadata or {})[FOOTER_KEY]))
    except (KeyError, TypeError, ValueError):
        return None


def is_whole(path: Path, rows: RowStore) -> bool:
    """Tell whether every row of a part can be read, by the checksums of its pages.

    Args:
        path: the part.
        rows: remembers parts found whole, so that each is read once, and again only when its file is touched.
    """
    if rows.known_whole(path):
        return True
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            for group in range(file.num_row_groups):
                file.read_row_group(group)
    except (pa.ArrowException, OSError, ValueError):
        return False
    rows.note_whole([path])
    return True


def read_part(path: Path, schema: TableSchema) -> tuple[pa.Table, Provenance]:
    """Read a part and its provenance from one open file, so that they belong together.

    Raises:
        FileNotFoundError: when there is none.
        pyarrow.ArrowInvalid: when it is damaged, or was not written by `write_part`.
    """
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            provenance = _provenance(file.schema_arrow)
            table = file.read().select(schema.arrow.names).cast(schema.arrow)
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise pa.ArrowInvalid(f"{path} must be a whole part, got: {error}; delete it and run again") from error
    if provenance is None:
        raise pa.ArrowInvalid(f"{path} must carry its provenance, got none; delete it and run again")
    return table, provenance
