"""Where and how models compute: device, number format, and batches that shrink when memory runs out.

What belongs here: what every torch model needs around its forward call. What does not: any particular model.
"""

import importlib.metadata
import os
from collections.abc import Callable, Hashable, Sequence
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
def _cuda_build_and_gpu() -> bool:
    try:
        cpu_build = "+cpu" in importlib.metadata.version("torch")
    except importlib.metadata.PackageNotFoundError:
        return False
    return not cpu_build and (any(Path("/dev").glob("nvidia[0-9]*")) or Path("/dev/dxg").exists())


def cuda_is_there() -> bool:
    """Say whether models run on a GPU here, without importing torch: a plan must be quick.

    True where this is not a CPU build of torch, the driver's device files exist and CUDA_VISIBLE_DEVICES hides nothing.
    """
    return os.environ.get("CUDA_VISIBLE_DEVICES", "0") not in ("", "-1") and _cuda_build_and_gpu()


def device_of(choice: Device) -> Literal["cpu", "cuda"]:
    """Give the device of a choice: auto is cuda where there is one."""
    if choice == "auto":
        return "cuda" if cuda_is_there() else "cpu"
    return choice


def dtype_of(choice: Dtype, device: str, bf16_safe: bool) -> Literal["float32", "bfloat16"]:
    """Give the number format of a choice: auto is bfloat16 on a GPU where the family is known to bear it."""
    if choice == "auto":
        return "bfloat16" if device == "cuda" and bf16_safe else "float32"
    return choice


def check_device(device: str) -> None:
    """Refuse a GPU that torch cannot use.

    Raises:
        NotAvailable: with what to do.
    """
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        raise NotAvailable(
            f"device must be one that torch can use, got cuda with torch {torch.__version__}; install a CUDA build of "
            "torch, mend the driver (`vlm-audio doctor` says more), or set `device: cpu`"
        )


def to_numpy(vectors: "torch.Tensor") -> list[np.ndarray]:
    """Give the rows of a (batch, dimensions) tensor as float32 arrays of their own."""
    return [row.copy() for row in vectors.detach().float().cpu().numpy()]


def unit(vector: np.ndarray) -> np.ndarray:
    """Scale a vector to length 1 (float32); a vector of zeros stays."""
    length = float(np.linalg.norm(vector.astype(np.float64)))
    return (vector / (length or 1.0)).astype(np.float32)


class Halving(Generic[Item, Result]):
    """A function over batches that never takes more than fits: the batch halves when memory runs out, and stays so.

    Args:
        forward: items -> results, in order; at most `size` at a time. Run under `torch.inference_mode`.
        size: items a call to begin with.
        what: named in the error when not even one item fits.
    """

    def __init__(self, forward: Callable[[list[Item]], Sequence[Result]], size: int, what: str):
        self.forward = forward
        self.size = size
        self.what = what

    def __call__(self, items: Sequence[Item]) -> list[Result]:
        """Give the results of all items.

        Raises:
            VlmAudioError: when a single item does not fit into memory.
        """
        import torch

        results: list[Result] = []
        with torch.inference_mode():
            while len(results) < len(items):
                batch = list(items[len(results) : len(results) + self.size])
                try:
                    results += self.forward(batch)
                    continue
                except (RuntimeError, MemoryError) as error:  # torch.cuda.OutOfMemoryError is a RuntimeError
                    if not out_of_memory(error):
                        raise
                    if len(batch) == 1:
                        raise VlmAudioError(
                            f"{self.what} must fit into memory, got out of memory with a batch of 1; use a smaller "
                            "model, `dtype: bfloat16`, or `device: cpu`"
                        ) from error
                self.size = len(batch) // 2  # outside the handler: the failed call's tensors are free by now
                if torch.cuda.is_available():
                    torch.cuda.empty_cache()
        return results


def out_of_memory(error: BaseException) -> bool:
    """Say whether an error means that memory ran out, of a GPU or of the machine."""
    import torch

    said = str(error).lower()
    return isinstance(error, torch.cuda.OutOfMemoryError | MemoryError) or any(
        words in said for words in ("can't allocate memory", "not enough memory", "out of memory")
    )


def in_groups(
    call: Callable[[Sequence[Item]], Sequence[Result]], items: Sequence[Item], key: Callable[[Item], Hashable]
) -> list[Result]:
    """Call a function on the items of each key apart (equal lengths, equal shapes: so nothing is padded).

    Returns:
        The results, in the order of `items`.
    """
    groups: dict[Hashable, list[int]] = {}
    for i, item in enumerate(items):
        groups.setdefault(key(item), []).append(i)
    found: dict[int, Result] = {}
    for indices in groups.values():
        found.update(zip(indices, call([items[i] for i in indices]), strict=True))
    return [found[i] for i in range(len(items))]
