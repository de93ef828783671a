"""A worker of a Ray cluster, without a cluster: one work is open at a time, and threads compute one after another."""

import pickle
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest

from vlm_audio_pipeline.contracts.errors import NotAvailable
from vlm_audio_pipeline.engines import gpu_lock
from vlm_audio_pipeline.engines.ray_worker import Worker, WorkError
from vlm_audio_pipeline.storage.locks import machine_lock


@dataclass
class Model:
    """A language model and a computation; counts how many threads are in it."""

    name: str
    log: list
    threads: int = 0
    tokens: int = 0

    def enter(self):
        self.threads += 1
        self.log.append(f"{self.name} has {self.threads}")
        time.sleep(0.02)
        self.threads -= 1

    def __call__(self, batch):
        self.enter()
        return [b"x" for _ in batch]

    def ask(self, requests, on_reply):
        self.enter()
        self.tokens += len(requests)
        for i, request in enumerate(requests):
            on_reply(i, f"{self.name}: {request}")

    def render_messages(self, request):
        self.enter()
        return f"<{request}>"

    def token_counts(self):
        return {"tokens_computed": self.tokens}

    def close(self):
        self.log.append(f"close {self.name}")


@dataclass
class ModelWork:
    key: str
    log: list = field(default_factory=list)
    error: Exception | None = None

    def prepare(self, item):
        return item

    def open(self):
        if self.error:
            raise self.error
        self.log.append(f"open {self.key}")
        time.sleep(0.02)
        return Model(self.key, self.log)


def test_the_work_that_was_open_is_closed_before_another_one_is_opened():
    """A GPU has memory for one model."""
    log = []
    a, b = ModelWork("a", log), ModelWork("b", log)
    worker = Worker()
    for work in (a, a, b, a):
        worker.compute(work, [1])
    assert [line for line in log if "has" not in line] == ["open a", "close a", "open b", "close b", "open a"]


def test_a_work_that_cannot_be_opened_leaves_the_worker_usable():
    worker, log = Worker(), []
    worker.compute(ModelWork("a", log), [1])
    failed = worker.compute(ModelWork("b", log, NotAvailable("no weights")), [1])
    assert isinstance(failed, WorkError) and str(failed.error) == "no weights"
    assert worker.compute(ModelWork("a", log), [1]) == [b"x"]
    assert [line for line in log if "has" not in line] == ["open a", "close a", "open a"]


@pytest.mark.parametrize("method", ["compute", "ask", "render_messages"])
def test_threads_open_a_work_once_and_compute_one_after_another(method):
    """A worker with a GPU has two threads, and a language model has one cache for all its requests."""
    worker, work = Worker(), ModelWork("a")
    with ThreadPoolExecutor(2) as threads:
        argument = "request" if method == "render_messages" else [1, 2]
        futures = [threads.submit(getattr(worker, method), work, argument) for _ in range(4)]
        results = [future.result() for future in futures]
    assert not any(isinstance(result, WorkError) for result in results)
    assert work.log == ["open a", *["a has 1"] * 4]
    if method == "ask":  # the tokens of one call are not those of another thread's
        assert [counts for _, counts in results] == [{"tokens_computed": 2}] * 4


def test_items_are_prepared_while_another_batch_is_computed():
    both = threading.Barrier(2, timeout=20)

    class Preparing(ModelWork):
        def prepare(self, item):
            both.wait()
            return item

    worker, work = Worker(), Preparing("a")
    with ThreadPoolExecutor(2) as threads:
        results = [f.result() for f in [threads.submit(worker.compute, work, [n]) for n in range(2)]]
    assert results == [[b"x"]] * 2


def test_a_defect_has_the_traceback_of_the_worker():
    def divide(item):
        return 1 // item

    result = pickle.loads(pickle.dumps(Worker().apply(divide, [0])))
    assert isinstance(result.error, ZeroDivisionError)
    assert "return 1 // item" in "".join(result.error.__notes__)


def test_workers_share_the_gpus_of_a_machine_and_wait_for_a_run_that_holds_them_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("VLM_AUDIO_GPU_LOCK", str(tmp_path / "gpu.lock"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(gpu_lock, "DEVICES", ("/dev/null",))
    with ThreadPoolExecutor(2) as threads, gpu_lock.exclusive_gpu():
        futures = [threads.submit(Worker, True) for _ in range(2)]
        time.sleep(0.2)
        Worker(uses_gpu=False)  # does not wait
        still_waiting = not any(future.done() for future in futures)
    workers = [future.result(20) for future in futures]
    assert still_waiting
    waited = []

    def on_wait():
        waited.append(True)
        for worker in workers:
            worker._gpu.close()

    with machine_lock(tmp_path / "gpu.lock", on_wait):
        assert waited == [True]
