"""A small study on disk for tests: 12 short recordings, 2 classes, 3 folds, no weights."""

import copy
import csv
import gc
import io
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import yaml

from vlm_audio_pipeline.planning.executor import Executor
from vlm_audio_pipeline.planning.graph import Graph
from vlm_audio_pipeline.planning.nodes import Node
from vlm_audio_pipeline.planning.planner import Plan, make_plan, select_nodes
from vlm_audio_pipeline.planning.run import RunSummary, run_study
from vlm_audio_pipeline.planning.staleness import current_input_versions
from vlm_audio_pipeline.storage.data_folder import DataFolder
from vlm_audio_pipeline.studies.loading import load_study

RATE = 8000
PITCH = {"low": 300.0, "high": 2500.0}  # Hz


def tone(label: str, seed: int, seconds: float = 0.25) -> np.ndarray:
    """Return a noisy tone, (samples,) float32."""
    rng = np.random.default_rng(seed)
    t = np.arange(int(seconds * RATE)) / RATE
    wave = 0.3 * np.sin(2 * np.pi * PITCH[label] * rng.uniform(0.9, 1.1) * t) + 0.02 * rng.standard_normal(len(t))
    return wave.astype(np.float32)


class Bench:
    """A study file, its recordings and a data folder.

    `study` has the values of the study file; after a change, `graph()` writes and reads it again.
    """

    def __init__(self, folder: Path):
        self._set_folder(folder)
        self._may_be_open = True  # its databases, by objects that are no longer used; a collection takes 0.1 s or more
        self.audio.mkdir(parents=True)
        self.rows: list[dict[str, Any]] = []
        for fold in (1, 2, 3):
            for label in PITCH:
                for take in (0, 1):
                    name = f"{fold}-{label}-{take}"
                    self.record(name, label, seed=len(self.rows))
                    self.rows.append(
                        {
                            "id": name,
                            "path": f"audio/{name}.wav",
                            "label": label,
                            "fold": fold,
                            "source": f"{fold}-{label}",
                            "room": "hall" if take else "yard",
                        }
                    )
        annotations = [f"{r['id']},{annotator},{r['label']}" for r in self.rows[:8] for annotator in ("ann", "bob")]
        (folder / "annotations.csv").write_text("\n".join(["clip,annotator,label", *annotations]) + "\n")
        self.study: dict[str, Any] = {
            "name": "bench",
            "dataset": {"kind": "csv", "path": "clips.csv", "keep": ["room"], "columns": {"id": "id"}},
            "encoders": {"bands": {"kind": "scripted", "dimensions": 4}},
            "classifiers": {
                "probe": {"kind": "probe", "encoder": "bands", "c": 1.0},
                "knn": {"kind": "knn", "encoder": "bands", "k": 3},
                "panel": {"kind": "annotations", "path": "annotations.csv"},
            },
        }

    def _set_folder(self, folder: Path) -> None:
        self.folder = folder
        self.data_folder = DataFolder(folder / "data")
        self.audio = folder / "audio"

    def copy_to(self, folder: Path) -> "Bench":
        """Copy everything, results included, to another folder."""
        if self._may_be_open:
            gc.collect()  # closes unused databases before their files are copied
            self._may_be_open = False
        shutil.copytree(self.folder, folder)
        duplicate = copy.deepcopy(self)
        duplicate._may_be_open = True
        duplicate._set_folder(folder)
        return duplicate

    def record(self, name: str, label: str, seed: int, seconds: float = 0.25) -> None:
        """Write or replace a recording."""
        soundfile.write(self.audio / f"{name}.wav", tone(label, seed, seconds), RATE)

    def changed_study(self, *keys: str, **values: Any) -> dict[str, Any]:
        """Return a copy of the study with some values changed."""
        study = copy.deepcopy(self.study)
        values_at_keys = study
        for key in keys:
            values_at_keys = values_at_keys[key]
        values_at_keys.update(values)
        return study

    def write(self, study: dict[str, Any] | None = None) -> Path:
        """Write the listing and the study file if they changed. Each is replaced atomically, because a service may read it."""
        listing = io.StringIO(newline="")
        writer = csv.DictWriter(listing, fieldnames=list(self.rows[0]))
        writer.writeheader()
        writer.writerows(self.rows)
        self._replace("clips.csv", listing.getvalue())
        return self._replace("bench.yaml", yaml.safe_dump(study or self.study, sort_keys=False))

    def _replace(self, name: str, text: str) -> Path:
        path, content = self.folder / name, text.encode()
        if not path.exists() or path.read_bytes() != content:
            temporary = self.folder / f".{name}.tmp"
            temporary.write_bytes(content)
            os.replace(temporary, path)
        return path

    def graph(self, study: dict[str, Any] | None = None) -> Graph:
        """Read the study again, like a new process."""
        self._may_be_open = True
        return Graph(load_study(self.write(study)), self.data_folder)

    def run(
        self,
        study: dict[str, Any] | None = None,
        only: tuple[str, ...] = (),
        fold: int | None = None,
        executor: Executor | None = None,
    ) -> "BenchRun":
        """Run the study, directly by default; return the nodes that ran and how many vectors were computed."""
        graph = self.graph(study)
        before = graph.result_store.count("vector")
        nodes: list[Node] = []
        report = run_study(
            graph,
            select_nodes(graph, only, fold),
            executor=executor,
            on_step=lambda node, started: nodes.append(node) if started else None,
        )
        return BenchRun(report, sorted(str(n) for n in nodes), graph.result_store.count("vector") - before)

    def plan(self, study: dict[str, Any] | None = None) -> Plan:
        """Plan without running."""
        graph = self.graph(study)
        return make_plan(graph, current_input_versions(graph))


class BenchRun:
    """The result of a run: summary, steps that ran ("clips|1", ...), and the number of computed vectors."""

    def __init__(self, report: RunSummary, steps: list[str], vectors: int):
        self.report = report
        self.steps = steps
        self.vectors = vectors

    def __iter__(self) -> Any:
        return iter(self.steps)
