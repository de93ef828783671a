"""Which partition files the catalogue can use, and which are damaged."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.contracts.regular_files import open_regular
from vlm_audio_pipeline.storage.data_folder import DataFolder
from vlm_audio_pipeline.storage.partition_files import is_intact, read_partition
from vlm_audio_pipeline.storage.result_store import ResultStore
from vlm_audio_pipeline.storage.schemas import TABLES, TableSchema


@dataclass(frozen=True)
class CatalogueFiles:
    """Partition files by table.

    Attributes:
        usable: files that are part of the catalogue.
        damaged_rows: files with damaged rows: a query of their table is refused.
        other_damage: folders, files with a damaged footer, and files that differ in a byte that no row depends on.
    """

    usable: dict[str, list[Path]] = field(default_factory=dict)
    damaged_rows: dict[str, list[Path]] = field(default_factory=dict)
    other_damage: dict[str, list[Path]] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return the files that are left out as JSON."""
        groups = {"damaged_rows": self.damaged_rows, "other_damage": self.other_damage}
        return json.dumps({name: {t: [str(p) for p in paths] for t, paths in g.items()} for name, g in groups.items()})

    @classmethod
    def from_json(cls, text: str) -> "CatalogueFiles":
        """Return the files that were left out."""
        groups = json.loads(text)
        return cls(**{name: {t: [Path(p) for p in paths] for t, paths in g.items()} for name, g in groups.items()})


def sort_files(data_folder: DataFolder, files: Mapping[str, Sequence[Path]]) -> CatalogueFiles:
    """Sort partition files by whether they can be used. Files of an older schema are left out of all groups.

    The result store knows which files are intact; without it, or if it is damaged, every file is read.
    """
    result_store = _open_result_store(data_folder)
    sorted_files = CatalogueFiles()
    try:
        for table, paths in files.items():
            schema = TABLES[table]
            sorted_files.usable[table] = []
            for path in paths:
                names = _column_names(path)
                if names is None:
                    sorted_files.other_damage.setdefault(table, []).append(path)
                elif not set(schema.arrow.names) <= names:
                    continue
                elif is_intact(path, result_store):
                    sorted_files.usable[table].append(path)
                elif has_readable_rows(path):
                    sorted_files.other_damage.setdefault(table, []).append(path)
                else:
                    sorted_files.damaged_rows.setdefault(table, []).append(path)
    finally:
        if result_store is not None:
            result_store.close()
    return sorted_files


def _open_result_store(data_folder: DataFolder) -> ResultStore | None:
    if not data_folder.result_store.is_file() or not os.access(data_folder.root, os.W_OK):
        return None
    try:
        return ResultStore(data_folder.result_store)
    except VlmAudioError:
        return None


def has_columns(path: Path, schema: TableSchema) -> bool:
    """Return whether the footer has all columns. A damaged or outdated file is left out, and other results stay visible."""
    return set(schema.arrow.names) <= (_column_names(path) or set())


def is_readable(path: Path, schema: TableSchema) -> bool:
    """Return whether all rows can be read, not only the footer."""
    try:
        read_partition(path, schema)
    except (pa.ArrowInvalid, OSError):
        return False
    return True


def has_readable_rows(path: Path) -> bool:
    """Return whether the checksums of all pages are right, whatever the checksum of the file is."""
    try:
        with open_regular(path) as file, pq.ParquetFile(file, page_checksum_verification=True) as parquet:
            parquet.read()
    except (pa.ArrowException, OSError, ValueError):
        return False
    return True


def _column_names(path: Path) -> set[str] | None:
    """Read the names of the columns from the footer; None for a damaged footer, or a folder."""
    try:
        with open_regular(path) as file:
            return set(pq.read_schema(file).names)
    except (pa.ArrowException, OSError, ValueError):
        return None
