"""The engine of a Ray cluster: rows, images and language models are computed by workers on its nodes.

The driver is the process of the command: it plans, reads and writes the result store, and writes the partition files. Workers are Ray
actors that only compute. Nothing imports ray before this engine is opened.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any, TypeVar

from vlm_audio_pipeline.contracts.errors import NotAvailable, VlmAudioError
from vlm_audio_pipeline.contracts.progress import Progress
from vlm_audio_pipeline.contracts.work import BackendWork, Failure, NodeCall, Rows
from vlm_audio_pipeline.engines.machine_check import MachineCheck
from vlm_audio_pipeline.engines.ray_backend import RayBackend
from vlm_audio_pipeline.engines.ray_files import Files
from vlm_audio_pipeline.engines.ray_pool import Task, WorkerPool, files_of_items, first_line
from vlm_audio_pipeline.engines.ray_queues import FirstComeQueue
from vlm_audio_pipeline.engines.ray_worker import WorkError, describe_node
from vlm_audio_pipeline.engines.row_storage import RowStorage
from vlm_audio_pipeline.storage.result_store import ResultStore

Item = TypeVar("Item")
Result = TypeVar("Result")

PATIENCE_S = 300.0
"""Time without a free place for a worker after which a run ends, s."""
NODE_TIMEOUT_S = 60.0
"""Time in which a node must describe itself, s."""
IMAGES_PER_TASK = 4
_MAY_DIFFER = ("host", "GPU")


class RayEngine:
    """The engine of an existing Ray cluster; see `contracts.work.Engine`.

    Args:
        address: "auto" for the cluster of this machine, or HOST:PORT of its head.
        workers: maximum number of workers of each kind; None: every CPU, and every GPU, of the cluster.
        patience_s: time without a free place for a worker after which a run ends, s.
        files: "shared" if every node has the recordings at the same path; "shipped": each batch carries its files.

    Raises:
        NotAvailable: if ray is not installed, or there is no cluster at the address.
    """

    maps_all_folds = True

    def __init__(
        self,
        address: str = "auto",
        *,
        workers: int | None = None,
        patience_s: float = PATIENCE_S,
        files: Files = "shared",
    ):
        _connect(address)
        self._pools = {
            uses_gpu: WorkerPool(uses_gpu=uses_gpu, max_workers=workers, patience_s=patience_s, files=files)
            for uses_gpu in (False, True)
        }
        self._backends: dict[str, RayBackend] = {}

    def map_rows(
        self, rows: Sequence[Rows], result_store: ResultStore, progress: Progress
    ) -> list[list[bytes | Failure]]:
        """Compute rows on the workers; see `Engine.map_rows`."""
        storages = [RowStorage(group, result_store) for group in rows]
        work, kind = rows[0].work, rows[0].kind
        pool = self._pools[work.uses_gpu]
        # A key of several folds is computed with the batch of its first fold, as by the local engine.
        planned_keys: set[str] = set()
        batches = []
        for storage in storages:
            for batch in storage.batches(leave_out=planned_keys):
                planned_keys.update(batch)
                batches.append((storage, batch))
        total = len({key for group in rows for key in group.keys})
        rate = _Rate(total - len(planned_keys), total, kind, pool, progress)

        def store(task: int, payloads: Any) -> None:
            storage, batch = batches[task]
            storage.store(batch, payloads)
            rate.add(len(batch))

        tasks = []
        for storage, batch in batches:
            items = [storage.items[key] for key in batch]
            tasks.append(Task("compute", (work, items), files_of_items(work, items)))
        if tasks:
            pool.run(tasks, FirstComeQueue(len(tasks)), store, rate.wait)
        results = {key: payload for storage in storages for key, payload in storage.results.items()}
        return [[results[key] for key in group.keys] for group in rows]

    def map_ordered(
        self,
        function: Callable[[Item], Result],
        items: Sequence[Item],
        progress: Progress,
        on_result: Callable[[Result], None] = lambda result: None,
    ) -> list[Result]:
        """Map a picklable function over items on the workers; see `Engine.map_ordered`."""
        pool = self._pools[False]
        parts = [items[i : i + IMAGES_PER_TASK] for i in range(0, len(items), IMAGES_PER_TASK)]
        rate = _Rate(0, len(items), "image", pool, progress)
        later_parts: dict[int, list[Result]] = {}
        results: list[Result] = []
        next_part = 0

        def keep(task: int, part: list[Result]) -> None:
            nonlocal next_part
            later_parts[task] = part
            rate.add(len(part))
            while next_part in later_parts:
                for result in later_parts.pop(next_part):
                    results.append(result)
                    on_result(result)
                next_part += 1

        if parts:
            tasks = [Task("apply", (function, part), files_of_items(function, part)) for part in parts]
            pool.run(tasks, FirstComeQueue(len(parts)), keep, rate.wait)
        return results

    def open_backend(self, work: BackendWork) -> RayBackend:
        """Return a backend whose requests the workers answer; each loads the model once."""
        if work.key not in self._backends:
            self._backends[work.key] = RayBackend(work, self._pools[work.uses_gpu])
        return self._backends[work.key]

    def has_gpu(self) -> bool:
        """Return whether a node of the cluster has a GPU."""
        import ray

        return bool(ray.cluster_resources().get("GPU", 0))

    def exclusive_gpu(self, progress: Progress) -> AbstractContextManager[None]:
        """Do nothing: works do not run in this process, and Ray gives each GPU to one worker."""
        return nullcontext()

    def call_everywhere(self, function: Callable[[], Result], timeout_s: float | None = None) -> list[NodeCall[Result]]:
        """Call a function on every node but that of this process; see `Engine.call_everywhere`.

        Args:
            function: picklable, without arguments.
            timeout_s: time until a node that has not answered is an error, s; None: no limit.
        """
        import ray

        driver = ray.get_runtime_context().get_node_id()
        return self._call_on([node for node in _nodes() if node["NodeID"] != driver], function, timeout_s)

    def _call_on(
        self, nodes: Sequence[Mapping[str, Any]], function: Callable[[], Result], timeout_s: float | None
    ) -> list[NodeCall[Result]]:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        # Without a CPU, so that it starts beside workers; not retried, because a lost node stays lost.
        task = ray.remote(num_cpus=0, max_retries=0)(_call)
        references = [
            task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote(
                function
            )
            for node in nodes
        ]
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        calls: list[NodeCall[Result]] = []
        for node, reference in zip(nodes, references, strict=True):
            name = f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']})"
            try:
                left_s = None if deadline is None else max(0.0, deadline - time.monotonic())
                result = ray.get(reference, timeout=left_s)
            except ray.exceptions.GetTimeoutError:
                calls.append(NodeCall(name, None, f"no answer for {timeout_s:g} s"))
            except ray.exceptions.RayError as error:
                cause = getattr(error, "cause", None) or error
                calls.append(NodeCall(name, None, first_line(cause)))
            else:
                is_error = isinstance(result, WorkError)
                calls.append(NodeCall(name, None, str(result.error)) if is_error else NodeCall(name, result))
        return calls

    def check_nodes(self) -> list[MachineCheck]:
        """Compare Python, the packages and the machine type of every node with those of this process."""
        driver = describe_node()
        nodes = _nodes()
        checks = []
        for node, call in zip(nodes, self._call_on(nodes, describe_node, NODE_TIMEOUT_S), strict=True):
            if call.result is None:
                checks.append(MachineCheck("bad", f"node {call.node} cannot run a task: {call.error}"))
                continue
            differences = node_differences(driver, call.result)
            resources = node["Resources"]
            text = f"node {call.node}: {resources.get('CPU', 0):g} CPU, {resources.get('GPU', 0):g} GPU ({call.result['GPU']})"
            checks.append(
                MachineCheck(
                    "bad",
                    f"node {call.node} differs from this machine: {', '.join(differences)}; install the same versions",
                )
                if differences
                else MachineCheck("ok", text)
            )
        return checks

    def refuse_different_nodes(self) -> None:
        """Check that every node has the versions of this process, because results depend on them.

        Raises:
            VlmAudioError: with the differences.
        """
        if problems := [check.text for check in self.check_nodes() if check.state == "bad"]:
            raise VlmAudioError("\n".join(problems))

    @property
    def counts(self) -> Mapping[str, int]:
        """Workers that were started and that were lost, and tasks that were computed again because their worker was lost."""
        pools = self._pools.values()
        return {
            "started": sum(p.started for p in pools),
            "lost_workers": sum(p.lost_workers for p in pools),
            "lost_tasks": sum(p.lost_tasks for p in pools),
        }

    def close(self) -> None:
        """End the workers and leave the cluster."""
        import ray

        for pool in self._pools.values():
            with suppress(ray.exceptions.RayError):
                pool.close()
        ray.shutdown()


def _nodes() -> list[Mapping[str, Any]]:
    import ray

    return [node for node in ray.nodes() if node["Alive"]]


def _call(function: Callable[[], Any]) -> Any:
    """Return the result of a function, or `WorkError` for an error that the user can fix."""
    try:
        return function()
    except VlmAudioError as error:
        return WorkError(VlmAudioError(str(error)))


def node_differences(driver: Mapping[str, str], node: Mapping[str, str]) -> list[str]:
    """Return the versions of a node that differ from those of the driver."""
    return [
        f"{key} {node.get(key)} instead of {value}"
        for key, value in driver.items()
        if key not in _MAY_DIFFER and node.get(key) != value
    ]


class _Rate:
    """Reports progress with the number of workers and results per second."""

    def __init__(self, done: int, total: int, kind: str, pool: WorkerPool, progress: Progress):
        self._done, self._total, self._kind, self._pool, self._progress = done, total, kind, pool, progress
        self._computed, self._started = 0, time.monotonic()
        progress(done, total, kind)

    def add(self, count: int) -> None:
        self._done, self._computed = self._done + count, self._computed + count
        per_second = self._computed / max(time.monotonic() - self._started, 1e-3)
        text = f"{self._kind} ({self._pool.describe()}, {per_second:.0f} per second)"
        self._progress(self._done, self._total, text)

    def wait(self, message: str) -> None:
        self._progress(self._done, self._total, f"{self._kind} ({message})")


def _connect(address: str) -> None:
    # Ray would upload the working folder if it was started by `uv run`, and print a line for each result that nobody reads.
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise NotAvailable("the engine ray needs the package ray: pip install 'vlm-audio-pipeline[ray]'") from error
    try:
        ray.init(address=address, ignore_reinit_error=True, log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise NotAvailable(
            f"no Ray cluster answers at '{address}': {first_line(error)}; start one with `ray start --head`, and "
            "add nodes with `ray start --address=HOST:PORT`"
        ) from error
