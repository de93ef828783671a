"""Check a data folder for damage, and say what to do. Nothing is changed.

Read completely are the results and the ledger with their checksums, partition files and study records. Of the catalogue, the
history, the leases and Dagster's databases, the structure is checked.
"""

import sqlite3
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import duckdb
import yaml

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.engines.machine_check import MachineCheck
from vlm_audio_pipeline.storage.data_folder import DataFolder, study_of
from vlm_audio_pipeline.storage.file_systems import require_local_file_system
from vlm_audio_pipeline.storage.ledger import damaged_spending_message
from vlm_audio_pipeline.storage.partition_files import has_checksum, is_intact
from vlm_audio_pipeline.storage.result_rows import damaged_rows
from vlm_audio_pipeline.storage.result_schema import has_checksums
from vlm_audio_pipeline.storage.spending_rows import damaged_spending
from vlm_audio_pipeline.storage.spending_rows import has_checksums as has_spending_checksums
from vlm_audio_pipeline.storage.sqlite_files import connect_read_only, is_locked, sqlite_problem
from vlm_audio_pipeline.storage.study_records import read_study_record

_MAX_NAMES = 5


def check_data(data_folder: DataFolder) -> list[MachineCheck]:
    """Check the contents of a data folder. "bad" needs a run or a person; "warn" is repaired by the next command."""
    if not data_folder.root.is_dir():
        return []
    return [
        *_check_format(data_folder),
        *_check_result_store(data_folder.result_store),
        *_check_studies(data_folder),
        *_check_partition_files(data_folder),
        *_check_catalogue(data_folder),
        *_check_dagster(data_folder),
    ]


def _check_format(data_folder: DataFolder) -> Iterator[MachineCheck]:
    for check in (data_folder.check_format, lambda: require_local_file_system(data_folder.root)):
        try:
            check()
        except VlmAudioError as error:
            yield MachineCheck("bad", str(error))


