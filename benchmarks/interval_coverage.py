"""Simulate how often the 95 % intervals contain the true value.

Every world draws new clips (and new examples) and computes the interval with the functions of `measures.uncertainty`. The
tables that it prints are those of docs/statistics.md; a test compares them. The layouts of clips in source recordings are
those of ESC-10. `--smallest` simulates 20 worlds instead of 2,000.
"""

import argparse
import os
import platform
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from statistics import NormalDist

import numpy as np

from vlm_audio_pipeline.engines import core_count
from vlm_audio_pipeline.measures.uncertainty import difference_interval, share_interval

WORLDS = 2000
SMALLEST_WORLDS = 20
SEED = 1
NOMINAL = (0.93, 0.97)
LAYOUTS: Mapping[str, Mapping[int, int]] = {
    "ESC-10": {1: 237, 2: 51, 3: 10, 4: 2, 5: 2, 6: 1, 7: 1},
    "fold 1": {1: 48, 2: 10, 3: 2, 6: 1},
    "fold 2": {1: 48, 2: 12, 4: 2},
    "half of fold 1": {1: 35, 2: 1, 3: 1},
}
"""Name -> clips of a source recording -> number of such source recordings."""
ACCURACIES = (0.1, 0.3, 0.5, 0.85, 0.95, 0.98, 0.99)
CORRELATIONS = (0.0, 0.8)
"""Correlations of the outcomes of two clips of one source recording."""
DIFFERENCES = ((0.1, 0.1), (0.5, 0.5), (0.5, 0.3), (0.85, 0.75), (0.95, 0.95), (0.98, 0.9), (0.99, 0.98))
SAME_OUTCOME = (0.0, 0.8)
"""Shares of sources on which both sides of a difference use the same random numbers."""
DIFFERENCE_LAYOUTS = ("ESC-10", "fold 1")
FEW_SHOT_LAYOUTS = ("ESC-10", "fold 1")
FEW_SHOT_ACCURACIES = (0.5, 0.85)
DRAWS = (1, 3, 5, 10)
CLASSES = 10
VARIANCES: Mapping[str, float] = {"source": 0.2, "clip": 0.3, "draw and class": 0.1}
"""Variances of the effects on a few-shot response, of a total of 1. The standard deviation over draws is then 0.045 at an
accuracy of 0.5, as of one-shot k-NN on ESC-10."""


def source_of_clips(layout: str) -> np.ndarray:
    """Return the number of the source recording of each clip, (clips,) int."""
    sizes = np.repeat(list(LAYOUTS[layout]), list(LAYOUTS[layout].values()))
    return np.repeat(np.arange(len(sizes)), sizes)


def generator(*setting: object) -> np.random.Generator:
    """Return the random generator of a setting; other settings have independent random numbers."""
    return np.random.default_rng([SEED, zlib.crc32(repr(setting).encode())])


def clustered_uniforms(random: np.random.Generator, sources: np.ndarray, worlds: int, correlation: float) -> np.ndarray:
    """Draw uniform numbers, of which a share sqrt(correlation) is common to their source.

    Returns:
        (worlds, clips) float64.
    """
    common = random.random((worlds, sources.max() + 1))[:, sources]
    own = random.random((worlds, len(sources)))
    return np.where(random.random(own.shape) < correlation**0.5, common, own)


def accuracy_coverage(layout: str, accuracy: float, correlation: float, worlds: int) -> float:
    """Return the share of worlds in which the interval of the accuracy contains the true accuracy."""
    random, sources = generator(layout, accuracy, correlation), source_of_clips(layout)
    correct = clustered_uniforms(random, sources, worlds, correlation) < accuracy
    intervals = (share_interval(world, sources) for world in correct)
    return float(np.mean([i is not None and i.low <= accuracy <= i.high for i in intervals]))


def difference_coverage(
    layout: str, accuracies: tuple[float, float], correlation: float, same: float, worlds: int
) -> float:
    """Return the share of worlds in which the interval of a paired difference contains the true difference."""
    random, sources = generator(layout, accuracies, correlation, same), source_of_clips(layout)
    first, other = (clustered_uniforms(random, sources, worlds, correlation) for _ in range(2))
    is_same = (random.random((worlds, sources.max() + 1)) < same)[:, sources]
    second = np.where(is_same, first, other)
    true = accuracies[0] - accuracies[1]
    intervals = (
        difference_interval((a < accuracies[0]).astype(float), (b < accuracies[1]).astype(float), sources)
        for a, b in zip(first, second, strict=True)
    )
    return float(np.mean([i.low - 1e-9 <= true <= i.high + 1e-9 for i in intervals]))


