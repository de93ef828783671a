"""Measure how time and memory grow with the number of clips: `run`, `plan` and `report` of one study at several sizes.

Writes csv datasets of short synthetic clips (0.1 s, noise in two bands that depend on the class), in a temporary folder. Each
command is a process of its own; its wall time, CPU time and peak memory are those that the system counts for this process.
The ratios compare the CPU time for each clip with that of the smallest size, so that they do not depend on what else the
machine does. `--smallest` uses 200 clips and checks only that it works.

Usage:
    python benchmarks/scale.py [--smallest] [--clips 20000 50000 100000] [--folder FOLDER]
"""

import argparse
import csv
import os
import platform
import subprocess
import sys
import tempfile
import time
import wave
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from vlm_audio_pipeline.engines import core_count

SIZES = (20_000, 50_000, 100_000)
SMALLEST_SIZES = (200,)
CLASSES, FOLDS, TAKES = 10, 5, 2
RATE_HZ, SAMPLES = 16_000, 1_600
CLIPS_PER_FOLDER = 1_000
MAX_RATIO, MAX_MEMORY_BYTES, MAX_PLAN_S = 1.1, 2 * 2**30, 5.0


@dataclass(frozen=True)
class Measurement:
    """The resources of one process.

    Attributes:
        wall_s: wall time, s.
        cpu_s: CPU time of the process and of those that it waited for, s.
        peak_bytes: largest resident memory of one process, bytes.
    """

    wall_s: float
    cpu_s: float
    peak_bytes: int


def synthesise(count: int, first: int) -> np.ndarray:
    """Return clips with numbers from `first`: (count, SAMPLES) int16, noise in two bands that depend on the class."""
    random = np.random.default_rng(first)
    spectra = np.fft.rfft(random.standard_normal((count, SAMPLES)))
    bands = spectra.shape[1] // 8
    for row in range(count):
        label = (first + row) % CLASSES
        level = np.full(spectra.shape[1], 0.1)
        for band in (label % 8, (3 * label + 1) % 8):
            level[band * bands : (band + 1) * bands] = random.uniform(0.5, 1.5)
        spectra[row] *= level
    samples = np.fft.irfft(spectra, SAMPLES)
    samples *= 8_000 / np.abs(samples).max(axis=1, keepdims=True)
    return samples.astype("<i2")


def write_dataset(folder: Path, clips: int) -> Path:
    """Write the recordings and the CSV that lists them; return it."""
    listing = folder / "clips.csv"
    folder.mkdir(parents=True)
    with listing.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "fold", "source"])
        for first in range(0, clips, CLIPS_PER_FOLDER):
            name = f"recordings_{first // CLIPS_PER_FOLDER:04}"
            (folder / name).mkdir()
            for row, samples in enumerate(synthesise(min(CLIPS_PER_FOLDER, clips - first), first)):
                number = first + row
                path = f"{name}/{number:07}.wav"
                with wave.open(str(folder / path), "wb") as recording:
                    recording.setnchannels(1)
                    recording.setsampwidth(2)
                    recording.setframerate(RATE_HZ)
                    recording.writeframes(samples.tobytes())
                source = number // (CLASSES * TAKES) * CLASSES + number % CLASSES
                writer.writerow([path, f"class_{number % CLASSES}", source // CLASSES % FOLDS + 1, source])
    return listing


def write_study(path: Path, listing: Path) -> None:
    """Write the study file: the scripted encoder and a probe."""
    study = {
        "name": "scale",
        "dataset": {"kind": "csv", "path": str(listing)},
        "encoders": {"scripted": {"kind": "scripted", "dimensions": 64}},
        "classifiers": {"probe": {"kind": "probe", "encoder": "scripted", "c": 0.01}},
    }
    path.write_text(yaml.safe_dump(study))


def measure(arguments: Sequence[str], log: Path) -> Measurement:
    """Run the command as a process of its own and return its resources; stop with its output if it fails."""
    command = [sys.executable, "-m", "vlm_audio_pipeline.cli.main", *arguments]
    started = time.perf_counter()
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
    wall_s = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}:\n{log.read_text(errors='replace')}")
    scale = 1 if sys.platform == "darwin" else 1024  # unit of ru_maxrss
    return Measurement(wall_s, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * scale)


def measure_size(folder: Path, clips: int) -> dict[str, Measurement]:
    """Measure the three commands for a number of clips."""
    study, data, log = folder / "scale.yaml", folder / "data", folder / "log.txt"
    write_study(study, write_dataset(folder / "dataset", clips))
    commands = {
        "run": ["run", str(study), "--data", str(data)],
        "plan": ["plan", str(study), "--data", str(data)],
        "report": ["report", str(study), "--data", str(data)],
    }
    return {name: measure(arguments, log) for name, arguments in commands.items()}


def main() -> None:
    """Measure and print; with the sizes of the contract, say whether it holds."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--smallest", action="store_true")
    parser.add_argument("--clips", nargs="+", type=int, default=SIZES)
    parser.add_argument(
        "--folder", type=Path, help="where the datasets are written; default: the system's temporary folder"
    )
    options = parser.parse_args()
    sizes = sorted(SMALLEST_SIZES if options.smallest else options.clips)
    print(f"{platform.processor() or platform.machine()}, {core_count()} cores, Python {platform.python_version()}")
    print(f"{'clips':>8}  {'command':8} {'wall':>9} {'CPU':>9} {'CPU a clip':>11} {'ratio':>6} {'peak memory':>12}")
    first: dict[str, Measurement] = {}
    misses = []
    for clips in sizes:
        with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
            measurements = measure_size(Path(temporary), clips)
        for name, m in measurements.items():
            start = first.setdefault(name, m)
            ratio = (m.cpu_s / clips) / (start.cpu_s / sizes[0])
            print(
                f"{clips:8,}  {name:8} {m.wall_s:7.1f} s {m.cpu_s:7.1f} s {1e6 * m.cpu_s / clips:8.0f} us {ratio:6.2f} "
                f"{m.peak_bytes / 2**20:8.0f} MiB",
                flush=True,
            )
            misses += [f"{name} of {clips:,} clips takes {ratio:.2f} times the CPU time a clip"] * (ratio > MAX_RATIO)
            misses += [f"{name} of {clips:,} clips uses {m.peak_bytes / 2**20:.0f} MiB"] * (
                m.peak_bytes > MAX_MEMORY_BYTES
            )
        plan_s = measurements["plan"].wall_s
        misses += [f"plan of {clips:,} clips takes {plan_s:.1f} s"] * (plan_s > MAX_PLAN_S)
    if not options.smallest:
        print("\n".join(f"missed: {miss}" for miss in misses) or "linear within 10 %, below 2 GiB, plan below 5 s")


if __name__ == "__main__":
    main()
