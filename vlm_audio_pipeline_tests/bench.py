"""A small real study on disk to run and to disturb: 12 short recordings, 2 classes, 3 folds, no weights."""

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
    """Give a noisy tone, (samples,) float32."""
    random = np.random.default_rng(seed)
    t = np.arange(int(seconds * RATE)) / RATE
    wave = 0.3 * np.sin(2 * np.pi * PITCH[label] * random.uniform(0.9, 1.1) * t) + 0.02 * random.standard_normal(len(t))
    return wave.astype(np.float32)


class Bench:
    """A study file, its recordings and a data folder.

    `study` is the study file as plain values; change it and `graph()` reads it anew.
    """

    def __init__(self, folder: Path):
        self._place(folder)
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
        readings = [f"{r['id']},{annotator},{r['label']}" for r in self.rows[:8] for annotator in ("ann", "bob")]
        (folder / "annotations.csv").write_text("\n".join(["clip,annotator,label", *readings]) + "\n")
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

    def _place(self, folder: Path) -> None:
        self.folder = folder
        self.data_folder = DataFolder(folder / "data")
        self.audio = folder / "audio"

    def copied_to(self, folder: Path) -> "Bench":
        """Copy everything, results included, to another folder."""
        gc.collect()  # databases of graphs that nobody holds any more are closed now, and not while their files are copied
        shutil.copytree(self.folder, folder)
        twin = copy.deepcopy(self)
        twin._place(folder)
        return twin

    def record(self, name: str, label: str, seed: int, seconds: float = 0.25) -> None:
        """Write or replace a recording."""
        soundfile.write(self.audio / f"{name}.wav", tone(label, seed, seconds), RATE)

    def changed(self, *keys: str, **values: Any) -> dict[str, Any]:
        """Give the study with some values changed, without changing this one."""
        study = copy.deepcopy(self.study)
        at = study
        for key in keys:
            at = at[key]
        at.update(values)
        return study

    def write(self, study: dict[str, Any] | None = None) -> Path:
        """Write the listing and the study file where they changed; a service that reads them never sees half of one."""
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
        """Read the study anew, as a new process would."""
        return Graph(load_study(self.write(study)), self.data_folder)

    def run(
        self,
        study: dict[str, Any] | None = None,
        only: tuple[str, ...] = (),
        fold: int | None = None,
        executor: Executor | None = None,
    ) -> "Ran":
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
        return Ran(report, sorted(str(n) for n in nodes), graph.result_store.count("vector") - before)

    def plan(self, study: dict[str, Any] | None = None) -> Plan:
        """Plan without running."""
        graph = self.graph(study)
        return make_plan(graph, current_input_versions(graph))


class Ran:
    """What a run did: its report, the steps that ran ("clips|1", ...), and how many vectors were computed."""

    def __init__(self, report: RunSummary, steps: list[str], vectors: int):
        self.report = report
        self.steps = steps
        self.vectors = vectors

    def __iter__(self) -> Any:
        return iter(self.steps)
