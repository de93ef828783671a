"""Device, number format, and batches that shrink when memory runs out."""

import importlib.metadata
import os
import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Generic, Literal, TypeVar

import numpy as np

from vlm_audio_pipeline.contracts.errors import NotAvailable, VlmAudioError

if TYPE_CHECKING:
    import torch

Device = Literal["auto", "cpu", "cuda"]
Dtype = Literal["auto", "float32", "bfloat16"]
Item = TypeVar("Item")
Result = TypeVar("Result")


@lru_cache(maxsize=1)
def _has_cuda_build_and_gpu() -> bool:
    try:
        cpu_build = "+cpu" in importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        return False
    return not cpu_build and (any(Path("/dev").glob("nvidia[0-9]*")) or Path("/dev/dxg").exists())


def has_cuda() -> bool:
    """Return whether models can use a GPU, without importing torch, because planning must be fast.

    True if torch is not a CPU build, the driver's device files exist and CUDA_VISIBLE_DEVICES does not hide the GPU.
    """
    return os.environ.get("CUDA_VISIBLE_DEVICES", "0") not in ("", "-1") and _has_cuda_build_and_gpu()


def resolve_device(choice: Device, has_gpu: bool | None = None) -> Literal["cpu", "cuda"]:
    """Resolve a device: auto is cuda if there is a GPU. `has_gpu` says it for other machines; None: look at this machine."""
    if choice == "auto":
        return "cuda" if (has_cuda() if has_gpu is None else has_gpu) else "cpu"
    return choice


def resolve_dtype(choice: Dtype, device: str, bf16_safe: bool) -> Literal["float32", "bfloat16"]:
    """Resolve a number format: auto is bfloat16 on a GPU if the family supports it."""
    if choice == "auto":
        return "bfloat16" if device == "cuda" and bf16_safe else "float32"
    return choice


def check_device(device: str) -> None:
    """Check that torch can use the device.

    Raises:
        NotAvailable: if it cannot.
    """
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise NotAvailable(
            f"torch {torch.__version__} cannot use the device cuda; install a CUDA build of "
            "torch, repair the driver (see `vlm-audio doctor`), or set `device: cpu`"
        )


_thread_lock = threading.Lock()
_open_calls = 0
_previous_threads = 1


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Limit torch to one thread, so that a result has the same last digits on any number of cores.

    With more, its matrix products of few rows are summed in another order. Several threads may be in this block at the same
    time, each with its own batch: this is how all cores are used.
    """
    import torch

    global _open_calls, _previous_threads
    with _thread_lock:
        if not _open_calls:
            _previous_threads = torch.get_num_threads()
        _open_calls += 1
        torch.set_num_threads(1)  # in every thread, because OpenMP keeps the number for each thread
    try:
        yield
    finally:
        with _thread_lock:
            _open_calls -= 1
            if not _open_calls:
                torch.set_num_threads(_previous_threads)


def to_numpy(vectors: "torch.Tensor") -> list[np.ndarray]:
    """Return the rows of a (batch, dimensions) tensor as separate float32 arrays."""
    return [row.copy() for row in vectors.detach().float().cpu().numpy()]


def unit_vector(vector: np.ndarray) -> np.ndarray:
    """Scale a vector to length 1 (float32); a zero vector stays zero."""
    length = float(np.linalg.norm(vector.astype(np.float64)))
    return (vector / (length or 1.0)).astype(np.float32)


class AdaptiveBatcher(Generic[Item, Result]):
    """Calls a function on batches; when memory runs out, the batch size is halved permanently.

    Args:
        forward: items -> results, in order; called with at most `size` items, in one thread of torch, under
            `torch.inference_mode`.
        size: initial batch size.
        subject: model id for the error message if a single item does not fit.
    """

    def __init__(self, forward: Callable[[list[Item]], Sequence[Result]], size: int, subject: str):
        self.forward = forward
        self.size = size
        self.subject = subject

    def __call__(self, items: Sequence[Item]) -> list[Result]:
        """Return the results of all items.

        Raises:
            VlmAudioError: if a single item does not fit into memory.
        """
        import torch

        results: list[Result] = []
        with torch.inference_mode(), one_torch_thread():
            while len(results) < len(items):
                batch = list(items[len(results) : len(results) + self.size])
                try:
                    results += self.forward(batch)
                    continue
                except (RuntimeError, MemoryError) as error:  # torch.cuda.OutOfMemoryError is a RuntimeError
                    if not is_out_of_memory(error):
                        raise
                    if len(batch) == 1:
                        raise VlmAudioError(
                            f"{self.subject} does not fit into memory, even in a batch of 1; use a smaller model, "
                            "`dtype: bfloat16`, or `device: cpu`"
                        ) from error
                self.size = len(batch) // 2  # after the handler: only then are the tensors of the failed call freed
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()
        return results


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that the GPU or the machine ran out of memory."""
    import torch

    message = str(error).lower()
    return isinstance(error, torch.cuda.OutOfMemoryError | MemoryError) or any(
        phrase in message for phrase in ("can't allocate memory", "not enough memory", "out of memory")
    )


def call_in_groups(
    call: Callable[[Sequence[Item]], Sequence[Result]], items: Sequence[Item], key: Callable[[Item], Hashable]
) -> list[Result]:
    """Call a function separately on the items of each key (equal lengths or shapes, so that nothing is padded).

    Returns:
        The results, in the order of `items`.
    """
    groups: dict[Hashable, list[int]] = {}
    for i, item in enumerate(items):
        groups.setdefault(key(item), []).append(i)
    results: dict[int, Result] = {}
    for indices in groups.values():
        results.update(zip(indices, call([items[i] for i in indices]), strict=True))
    return [results[i] for i in range(len(items))]
