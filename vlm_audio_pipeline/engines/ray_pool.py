"""Worker processes on a Ray cluster: they are started, get tasks when they are ready, and are replaced when they are lost.

A task may be computed more than once, because a worker can be lost before its result arrives; what the driver stores counts once.
There are limits for failed starts, for the workers that are lost while they compute one task, and for the time without a worker.
"""

import logging
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlm_audio_pipeline.contracts.errors import NotAvailable, VlmAudioError
from vlm_audio_pipeline.engines.ray_files import Files, files_for_batch
from vlm_audio_pipeline.engines.ray_queues import TaskQueue
from vlm_audio_pipeline.engines.ray_worker import Worker, WorkError

IN_FLIGHT = 2
"""Tasks of a worker at a time: one is computed, one waits, so that no worker waits for the driver."""
MAX_LOSSES = 5
"""Number of workers that may be lost while they compute one task. Then the run ends, because the task is the likely cause."""
MAX_FAILED_STARTS = 5
"""Number of failed starts in a row while no worker is ready. Then the run ends, because the environment of the workers is the likely cause."""
FIRST_PAUSE_S = 0.5
"""Time before workers are started again after a failed start, s; twice as long after each one that follows."""
MAX_PAUSE_S = 30.0
"""Longest time before workers are started again, s."""
QUIET_S = 60.0
"""Time without a result after which the progress says so, s. A batch may take any time, so it is not ended."""
FINISH_S = 20.0
"""After an error: time in which tasks in flight may still finish, s. Their results are kept."""
_POLL_S = 1.0
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Task:
    """A task of a worker.

    Attributes:
        method: method of `Worker`.
        arguments: its first arguments.
        paths: recordings that it reads; the last argument is made from them when the task is sent.
    """

    method: str
    arguments: tuple[Any, ...]
    paths: tuple[Path, ...] = ()


def files_of_items(work: Any, items: Sequence[Any]) -> tuple[Path, ...]:
    """Return the recordings that a work or a function reads for items, each once; (): it reads none."""
    files_of = getattr(work, "files_of", None)
    return () if files_of is None else tuple(dict.fromkeys(path for item in items for path in files_of(item)))


