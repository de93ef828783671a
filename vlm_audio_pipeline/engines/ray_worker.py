"""What a worker process of a Ray cluster does: open works once, and compute batches. Only a worker imports ray."""

import pickle
import platform
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.contracts.work import BackendWork, Compute, Work
from vlm_audio_pipeline.engines.blas import one_blas_thread
from vlm_audio_pipeline.engines.doctor import PACKAGES, installed_version

MAX_OPEN = 4
"""Works that a worker keeps open; the one that was unused for longest is closed first."""


@dataclass(frozen=True)
class Raised:
    """An exception that a work raised in a worker."""

    error: BaseException


class Worker:
    """A process of the cluster. What a work loads stays loaded, across folds and steps.

    Args:
        uses_gpu: whether it has a GPU; the next batch is then prepared while one is computed.
    """

    def __init__(self, uses_gpu: bool = False):
        self._opened: dict[str, Any] = {}
        self._lock: AbstractContextManager[Any] = threading.Lock() if uses_gpu else nullcontext()

    def ready(self) -> str:
        """Return the id of the node."""
        import ray

        return str(ray.get_runtime_context().get_node_id())

    def compute(self, work: Work, items: Sequence[Any]) -> Any:
        """Return the payloads of a batch, or `Raised`."""

        def run() -> Any:
            prepared = [work.prepare(item) for item in items]
            with self._lock:
                compute: Compute = self._open(work)
                return list(compute(prepared))

        return self._run(run)

    def apply(self, function: Callable[[Any], Any], items: Sequence[Any]) -> Any:
        """Return the results of a function for items, or `Raised`."""
        return self._run(lambda: [function(item) for item in items])

    def ask(self, work: BackendWork, requests: Sequence[Any]) -> Any:
        """Return the replies of a language model to a chunk of requests and the tokens that were computed, or `Raised`."""

        def run() -> Any:
            backend = self._open(work)
            before, replies = backend.token_counts(), dict[int, Any]()
            backend.ask(requests, replies.__setitem__)
            counts = {name: count - before[name] for name, count in backend.token_counts().items()}
            return [replies[i] for i in range(len(requests))], counts

        return self._run(run)

    def render_messages(self, work: BackendWork, request: Any) -> Any:
        """Return the text of a request in the model's chat template, or `Raised`."""
        return self._run(lambda: self._open(work).render_messages(request))

    def opened(self) -> list[str]:
        """Return the keys of the works that are open."""
        return list(self._opened)

    def _open(self, work: Any) -> Any:
        if work.key not in self._opened:
            while len(self._opened) >= MAX_OPEN:
                self._opened.pop(next(iter(self._opened)))
            self._opened[work.key] = work.open()
        opened = self._opened.pop(work.key)
        self._opened[work.key] = opened  # the last one that was used comes last
        return opened

    def _run(self, function: Callable[[], Any]) -> Any:
        try:
            with one_blas_thread():
                return function()
        except Exception as error:  # noqa: BLE001  the driver raises it again
            return Raised(_picklable(error))


def _picklable(error: Exception) -> Exception:
    """Return the error, or one with the same text if it cannot be pickled."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001  a constructor may raise anything
        kind = VlmAudioError if isinstance(error, VlmAudioError) else RuntimeError
        return kind(f"{error}" if kind is VlmAudioError else f"{type(error).__name__}: {error}")
    return error


def describe_node() -> dict[str, str]:
    """Return the versions that results may depend on, of Python and the packages, and the names of host and GPU."""
    from vlm_audio_pipeline import __version__
    from vlm_audio_pipeline.engines.doctor import gpu_name

    packages = (*PACKAGES, "numpy", "scipy", "soxr", "pillow")
    return {
        "host": socket.gethostname(),
        "GPU": gpu_name() or "none",
        "python": platform.python_version(),
        "machine": platform.machine(),
        "vlm-audio-pipeline": __version__,
        **{name: installed_version(name) or "not installed" for name in packages},
    }
