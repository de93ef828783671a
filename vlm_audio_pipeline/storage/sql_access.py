"""Limit what a query of a person can reach: it reads the data folder and writes nothing.

DuckDB's own settings limit the files that a query opens and forbid extensions. They allow a query to write into the folders that
it may read, so the statements are checked, too.
"""

import os
import re

import duckdb

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.contracts.escapes import escape_sql
from vlm_audio_pipeline.storage.data_folder import DataFolder

_READING_PRAGMAS = re.compile(r"pragma\s+(?:table_info|show_tables|show|storage_info|database_size|version)\b", re.I)
_EXPLAIN = re.compile(r"(?:explain|analyze)\b", re.I)
_COPY = re.compile(r"copy\b", re.I)
_ADVICE = "`vlm-audio sql` only reads the data folder; allow more with --allow-files, if you trust the query"


def restrict(db: duckdb.DuckDBPyConnection, data_folder: DataFolder) -> None:
    """Restrict a connection to the files of the data folder, forbid extensions, and lock these settings."""
    tables = data_folder.tables
    links = [tables, *(tables.iterdir() if tables.is_dir() else ())]  # folders of results may be on another disk
    folders = dict.fromkeys([str(data_folder.root.absolute()), *(os.path.realpath(path) for path in links)])
    for setting in (
        "autoinstall_known_extensions = false",
        "autoload_known_extensions = false",
        "allow_community_extensions = false",
        "python_enable_replacements = false",
        "temp_directory = ''",
        f"allowed_directories = [{', '.join(escape_sql(folder) for folder in folders)}]",
        "enable_external_access = false",
        "lock_configuration = true",
    ):
        db.execute(f"SET {setting}")


def refuse_writing(sql: str) -> None:
    """Check that every statement only reads, and that there is one.

    Raises:
        VlmAudioError: for any other statement, such as COPY, ATTACH or CREATE, and without a statement;
            duckdb.ParserException for wrong SQL.
    """
    statements = duckdb.extract_statements(sql)
    if not statements:
        raise VlmAudioError(
            "a query must be a SELECT, got an empty text; write a query such as `SELECT * FROM leaderboard`"
        )
    for statement in statements:
        kind, tokens = statement.type.name, _tokens(statement.query)
        if kind == "EXPLAIN":
            refuse_writing(next((rest for rest in tokens if not _EXPLAIN.match(rest)), ""))
        elif kind not in ("SELECT", "MULTI") and not _READING_PRAGMAS.match(tokens[0]):  # MULTI: PIVOT
            raise VlmAudioError(f"a query must be a SELECT, got a statement of kind {kind}: {_ADVICE}")
        elif any(_COPY.match(rest) for rest in tokens):  # DuckDB 2 allows `WITH x AS (COPY ... TO 'file') SELECT ...`
            raise VlmAudioError(f'a query must not contain COPY (a column of that name is written "copy"): {_ADVICE}')


def _tokens(sql: str) -> list[str]:
    """Return the text from each word and sign of a statement on; comments are left out."""
    data = sql.encode(errors="replace")  # DuckDB counts bytes
    comment = duckdb.token_type.comment
    return [data[start:].decode(errors="replace") for start, kind in duckdb.tokenize(sql) if kind != comment]
