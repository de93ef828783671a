"""One thread for BLAS, so that results have the same last digits on any number of cores.

With several threads, BLAS splits its sums, and the order of summation depends on the number of cores.
"""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import lru_cache

import threadpoolctl

_VARIABLE = "OPENBLAS_NUM_THREADS"
_lock = threading.Lock()
_open_blocks = 0
_limit = ExitStack()


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Hold BLAS of numpy and scipy to one thread. torch has its own: see `encoders.torch_batches.one_torch_thread`.

    The number of threads belongs to the process. Blocks may be nested, and several threads may be in one at the same time: the first
    block sets the limit, and the end of the last one restores the previous number.
    """
    global _open_blocks, _limit
    with _lock:
        if not _open_blocks:
            _limit = _set_limit()
        _open_blocks += 1
    try:
        yield
    finally:
        with _lock:
            _open_blocks -= 1
            if not _open_blocks:
                _limit.close()


@lru_cache(maxsize=1)
def _blas_libraries(_modules: int) -> threadpoolctl.ThreadpoolController:
    """Find the loaded libraries, which takes some milliseconds; they stay the same until another module is imported."""
    return threadpoolctl.ThreadpoolController().select(user_api="blas")


def _set_limit() -> ExitStack:
    """Set the limit; the result restores the previous number when it is closed."""
    stack = ExitStack()
    stack.callback(_restore_variable, os.environ.get(_VARIABLE))
    os.environ[_VARIABLE] = "1"  # for libraries that are loaded later: scipy has an OpenBLAS of its own
    _clear_controlling_thread()
    limiter = _blas_libraries(len(sys.modules)).limit(limits=1)
    stack.callback(_clear_controlling_thread)
    stack.callback(limiter.restore_original_limits)
    stack.callback(_clear_controlling_thread)
    return stack


def _clear_controlling_thread() -> None:
    """Make the current thread the one that can set the number of threads.

    In newer versions of threadpoolctl, one thread of the process controls OpenBLAS, and the calls of all others do nothing. Here, one thread
    may set the limit and another one restores the number; `_lock` keeps them apart.
    """
    if clear := getattr(threadpoolctl.OpenBLASController, "clear_controlling_thread", None):
        clear(force=True)


def _restore_variable(value: str | None) -> None:
    if value is None:
        os.environ.pop(_VARIABLE, None)
    else:
        os.environ[_VARIABLE] = value
