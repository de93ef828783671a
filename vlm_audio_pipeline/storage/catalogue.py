"""The catalogue: one DuckDB file to ask questions of - views over the parquet parts, small result tables inside.

It is rebuilt at will from the parts and the manifests of the studies run here, beside the old one, and swapped in, so
that readers are never blocked and never see half of it. Parquet is the truth; nothing is lost by deleting it.
"""

import json
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from vlm_audio_pipeline.contracts import faults
from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.contracts.hashing import fingerprint
from vlm_audio_pipeline.storage.layout import Layout
from vlm_audio_pipeline.storage.partition_files import read_part
from vlm_audio_pipeline.storage.schemas import TABLES, TableSchema

VERSION = 1  # of the catalogue's own making; raise it to have every catalogue rebuilt


def write_manifest(layout: Layout, study: str, manifest: dict[str, Any]) -> None:
    """Remember a study: its parts (paths relative to the data folder, by table), kept columns and resolved form."""
    path = layout.studies / f"{study}.json"
    text = json.dumps(manifest, indent=1, sort_keys=True)
    if path.exists() and path.read_bytes() == text.encode():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


def manifests(layout: Layout) -> dict[str, dict[str, Any]]:
    """Give the studies run in this data folder, by name.

    Raises:
        VlmAudioError: for a damaged file.
    """
    found = {}
    for path in sorted(layout.studies.glob("*.json")):
        try:
            found[path.stem] = json.loads(path.read_text())
        except ValueError as error:
            raise VlmAudioError(
                f"{path} must be the record of a study that was run, got: {error}; delete it and run the study again"
            ) from error
    return found


def refresh(layout: Layout, *, wait: bool = True) -> bool:
    """Rebuild the catalogue if any part came, went or changed since it was built.

    Args:
        layout: the data folder.
        wait: wait for another process that is rebuilding it; otherwise leave it as it is.

    Returns:
        Whether it was rebuilt.
    """
    lock = layout.lock("catalogue")
    lock.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(lock, timeout=-1 if wait else 0):
            studies = manifests(layout)
            parts = {table: [p for m in studies.values() for p in m["parts"].get(table, ())] for table in TABLES}
            root = layout.root.absolute()
            there = {t: [root / p for p in paths if (root / p).exists()] for t, paths in parts.items()}
            kept = sorted({k for m in studies.values() for k in m.get("kept", ())})
            signature = _signature(layout, there, kept)
            if layout.results.exists() and _built_signature(layout.results) == signature:
                return False
            _build(layout, there, kept, signature)
            return True
    except Timeout:
        return False


def _signature(layout: Layout, parts: dict[str, list[Path]], kept: list[str]) -> str:
    stamps = [(str(p), p.stat().st_mtime_ns, p.stat().st_size) for paths in parts.values() for p in paths]
    tables = [[schema.name, *schema.arrow.names] for schema in TABLES.values()]  # of this version of the program
    return fingerprint(VERSION, str(layout.root.absolute()), tables, [list(s) for s in stamps], kept)


def _built_signature(path: Path) -> str | None:
    try:
        with duckdb.connect(str(path), read_only=True) as db:
            row = db.execute("SELECT signature FROM catalogue_built").fetchone()
    except duckdb.Error:  # damaged, or of another version: rebuild it
        return None
    return row[0] if row else None


def _build(layout: Layout, parts: dict[str, list[Path]], kept: list[str], signature: str) -> None:
    temporary = layout.results.with_name(f".results.{os.getpid()}.duckdb")
    temporary.unlink(missing_ok=True)
    try:
        with duckdb.connect(str(temporary)) as db:
            db.begin()  # hundreds of statements, each of which would wait for the disk
            for name, schema in TABLES.items():
                good = [p for p in parts[name] if _fits(p, schema) and (schema.stored != "table" or _whole(p, schema))]
                for statement in _statements(schema, good, kept):
                    db.execute(statement)
            db.execute("CREATE TABLE catalogue_built AS SELECT ? AS signature, now() AS built_at", [signature])
            db.commit()
        faults.point("catalogue")
        os.replace(temporary, layout.results)
    finally:
        temporary.unlink(missing_ok=True)


def _fits(path: Path, schema: TableSchema) -> bool:
    """Tell whether a part can be read: one damaged or of another version must not take all results away."""
    try:
        return set(schema.arrow.names) <= set(pq.read_schema(path).names)
    except (pa.ArrowException, OSError, ValueError):
        return False


def _whole(path: Path, schema: TableSchema) -> bool:
    """Tell whether all rows of a part can be read, not its footer alone."""
    try:
        read_part(path, schema)
    except pa.ArrowInvalid:
        return False
    return True


