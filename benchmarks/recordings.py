"""Measure how time and memory grow with the hours of annotated recordings: `run` of one study at several lengths.

Writes recordings of one hour (16 kHz, noise with tones at known times) and one table of their events, in a temporary folder, and
cuts them into segments of 2.5 s. Each run is a process of its own; its wall time, CPU time and peak memory are those that the
system counts for this process. The ratio compares the CPU time for each hour with that of the shortest length, so that it does
not depend on what else the machine does. `--smallest` uses three recordings of one minute and checks only that it works.

Usage:
    python benchmarks/recordings.py [--smallest] [--hours 3 10] [--folder FOLDER]
"""

import argparse
import csv
import platform
import tempfile
import wave
from pathlib import Path

import numpy as np
import yaml
from scale import measure

from vlm_audio_pipeline.engines import core_count

HOURS = (3, 10)
RATE_HZ, CLASSES = 16_000, 6
SEGMENT_S, EVENT_EVERY_S = 2.5, 60 // CLASSES
MAX_RATIO, MAX_GROWTH_BYTES = 1.1, 200 * 2**20


def write_recording(path: Path, number: int, seconds: int) -> list[tuple[float, float, str]]:
    """Write a recording and return its events: (start in s, end in s, class). Each minute is synthesised alone."""
    random = np.random.default_rng(number)
    events = []
    with wave.open(str(path), "wb") as recording:
        recording.setnchannels(1)
        recording.setsampwidth(2)
        recording.setframerate(RATE_HZ)
        for minute in range(seconds // 60):
            samples = random.normal(0, 300, 60 * RATE_HZ)
            for label, start in enumerate(range(0, 60, EVENT_EVERY_S)):  # each class once a minute
                time = np.arange(2 * RATE_HZ) / RATE_HZ
                samples[start * RATE_HZ : (start + 2) * RATE_HZ] += 6_000 * np.sin(2 * np.pi * 300 * (label + 1) * time)
                events.append((60 * minute + start, 60 * minute + start + 2, f"class_{label}"))
            recording.writeframes(samples.astype("<i2").tobytes())
    return events


def write_study(folder: Path, recordings: int, seconds: int) -> Path:
    """Write the recordings, the table of their events, and the study file; return the study file."""
    (folder / "recordings").mkdir(parents=True)
    with (folder / "recordings" / "events.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["recording", "start", "end", "label"])
        for number in range(recordings):
            name = f"{number:03}.wav"
            events = write_recording(folder / "recordings" / name, number, seconds)
            writer.writerows([name, *event] for event in events)
    study = {
        "name": "recordings",
        "task": "multi_label",
        "dataset": {
            "kind": "annotated_recordings",
            "path": str(folder / "recordings"),
            "n_folds": 3,
            "segment": {"seconds": SEGMENT_S},
        },
        "encoders": {"scripted": {"kind": "scripted", "dimensions": 64}},
        "classifiers": {"probe": {"kind": "probe", "encoder": "scripted", "c": 0.01}},
    }
    path = folder / "recordings.yaml"
    path.write_text(yaml.safe_dump(study))
    return path


def main() -> None:
    """Measure and print; for the lengths of the contract, say whether it holds."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--smallest", action="store_true")
    parser.add_argument("--hours", nargs="+", type=int, default=HOURS)
    parser.add_argument(
        "--folder", type=Path, help="where the recordings are written; default: the system's temporary folder"
    )
    options = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, {core_count()} cores, Python {platform.python_version()}")
    print(
        f"{'recordings':>10} {'segments':>9} {'wall':>9} {'CPU':>9} {'CPU an hour':>12} {'ratio':>6} {'peak memory':>12}"
    )
    first, misses = None, []
    for recordings in [3] if options.smallest else sorted(options.hours):
        seconds = 60 if options.smallest else 3_600
        with tempfile.TemporaryDirectory(dir=options.folder) as temporary:
            folder = Path(temporary)
            study = write_study(folder, recordings, seconds)
            m = measure(["run", str(study), "--data", str(folder / "data")], folder / "log.txt")
        hours = recordings * seconds / 3_600
        first = first or (m.cpu_s / hours, m.peak_bytes)
        ratio = m.cpu_s / hours / first[0]
        print(
            f"{recordings:10} {int(recordings * seconds / SEGMENT_S):9,} {m.wall_s:7.1f} s {m.cpu_s:7.1f} s {m.cpu_s / hours:10.1f} s "
            f"{ratio:6.2f} {m.peak_bytes / 2**20:8.0f} MiB",
            flush=True,
        )
        misses += [f"{recordings} recordings take {ratio:.2f} times the CPU time an hour"] * (ratio > MAX_RATIO)
        growth = m.peak_bytes - first[1]
        misses += [f"{recordings} recordings use {growth / 2**20:.0f} MiB more"] * (growth > MAX_GROWTH_BYTES)
    if not options.smallest:
        print("\n".join(f"missed: {miss}" for miss in misses) or "linear within 10 %, memory flat within 200 MiB")


if __name__ == "__main__":
    main()
