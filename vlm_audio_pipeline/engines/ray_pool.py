"""Worker processes on a Ray cluster: they are started, get tasks when they are ready, and are replaced when they are lost.

A task may be computed more than once, because a worker can be lost before its result arrives; what the driver stores counts once.
Everything is bounded: starts that fail, workers that one task kills, and the time without any worker.
"""

import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from vlm_audio_pipeline.contracts.errors import NotAvailable, VlmAudioError
from vlm_audio_pipeline.engines.ray_queues import TaskQueue
from vlm_audio_pipeline.engines.ray_worker import Raised, Worker

IN_FLIGHT = 2
"""Tasks of a worker at a time: one is computed, one waits, so that no worker waits for the driver."""
MAX_LOSSES = 5
"""Workers that may be lost while they compute one task; then the task is the reason."""
MAX_FAILED_STARTS = 5
"""Workers in a row that may die before they are ready; then their environment is the reason."""
FINISH_S = 20.0
"""After an error: time in which tasks in flight may still finish, s. Their results are kept."""
_POLL_S = 1.0


class WorkerPool:
    """The workers of one kind (with or without a GPU) on a cluster.

    Args:
        uses_gpu: whether each worker has a GPU.
        max_workers: maximum number of workers; None: every CPU, or every GPU, of the cluster.
        patience_s: time without a worker after which a map ends with an error, s.

    Attributes:
        nodes: node of each worker that is ready.
        lost_tasks: tasks that were computed again because their worker was lost.
        started: workers that were started.
    """

    def __init__(self, *, uses_gpu: bool, max_workers: int | None, patience_s: float):
        self._uses_gpu = uses_gpu
        self._max_workers = max_workers
        self._patience_s = patience_s
        self._starting: dict[Any, Any] = {}  # reference of `ready` -> actor
        self._tasks: dict[Any, deque[int]] = {}  # ready actor -> its tasks, the one that it computes first
        self.nodes: dict[Any, str] = {}
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
        return f"{workers} worker{'s' * (workers != 1)} on {nodes} node{'s' * (nodes != 1)}"

    def run(
        self,
        tasks: Sequence[tuple[str, tuple[Any, ...]]],
        queue: TaskQueue,
        on_result: Callable[[int, Any], None],
        on_wait: Callable[[str], None],
    ) -> None:
        """Run tasks on the workers.

        Args:
            tasks: method of `Worker` and its arguments.
            queue: the order in which workers take them.
            on_result: called in this thread with the position of a task and its result, as they come.
            on_wait: called with a message while there is no worker.

        Raises:
            VlmAudioError: if workers cannot start, if a task kills its workers, or if there is no worker.
            Every exception of a task. Tasks in flight that still finish are passed to `on_result` first.
        """
        flying: dict[Any, tuple[Any, int]] = {}
        try:
            self._run(tasks, queue, on_result, on_wait, flying)
        except Exception:
            self._finish(flying, on_result)
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
        self._tasks.clear()
        self.nodes.clear()

    def _run(
        self,
        tasks: Sequence[tuple[str, tuple[Any, ...]]],
        queue: TaskQueue,
        on_result: Callable[[int, Any], None],
        on_wait: Callable[[str], None],
        flying: dict[Any, tuple[Any, int]],
    ) -> None:
        import ray

        losses: Counter[int] = Counter()
        failed_starts = 0
        last_sign_of_life = time.monotonic()
        while len(queue) or flying:
            self._start_workers(len(queue) + len(flying))
            self._send(tasks, queue, flying)
            references = [*flying, *self._starting]
            ready = []
            if references:
                ready = ray.wait(references, num_returns=1, timeout=_POLL_S)[0]
            else:
                time.sleep(_POLL_S)
            if ready or flying:
                last_sign_of_life = time.monotonic()
            else:
                self._check_patience(time.monotonic() - last_sign_of_life, on_wait)
            for reference in ready:
                if reference in self._starting:
                    failed_starts = 0 if (error := self._welcome(reference)) is None else failed_starts + 1
                    if error is not None and failed_starts >= MAX_FAILED_STARTS:
                        raise VlmAudioError(
                            f"{failed_starts} workers in a row ended before they were ready: {_first_line(error)}; check "
                            "the nodes with `vlm-audio doctor --engine ray`"
                        ) from error
                    continue
                actor, task = flying[reference]
                try:
                    result = ray.get(reference)
                except ray.exceptions.RayError as error:
                    computed = self._lose(actor, queue, flying)
                    losses[computed] += 1
                    if losses[computed] >= MAX_LOSSES:
                        raise VlmAudioError(
                            f"{losses[computed]} workers ended while they computed the same batch ({_first_line(error)}); it may "
                            "need more memory than a node has: use a smaller `batch_size`"
                        ) from error
                    continue
                del flying[reference]
                self._tasks[actor].remove(task)
                if isinstance(result, Raised):
                    raise result.error
                on_result(task, result)

    def _start_workers(self, needed: int) -> None:
        import ray

        options: dict[str, Any] = {"num_gpus": 1, "num_cpus": 0} if self._uses_gpu else {"num_cpus": 1}
        actor_class = ray.remote(Worker)
        while len(self._starting) + len(self._tasks) < min(needed, self.size()):
            actor = actor_class.options(
                **options,
                max_restarts=0,  # the pool replaces a lost worker, so that it can count
                max_task_retries=0,
                max_concurrency=2 if self._uses_gpu else 1,
                scheduling_strategy="SPREAD",
            ).remote(self._uses_gpu)
            self._starting[actor.ready.remote()] = actor
            self.started += 1

    def _welcome(self, reference: Any) -> BaseException | None:
        """Accept a worker that is ready, or return why it is not."""
        import ray

        actor = self._starting.pop(reference)
        try:
            self.nodes[actor] = ray.get(reference)
        except ray.exceptions.RayError as error:
            died: BaseException = error
            return died
        self._tasks[actor] = deque()
        return None

    def _send(
        self, tasks: Sequence[tuple[str, tuple[Any, ...]]], queue: TaskQueue, flying: dict[Any, tuple[Any, int]]
    ) -> None:
        """Give tasks to the workers that are ready: each gets a first one before any gets a second one."""
        for depth in range(IN_FLIGHT):
            for actor, own in self._tasks.items():
                if len(own) == depth and (task := queue.take(actor)) is not None:
                    method, arguments = tasks[task]
                    flying[getattr(actor, method).remote(*arguments)] = (actor, task)
                    own.append(task)

    def _lose(self, actor: Any, queue: TaskQueue, flying: dict[Any, tuple[Any, int]]) -> int:
        """Forget a lost worker and give its tasks to the others. Return the task that it computed; those behind it are innocent."""
        own = self._tasks.pop(actor)
        self.nodes.pop(actor, None)
        self.lost_tasks += len(own)
        queue.release(actor)
        for task in reversed(own):
            queue.put_back(task)
        for reference in [r for r, (other, _) in flying.items() if other is actor]:
            del flying[reference]
        return own[0]

    def _check_patience(self, waited_s: float, on_wait: Callable[[str], None]) -> None:
        place = "a GPU" if self._uses_gpu else "a CPU"
        on_wait(f"waiting for a worker with {place}")
        if waited_s > self._patience_s:
            raise NotAvailable(
                f"the cluster had no free place for a worker with {place} for {waited_s:.0f} s; start a node with "
                "`ray start --address=...`, or wait until other programs end, and run the same command again"
            )

    def _finish(self, flying: dict[Any, tuple[Any, int]], on_result: Callable[[int, Any], None]) -> None:
        """Keep the results of tasks that still finish."""
        import ray

        ready, _ = ray.wait(list(flying), num_returns=len(flying), timeout=FINISH_S) if flying else ([], [])
        for reference in ready:
            actor, task = flying.pop(reference)
            with suppress(ray.exceptions.RayError, VlmAudioError, ValueError):
                result = ray.get(reference)
                if actor in self._tasks and task in self._tasks[actor]:
                    self._tasks[actor].remove(task)
                if not isinstance(result, Raised):
                    on_result(task, result)
        for actor in {actor for actor, _ in flying.values()}:  # still busy: it would delay the next map
            ray.kill(actor, no_restart=True)
            self._tasks.pop(actor, None)
            self.nodes.pop(actor, None)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