def few_shot_worlds(layout: str, accuracy: float, draws: int, worlds: int) -> tuple[np.ndarray, np.ndarray]:
    """Simulate a few-shot classifier with random draws of examples.

    A response is correct if a normal variable is small: the sum of effects of the source, the clip, the draw on each class, and
    the single response.

    Returns:
        (worlds, draws, clips) bool, correct responses; (worlds,) float, expected accuracy on other clips with the same examples.
    """
    random, sources = generator(layout, accuracy, draws), source_of_clips(layout)
    clips, classes = len(sources), sources % CLASSES
    of_source = random.normal(0, VARIANCES["source"] ** 0.5, (worlds, 1, sources.max() + 1))[:, :, sources]
    of_clip = random.normal(0, VARIANCES["clip"] ** 0.5, (worlds, 1, clips))
    of_draw = random.normal(0, VARIANCES["draw and class"] ** 0.5, (worlds, draws, CLASSES))
    of_response = random.normal(0, (1 - sum(VARIANCES.values())) ** 0.5, (worlds, draws, clips))
    threshold = NormalDist().inv_cdf(accuracy)
    correct = of_source + of_clip + of_draw[:, :, classes] + of_response < threshold
    scaled = (threshold - of_draw) / (1 - VARIANCES["draw and class"]) ** 0.5
    class_shares = np.bincount(classes, minlength=CLASSES) / clips
    return correct, (np.vectorize(NormalDist().cdf)(scaled) @ class_shares).mean(axis=1)


def few_shot_coverage(layout: str, accuracy: float, draws: int, worlds: int) -> tuple[str, float, float]:
    """Compute the coverage of the interval of a few-shot row.

    Returns:
        Scope of the interval; share of worlds in which it contains the accuracy with the same examples on other clips; share
        in which it contains the accuracy with other examples on other clips.
    """
    correct, with_these_examples = few_shot_worlds(layout, accuracy, draws, worlds)
    sources = source_of_clips(layout)
    sources_of_rows, draws_of_rows = np.tile(sources, draws), np.repeat(np.arange(draws), len(sources))
    intervals = [share_interval(world.ravel(), sources_of_rows, draws_of_rows, "random") for world in correct]
    low, high = np.array([(i.low, i.high) for i in intervals if i is not None]).T
    these = (low <= with_these_examples) & (with_these_examples <= high)
    others = (low <= accuracy) & (accuracy <= high)
    scope = intervals[0].scope if intervals[0] else ""
    return scope, float(these.mean()), float(others.mean())


def accuracy_lines(worlds: int) -> Iterator[str]:
    """Yield the table of the intervals of accuracies, as lines of Markdown."""
    yield f"| clips / sources | correlation | {' | '.join(f'{a:.2f}' for a in ACCURACIES)} |"
    yield f"|---|---|{'---|' * len(ACCURACIES)}"
    coverages = []
    for layout in LAYOUTS:
        for correlation in CORRELATIONS:
            row = [accuracy_coverage(layout, accuracy, correlation, worlds) for accuracy in ACCURACIES]
            coverages += row
            yield f"| {size(layout)} | {correlation} | {' | '.join(f'{c:.3f}' for c in row)} |"
    yield ""
    yield summary(coverages)


def difference_lines(worlds: int) -> Iterator[str]:
    """Yield the table of the intervals of differences, as lines of Markdown."""
    yield f"| clips / sources | correlation | same | {' | '.join(f'{a:.2f} - {b:.2f}' for a, b in DIFFERENCES)} |"
    yield f"|---|---|---|{'---|' * len(DIFFERENCES)}"
    coverages = []
    for layout in DIFFERENCE_LAYOUTS:
        for correlation in CORRELATIONS:
            for same in SAME_OUTCOME:
                row = [difference_coverage(layout, pair, correlation, same, worlds) for pair in DIFFERENCES]
                coverages += row
                yield f"| {size(layout)} | {correlation} | {same} | {' | '.join(f'{c:.3f}' for c in row)} |"
    yield ""
    yield summary(coverages)


def few_shot_lines(worlds: int) -> Iterator[str]:
    """Yield the table of the intervals of few-shot rows, as lines of Markdown."""
    yield "| clips / sources | accuracy | random draws | `interval_scope` | with these examples | with other examples |"
    yield "|---|---|---|---|---|---|"
    for layout in FEW_SHOT_LAYOUTS:
        for accuracy in FEW_SHOT_ACCURACIES:
            for draws in DRAWS:
                scope, these, others = few_shot_coverage(layout, accuracy, draws, worlds)
                yield f"| {size(layout)} | {accuracy} | {draws} | {scope} | {these:.3f} | {others:.3f} |"


def size(layout: str) -> str:
    """Return the numbers of clips and sources of a layout."""
    sources = source_of_clips(layout)
    return f"{len(sources)} / {sources.max() + 1} ({layout})"


def summary(coverages: Sequence[float]) -> str:
    """Count the settings with nominal coverage."""
    low, high = NOMINAL
    within = sum(low <= c <= high for c in coverages)
    return (
        f"{within} of {len(coverages)} settings have a coverage of {low} to {high}, {sum(c < low for c in coverages)} a lower "
        f"one; all: {min(coverages):.3f} to {max(coverages):.3f}."
    )


TABLES = {"accuracy": accuracy_lines, "difference": difference_lines, "few-shot": few_shot_lines}


def main() -> None:
    """Simulate and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smallest", action="store_true", help="simulate 20 worlds")
    worlds = SMALLEST_WORLDS if parser.parse_args().smallest else WORLDS
    for name, lines in TABLES.items():
        print(f"{name}: coverage of the 95 % interval, {worlds} worlds, seed {SEED}\n")
        print("\n".join(lines(worlds)), end="\n\n")
    machine = platform.processor() or platform.machine()
    print(f"machine: {machine}, {core_count()} cores of {os.cpu_count()}, {time.process_time():.0f} s of CPU time")


if __name__ == "__main__":
    main()
