"""What recomputing only what changed saves: a study from nothing, again, after one changed clip, after one parameter.

The usual way recomputes everything each time, which is the first row; each other row is given as a ratio to it, taken in
the same run. Real ESC-10 where ESC10_DIR is set, else synthetic clips. Whole processes, as a person would start them.
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
from vlm_audio_pipeline.engines import cores
from vlm_audio_pipeline.planning.graph import Graph
from vlm_audio_pipeline.planning.planner import make_plan, observe
from vlm_audio_pipeline.storage.layout import Layout
from vlm_audio_pipeline.studies.loading import load_study


def recordings(folder: Path) -> dict:
    """Put recordings that may be changed into a folder and give the dataset's section of the study."""
    if os.environ.get("ESC10_DIR"):
        shutil.copytree(os.environ["ESC10_DIR"], folder / "recordings")
        return {"kind": "esc10", "path": "recordings"}
    root = SyntheticDataset(clips=400).open(Layout(folder / "made")).root
    shutil.move(root, folder / "recordings")
    return {"kind": "esc50", "path": "recordings", "only_esc10": True}


def run(study: Path, data: Path) -> tuple[float, str]:
    """Run the command; give its wall time, s, and its last line."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "vlm_audio_pipeline.cli.main", "run", str(study), "--data", str(data)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return time.perf_counter() - started, done.stdout.strip().splitlines()[-1]


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        study = {
            "name": "measured",
            "dataset": recordings(folder),
            "encoders": {"classical": {"kind": "features"}},
            "classifiers": {
                "probe": {"kind": "probe", "encoder": "classical"},
                "nearest": {"kind": "knn", "encoder": "classical"},
            },
        }
        path, data = folder / "measured.yaml", folder / "data"
        path.write_text(yaml.safe_dump(study))
        rows = [("from nothing (the usual way, every time)", *run(path, data)), ("again", *run(path, data))]

        audio = sorted(p for p in (folder / "recordings").rglob("*") if p.suffix in (".ogg", ".wav"))
        shutil.copyfile(audio[1], audio[0])
        rows.append(("one recording replaced", *run(path, data)))

        study["classifiers"]["probe"]["c"] = 0.1
        path.write_text(yaml.safe_dump(study))
        rows.append(("the probe's C changed", *run(path, data)))

        many = {f"probe_{i}": {"kind": "probe", "encoder": "classical", "c": 10.0**-i} for i in range(22)}
        path.write_text(yaml.safe_dump({**study, "classifiers": many}))
        graph = Graph(load_study(path), Layout(data))
        observe(graph)
        started = time.perf_counter()
        plan = make_plan(graph, observe(graph))
        planned = time.perf_counter() - started

    print(f"{platform.processor() or platform.machine()}, {cores()} cores, Python {platform.python_version()}")
    for name, seconds, last in rows:
        print(f"{name:42} {seconds:7.2f} s  {rows[0][1] / seconds:7.1f}x  {last}")
    print(
        f"planning 22 classifiers x {len(graph.folds)} folds ({len(graph.nodes)} nodes): {planned:.3f} s, {len(plan.todo)} to do"
    )


if __name__ == "__main__":
    main()
