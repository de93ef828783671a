"""Partition files: parquet files that are written atomically, with their provenance in the footer.

The planner reads the footer and not the run history, so it stays correct when files are deleted, moved or restored.
"""

import json
import os
import re
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vlm_audio_pipeline.contracts import faults
from vlm_audio_pipeline.contracts.hashing import canonical_json, digest
from vlm_audio_pipeline.contracts.regular_files import file_stamp, open_regular
from vlm_audio_pipeline.storage.atomic import atomic_path, set_folder_aside
from vlm_audio_pipeline.storage.file_checksum import CHECKSUM_KEY, PLACEHOLDER, has_right_checksum, write_checksum
from vlm_audio_pipeline.storage.result_store import ResultStore
from vlm_audio_pipeline.storage.schemas import TableSchema

FOOTER_KEY = b"vlm_audio_pipeline"


IMAGES_PER_ROW_GROUP = 64
"""Row-group size of tables with binary columns; bounds the memory of a reader that needs a slice."""


@dataclass(frozen=True)
class Provenance:
    """The record of how a partition file was computed.

    Attributes:
        step: name of the step within its study, such as "predictions/probe".
        version: code version and spec fingerprint of the step, "1:0a1b2c3d4e5f6071".
        inputs: data versions of the inputs, by "<step>|<fold>".
        data_version: hash of the content of all tables of the step.
        details: package version, seconds, time of writing and others; staleness does not depend on them.
    """

    step: str
    version: str
    inputs: dict[str, str]
    data_version: str
    details: dict[str, Any] = field(default_factory=dict)


def data_version(schema: TableSchema, table: pa.Table) -> str:
    """Hash the content of a table: its rows in key order, without latency, cost and dates (columns, and rows of `metrics`).

    Floating-point columns are rounded to 6 significant digits, so that a different last bit on another processor does
    not make all later steps stale. Vectors come from the result store and are hashed exactly.

    Args:
        schema: the table's schema.
        table: a table that conforms to it (sorted by key).

    Returns:
        64 hexadecimal digits.
    """
    table = schema.content_rows(table)
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
            chunks.append(canonical_json([_plain_value(value) for value in column.to_pylist()]).encode())
    return digest(*chunks)


def _plain_value(value: Any) -> Any:
    if isinstance(value, float):
        return f"{value + 0.0:.6g}"  # -0.0 + 0.0 = 0.0
    if isinstance(value, list):  # (key, value) pairs of a map column, whose order has no meaning
        return sorted([str(k), _plain_value(v)] for k, v in value)
    if value is None or isinstance(value, str | int):
        return value
    return str(value)


def write_partition(path: Path, table: pa.Table, provenance: Provenance) -> None:
    """Write a partition file atomically, with a checksum of the whole file in its footer.

    Args:
        path: the file; its folder is created. A folder at this path is set aside.
        table: a table that conforms to its schema.
        provenance: stored in the footer.
    """
    footer = {FOOTER_KEY: json.dumps(asdict(provenance)).encode()}
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), **footer})
    row_group_size = IMAGES_PER_ROW_GROUP if any(pa.types.is_binary(f.type) for f in table.schema) else None
    set_folder_aside(path)
    with atomic_path(path) as temporary:
        with (
            temporary.open("wb") as file,
            pq.ParquetWriter(file, table.schema, compression="zstd", write_page_checksum=True) as writer,
        ):
            writer.write_table(table, row_group_size=row_group_size)
            writer.add_key_value_metadata({CHECKSUM_KEY.decode(): PLACEHOLDER})
        write_checksum(temporary)
        faults.kill_point("partition_file")


def read_provenance(path: Path) -> Provenance | None:
    """Read the provenance of a partition file; None if the file is missing, damaged or from another program.

    A plan reads each file several times, so a file is only opened again after a change. Do not change the returned object.
    """
    try:
        return _stored_provenance(path, file_stamp(os.stat(path)))
    except (pa.ArrowException, OSError, ValueError):
        return None


@lru_cache(maxsize=4096)
def _stored_provenance(path: Path, _stamp: str) -> Provenance | None:
    """Read the provenance of a file; the stamp changes with the file. Errors are not stored."""
    with open_regular(path) as file:
        return _provenance(pq.read_schema(file))


def _provenance(schema: pa.Schema) -> Provenance | None:
    """Parse the provenance in a footer; None if the footer has none, or one of another version."""
    try:
        return Provenance(**json.loads((schema.metadata or {})[FOOTER_KEY]))
    except (KeyError, TypeError, ValueError):
        return None


def is_intact(path: Path, result_store: ResultStore | None) -> bool:
    """Return whether a partition file is as it was written.

    Every byte is covered by the checksum in the footer. A file of an older version has none: it is intact if Arrow reads every
    row with the checksums of its pages, and DuckDB, which reads the file for queries, reads every row too.

    Args:
        path: the partition file.
        result_store: stores which files are intact, so that a file is only read again after a change; None: the file is read.
    """
    if result_store is not None and result_store.is_marked_intact(path):
        return True
    try:
        with open_regular(path) as file:
            is_right = has_right_checksum(file)
            if is_right is False or not _arrow_can_read(file) or (is_right is None and not _duckdb_can_read(path)):
                return False
    except (pa.ArrowException, OSError, ValueError):
        return False
    if result_store is not None:
        result_store.mark_intact([path])
    return True


def has_checksum(path: Path) -> bool:
    """Return whether the footer of a partition file has a checksum of the file; a file of an older version has none."""
    try:
        with open_regular(path) as file:
            return has_right_checksum(file) is not None
    except (OSError, ValueError):
        return False


def _arrow_can_read(file: BinaryIO) -> bool:
    file.seek(0)
    with pq.ParquetFile(file, page_checksum_verification=True) as parquet:
        for group in range(parquet.num_row_groups):
            parquet.read_row_group(group)
        return True


def _duckdb_can_read(path: Path) -> bool:
    """Return whether DuckDB reads all columns of all rows."""
    try:
        with duckdb.connect() as db:
            rows = db.execute("SELECT * FROM read_parquet(?, hive_partitioning = false)", [escape_glob(str(path))])
            while rows.fetchmany(1024):
                pass
    except duckdb.Error:
        return False
    return True


def escape_glob(path: str) -> str:
    """Escape `*`, `?` and `[`, which `read_parquet` of DuckDB would expand."""
    return re.sub(r"[*?\[]", lambda m: f"[{m[0]}]", path)


def read_partition(path: Path, schema: TableSchema) -> tuple[pa.Table, Provenance]:
    """Read a partition file and its provenance from one open file, so that they belong together.

    Raises:
        FileNotFoundError: if it does not exist.
        pyarrow.ArrowInvalid: if it is damaged, or was not written by `write_partition`.
    """
    try:
        with open_regular(path) as file:
            if has_right_checksum(file) is False:
                raise ValueError("its bytes differ from the checksum in its footer")
            file.seek(0)
            with pq.ParquetFile(file, page_checksum_verification=True) as parquet:
                provenance = _provenance(parquet.schema_arrow)
                table = parquet.read(use_threads=False).select(schema.arrow.names).cast(schema.arrow)
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError, KeyError, ValueError) as error:
        raise pa.ArrowInvalid(f"the partition file {path} is damaged: {error}; delete it and run again") from error
    if provenance is None:
        raise pa.ArrowInvalid(f"the partition file {path} has no provenance; delete it and run again")
    return table, provenance
