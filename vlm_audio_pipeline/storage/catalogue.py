"""The catalogue: one DuckDB file for SQL queries, with views over the partition files and small result tables inside.

It is built from the partition files and the study records under a temporary name and then renamed, so readers never
wait and never see an incomplete file. All results are in the partition files: deleting the catalogue loses nothing.
"""

import itertools
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from vlm_audio_pipeline.contracts import faults
from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.contracts.escapes import escape_sql
from vlm_audio_pipeline.contracts.hashing import fingerprint
from vlm_audio_pipeline.storage.atomic import atomic_path, delete, set_folder_aside
from vlm_audio_pipeline.storage.catalogue_files import CatalogueFiles, has_columns, is_readable, sort_files
from vlm_audio_pipeline.storage.catalogue_statements import (
    comment_statements,
    macro_call,
    macro_statement,
    quote_name,
    read_files,
    select_rows,
)
from vlm_audio_pipeline.storage.data_folder import DataFolder
from vlm_audio_pipeline.storage.locks import file_lock
from vlm_audio_pipeline.storage.query_columns import unique_names
from vlm_audio_pipeline.storage.schemas import TABLES
from vlm_audio_pipeline.storage.sql_access import refuse_writing, restrict
from vlm_audio_pipeline.storage.study_records import study_records as study_records
from vlm_audio_pipeline.storage.study_records import write_study_record as write_study_record

_LOG = logging.getLogger(__name__)
_numbers = itertools.count()  # names of attached files, distinct between threads
VERSION = 5  # of the code that builds the catalogue; after an increase, every catalogue is rebuilt


def rebuild_catalogue(data_folder: DataFolder, *, wait: bool = True) -> bool:
    """Rebuild the catalogue if a partition file was added, removed or changed since it was built.

    Args:
        data_folder: the data folder.
        wait: wait for another process that is rebuilding it; otherwise return at once.

    Returns:
        Whether it was rebuilt.
    """
    with file_lock(data_folder.lock("catalogue"), wait=wait) as has_lock:
        if not has_lock:
            return False
        files, extra_columns, signature = _catalogue_contents(data_folder)
        if _is_current(data_folder, signature):
            return False
        _build(data_folder, files, extra_columns, signature)
        return True


def _catalogue_contents(data_folder: DataFolder) -> tuple[dict[str, list[Path]], list[str], str]:
    """Return the partition files by table, the extra columns, and the signature of both, without damaged study records."""
    records = study_records(data_folder, leave_out_damaged=True).values()
    files = {table: _existing_files(data_folder, table, records) for table in TABLES}
    extra_columns = sorted({name for record in records for name in record.get("extra_columns") or ()})
    return files, extra_columns, _signature(data_folder, files, extra_columns)


def _existing_files(data_folder: DataFolder, table: str, records: Iterable[dict[str, Any]]) -> list[Path]:
    paths = (data_folder.root.absolute() / file for r in records for file in r["partition_files"].get(table, ()))
    return [path for path in paths if path.exists()]


def _signature(data_folder: DataFolder, files: Mapping[str, Sequence[Path]], extra_columns: list[str]) -> str:
    stamps = [(str(p), p.stat().st_mtime_ns, p.stat().st_size) for paths in files.values() for p in paths]
    tables = [[schema.name, *schema.arrow.names] for schema in TABLES.values()]  # differs between program versions
    return fingerprint(VERSION, str(data_folder.root.absolute()), tables, [list(s) for s in stamps], extra_columns)


def _is_current(data_folder: DataFolder, signature: str) -> bool:
    """Return whether the catalogue exists, is readable, and has this signature."""
    if not data_folder.catalogue.exists():
        return False
    try:
        with _attach_file((), data_folder.catalogue, "(READ_ONLY)") as db:
            return db.execute("SELECT signature FROM catalogue_built").fetchone() == (signature,)
    except duckdb.Error:
        return False


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
        pass  # a damaged catalogue is rebuilt, like a stale catalogue
    db.close()
    return None


def _build(
    data_folder: DataFolder, files: Mapping[str, Sequence[Path]], extra_columns: Sequence[str], signature: str
) -> None:
    """Write the catalogue. Files that cannot be used are left out and listed in it, so that other results stay visible."""
    path = data_folder.catalogue
    set_folder_aside(path)
    with atomic_path(path) as temporary:
        _delete_log(temporary)  # of a killed process with the same number
        with _attach_file(tuple(_empty_tables(extra_columns)), temporary) as db:
            _fill(db, sort_files(data_folder, files), extra_columns, signature)
        faults.kill_point("catalogue")
        # The log of another program that was killed belongs to the old file; DuckDB would refuse the new file.
        _delete_log(path)


