"""Results of a step under way: kept beside the row store until the step's part is written, so that a kill loses little.

What belongs here: rows too large to keep for ever and too slow to make twice, such as the pictures of a large fold. What does
not: rows that another study or a later change can use; those are the row store's.
"""

from collections.abc import Sequence
from pathlib import Path

from vlm_audio_pipeline.storage.result_store import RowStore


class Scratch:
    """The unfinished results of one step for one fold; no file is made before something is put.

    Args:
        path: the SQLite file.
    """

    def __init__(self, path: Path):
        self._path = path
        self._rows: RowStore | None = None

    def get(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Give the payloads of those keys that an earlier attempt left."""
        return self._open().get(keys) if self._path.exists() else {}

    def put(self, rows: Sequence[tuple[str, bytes]]) -> None:
        """Keep (key, payload) pairs until the part is written."""
        self._open().put("scratch", rows)

    def discard(self) -> None:
        """Delete everything: the part is written."""
        if self._rows is not None:
            self._rows.close()
            self._rows = None
        for suffix in ("", "-wal", "-shm"):
            self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)

    def _open(self) -> RowStore:
        if self._rows is None:
            self._rows = RowStore(self._path)
        return self._rows
