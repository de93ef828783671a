"""Dagster's SQLite event log, with its connections kept open.

Dagster's own event log opens an engine and a connection for each of the dozen events of a step, which takes longer than many
steps, and runs all migrations for the file of each run. The files have the same format, so each class reads the files of the other.
`dagster.yaml` names this class (see `instance`). It overrides private methods of Dagster: a test checks that they still exist.
"""

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from dagster import EventLogEntry, StringSource
from dagster._core.events import DagsterEventType
from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS
from dagster._serdes import ConfigurableClassData

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

MAX_OPEN_FILES = 8
"""Files kept open: the index and the latest runs."""
CHECKPOINT_INTERVAL_S = 1.0
"""Longest time until the UI shows an event that other events follow, s. It shows the start of a step and the end of a run at once."""
_RUN_END_EVENTS = (DagsterEventType.RUN_SUCCESS, DagsterEventType.RUN_FAILURE, DagsterEventType.RUN_CANCELED)


class EventLog(SqliteEventLogStorage):
    """The event logs of a Dagster home: one file for each run, and an index.

    Args:
        base_dir: the folder of the logs.
        inst_data: the configuration of this object, as Dagster stores it.
    """

    _empty_file: ClassVar[bytes | None] = None
    """Content of a run's file before its first event."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None):
        self._engines: OrderedDict[str, Engine] = OrderedDict()
        self._last_checkpoint = 0.0
        super().__init__(base_dir, inst_data)

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """Return the configuration schema: the Dagster home."""
        return {"home": StringSource}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> "EventLog":
        """Open the logs in the folder where Dagster keeps them."""
        return cls(str(Path(config_value["home"], "history", "runs")), inst_data)

    @contextmanager
    def _connect(self, shard: str) -> Iterator["Connection"]:
        with self._db_lock:
            engine = self._engine(shard)
            with engine.connect() as connection, connection.begin():
                yield connection

    def _engine(self, shard: str) -> "Engine":
        from sqlalchemy import create_engine, event

        if shard not in self._engines:
            arguments = {"timeout": SQLITE_BUSY_TIMEOUT_SECONDS}
            engine = create_engine(self.conn_string_for_shard(shard), connect_args=arguments)
            event.listen(engine, "connect", _do_not_sync)
            if shard not in self._initialized_dbs:
                self._create_file(Path(self.path_for_shard(shard)), engine)
                self._initialized_dbs.add(shard)
            self._engines[shard] = engine
            if len(self._engines) > MAX_OPEN_FILES:
                self._engines.popitem(last=False)[1].dispose()
        self._engines.move_to_end(shard)
        return self._engines[shard]

    def _create_file(self, path: Path, engine: "Engine") -> None:
        """Create the file of a run if it does not exist: the first with Dagster's migrations, later ones as copies of it."""
        is_new = not path.exists()
        if is_new and EventLog._empty_file is not None and _write_new_file(EventLog._empty_file, path):
            return
        self._initdb(engine)
        if is_new:
            with engine.connect() as connection:
                if connection.exec_driver_sql("SELECT 1 FROM event_logs").first() is None:
                    EventLog._empty_file = connection.connection.driver_connection.serialize()

    def store_event(self, event: EventLogEntry) -> None:
        """Store an event, and write it to the file that the UI watches; SQLite alone may keep it in the WAL file for a long time."""
        super().store_event(event)
        kind, now = event.dagster_event_type, time.monotonic()
        if (
            kind == DagsterEventType.STEP_START
            or kind in _RUN_END_EVENTS
            or now - self._last_checkpoint >= CHECKPOINT_INTERVAL_S
        ):
            with self.run_connection(event.run_id) as connection:
                connection.exec_driver_sql("PRAGMA wal_checkpoint(PASSIVE)")
            self._last_checkpoint = now
        if kind in _RUN_END_EVENTS:
            self._close(event.run_id)

    def wipe(self) -> None:
        """Delete all logs."""
        self._close(*self._engines)
        super().wipe()

    def dispose(self) -> None:
        """Close all logs."""
        self._close(*self._engines)
        super().dispose()

    def _close(self, *shards: str) -> None:
        with self._db_lock:
            for shard in shards:
                if engine := self._engines.pop(shard, None):
                    engine.dispose()


def _do_not_sync(connection: Any, _: object) -> None:
    """Do not wait for the disk: after a power cut the last events may be missing. Results are stored elsewhere."""
    connection.execute("PRAGMA synchronous=NORMAL")


def _write_new_file(content: bytes, path: Path) -> bool:
    """Write a new file atomically; return False if it already exists, or if the file system has no hard links."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    temporary.write_bytes(content)
    try:
        os.link(temporary, path)
    except OSError:
        return False
    finally:
        temporary.unlink()
    return True
