"""Intermediate results of a running step, stored until its partition file is written, so that a killed run can continue.

Belongs here: results that are too large to keep and too slow to compute twice, such as the images of a large fold. Does
not belong here: results that another study can use; those are in the result store.
"""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.storage.atomic import delete
from vlm_audio_pipeline.storage.result_store import ResultStore
from vlm_audio_pipeline.storage.sqlite_files import sqlite_problem

_LOG = logging.getLogger(__name__)
Result = TypeVar("Result")


class Scratch:
    """The intermediate results of one step and fold. The file is created by the first `put`.

    A damaged file is deleted, with a warning: its results are computed again.

    Args:
        path: the SQLite file.
    """

    def __init__(self, path: Path):
        self._path = path
        self._store: ResultStore | None = None

    def get(self, keys: Sequence[str]) -> dict[str, bytes]:
        """Return the payloads of those keys that an earlier attempt stored."""
        return self._use(lambda store: store.get(keys)) if self._path.exists() else {}

    def put(self, results: Sequence[tuple[str, bytes]]) -> None:
        """Store (key, payload) pairs until the partition file is written."""
        self._use(lambda store: store.put("scratch", results))

    def close(self) -> None:
        """Close the file and keep it."""
        if self._store is not None:
            self._store.close()
            self._store = None

    def discard(self) -> None:
        """Delete everything, after the partition file was written."""
        self.close()
        for suffix in ("", "-wal", "-shm"):
            delete(self._path.with_name(self._path.name + suffix))

    def _use(self, function: Callable[[ResultStore], Result]) -> Result:
        """Call a function with the open file, or with a new one if it is damaged."""
        try:
            return function(self._open())
        except VlmAudioError:
            self.close()
            problem = sqlite_problem(self._path)
            if problem is None:  # the disk is full, or another process has it locked
                raise
        _LOG.warning(
            "%s is damaged (%s) and was deleted; the step computes its intermediate results again", self._path, problem
        )
        self.discard()
        return function(self._open())

    def _open(self) -> ResultStore:
        if self._store is None:
            self._store = ResultStore(self._path)
        return self._store