class WorkerPool:
    """The workers of one kind (with or without a GPU) on a cluster.

    Args:
        uses_gpu: whether each worker has a GPU.
        max_workers: maximum number of workers; None: every CPU, or every GPU, of the cluster.
        patience_s: time without a worker after which a map ends with an error, s.
        files: whether workers read recordings themselves, or get them with each task.

    Attributes:
        nodes: node of each worker that is ready.
        lost_workers: workers that were lost after they were ready.
        lost_tasks: tasks that were computed again because their worker was lost.
        started: workers that were started.
    """

    def __init__(self, *, uses_gpu: bool, max_workers: int | None, patience_s: float, files: Files = "shared"):
        self._files = files
        self._uses_gpu = uses_gpu
        self._max_workers = max_workers
        self._patience_s = patience_s
        self._starting: dict[Any, Any] = {}  # reference of `node_id` -> actor
        self._tasks: dict[Any, deque[int]] = {}  # ready actor -> its tasks, the one that it computes first
        self._failed_starts = 0  # in a row
        self._last_failure = 0.0
        self._started_at: dict[Any, float] = {}  # actor that is not ready yet
        self._reported_nodes: set[str] = set()
        self.nodes: dict[Any, str] = {}
        self.lost_workers = 0
        self.lost_tasks = 0
        self.started = 0

    def size(self) -> int:
        """Return the number of workers that the cluster has a place for now."""
        import ray

        places = int(ray.cluster_resources().get("GPU" if self._uses_gpu else "CPU", 0))
        return places if self._max_workers is None else min(places, self._max_workers)

    def describe(self) -> str:
        """Return the number of workers and nodes, for progress."""
        workers, nodes = len(self.nodes), len(set(self.nodes.values()))
        lost = f", {self.lost_workers} lost" if self.lost_workers else ""
        return f"{workers} worker{'s' * (workers != 1)} on {nodes} node{'s' * (nodes != 1)}{lost}"

    def run(
        self,
        tasks: Sequence[Task],
        queue: TaskQueue,
        on_result: Callable[[int, Any], None],
        on_wait: Callable[[str], None],
    ) -> None:
        """Run tasks on the workers.

        Args:
            tasks: the tasks.
            queue: the order in which workers take them.
            on_result: called in this thread with the position of a task and its result, as they come.
            on_wait: called with a message while there is no worker, or no result.

        Raises:
            VlmAudioError: if workers cannot start, if a task kills its workers, or if there is no worker.
            Every exception of a task. Tasks in flight that still finish are passed to `on_result` first.
        """
        in_flight: dict[Any, tuple[Any, int]] = {}
        try:
            self._run(tasks, queue, on_result, on_wait, in_flight)
        except Exception:
            self._finish(in_flight, on_result)
            raise
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the workers."""
        import ray

        for actor in [*self._starting.values(), *self._tasks]:
            ray.kill(actor, no_restart=True)
        self._starting.clear()
        self._started_at.clear()
        self._tasks.clear()
        self.nodes.clear()

    def _run(
        self,
        tasks: Sequence[Task],
        queue: TaskQueue,
        on_result: Callable[[int, Any], None],
        on_wait: Callable[[str], None],
        in_flight: dict[Any, tuple[Any, int]],
    ) -> None:
        import ray

        losses: Counter[int] = Counter()
        self._failed_starts = 0
        last_sign_of_life = last_result = time.monotonic()
        while len(queue) or in_flight:
            self._start_workers(len(queue) + len(in_flight))
            self._send(tasks, queue, in_flight)
            references = [*in_flight, *self._starting]
            ready = []
            if references:
                ready = ray.wait(references, num_returns=1, timeout=_POLL_S)[0]
            else:
                time.sleep(_POLL_S)
            now = time.monotonic()
            if ready or in_flight:
                last_sign_of_life = now
            else:
                self._check_patience(now - last_sign_of_life, on_wait)
            if in_flight and now - last_result > QUIET_S:
                on_wait(f"{self.describe()}, no result for {now - last_result:.0f} s")
            for reference in ready:
                if reference in self._starting:
                    self._accept(reference)
                    continue
                actor, task = in_flight[reference]
                try:
                    result = ray.get(reference)
                except ray.exceptions.RayTaskError as error:
                    # The worker lives, but could not read the task or send its result.
                    del in_flight[reference]
                    self._tasks[actor].remove(task)
                    raise VlmAudioError(
                        f"a worker on node {self.nodes[actor][:8]} cannot compute a batch: {error.cause!r}; check that every node has "
                        "the same packages, including those of your own components"
                    ) from error
                except ray.exceptions.RayError as error:
                    lost_task = self._replace_lost(actor, queue, in_flight, error)
                    losses[lost_task] += 1
                    if losses[lost_task] >= MAX_LOSSES:
                        raise VlmAudioError(
                            f"{losses[lost_task]} workers ended while they computed the same batch ({first_line(error)}); it may "
                            "need more memory than a node has: use a smaller `batch_size`"
                        ) from error
                    continue
                del in_flight[reference]
                self._tasks[actor].remove(task)
                if isinstance(result, WorkError):
                    raise result.error
                on_result(task, result)
                last_result = time.monotonic()

    def _start_workers(self, needed: int) -> None:
        import ray

        options: dict[str, Any] = {"num_gpus": 1, "num_cpus": 0} if self._uses_gpu else {"num_cpus": 1}
        actor_class = ray.remote(Worker)
        pause_s = min(FIRST_PAUSE_S * 2 ** (self._failed_starts - 1), MAX_PAUSE_S) if self._failed_starts else 0.0
        if time.monotonic() < self._last_failure + pause_s:
            return
        while len(self._starting) + len(self._tasks) < min(needed, self.size()):
            actor = actor_class.options(
                **options,
                max_restarts=0,  # the pool replaces a lost worker, so that it can count
                max_task_retries=0,
                max_concurrency=2 if self._uses_gpu else 1,
                scheduling_strategy="SPREAD",
            ).remote(self._uses_gpu)
            self._starting[actor.node_id.remote()] = actor
            self._started_at[actor] = time.monotonic()
            self.started += 1

    def _accept(self, reference: Any) -> None:
        """Accept a worker that is ready. If it ended before, the run goes on with the others.

        Raises:
            VlmAudioError: if starts failed too often while there is no other worker.
        """
        import ray

        actor = self._starting.pop(reference)
        started_at = self._started_at.pop(actor)
        try:
            self.nodes[actor] = ray.get(reference)
        except ray.exceptions.RayError as error:
            # Workers that were started together end together, such as those of a lost node: one failure, not many.
            if started_at >= self._last_failure:
                self._failed_starts += 1
                self._last_failure = time.monotonic()
            if self._failed_starts >= MAX_FAILED_STARTS and not self._tasks:
                raise VlmAudioError(
                    f"{self._failed_starts} times in a row, workers ended before they were ready: {first_line(error)}; check the nodes with "
                    "`vlm-audio doctor --engine ray`"
                ) from error
            return
        self._failed_starts = 0
        self._tasks[actor] = deque()

    def _send(self, tasks: Sequence[Task], queue: TaskQueue, in_flight: dict[Any, tuple[Any, int]]) -> None:
        """Send tasks to the workers that are ready: each gets a first one before any gets a second one."""
        for depth in range(IN_FLIGHT):
            for actor, actor_tasks in self._tasks.items():
                if len(actor_tasks) == depth and (task := queue.take(actor)) is not None:
                    method, arguments = tasks[task].method, tasks[task].arguments
                    files = files_for_batch(tasks[task].paths, self._files)
                    in_flight[getattr(actor, method).remote(*arguments, files)] = (actor, task)
                    actor_tasks.append(task)

    def _replace_lost(
        self, actor: Any, queue: TaskQueue, in_flight: dict[Any, tuple[Any, int]], error: Exception
    ) -> int:
        """Forget a lost worker and give its tasks to the others. Return the task that it computed; those behind it waited."""
        import ray

        actor_tasks = self._tasks.pop(actor)
        node = self.nodes.pop(actor)
        self.lost_workers += 1
        self.lost_tasks += len(actor_tasks)
        if node not in self._reported_nodes:  # a node may have a hundred workers
            self._reported_nodes.add(node)
            _LOG.warning(
                "a worker on node %s was lost, and its batches are computed again: %s", node[:8], first_line(error)
            )
        ray.kill(actor, no_restart=True)  # it may still live, cut off from the driver, and keep its place
        queue.release(actor)
        for task in reversed(actor_tasks):
            queue.put_back(task)
        for reference in [r for r, (other, _) in in_flight.items() if other is actor]:
            del in_flight[reference]
        return actor_tasks[0]

    def _check_patience(self, waited_s: float, on_wait: Callable[[str], None]) -> None:
        place = "a GPU" if self._uses_gpu else "a CPU"
        on_wait(f"waiting for a worker with {place}")
        if waited_s > self._patience_s:
            raise NotAvailable(
                f"the cluster had no free place for a worker with {place} for {waited_s:.0f} s; start a node with "
                "`ray start --address=...`, or wait until other programs end, and run the same command again"
            )

    def _finish(self, in_flight: dict[Any, tuple[Any, int]], on_result: Callable[[int, Any], None]) -> None:
        """Keep the results of tasks that still finish."""
        import ray

        ready, _ = ray.wait(list(in_flight), num_returns=len(in_flight), timeout=FINISH_S) if in_flight else ([], [])
        for reference in ready:
            actor, task = in_flight.pop(reference)
            with suppress(ray.exceptions.RayError, VlmAudioError, ValueError):
                result = ray.get(reference)
                if actor in self._tasks and task in self._tasks[actor]:
                    self._tasks[actor].remove(task)
                if not isinstance(result, WorkError):
                    on_result(task, result)
        for actor in {actor for actor, _ in in_flight.values()}:  # still busy: it would delay the next map
            ray.kill(actor, no_restart=True)
            self._tasks.pop(actor, None)
            self.nodes.pop(actor, None)


def first_line(error: BaseException) -> str:
    """Return an error in one line: the first line of its message, or its type; for a worker that could not start, the error of its constructor."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1] if "creation task" in lines[0] else lines[0]
