"""The SQL statements that create the tables and views of the catalogue from their schemas."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from vlm_audio_pipeline.contracts.escapes import escape_sql
from vlm_audio_pipeline.storage.partition_files import escape_glob
from vlm_audio_pipeline.storage.schemas import TABLES, TableSchema

DIRECTIONS = {"ascending": "ASC", "descending": "DESC"}


def select_rows(schema: TableSchema, source: str, extra_columns: Sequence[str]) -> str:
    """Return the SQL that selects the rows of a table or view from `source`: `read_files` or `macro_call`."""
    plain = [c for c in schema.columns if not c.spread]
    selected = [f"t.{quote_name(c.name)}" for c in plain]
    rows = f"{source} t"
    extra = _case_variants(extra_columns) if schema.extra_columns_of or len(plain) < len(schema.columns) else {}
    for column in schema.columns:
        if column.spread:
            values = {
                name: ", ".join(f"t.{column.name}[{escape_sql(v)}]" for v in names) for name, names in extra.items()
            }
            selected += [f"coalesce({keys}) AS {quote_name(name)}" for name, keys in values.items()]
    if schema.extra_columns_of and extra:
        selected += [f"e.{quote_name(name)}" for name in extra]
        rows += f" LEFT JOIN {quote_name(schema.extra_columns_of)} e USING (study, clip)"
    keys = [f"{quote_name(name)} {DIRECTIONS[direction]} NULLS LAST" for name, direction in schema.order]
    order = f" ORDER BY {', '.join(keys)}" if keys else ""
    return f"SELECT {', '.join(selected)} FROM {rows}{order}"


def comment_statements(schema: TableSchema) -> Iterator[str]:
    """Yield the SQL that describes a table or view and its columns."""
    kind = schema.catalogue_kind.upper()
    yield f"COMMENT ON {kind} {quote_name(schema.name)} IS {escape_sql(schema.doc)}"
    for c in schema.columns:
        if not c.spread:
            yield f"COMMENT ON COLUMN {quote_name(schema.name)}.{quote_name(c.name)} IS {escape_sql(c.doc)}"


def macro_statement(schema: TableSchema, files: Sequence[Path]) -> str:
    """Return the SQL that creates or replaces the macro with the rows of a view.

    A view that calls a macro stays the same, with the comments on its columns, when its files change.
    """
    return f"CREATE OR REPLACE MACRO {macro_call(schema)} AS TABLE SELECT * FROM {read_files(schema, files)}"


def macro_call(schema: TableSchema) -> str:
    """Return the SQL that calls the macro of `macro_statement`."""
    return f"{quote_name('_files_of_' + schema.name)}()"


def read_files(schema: TableSchema, files: Sequence[Path]) -> str:
    """Return the SQL of the rows of partition files; without files, of no rows with the same columns."""
    if files:
        paths = ", ".join(escape_sql(escape_glob(str(p))) for p in files)
        return f"(SELECT * FROM read_parquet([{paths}], hive_partitioning = false))"
    empty = ", ".join(f"NULL::{_duckdb_type(c.type)} AS {quote_name(c.name)}" for c in schema.columns)
    return f"(SELECT {empty} LIMIT 0)"


def _case_variants(names: Iterable[str]) -> dict[str, list[str]]:
    """Group extra columns whose names differ only in case, which SQL ignores; leave out names of the tables' own columns."""
    tables = [t for t in TABLES.values() if t.extra_columns_of or any(c.spread for c in t.columns)]
    own_columns = {c.name.casefold() for t in tables for c in t.columns}
    groups: dict[str, list[str]] = {}
    for name in names:
        if name.casefold() not in own_columns:
            groups.setdefault(name.casefold(), []).append(name)
    return {variants[0]: variants for variants in groups.values()}


def _duckdb_type(kind: pa.DataType) -> str:
    if pa.types.is_map(kind):
        return f"MAP({_duckdb_type(kind.key_type)}, {_duckdb_type(kind.item_type)})"
    if pa.types.is_list(kind):
        return f"{_duckdb_type(kind.value_type)}[]"
    names = {"string": "VARCHAR", "int64": "BIGINT", "double": "DOUBLE", "float": "FLOAT", "bool": "BOOLEAN"}
    return {**names, "binary": "BLOB", "timestamp[us, tz=UTC]": "TIMESTAMPTZ"}[str(kind)]


def quote_name(name: str) -> str:
    """Return a name as an SQL identifier in quotation marks."""
    return '"' + name.replace('"', '""') + '"'
