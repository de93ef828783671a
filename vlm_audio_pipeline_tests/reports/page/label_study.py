"""A small multi-label study of recordings with a Raven table: events with times and frequency bounds, a classifier with scores, and a language model."""

from pathlib import Path

import numpy as np
import soundfile

from vlm_audio_pipeline.planning.graph import Graph
from vlm_audio_pipeline.planning.run import run_study
from vlm_audio_pipeline.storage.data_folder import DataFolder
from vlm_audio_pipeline.studies.loading import parse_study

RATE = 8000
DURATION_S = 6.0
FOX = "<b>fox</b>"
"""A class whose name would be bold if it were not escaped."""
EVENTS = {
    "a": [(2.5, 3.5, 1000, 3000, "owl"), (1.8, 2.9, 400, 900, FOX)],
    "b": [(0.5, 1.5, 400, 900, FOX), (4.5, 5.0, 1000, 3000, "owl")],
    "c": [(0.2, 1.0, 1000, 3000, "owl"), (2.5, 3.5, 400, 900, FOX)],
    "d": [(3.0, 3.8, 400, 900, FOX), (5.0, 5.9, 1000, 3000, "owl")],
}
"""Recording -> start and end in s, frequency bounds in Hz, class."""
STUDY = """
name: field
task: multi_label
dataset: {kind: annotated_recordings, path: field, n_folds: 2, segment: {seconds: 2, min_overlap_s: 0.5}}
renderings: {small: {preset: plain, width: 32, height: 32, rate: 8000}}
encoders: {mfcc: {kind: features}}
classifiers:
  nearest: {kind: knn, encoder: mfcc, k: 1}
  listing: {kind: language_model, model: script, backend: scripted, rendering: small}
"""


def write_recordings(folder: Path) -> None:
    """Write the recordings, noise with a tone for each event, and a Raven table of each."""
    random, time = np.random.default_rng(0), np.arange(round(DURATION_S * RATE)) / RATE
    folder.mkdir(parents=True)
    for name, events in EVENTS.items():
        samples = random.normal(0, 0.01, len(time))
        lines = ["Selection\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tHigh Freq (Hz)\tSpecies"]
        for number, (start, end, low, high, label) in enumerate(events, 1):
            samples += 0.2 * np.sin(np.pi * (low + high) * time) * ((start <= time) & (time < end))
            lines.append(f"{number}\t{start}\t{end}\t{low}\t{high}\t{label}")
        soundfile.write(folder / f"{name}.wav", samples, RATE)
        (folder / f"{name}.Table.1.selections.txt").write_text("\n".join(lines) + "\n")


def run_field_study(folder: Path) -> Graph:
    """Write the recordings into a folder and run the study there."""
    write_recordings(folder / "field")
    graph = Graph(parse_study(STUDY, folder / "field.yaml"), DataFolder(folder / "data"))
    assert not run_study(graph).failed
    return graph
