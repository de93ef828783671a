"""What a worker process of a Ray cluster does: open a work once, and compute batches. Only a worker imports ray."""

import gc
import pickle
import platform
import socket
import threading
import traceback
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.contracts.work import BackendWork, Compute, Work
from vlm_audio_pipeline.engines.blas import one_blas_thread
from vlm_audio_pipeline.engines.doctor import PACKAGES, installed_version
from vlm_audio_pipeline.engines.gpu_lock import shared_gpu
from vlm_audio_pipeline.engines.ray_files import BatchFiles, files_of_batch

NO_FILES: BatchFiles = MappingProxyType({})


@dataclass(frozen=True)
class WorkError:
    """An exception that a work raised in a worker; the driver raises it again."""

    error: BaseException


class Worker:
    """A process of the cluster. The work that it used last stays open, across batches, folds and steps.

    Only one work is open at a time, because a GPU, and one CPU's share of the memory, can hold one model. Threads of the worker
    compute one after another, because a language model has one cache for all its requests. They prepare their items at the same time.

    Args:
        uses_gpu: whether it has a GPU. Then it waits until no run outside the cluster uses the GPUs of this machine.
    """

    def __init__(self, uses_gpu: bool = False):
        self._key: str | None = None
        self._opened: Any = None
        self._lock = threading.Lock()
        self._gpu = ExitStack()  # until the process ends
        if uses_gpu:
            self._gpu.enter_context(shared_gpu())

    def node_id(self) -> str:
        """Return the id of the node."""
        import ray

        return str(ray.get_runtime_context().get_node_id())

    def compute(self, work: Work, items: Sequence[Any], files: BatchFiles = NO_FILES) -> Any:
        """Return the payloads of a batch, or `WorkError`."""

        def run() -> Any:
            inputs = [work.prepare(item) for item in items]
            with self._lock:
                compute: Compute = self._open(work)
                return list(compute(inputs))

        return self._run(run, files)

    def apply(self, function: Callable[[Any], Any], items: Sequence[Any], files: BatchFiles = NO_FILES) -> Any:
        """Return the results of a function for items, or `WorkError`."""
        return self._run(lambda: [function(item) for item in items], files)

    def ask(self, work: BackendWork, requests: Sequence[Any], files: BatchFiles = NO_FILES) -> Any:
        """Return the replies of a language model to a chunk of requests and the tokens that were computed, or `WorkError`."""

        def run() -> Any:
            with self._lock:
                backend = self._open(work)
                before, replies = backend.token_counts(), dict[int, Any]()
                backend.ask(requests, replies.__setitem__)
                counts = {name: count - before[name] for name, count in backend.token_counts().items()}
                return [replies[i] for i in range(len(requests))], counts

        return self._run(run, files)

    def render_messages(self, work: BackendWork, request: Any, files: BatchFiles = NO_FILES) -> Any:
        """Return the text of a request in the model's chat template, or `WorkError`."""

        def run() -> Any:
            with self._lock:
                return self._open(work).render_messages(request)

        return self._run(run, files)

    def _open(self, work: Any) -> Any:
        """Return what the work loads; close the one that was open before, so that there is never memory for two."""
        if self._key != work.key:
            self._close()
            self._opened = work.open()
            self._key = work.key
        return self._opened

    def _close(self) -> None:
        opened, self._opened, self._key = self._opened, None, None
        if close := getattr(opened, "close", None):
            close()
        del opened, close
        gc.collect()  # a model may refer to itself

    def _run(self, function: Callable[[], Any], files: BatchFiles) -> Any:
        try:
            with one_blas_thread(), files_of_batch(files, socket.gethostname()):
                return function()
        except Exception as error:  # noqa: BLE001  the driver raises it again
            return WorkError(_picklable_error(error))


def _picklable_error(error: Exception) -> Exception:
    """Return the error, or one with the same text if it cannot be pickled. A defect has the worker's traceback in its notes."""
    if not isinstance(error, VlmAudioError):
        error.add_note("".join(["In a worker:\n", *traceback.format_exception(error)]))
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001  a constructor may raise anything
        kind = VlmAudioError if isinstance(error, VlmAudioError) else RuntimeError
        replacement = kind(f"{error}" if kind is VlmAudioError else f"{type(error).__name__}: {error}")
        replacement.__notes__ = [str(note) for note in getattr(error, "__notes__", ())]
        return replacement
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
