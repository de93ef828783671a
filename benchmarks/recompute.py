"""Measure how much time recomputing only what changed saves.

Runs a study from scratch, again, after one changed recording, and after one changed parameter, each as a process of its own.
Each row shows its time and the ratio to a run from scratch. Uses ESC-10 where ESC10_DIR is set, else synthetic clips.
`--smallest` uses 50 synthetic clips.
"""

import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from vlm_audio_pipeline.datasets.synthetic import SyntheticDataset
from vlm_audio_pipeline.engines import core_count
from vlm_audio_pipeline.planning.graph import Graph
from vlm_audio_pipeline.planning.planner import make_plan
from vlm_audio_pipeline.planning.staleness import current_input_versions
from vlm_audio_pipeline.storage.data_folder import DataFolder
from vlm_audio_pipeline.studies.loading import load_study


def prepare_recordings(folder: Path, smallest: bool) -> dict:
    """Copy or synthesise recordings into a folder; return the dataset section of the study."""
    if os.environ.get("ESC10_DIR") and not smallest:
        shutil.copytree(os.environ["ESC10_DIR"], folder / "recordings")
        return {"kind": "esc10", "path": "recordings"}
    root = SyntheticDataset(clips=50 if smallest else 400).open(DataFolder(folder / "synthetic")).root
    shutil.move(root, folder / "recordings")
    return {"kind": "esc50", "path": "recordings", "only_esc10": True}


def run(study: Path, data: Path) -> tuple[float, str]:
    """Run the command; return its wall time, s, and its last line."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "vlm_audio_pipeline.cli.main", "run", str(study), "--data", str(data)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return time.perf_counter() - started, done.stdout.strip().splitlines()[-1]


def main() -> None:
    """Measure and print."""
    smallest = "--smallest" in sys.argv[1:]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        study = {
            "name": "measured",
            "dataset": prepare_recordings(folder, smallest),
            "encoders": {"classical": {"kind": "features"}},
            "classifiers": {
                "probe": {"kind": "probe", "encoder": "classical"},
                "nearest": {"kind": "knn", "encoder": "classical"},
            },
        }
        path, data = folder / "measured.yaml", folder / "data"
        path.write_text(yaml.safe_dump(study))
        rows = [("from scratch", *run(path, data)), ("again", *run(path, data))]

        audio = sorted(p for p in (folder / "recordings").rglob("*") if p.suffix in (".ogg", ".wav"))
        shutil.copyfile(audio[1], audio[0])
        rows.append(("one recording replaced", *run(path, data)))

        study["classifiers"]["probe"]["c"] = 0.1
        path.write_text(yaml.safe_dump(study))
        rows.append(("the probe's C changed", *run(path, data)))

        many = {f"probe_{i}": {"kind": "probe", "encoder": "classical", "c": 10.0**-i} for i in range(22)}
        path.write_text(yaml.safe_dump({**study, "classifiers": many}))
        graph = Graph(load_study(path), DataFolder(data))
        current_input_versions(graph)
        started = time.perf_counter()
        plan = make_plan(graph, current_input_versions(graph))
        planned = time.perf_counter() - started

    print(f"{platform.processor() or platform.machine()}, {core_count()} cores, Python {platform.python_version()}")
    for name, seconds, last in rows:
        print(f"{name:42} {seconds:7.2f} s  {rows[0][1] / seconds:7.1f}x  {last}")
    print(
        f"planning 22 classifiers x {len(graph.folds)} folds ({len(graph.nodes)} nodes): {planned:.3f} s, {len(plan.todo)} to do"
    )


if __name__ == "__main__":
    main()
