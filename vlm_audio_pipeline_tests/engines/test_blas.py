import os
import threading

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from vlm_audio_pipeline.engines.blas import one_blas_thread

VARIABLE = "OPENBLAS_NUM_THREADS"


@pytest.fixture(autouse=True)
def two_threads(monkeypatch):
    """BLAS of this process with two threads, whatever the machine and the lane set."""
    np.ones((8, 8)) @ np.ones((8, 8))  # BLAS is loaded
    monkeypatch.setenv(VARIABLE, "2")
    with threadpool_limits(limits=2, user_api="blas"):
        yield


def blas_threads() -> set[int]:
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}


def test_the_number_of_threads_is_restored_after_the_block():
    assert blas_threads() == {2}
    with one_blas_thread():
        assert blas_threads() == {1} and os.environ[VARIABLE] == "1"
    assert blas_threads() == {2} and os.environ[VARIABLE] == "2"


def test_the_variable_is_absent_again_if_it_was_absent(monkeypatch):
    monkeypatch.delenv(VARIABLE)
    with one_blas_thread():
        assert os.environ[VARIABLE] == "1"
    assert VARIABLE not in os.environ


def test_blocks_may_be_nested_and_an_error_ends_only_its_own():
    with one_blas_thread():
        with pytest.raises(ZeroDivisionError), one_blas_thread():
            raise ZeroDivisionError
        assert blas_threads() == {1} and os.environ[VARIABLE] == "1"
    assert blas_threads() == {2}


def test_a_block_that_ends_first_leaves_the_limit_to_the_block_of_another_thread():
    first_is_open, second_is_open, first_has_ended = (threading.Event() for _ in range(3))
    in_second = []

    def first():
        with one_blas_thread():
            first_is_open.set()
            second_is_open.wait(20)
        first_has_ended.set()

    def second():
        first_is_open.wait(20)
        with one_blas_thread():
            second_is_open.set()
            first_has_ended.wait(20)
            in_second.append((blas_threads(), os.environ[VARIABLE]))

    threads = [threading.Thread(target=first), threading.Thread(target=second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert in_second == [({1}, "1")]
    assert blas_threads() == {2} and os.environ[VARIABLE] == "2"


def test_every_thread_can_set_the_limit():
    """In threadpoolctl, one thread controls OpenBLAS, here the main thread; the calls of other threads do nothing."""
    in_block = []

    def compute():
        with one_blas_thread():
            in_block.append(blas_threads())

    thread = threading.Thread(target=compute)
    thread.start()
    thread.join(20)
    assert in_block == [{1}]
    assert blas_threads() == {2}