def _statements(schema: TableSchema, parts: list[Path], kept: list[str]) -> Iterator[str]:
    columns = [f'"{c.name}"' for c in schema.columns if c.name != "kept"]
    empty = ", ".join(f'NULL::{_duckdb_type(c.type)} AS "{c.name}"' for c in schema.columns)
    files = ", ".join(_quoted(_literal(str(p))) for p in parts)
    spellings = _spellings(kept)
    rows = (
        f"(SELECT * FROM read_parquet([{files}], hive_partitioning = false))" if parts else f"(SELECT {empty} LIMIT 0)"
    )
    query = f"SELECT {', '.join(columns)} FROM {rows}"
    if schema.name == "clips":
        extra = [
            f"coalesce({', '.join(f'kept[{_quoted(k)}]' for k in ways)}) AS {_identifier(name)}"
            for name, ways in spellings.items()
        ]
        query = f"SELECT {', '.join([*columns, *extra])} FROM {rows}"
    elif schema.name == "predictions" and spellings:
        extra = [f"c.{_identifier(name)}" for name in spellings]
        own = [f"p.{c}" for c in columns]
        query = f"SELECT {', '.join([*own, *extra])} FROM {rows} p LEFT JOIN clips c USING (study, clip)"
    kind = "TABLE" if schema.stored == "table" else "VIEW"
    order = " ORDER BY study, rank NULLS LAST, accuracy DESC NULLS LAST" if schema.name == "leaderboard" else ""
    yield f'CREATE {kind} "{schema.name}" AS {query}{order}'
    yield f'COMMENT ON {kind} "{schema.name}" IS {_quoted(schema.doc)}'
    for c in schema.columns:
        if c.name != "kept":
            yield f'COMMENT ON COLUMN "{schema.name}"."{c.name}" IS {_quoted(c.doc)}'


def _spellings(kept: list[str]) -> dict[str, list[str]]:
    """Group kept columns that differ in case alone, for SQL takes them for one; the project's own columns go first."""
    taken = {c.name.casefold() for t in ("clips", "predictions") for c in TABLES[t].columns}
    groups: dict[str, list[str]] = {}
    for name in kept:
        if name.casefold() not in taken:
            groups.setdefault(name.casefold(), []).append(name)
    return {ways[0]: ways for ways in groups.values()}


def _duckdb_type(kind: pa.DataType) -> str:
    if pa.types.is_map(kind):
        return f"MAP({_duckdb_type(kind.key_type)}, {_duckdb_type(kind.item_type)})"
    if pa.types.is_list(kind):
        return f"{_duckdb_type(kind.value_type)}[]"
    names = {"string": "VARCHAR", "int64": "BIGINT", "double": "DOUBLE", "float": "FLOAT", "bool": "BOOLEAN"}
    return {**names, "binary": "BLOB", "timestamp[us, tz=UTC]": "TIMESTAMPTZ"}[str(kind)]


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _literal(path: str) -> str:
    """Keep DuckDB from taking a folder's name for a pattern."""
    return re.sub(r"[*?\[]", lambda m: f"[{m[0]}]", path)


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


@contextmanager
def reading(layout: Layout) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open the catalogue for reading, brought up to date unless another process is doing so right now.

    Raises:
        VlmAudioError: when nothing was run in this data folder yet.
    """
    if not layout.studies.exists():
        raise VlmAudioError(
            f"there must be results to read, but nothing was run in {layout.root} yet; run `vlm-audio run demo`, "
            "or name the data folder with --data"
        )
    refresh(layout, wait=not layout.results.exists())
    with duckdb.connect(str(layout.results), read_only=True) as db:
        db.execute("SET TimeZone = 'UTC'")
        yield db


def query(layout: Layout, sql: str, parameters: Iterable[Any] = ()) -> pa.Table:
    """Ask the catalogue a question.

    Raises:
        VlmAudioError: for wrong SQL, with DuckDB's own words; for tables with damaged parts, naming these.
    """
    with reading(layout) as db:
        try:
            relation = db.sql(sql, params=list(parameters) or None)
            rows = relation.to_arrow_table() if relation is not None else pa.table({})
        except (duckdb.ParserException, duckdb.BinderException, duckdb.CatalogException) as error:
            raise VlmAudioError(f"{error}") from error
        except duckdb.Error as error:
            _refuse_damaged(layout, _named(sql))
            raise VlmAudioError(f"{error}") from error
    # views fail by themselves; tables were built without their damaged parts
    _refuse_damaged(layout, [name for name in _named(sql) if TABLES[name].stored == "table"])
    return rows


def _named(sql: str) -> list[str]:
    """Give the tables that a question may read."""
    names = {name for name in TABLES if name in sql.casefold()}
    return sorted(names | {"clips"} if "predictions" in names else names)  # the view may take kept columns of clips


def _refuse_damaged(layout: Layout, tables: Iterable[str]) -> None:
    """Name parts whose footer is fine, so that running again takes them for made, and whose rows cannot be read.

    Raises:
        VlmAudioError: when there are any.
    """
    paths = {
        layout.root / part: TABLES[table]
        for study in manifests(layout).values()
        for table in tables
        for part in study["parts"].get(table, ())
    }
    damaged = [path for path, schema in paths.items() if _fits(path, schema) and not _whole(path, schema)]
    if damaged:
        raise VlmAudioError(
            f"parts of tables must be readable, got damaged ones: {', '.join(map(str, damaged))}; "
            "delete them and run their studies again"
        )
