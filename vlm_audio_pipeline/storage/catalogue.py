"""The catalogue: one DuckDB file for SQL queries, with views over the partition files and small result tables inside.

It is built from the partition files and the study records under a temporary name and then swapped in, so readers are
never blocked and never see a half-built file. All results are in the partition files: deleting the catalogue loses nothing.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from vlm_audio_pipeline.contracts import faults
from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.contracts.hashing import fingerprint
from vlm_audio_pipeline.storage.atomic import atomic_path, write_atomically
from vlm_audio_pipeline.storage.data_folder import DataFolder
from vlm_audio_pipeline.storage.locks import file_lock
from vlm_audio_pipeline.storage.partition_files import read_partition
from vlm_audio_pipeline.storage.schemas import TABLES, TableSchema

VERSION = 2  # of how the catalogue is built; raise it to have every catalogue rebuilt
DIRECTIONS = {"ascending": "ASC", "descending": "DESC"}


def write_study_record(data_folder: DataFolder, study: str, record: Mapping[str, Any]) -> None:
    """Write studies/<study>.json, unless it holds the same record.

    Args:
        data_folder: the data folder.
        study: name of the study.
        record: `partition_files` (table -> paths relative to the data folder), `extra_columns`, `file`, `limit` and
            the resolved `study`.
    """
    path = data_folder.studies / f"{study}.json"
    text = json.dumps(record, indent=1, sort_keys=True)
    if not path.exists() or path.read_bytes() != text.encode():
        write_atomically(path, text)


def study_records(data_folder: DataFolder) -> dict[str, dict[str, Any]]:
    """Return the records of the studies that were run in this data folder, by name.

    Raises:
        VlmAudioError: for a damaged file.
    """
    records = {}
    for path in sorted(data_folder.studies.glob("*.json")):
        try:
            records[path.stem] = json.loads(path.read_text())
        except ValueError as error:
            raise VlmAudioError(
                f"the study record {path} cannot be read: {error}; delete it and run the study again"
            ) from error
    return records


def rebuild_catalogue(data_folder: DataFolder, *, wait: bool = True) -> bool:
    """Rebuild the catalogue if a partition file was added, removed or changed since it was built.

    Args:
        data_folder: the data folder.
        wait: wait for another process that is rebuilding it; otherwise return at once.

    Returns:
        Whether it was rebuilt.
    """
    with file_lock(data_folder.lock("catalogue"), wait=wait) as held:
        if not held:
            return False
        files, extra_columns, signature = _contents(data_folder)
        if (db := _connect_if_current(data_folder, signature)) is not None:
            db.close()
            return False
        _build(data_folder.catalogue, files, extra_columns, signature)
        return True


def _contents(data_folder: DataFolder) -> tuple[dict[str, list[Path]], list[str], str]:
    """Return the partition files by table, the extra columns, and the signature of both."""
    records = study_records(data_folder).values()
    files = {table: _existing_files(data_folder, table, records) for table in TABLES}
    extra_columns = sorted({name for record in records for name in record.get("extra_columns", ())})
    return files, extra_columns, _signature(data_folder, files, extra_columns)


def _existing_files(data_folder: DataFolder, table: str, records: Iterable[dict[str, Any]]) -> list[Path]:
    paths = (data_folder.root.absolute() / file for r in records for file in r["partition_files"].get(table, ()))
    return [path for path in paths if path.exists()]


def _signature(data_folder: DataFolder, files: Mapping[str, Sequence[Path]], extra_columns: list[str]) -> str:
    stamps = [(str(p), p.stat().st_mtime_ns, p.stat().st_size) for paths in files.values() for p in paths]
    tables = [[schema.name, *schema.arrow.names] for schema in TABLES.values()]  # differs between program versions
    return fingerprint(VERSION, str(data_folder.root.absolute()), tables, [list(s) for s in stamps], extra_columns)


def _connect_if_current(data_folder: DataFolder, signature: str) -> duckdb.DuckDBPyConnection | None:
    """Open the catalogue for reading if it has this signature; None if it is missing, stale, damaged or of another version."""
    if not data_folder.catalogue.exists():
        return None
    try:
        db = duckdb.connect(str(data_folder.catalogue), read_only=True)
    except duckdb.Error:
        return None
    try:
        if db.execute("SELECT signature FROM catalogue_built").fetchone() == (signature,):
            return db
    except duckdb.Error:
        pass  # a damaged catalogue is rebuilt, as a stale one
    db.close()
    return None


def _build(path: Path, files: Mapping[str, Sequence[Path]], extra_columns: Sequence[str], signature: str) -> None:
    with atomic_path(path) as temporary:
        with duckdb.connect(str(temporary)) as db:
            db.begin()  # one transaction: hundreds of separate commits would each wait for the disk
            for name, schema in TABLES.items():
                usable = [p for p in files[name] if _has_columns(p, schema)]
                if schema.stored == "table":
                    usable = [p for p in usable if _is_readable(p, schema)]
                for statement in _statements(schema, usable, extra_columns):
                    db.execute(statement)
            db.execute("CREATE TABLE catalogue_built AS SELECT ? AS signature, now() AS built_at", [signature])
            db.commit()
        faults.kill_point("catalogue")


def _has_columns(path: Path, schema: TableSchema) -> bool:
    """Return whether the footer has all columns; one damaged or outdated file must not hide all results."""
    try:
        return set(schema.arrow.names) <= set(pq.read_schema(path).names)
    except (pa.ArrowException, OSError, ValueError):
        return False


def _is_readable(path: Path, schema: TableSchema) -> bool:
    """Return whether all rows can be read, not only the footer."""
    try:
        read_partition(path, schema)
    except pa.ArrowInvalid:
        return False
    return True


def _statements(schema: TableSchema, files: Sequence[Path], extra_columns: Sequence[str]) -> Iterator[str]:
    """Yield the SQL that creates a table or view with its comments."""
    plain = [c for c in schema.columns if not c.spread]
    selected = [f"t.{_identifier(c.name)}" for c in plain]
    rows = f"{_rows(schema, files)} t"
    extra = _case_variants(extra_columns)
    for column in schema.columns:
        if column.spread:
            values = {name: ", ".join(f"t.{column.name}[{_quoted(v)}]" for v in names) for name, names in extra.items()}
            selected += [f"coalesce({keys}) AS {_identifier(name)}" for name, keys in values.items()]
    if schema.extra_columns_of and extra:
        selected += [f"e.{_identifier(name)}" for name in extra]
        rows += f" LEFT JOIN {_identifier(schema.extra_columns_of)} e USING (study, clip)"
    kind = "TABLE" if schema.stored == "table" else "VIEW"
    keys = [f"{_identifier(name)} {DIRECTIONS[direction]} NULLS LAST" for name, direction in schema.order]
    order = f" ORDER BY {', '.join(keys)}" if keys else ""
    yield f"CREATE {kind} {_identifier(schema.name)} AS SELECT {', '.join(selected)} FROM {rows}{order}"
    yield f"COMMENT ON {kind} {_identifier(schema.name)} IS {_quoted(schema.doc)}"
    for c in plain:
        yield f"COMMENT ON COLUMN {_identifier(schema.name)}.{_identifier(c.name)} IS {_quoted(c.doc)}"


def _rows(schema: TableSchema, files: Sequence[Path]) -> str:
    if files:
        paths = ", ".join(_quoted(_escape_glob(str(p))) for p in files)
        return f"(SELECT * FROM read_parquet([{paths}], hive_partitioning = false))"
    empty = ", ".join(f"NULL::{_duckdb_type(c.type)} AS {_identifier(c.name)}" for c in schema.columns)
    return f"(SELECT {empty} LIMIT 0)"


def _case_variants(names: Iterable[str]) -> dict[str, list[str]]:
    """Group extra columns that differ only in case, which SQL ignores; names of the project's own columns are left out."""
    tables = [t for t in TABLES.values() if t.extra_columns_of or any(c.spread for c in t.columns)]
    own = {c.name.casefold() for t in tables for c in t.columns}
    groups: dict[str, list[str]] = {}
    for name in names:
        if name.casefold() not in own:
            groups.setdefault(name.casefold(), []).append(name)
    return {variants[0]: variants for variants in groups.values()}