def _empty_tables(extra_columns: Sequence[str]) -> Iterator[str]:
    """Yield the SQL that creates all tables and views without rows."""
    for schema in TABLES.values():
        if schema.catalogue_kind == "view":
            yield macro_statement(schema, ())
            yield f"CREATE VIEW {quote_name(schema.name)} AS {select_rows(schema, macro_call(schema), extra_columns)}"
        else:
            yield f"CREATE TABLE {quote_name(schema.name)} AS {select_rows(schema, read_files(schema, ()), ())}"
        yield from comment_statements(schema)


@lru_cache(maxsize=4)  # one for each set of extra columns
def _template(statements: tuple[str, ...]) -> duckdb.DuckDBPyConnection:
    """Return a connection to a database in memory, `template`, after these statements.

    The comments of the columns are hundreds of statements, most of the time of a small catalogue. A process executes them once.
    """
    db = duckdb.connect()
    db.execute("ATTACH ':memory:' AS template; USE template")
    _execute(db, statements)
    return db


@contextmanager
def _attach_file(statements: tuple[str, ...], path: Path, options: str = "") -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a DuckDB file within the database of `_template`, which takes a tenth of the time of a separate database.

    A new file has what the statements create.
    """
    name = f"catalogue_{next(_numbers)}"
    is_new = not path.exists()
    with _template(statements).cursor() as attaching:
        attaching.execute(f"ATTACH {escape_sql(str(path))} AS {name} {options}")
        try:
            if is_new:
                attaching.execute(f"COPY FROM DATABASE template TO {name} (SCHEMA)")
            with attaching.cursor() as db:
                db.execute(f"USE {name}")
                yield db
        finally:
            attaching.execute(f"DETACH {name}")


def _execute(db: duckdb.DuckDBPyConnection, statements: Iterable[str]) -> None:
    db.begin()  # one transaction: hundreds of separate commits would each wait for the disk
    for statement in statements:
        db.execute(statement)
    db.commit()


def _fill(db: duckdb.DuckDBPyConnection, files: CatalogueFiles, extra_columns: Sequence[str], signature: str) -> None:
    """Fill the empty tables and views."""
    db.begin()
    for name, schema in TABLES.items():
        if paths := files.usable[name]:
            if schema.catalogue_kind == "view":
                db.execute(macro_statement(schema, paths))
            else:
                rows = select_rows(schema, read_files(schema, paths), extra_columns)
                db.execute(f"INSERT INTO {quote_name(name)} {rows}")
    db.execute(
        "CREATE TABLE catalogue_built AS SELECT ? AS signature, now() AS built_at, ? AS left_out",
        [signature, files.to_json()],
    )
    db.commit()


def _delete_log(catalogue: Path) -> None:
    """Delete the write-ahead log of a DuckDB file."""
    delete(catalogue.with_name(catalogue.name + ".wal"))


@contextmanager
def open_catalogue(data_folder: DataFolder) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open the catalogue for reading. A stale catalogue is rebuilt first, unless another process is rebuilding it.

    If the data folder is read-only, the catalogue is rebuilt in memory. Studies with a damaged record are left out, with a warning.

    Raises:
        VlmAudioError: if no study was run in this data folder, and if the catalogue cannot be opened.
    """
    if not data_folder.studies.exists():
        raise VlmAudioError(
            f"the data folder {data_folder.root} has no results, because no study was run in it; run `vlm-audio run demo`, "
            "or choose another folder with --data"
        )
    contents = _catalogue_contents(data_folder)
    db = _connect_if_current(data_folder, contents[2])
    if db is None:
        try:
            rebuild_catalogue(data_folder, wait=not data_folder.catalogue.exists())
            db = _connect(data_folder)
        except (OSError, duckdb.Error):
            if os.access(data_folder.root, os.W_OK):
                raise
            files, extra_columns, signature = contents
            db = duckdb.connect()
            _execute(db, _empty_tables(extra_columns))
            _fill(db, sort_files(data_folder, files), extra_columns, signature)
    with db:
        db.execute("SET TimeZone = 'UTC'")
        yield db


def _connect(data_folder: DataFolder) -> duckdb.DuckDBPyConnection:
    """Open the file of the catalogue; if it is damaged, wait for the process that rebuilds it."""
    try:
        return duckdb.connect(str(data_folder.catalogue), read_only=True)
    except duckdb.Error:
        if not os.access(data_folder.root, os.W_OK):
            raise
        rebuild_catalogue(data_folder)
    try:
        return duckdb.connect(str(data_folder.catalogue), read_only=True)
    except duckdb.Error as error:
        raise VlmAudioError(
            f"the catalogue {data_folder.catalogue} cannot be opened: {error}; close other programs that use it, or delete it and "
            f"{data_folder.catalogue.name}.wal: it is made again from the partition files"
        ) from error


