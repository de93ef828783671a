import threading
import time

import numpy as np
import pytest
import torch

from vlm_audio_pipeline.contracts.errors import NotAvailable, VlmAudioError
from vlm_audio_pipeline.encoders import torch_batches
from vlm_audio_pipeline.encoders.torch_batches import (
    AdaptiveBatcher,
    call_in_groups,
    check_device,
    resolve_device,
    resolve_dtype,
    unit_vector,
)
from vlm_audio_pipeline.engines import compute_results
from vlm_audio_pipeline.storage.result_store import ResultStore


class MemoryLimitedModel:
    """A model with memory for at most `fits` items; a larger batch raises an out-of-memory error."""

    def __init__(self, fits: int, error: BaseException):
        self.fits, self.error, self.calls = fits, error, []

    def __call__(self, batch):
        self.calls.append(len(batch))
        if len(batch) > self.fits:
            raise self.error
        assert torch.is_inference_mode_enabled()
        return [10 * i for i in batch]


OUT_OF_MEMORY = [
    torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:121] . DefaultCPUAllocator: can't allocate memory: you tried to ..."),
    MemoryError("Unable to allocate 7 GiB"),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY)
def test_the_batch_halves_when_memory_runs_out_and_stays_small(error):
    model = MemoryLimitedModel(3, error)
    batches = AdaptiveBatcher(model, 8, "model")
    assert batches(range(9)) == [10 * i for i in range(9)]
    assert model.calls == [8, 4, 2, 2, 2, 2, 1]  # attempts of 8 and 4 items, then pairs, and the ninth item
    assert batches(range(4)) == [0, 10, 20, 30] and model.calls[7:] == [2, 2]


def test_a_batch_of_one_that_does_not_fit_and_other_errors_are_raised():
    with pytest.raises(VlmAudioError, match="org/model does not fit into memory, even in a batch of 1"):
        AdaptiveBatcher(MemoryLimitedModel(0, OUT_OF_MEMORY[0]), 4, "org/model")([1, 2])
    with pytest.raises(RuntimeError, match="shapes"):
        AdaptiveBatcher(MemoryLimitedModel(0, RuntimeError("shapes cannot be multiplied")), 4, "org/model")([1, 2])


def test_auto_is_resolved_without_torch_and_recorded(monkeypatch):
    monkeypatch.setattr(torch_batches, "_has_cuda_build_and_gpu", lambda: True)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert resolve_device("auto") == "cuda" and resolve_device("cpu") == "cpu"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert resolve_device("auto") == "cpu"
    assert resolve_dtype("auto", "cuda", True) == "bfloat16" and resolve_dtype("auto", "cuda", False) == "float32"
    assert resolve_dtype("auto", "cpu", True) == "float32" and resolve_dtype("bfloat16", "cpu", False) == "bfloat16"


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_missing_gpu_is_refused():
    with pytest.raises(NotAvailable, match=r"cannot use the device cuda.*set `device: cpu`"):
        check_device("cuda")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_the_batch_halves_when_gpu_memory_runs_out():
    free = torch.cuda.mem_get_info()[0] // 4

    def forward(batch):
        torch.zeros(len(batch), free // 3, device="cuda")
        return batch

    batches = AdaptiveBatcher(forward, 16, "zeros")
    assert batches(range(16)) == list(range(16)) and batches.size in (1, 2)


def test_in_groups_keeps_the_order():
    seen = []

    def call(items):
        seen.append(list(items))
        return [i.upper() for i in items]

    assert call_in_groups(call, ["a", "bb", "c", "dd"], len) == ["A", "BB", "C", "DD"]
    assert seen == [["a", "c"], ["bb", "dd"]]


def test_vectors_are_scaled_to_unit_length():
    assert unit_vector(np.array([3, 4], np.float32)).tolist() == pytest.approx([0.6, 0.8])
    assert unit_vector(np.zeros(2, np.float32)).tolist() == [0, 0]


@pytest.fixture
def rows(tmp_path):
    store = ResultStore(tmp_path / "results.sqlite")
    yield store
    store.close()


def compute_stored(rows, n, compute, **how):
    return compute_results(
        [f"k{i}" for i in range(n)], list(range(n)), compute, rows, **{"kind": "test", "max_parallel": 1} | how
    )


def test_one_batch_is_prepared_while_another_is_computed_and_never_more(rows):
    prepared, prepared_counts, started_early = [], [], threading.Event()

    def prepare(i):
        prepared.append(i)
        if i >= 2:
            started_early.set()  # a later batch is being prepared
        return -i

    def compute(batch):
        if batch[0] == 0:
            assert started_early.wait(10)  # while the first is computed
        time.sleep(0.05)
        prepared_counts.append(len(prepared))
        return [str(i).encode() for i in batch]

    results = compute_stored(rows, 9, compute, batch_size=2, prepare=prepare)
    assert results == [str(-i).encode() for i in range(9)]
    assert prepared_counts == [4, 6, 8, 9, 9]
    # stored items are not prepared
    assert len(compute_stored(rows, 9, compute, prepare=prepare)) == 9 and len(prepared) == 9


@pytest.mark.parametrize("max_parallel", [1, 3])
def test_prepared_items_reach_compute_for_any_number_of_workers(rows, max_parallel):
    results = compute_stored(
        rows, 7, lambda b: [bytes([i]) for i in b], batch_size=2, max_parallel=max_parallel, prepare=lambda i: i + 1
    )
    assert results == [bytes([i + 1]) for i in range(7)]


def test_an_error_in_preparation_stops_and_earlier_batches_are_kept(rows):
    def prepare(i):
        if i == 5:
            raise OSError("cannot be read")
        return i

    with pytest.raises(OSError, match="cannot be read"):
        compute_stored(rows, 8, lambda b: [bytes([i]) for i in b], batch_size=2, prepare=prepare)
    assert set(rows.get([f"k{i}" for i in range(8)])) == {f"k{i}" for i in range(4)}


def test_large_items_make_small_batches(rows):
    seen = []

    def compute(batch):
        seen.append(batch)
        return [b"" for _ in batch]

    compute_stored(rows, 7, compute, batch_size=3, sizes=[1, 1, 1, 1, 9, 2, 2], max_total_size=4)
    assert seen == [[0, 1, 2], [3], [4], [5, 6]]
    with pytest.raises(ValueError, match="keys and sizes"):
        compute_stored(rows, 2, compute, sizes=[1])
