"""Dagster's event log in SQLite, with its connections kept open.

Dagster's own makes a database engine and a connection for each of the dozen events a step has, which costs more than
many a step, and for each run it reads all its migrations to make an empty file. The files are the same, and either can
read what the other wrote. Named in `dagster.yaml` (`instance`).
"""

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from dagster import StringSource
from dagster._core.event_api import EventLogEntry
from dagster._core.events import DagsterEventType
from dagster._core.storage.event_log import SqliteEventLogStorage
from dagster._core.storage.event_log.sqlite.sqlite_event_log import SQLITE_BUSY_TIMEOUT_SECONDS
from dagster._serdes import ConfigurableClassData

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

OPEN = 8
"""Files held open: the index and the latest runs."""
SHOWN_EVERY_S = 1.0
"""How old an event of a step may become before the UI hears of it, s, if others follow; the start of a step is heard at once."""
ENDS = (DagsterEventType.RUN_SUCCESS, DagsterEventType.RUN_FAILURE, DagsterEventType.RUN_CANCELED)


class EventLog(SqliteEventLogStorage):
    """The logs of a Dagster home: one file a run, and an index.

    Args:
        base_dir: the folder of the logs.
        inst_data: Dagster's record of how this was configured.
    """

    _empty: ClassVar[bytes | None] = None
    """A run's file before its first event."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None):
        self._engines: OrderedDict[str, Engine] = OrderedDict()
        self._shown = 0.0
        super().__init__(base_dir, inst_data)

    @classmethod
    def config_type(cls) -> dict[str, Any]:
        """Give what `dagster.yaml` says: the home."""
        return {"home": StringSource}

    @classmethod
    def from_config_value(cls, inst_data: ConfigurableClassData | None, config_value: Any) -> "EventLog":
        """Open the logs where Dagster itself keeps them."""
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
            waiting = {"timeout": SQLITE_BUSY_TIMEOUT_SECONDS}
            engine = create_engine(self.conn_string_for_shard(shard), connect_args=waiting)
            event.listen(engine, "connect", _unhurried)
            if shard not in self._initialized_dbs:
                self._make(Path(self.path_for_shard(shard)), engine)
                self._initialized_dbs.add(shard)
            self._engines[shard] = engine
            if len(self._engines) > OPEN:
                self._engines.popitem(last=False)[1].dispose()
        self._engines.move_to_end(shard)
        return self._engines[shard]

    def _make(self, path: Path, engine: "Engine") -> None:
        """Make the file of a run if it is not there: Dagster's way the first time, then as a copy of that."""
        new = not path.exists()
        if new and EventLog._empty is not None and _placed(EventLog._empty, path):
            return
        self._initdb(engine)
        if new:
            with engine.connect() as connection:
                if connection.exec_driver_sql("SELECT 1 FROM event_logs").first() is None:
                    EventLog._empty = connection.connection.driver_connection.serialize()  # type: ignore[union-attr]

    def store_event(self, event: EventLogEntry) -> None:
        """Store an event, and bring it into the file that the UI watches: SQLite would leave it beside that for long."""
        super().store_event(event)
        kind, now = event.dagster_event_type, time.monotonic()
        if kind == DagsterEventType.STEP_START or kind in ENDS or now - self._shown >= SHOWN_EVERY_S:
            with self.run_connection(event.run_id) as connection:
                connection.exec_driver_sql("PRAGMA wal_checkpoint(PASSIVE)")
            self._shown = now
        if kind in ENDS:
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


def _unhurried(connection: Any, _: object) -> None:
    """Let the disk take its time: a power cut may lose the last events, and no result, for those are not here."""
    connection.execute("PRAGMA synchronous=NORMAL")


def _placed(content: bytes, path: Path) -> bool:
    """Write a file whole where there is none; False where another process was first, or the disk knows no links."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    temporary.write_bytes(content)
    try:
        os.link(temporary, path)
    except OSError:
        return False
    finally:
        temporary.unlink()
    return True
