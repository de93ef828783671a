"""Run one step for one fold: read its inputs, call its stage, check and write what it made, with provenance."""

import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version

import pyarrow as pa
from filelock import FileLock

from vlm_audio_pipeline import __version__
from vlm_audio_pipeline.contracts import faults
from vlm_audio_pipeline.contracts.errors import MissingInput
from vlm_audio_pipeline.contracts.hashing import fingerprint
from vlm_audio_pipeline.contracts.stages import Progress, StageContext, silent
from vlm_audio_pipeline.engines.gpu_lock import gpu_alone
from vlm_audio_pipeline.planning.budget import ledger_of
from vlm_audio_pipeline.planning.graph import Graph, Node
from vlm_audio_pipeline.planning.staleness import recorded, unfinished, up_to_date
from vlm_audio_pipeline.storage.disk_errors import disk_troubles
from vlm_audio_pipeline.storage.partition_files import Provenance, data_version, read_part, write_part
from vlm_audio_pipeline.storage.row_order import sorted_by
from vlm_audio_pipeline.storage.schemas import TABLES
from vlm_audio_pipeline.storage.scratch import Scratch

_progress: ContextVar[Progress] = ContextVar("progress", default=silent)


def current_progress() -> Progress:
    """Give whoever is told how far steps are."""
    return _progress.get()


@contextmanager
def telling(progress: Progress) -> Iterator[None]:
    """Let steps run inside tell `progress` how far they are."""
    token = _progress.set(progress)
    try:
        yield
    finally:
        _progress.reset(token)


@dataclass(frozen=True)
class Outcome:
    """What running a node gave.

    Attributes:
        provenance: as written into the footers.
        tables: what was made, by schema name, as written.
        seconds: wall time, s.
        reused: True where another process had made it meanwhile.
    """

    provenance: Provenance
    tables: dict[str, pa.Table]
    seconds: float
    reused: bool = False


class DamagedInput(MissingInput):
    """A part that was whole when it was last touched cannot be read any more; the next plan makes it anew."""


@cache
def _made_with() -> dict[str, str]:
    """Give the versions and the machine that a part was made with."""
    packages = ("numpy", "scipy", "scikit-learn", "soundfile", "soxr", "torch", "transformers")
    return {
        "package_version": __version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        **{name: version(name) for name in packages},
    }


def execute(graph: Graph, node: Node, *, unless_made: bool = False) -> Outcome:
    """Run a node, under a lock of its own, and write its parts.

    Args:
        graph: the study.
        node: what to run.
        unless_made: give the parts that are there if they were made from just these inputs (by another process,
            while this one waited for the lock).

    Raises:
        MissingInput: when something it reads does not exist.
        DamagedInput: when something it reads cannot be read; the next plan makes that anew.
        VlmAudioError: whatever the stage refuses, and what the disk does.
    """
    with disk_troubles(graph.layout):
        return _execute(graph, node, unless_made)


def _execute(graph: Graph, node: Node, unless_made: bool) -> Outcome:
    step, progress = graph.steps[node.step], _progress.get()
    lock = graph.layout.lock(f"{graph.study.name}.{node}")
    lock.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(lock):
        started = time.perf_counter()
        inputs, versions = _read_inputs(graph, node)
        if unless_made:
            there = recorded(graph, node)
            made_so = there is not None and (there.version, there.inputs) == (step.version, versions)
            if there is not None and made_so and not unfinished(there):
                tables = {t: read_part(p, TABLES[t])[0] for t, p in graph.parts(node).items()}
                return Outcome(there, tables, time.perf_counter() - started, reused=True)
        context = StageContext(
            study=graph.study.name,
            name=step.owner,
            fold=node.fold,
            classes=graph.dataset().classes,
            inputs=inputs,
            dataset=graph.dataset(),
            rows=graph.rows,
            progress=progress,
            ledger=ledger_of(graph) if step.stage.paid else None,
            scratch=(scratch := Scratch(graph.layout.scratch(f"{graph.study.name}.{node}"))),
        )
        if step.stage.accelerator:
            with gpu_alone(progress):
                made = step.stage.run(context)
        else:
            made = step.stage.run(context)
        faults.point(f"stage:{step.stage.asset}")
        tables = {
            t: TABLES[t].conform(
                made[t],
                study=graph.study.name,
                fold=node.fold,
                **({TABLES[t].owner or "": step.owner} if TABLES[t].owner else {}),
            )
            for t in step.stage.tables
        }
        each = {t: data_version(TABLES[t], table) for t, table in tables.items()}
        if node.step == "clips":  # whoever reads clips chooses among all classes, wherever these occur
            each["classes"] = fingerprint(list(context.classes))
        provenance = Provenance(
            step=node.step,
            version=step.version,
            inputs=versions,
            data_version=next(iter(each.values())) if len(each) == 1 else fingerprint(each, length=64),
            details={
                "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
                "seconds": round(time.perf_counter() - started, 3),
                **({"unfinished": list(dict.fromkeys(context.unfinished))} if context.unfinished else {}),
                **({"counts": context.counts} if context.counts else {}),
                **_made_with(),
            },
        )
        parts = graph.parts(node)
        for table, path in parts.items():
            write_part(path, tables[table], provenance)
        graph.rows.note_whole(list(parts.values()))
        scratch.discard()
        return Outcome(provenance, tables, time.perf_counter() - started)


def _read_inputs(graph: Graph, node: Node) -> tuple[dict[str, pa.Table], dict[str, str]]:
    """Read what a node reads: tables by input, and the data version of each part at the moment it was read."""
    inputs: dict[str, pa.Table] = {}
    versions: dict[str, str] = {}
    reads_what_exists = any(given.optional for given in graph.steps[node.step].stage.inputs)
    today = up_to_date(graph) if reads_what_exists else set()
    for given in graph.steps[node.step].stage.inputs:
        folds = graph.upstream_folds(node, given.key)
        if given.key in graph.sources:
            there = graph.sources[given.key].versions(graph.rows)
            if gone := [f for f in folds if f not in there]:
                raise MissingInput(
                    f"{graph.study.name}/{node} reads folds {gone} of {graph.study.dataset.asset_name}, which are gone; "
                    "reload the code location (Deployment > Reload in the UI), or start the command again"
                )
            versions.update({str(Node(given.key, f)): there[f] for f in folds})
            continue
        tables: dict[str, list[pa.Table]] = {}
        for fold in folds:
            upstream = Node(given.key, fold)
            if given.optional and upstream not in today:
                continue
            try:
                read = {t: read_part(p, TABLES[t]) for t, p in graph.parts(upstream).items()}
            except FileNotFoundError as error:
                raise MissingInput(
                    f"{graph.study.name}/{node} reads {graph.study.name}/{upstream}, which does not exist yet; "
                    f"run `vlm-audio run {graph.study.name}`, or materialize it first"
                ) from error
            except (pa.ArrowException, OSError) as error:
                graph.rows.note_whole(list(graph.parts(upstream).values()), whole=False)
                raise DamagedInput(
                    f"{graph.study.name}/{node} reads {graph.study.name}/{upstream}, which is damaged ({error}); "
                    f"run again, which makes it anew"
                ) from error
            versions[str(upstream)] = next(p.data_version for _, p in read.values())
            for t, (table, _) in read.items():
                tables.setdefault(t, []).append(table)
        for i, (t, parts) in enumerate(tables.items()):
            joined = sorted_by(pa.concat_tables(parts), TABLES[t].key)
            inputs[given.key if i == 0 else f"{given.key}:{t}"] = joined
    return inputs, versions
