"""Expensive computations in a form that can be sent to other processes, and the engines that execute them.

Belongs here: what a work and an engine promise. Does not belong here: the engines (`engines/`), and the families' works.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from vlm_audio_pipeline.contracts.progress import Progress

if TYPE_CHECKING:
    from vlm_audio_pipeline.storage.result_store import ResultStore

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Failure:
    """A result that could not be computed, with the reason. It is returned but not stored, so a later run tries again."""

    reason: str


Compute = Callable[[list[Any]], Sequence[bytes | Failure]]
"""Prepared items of a batch -> payloads, in order; `Failure` for one that cannot be computed."""


class Work(Protocol):
    """A computation of payloads from items, without the data: it is pickled and sent to workers, so it holds no table or store.

    The device and the number format are fixed when it is made, never where it runs: the result keys contain the format.
    """

    @property
    def key(self) -> str:
        """Hash of everything that `open` loads. Works with equal keys share what is loaded."""
        ...

    @property
    def uses_gpu(self) -> bool:
        """Whether it computes on a GPU."""
        ...

    @property
    def max_parallel(self) -> int | None:
        """Maximum number of batches at the same time on one machine; None: one per core."""
        ...

    def files_of(self, item: Any) -> tuple[Path, ...]:
        """Return the recordings that are read for an item; each through `file_copies.readable_path`."""
        ...

    def prepare(self, item: Any) -> Any:
        """Map an item to the input of the computation (decode a file); may be called in another thread."""
        ...

    def open(self) -> Compute:
        """Load what the computation needs, and return it.

        Raises:
            NotAvailable: if weights, device or packages are missing where it runs.
        """
        ...


@dataclass(frozen=True)
class NodeCall(Generic[Result]):
    """What a function did on one machine of a cluster.

    Attributes:
        node: name and address of the machine.
        result: what it returned; None after an error.
        error: why it failed, in one sentence; None if it did not.
    """

    node: str
    result: Result | None
    error: str | None = None


@dataclass(frozen=True)
class Rows:
    """Results to compute and store: one map of an engine.

    Attributes:
        keys: result keys: hashes of everything that determines the payload.
        items: picklable input for each key.
        work: the computation.
        kind: kind of the results in the result store.
        batch_size: items per call.
        sizes: size of each prepared item (s, bytes), if sizes differ much.
        max_total_size: maximum sum of sizes in a batch; a larger item is a batch of its own.
        is_readable: returns whether a stored payload can be read; others are computed again.
    """

    keys: Sequence[str]
    items: Sequence[Any]
    work: Work
    kind: str
    batch_size: int = 1
    sizes: Sequence[float] | None = None
    max_total_size: float = math.inf
    is_readable: Callable[[bytes], bool] | None = None


class Engine(Protocol):
    """Executes works: on this machine, or on the workers of a cluster. Payloads do not depend on the engine.

    Attributes:
        maps_all_folds: whether the rows of all folds of a step are computed in one map before the first fold is executed. A fold
            has too few batches for many workers.
    """

    maps_all_folds: bool

    def map_rows(
        self, rows: Sequence[Rows], result_store: "ResultStore", progress: Progress
    ) -> list[list[bytes | Failure]]:
        """Return the payloads of several groups of rows with the same work; compute only those that are not stored.

        A batch never has rows of two groups, so it does not depend on what is computed together. Each batch is stored as soon as
        it is computed. If another process stored a payload first, that payload is returned.

        Raises:
            Every exception of the work. Finished batches, and batches in flight that still finish, are stored first.
        """
        ...

    def map_ordered(
        self,
        function: Callable[[Item], Result],
        items: Sequence[Item],
        progress: Progress,
        on_result: Callable[[Result], None] = lambda result: None,
    ) -> list[Result]:
        """Map a picklable function over items; call `on_result` with each result, in the order of the items, as soon as possible.

        A function that reads recordings has a method `files_of`, as a `Work` has.
        """
        ...

    def open_backend(self, work: "BackendWork") -> Any:
        """Return the backend of a language model; see `classifiers.language_models.messages.Backend`."""
        ...

    def has_gpu(self) -> bool | None:
        """Return whether the workers have a GPU; None if works run in this process, where each model finds out itself."""
        ...

    def call_everywhere(self, function: Callable[[], Result]) -> list["NodeCall[Result]"]:
        """Call a picklable function once on each other machine of the engine, at the same time; an error does not stop the others."""
        ...

    def exclusive_gpu(self, progress: Progress) -> AbstractContextManager[None]:
        """Hold the accelerator of this machine, if works run on it."""
        ...

    def close(self) -> None:
        """End the workers."""
        ...


class BackendWork(Protocol):
    """A language model that can be loaded in another process; picklable."""

    @property
    def key(self) -> str:
        """Hash of everything that `open` loads."""
        ...

    @property
    def uses_gpu(self) -> bool:
        """Whether it computes on a GPU."""
        ...

    def files_of(self, request: Any) -> tuple[Path, ...]:
        """Return the recordings that are read for a request; see `Work.files_of`."""
        ...

    @property
    def chunk_size(self) -> int:
        """Requests that are computed together; see `Backend.chunk_size`."""
        ...

    def open(self) -> Any:
        """Load the model and return its backend."""
        ...
