"""Partition files: parquet files that are written atomically, with their provenance in the footer.

The planner reads the footer and not the run history, so it stays correct when files are deleted, moved or restored.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vlm_audio_pipeline.contracts import faults
from vlm_audio_pipeline.contracts.hashing import canonical_json, digest
from vlm_audio_pipeline.storage.atomic import atomic_path
from vlm_audio_pipeline.storage.result_store import ResultStore
from vlm_audio_pipeline.storage.schemas import TableSchema

FOOTER_KEY = b"vlm_audio_pipeline"


IMAGES_PER_ROW_GROUP = 64
"""Row-group size of tables with binary columns; bounds the memory of a reader that needs a slice."""


@dataclass(frozen=True)
class Provenance:
    """What a partition file was made from.

    Attributes:
        step: name of the step within its study, such as "predictions/probe".
        version: code version and spec fingerprint of the step, "1:0a1b2c3d4e5f6071".
        inputs: data versions that were read, by "<step>|<fold>".
        data_version: hash of the content of all tables of the step.
        details: package version, seconds, time of writing and the like; never compared.
    """

    step: str
    version: str
    inputs: dict[str, str]
    data_version: str
    details: dict[str, Any] = field(default_factory=dict)


def data_version(schema: TableSchema, table: pa.Table) -> str:
    """Hash the content of a table: its rows in key order, without latency, cost and dates.

    Floating-point columns are rounded to 6 significant digits, so that a different last bit on another processor does
    not make all later steps stale. Vectors come from the result store and are hashed exactly.

    Args:
        schema: the table's schema.
        table: a table that conforms to it (sorted by key).

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
        elif pa.types.is_binary(column.type):  # not combined into one array, which holds at most 2 GiB
            chunks += [digest(value.as_buffer()).encode() for value in column]
        else:
            chunks.append(canonical_json([_plain(value) for value in column.to_pylist()]).encode())
    return digest(*chunks)


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return f"{value + 0.0:.6g}"  # -0.0 + 0.0 = 0.0
    if isinstance(value, list):  # (key, value) pairs of a map column, whose order has no meaning
        return sorted([str(k), _plain(v)] for k, v in value)
    if value is None or isinstance(value, str | int):
        return value
    return str(value)


def write_partition(path: Path, table: pa.Table, provenance: Provenance) -> None:
    """Write a partition file atomically.

    Args:
        path: the file; its folder is created.
        table: a table that conforms to its schema.
        provenance: stored in the footer.
    """
    footer = {FOOTER_KEY: json.dumps(asdict(provenance)).encode()}
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), **footer})
    group = IMAGES_PER_ROW_GROUP if any(pa.types.is_binary(f.type) for f in table.schema) else None
    with atomic_path(path) as temporary:
        with temporary.open("wb") as file:
            pq.write_table(table, file, compression="zstd", write_page_checksum=True, row_group_size=group)
        faults.kill_point("partition_file")


def read_provenance(path: Path) -> Provenance | None:
    """Read the provenance of a partition file; None if it is missing, damaged or of another program."""
    try:
        return _provenance(pq.read_schema(path))
    except (pa.ArrowException, OSError, ValueError):
        return None


def _provenance(schema: pa.Schema) -> Provenance | None:
    """Parse the provenance in a footer; None if there is none, or that of another version."""
    try:
        return Provenance(**json.loads((schema.metadata or {})[FOOTER_KEY]))
    except (KeyError, TypeError, ValueError):
        return None


def is_intact(path: Path, result_store: ResultStore) -> bool:
    """Return whether every row of a partition file can be read, by the checksums of its pages.

    Args:
        path: the partition file.
        result_store: stores which files are intact, so that a file is only read again after a change.
    """
    if result_store.is_noted_intact(path):
        return True
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            for group in range(file.num_row_groups):
                file.read_row_group(group)
    except (pa.ArrowException, OSError, ValueError):
        return False
    result_store.note_intact([path])
    return True


def read_partition(path: Path, schema: TableSchema) -> tuple[pa.Table, Provenance]:
    """Read a partition file and its provenance from one open file, so that they belong together.

    Raises:
        FileNotFoundError: if it does not exist.
        pyarrow.ArrowInvalid: if it is damaged, or was not written by `write_partition`.
    """
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            provenance = _provenance(file.schema_arrow)
            table = file.read().select(schema.arrow.names).cast(schema.arrow)
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise pa.ArrowInvalid(f"the partition file {path} is damaged: {error}; delete it and run again") from error
    if provenance is None:
        raise pa.ArrowInvalid(f"the partition file {path} has no provenance; delete it and run again")
    return table, provenance