def _check_result_store(path: Path) -> Iterator[MachineCheck]:
    if not path.exists():
        return
    if is_locked(path):
        yield _not_checked(path)
        return
    if problem := sqlite_problem(path):
        yield MachineCheck(
            "bad",
            f"{path} is damaged: {problem}; stop all runs, copy the file, and restore your backup, or save what can be read with "
            f"`sqlite3 {path} .recover | sqlite3 new.sqlite` and move the new file to its place. It contains paid responses, vectors "
            "and the ledger",
        )
        return
    try:
        with closing(connect_read_only(path)) as db:
            tables = {name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
            if "results" not in tables:
                yield MachineCheck("bad", f"{path} has no table of results; restore your backup, or move the file away")
                return
            (total,) = db.execute("SELECT count(*) FROM results").fetchone()
            if not has_checksums(db):
                yield MachineCheck(
                    "ok",
                    f"{total} results, of an older version, whose checksums are missing or in another table; the next run adds them to each result",
                )
                return
            damaged = Counter(kind for _, kind in damaged_rows(db))
            damaged_amounts = damaged_spending(db) if "spending" in tables and has_spending_checksums(db) else []
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        yield MachineCheck("bad", f"{path} cannot be read: {error}; restore your backup")
        return
    if damaged_amounts:
        yield MachineCheck("bad", damaged_spending_message(path, damaged_amounts))
    if not damaged:
        yield MachineCheck("ok", f"{total} results with the right checksums")
        return
    kinds = ", ".join(f"{count} of kind {kind}" for kind, count in sorted(damaged.items()))
    paid = "; responses are requested, and paid for, again: restore your backup first" if "response" in damaged else ""
    yield MachineCheck(
        "bad",
        f"{damaged.total()} of {total} results in {path} are damaged ({kinds}); the next run that needs them computes them again{paid}",
    )


def _not_checked(path: Path) -> MachineCheck:
    return MachineCheck(
        "warn", f"{path} is locked by another program, so it was not checked; run this command again later"
    )


def _check_studies(data_folder: DataFolder) -> Iterator[MachineCheck]:
    recorded: set[str] = set()
    intact: list[str] = []
    for path in sorted(data_folder.studies.glob("*.json")):
        try:
            read_study_record(path)
            intact.append(path.stem)
        except (ValueError, OSError) as error:
            yield MachineCheck(
                "bad",
                f"the study record {path} is damaged: {error}; run the study again: it writes the record, and computes nothing twice",
            )
        recorded.add(path.stem)
    studies = {study_of(data_folder, path) for path in data_folder.tables.glob("*/study=*/**/part-*.parquet")}
    for study in sorted(name for name in studies - recorded if name):
        yield MachineCheck(
            "bad",
            f"study '{study}' has partition files but no record, so its results are not shown; run it again: it writes the record, and "
            f"computes nothing twice. If you do not need it, delete {data_folder.tables}/*/study={study}",
        )
    if intact:
        yield MachineCheck("ok", f"the records of the studies are intact: {', '.join(intact)}")


def _check_partition_files(data_folder: DataFolder) -> Iterator[MachineCheck]:
    paths = sorted(data_folder.tables.glob("*/study=*/**/part-*.parquet"))
    damaged = [path for path in paths if not is_intact(path, None)]
    if damaged:
        yield MachineCheck(
            "bad",
            f"{len(damaged)} of {len(paths)} partition files are damaged: {_names(damaged)}; delete them and run "
            f"{_studies(data_folder, damaged)} again: they are made again from stored results",
        )
    elif paths:
        yield MachineCheck("ok", f"{len(paths)} partition files are intact")
    if unprotected := [path for path in paths if path not in damaged and not has_checksum(path)]:
        yield MachineCheck(
            "warn",
            f"{len(unprotected)} of {len(paths)} partition files have no checksum, because an older version wrote them: "
            f"{_names(unprotected)}. The checksums of their pages protect the rows, and nothing protects the rest. Delete them and run "
            f"{_studies(data_folder, unprotected)} again: they are made again from stored results, with a checksum",
        )


def _names(paths: Sequence[Path]) -> str:
    return ", ".join(map(str, paths[:_MAX_NAMES])) + (", ..." if len(paths) > _MAX_NAMES else "")


def _studies(data_folder: DataFolder, paths: Sequence[Path]) -> str:
    return ", ".join(sorted({study_of(data_folder, path) or "?" for path in paths}))


def _check_catalogue(data_folder: DataFolder) -> Iterator[MachineCheck]:
    path = data_folder.catalogue
    log = path.with_name(path.name + ".wal")
    if log.exists():
        yield MachineCheck(
            "warn",
            f"{log} was left by another program that was killed, or is in use; the next command that needs a new catalogue deletes it",
        )
    elif path.exists():
        try:
            with duckdb.connect(str(path), read_only=True) as db:
                db.execute("SELECT signature FROM catalogue_built").fetchall()
        except duckdb.Error as error:
            if "lock" in str(error).lower():
                yield _not_checked(path)
                return
            text = f"the catalogue {path} is damaged: {str(error).splitlines()[0]}; the next command makes it again"
            yield MachineCheck("warn", text)
        else:
            yield MachineCheck("ok", f"the catalogue {path.name} can be read")


def _check_dagster(data_folder: DataFolder) -> Iterator[MachineCheck]:
    config = data_folder.dagster_home / "dagster.yaml"
    if config.exists():
        try:
            is_mapping = isinstance(yaml.safe_load(config.read_text(encoding="utf-8")) or {}, dict)
        except (yaml.YAMLError, ValueError, OSError):
            is_mapping = False
        if not is_mapping:
            yield MachineCheck("bad", f"{config} is not a YAML mapping; correct it, or delete it: it is written again")
    locked = [path for path in data_folder.dagster_databases() if is_locked(path)]
    yield from map(_not_checked, locked)
    databases = [path for path in data_folder.dagster_databases() if path not in locked]
    problems = {path: problem for path in databases if (problem := sqlite_problem(path))}
    for path, problem in problems.items():
        yield MachineCheck(
            "bad",
            f"{path} is damaged: {problem}; stop `vlm-audio ui`, then delete the file, or run a study: the file is set aside. It contains "
            "Dagster's history, and no result",
        )
    if databases and not problems:
        yield MachineCheck("ok", f"{len(databases)} databases of Dagster are intact")
