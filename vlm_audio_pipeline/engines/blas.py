"""One thread for BLAS, so that results have the same last digits on any number of cores.

With several threads, BLAS splits its sums, and the order of summation depends on the number of cores.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from threadpoolctl import threadpool_limits

_VARIABLE = "OPENBLAS_NUM_THREADS"


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Hold BLAS of numpy and scipy to one thread. torch has its own: see `encoders.torch_batches.one_torch_thread`."""
    previous = os.environ.get(_VARIABLE)
    os.environ[_VARIABLE] = "1"  # for libraries that are loaded later: scipy has an OpenBLAS of its own
    try:
        with threadpool_limits(limits=1, user_api="blas"):
            yield
    finally:
        if previous is None:
            os.environ.pop(_VARIABLE, None)
        else:
            os.environ[_VARIABLE] = previous