def query(
    data_folder: DataFolder,
    sql: str,
    parameters: Iterable[Any] = (),
    *,
    is_trusted: bool = True,
    leave_out_damaged: bool = False,
    study: str | None = None,
) -> pa.Table:
    """Run an SQL query on the catalogue.

    Args:
        data_folder: the data folder.
        sql: the query (DuckDB).
        parameters: values of `?` or `$1`, `$2`, ... in the query.
        is_trusted: whether the query may read and write other files; see `sql_access`.
        leave_out_damaged: return the rows of intact files, with a warning that names the damaged files.
        study: the tables contain only the rows of this study; None: of all studies.

    Returns:
        The rows; names of columns that occur twice are numbered (`clip`, `clip_1`).

    Raises:
        VlmAudioError: for wrong SQL, with DuckDB's message; for damaged partition files, with their names; for a query that
            is not trusted and does more than reading the data folder.
    """
    with open_catalogue(data_folder) as db:
        return _run_query(db, data_folder, sql, parameters, is_trusted, leave_out_damaged, study)


@contextmanager
def open_queries(
    data_folder: DataFolder, *, leave_out_damaged: bool = False
) -> Iterator[Callable[[str, Iterable[Any]], pa.Table]]:
    """Open the catalogue once for many trusted queries; yields a function of SQL and parameters that returns the rows, see `query`."""
    with open_catalogue(data_folder) as db:
        yield lambda sql, parameters: _run_query(db, data_folder, sql, parameters, True, leave_out_damaged, None)


def _run_query(
    db: duckdb.DuckDBPyConnection,
    data_folder: DataFolder,
    sql: str,
    parameters: Iterable[Any],
    is_trusted: bool,
    leave_out_damaged: bool,
    study: str | None,
) -> pa.Table:
    if any("\ud800" <= character <= "\udfff" for character in sql):  # how Python passes on bytes of an argument
        raise VlmAudioError("the query contains bytes that are not UTF-8 text; write it in UTF-8")
    tables = _tables_in_query(sql)
    left_out = _files_left_out(db)
    try:
        if study is not None:
            _select_study(db, study, tables)
        if not is_trusted:
            restrict(db, data_folder)
            refuse_writing(sql)
        relation = db.sql(sql, params=list(parameters) or None)
        rows = relation.to_arrow_table() if relation is not None else pa.table({})
        rows = rows.rename_columns(unique_names(rows.column_names))
    except duckdb.ParserException as error:
        advice = "write a query such as `SELECT * FROM leaderboard`; `SHOW TABLES` lists the tables"
        raise VlmAudioError(f"{error}\n{advice}") from error
    except (duckdb.BinderException, duckdb.CatalogException) as error:
        raise VlmAudioError(f"{error}") from error
    except duckdb.Error as error:
        _refuse(_damaged_files(data_folder, tables))
        raise VlmAudioError(f"{error}") from error
    if not leave_out_damaged:
        _refuse([file for table in tables for file in left_out.damaged_rows.get(table, ())])
    left_out_groups = [left_out.other_damage, left_out.damaged_rows]
    if files := [str(file) for group in left_out_groups for table in tables for file in group.get(table, ())]:
        _LOG.warning(
            "these partition files are damaged and left out: %s; run their studies again to make them again",
            ", ".join(files),
        )
    return rows


def _files_left_out(db: duckdb.DuckDBPyConnection) -> CatalogueFiles:
    ((text,),) = db.execute("SELECT left_out FROM catalogue_built").fetchall()
    return CatalogueFiles.from_json(text)


def _select_study(db: duckdb.DuckDBPyConnection, study: str, tables: Iterable[str]) -> None:
    """Hide tables of a connection behind temporary views of the same names, with the rows of one study."""
    ((database,),) = db.execute("SELECT current_database()").fetchall()
    for name in tables:
        if "study" in TABLES[name].arrow.names:
            table = (
                f"{quote_name(database)}.main.{quote_name(name)}"  # without the database, it would be the view itself
            )
            rows = f"SELECT * FROM {table} WHERE study = {escape_sql(study)}"
            db.execute(f"CREATE TEMP VIEW {quote_name(name)} AS {rows}")


def _tables_in_query(sql: str) -> list[str]:
    """List the tables that a query may read, and the tables that their views join."""
    names = {name for name in TABLES if name in sql.casefold()}
    return sorted(names | {joined for name in names if (joined := TABLES[name].extra_columns_of)})


def _damaged_files(data_folder: DataFolder, tables: Iterable[str]) -> list[Path]:
    """Read the files of tables; return those with unreadable rows, which were damaged after the catalogue was built."""
    paths = {
        data_folder.root / file: TABLES[table]
        for record in study_records(data_folder, leave_out_damaged=True).values()
        for table in tables
        for file in record["partition_files"].get(table, ())
    }
    return [path for path, schema in paths.items() if has_columns(path, schema) and not is_readable(path, schema)]


def _refuse(damaged: Sequence[Path]) -> None:
    """Raise an error that names damaged files, if there are any."""
    if damaged:
        raise VlmAudioError(
            f"these partition files are damaged: {', '.join(map(str, damaged))}; delete them and run their studies again"
        )