def _duckdb_type(kind: pa.DataType) -> str:
    if pa.types.is_map(kind):
        return f"MAP({_duckdb_type(kind.key_type)}, {_duckdb_type(kind.item_type)})"
    if pa.types.is_list(kind):
        return f"{_duckdb_type(kind.value_type)}[]"
    names = {"string": "VARCHAR", "int64": "BIGINT", "double": "DOUBLE", "float": "FLOAT", "bool": "BOOLEAN"}
    return {**names, "binary": "BLOB", "timestamp[us, tz=UTC]": "TIMESTAMPTZ"}[str(kind)]


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _escape_glob(path: str) -> str:
    """Escape `*`, `?` and `[`, which `read_parquet` would expand."""
    return re.sub(r"[*?\[]", lambda m: f"[{m[0]}]", path)


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


@contextmanager
def open_catalogue(data_folder: DataFolder) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open the catalogue for reading; it is brought up to date first, unless another process is doing so.

    Raises:
        VlmAudioError: if no study was run in this data folder.
    """
    if not data_folder.studies.exists():
        raise VlmAudioError(
            f"no results in {data_folder.root}: no study was run there; run `vlm-audio run demo`, or choose the data "
            "folder with --data"
        )
    db = _connect_if_current(data_folder, _contents(data_folder)[2])
    if db is None:
        rebuild_catalogue(data_folder, wait=not data_folder.catalogue.exists())
        db = duckdb.connect(str(data_folder.catalogue), read_only=True)
    with db:
        db.execute("SET TimeZone = 'UTC'")
        yield db


def query(data_folder: DataFolder, sql: str, parameters: Iterable[Any] = ()) -> pa.Table:
    """Run an SQL query on the catalogue.

    Raises:
        VlmAudioError: for wrong SQL, with DuckDB's message; for tables with damaged partition files, naming these.
    """
    tables = _mentioned_tables(sql)
    with open_catalogue(data_folder) as db:
        try:
            relation = db.sql(sql, params=list(parameters) or None)
            rows = relation.to_arrow_table() if relation is not None else pa.table({})
        except (duckdb.ParserException, duckdb.BinderException, duckdb.CatalogException) as error:
            raise VlmAudioError(f"{error}") from error
        except duckdb.Error as error:
            _refuse_damaged(data_folder, tables)
            raise VlmAudioError(f"{error}") from error
    # A view over a damaged file fails by itself; a table was built without it.
    _refuse_damaged(data_folder, [name for name in tables if TABLES[name].stored == "table"])
    return rows


def _mentioned_tables(sql: str) -> list[str]:
    """List the tables that a query may read, with those that their views join."""
    names = {name for name in TABLES if name in sql.casefold()}
    return sorted(names | {joined for name in names if (joined := TABLES[name].extra_columns_of)})


def _refuse_damaged(data_folder: DataFolder, tables: Iterable[str]) -> None:
    """Raise an error if partition files with an intact footer have unreadable rows: another run would not replace them.

    Raises:
        VlmAudioError: naming these files.
    """
    paths = {
        data_folder.root / file: TABLES[table]
        for record in study_records(data_folder).values()
        for table in tables
        for file in record["partition_files"].get(table, ())
    }
    damaged = [path for path, schema in paths.items() if _has_columns(path, schema) and not _is_readable(path, schema)]
    if damaged:
        raise VlmAudioError(
            f"these partition files are damaged: {', '.join(map(str, damaged))}; delete them and run their studies again"
        )
