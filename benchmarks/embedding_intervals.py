"""How often the 95 % intervals of embedding measures cover, and how often paired tests of equal encoders find a difference.

Invented worlds: clips of ten classes from source recordings of 1, 2 or 4 clips, in 16 dimensions: class centre + source recording +
clip. The true value of a measure is its mean over the worlds. Run it as `python benchmarks/embedding_intervals.py`; docs/statistics.md
has its numbers.
"""

import argparse

import numpy as np

from vlm_audio_pipeline.evaluation.clip_blocks import iterate_blocks
from vlm_audio_pipeline.evaluation.clip_measures import CLIP_MEASURES, clip_values, mean_values
from vlm_audio_pipeline.evaluation.cluster_measures import CLUSTER_MEASURES
from vlm_audio_pipeline.evaluation.embedding_comparisons import p_value
from vlm_audio_pipeline.evaluation.embedding_intervals import jackknife_error, masks_without_groups, mean_interval
from vlm_audio_pipeline.evaluation.embedding_matrix import EmbeddingMatrix
from vlm_audio_pipeline.evaluation.embedding_quality import clusters
from vlm_audio_pipeline.evaluation.significance import sign_flip

CLASSES, DIMENSIONS = 10, 16
CENTRES = np.random.default_rng(99).standard_normal((CLASSES, DIMENSIONS))
SIZES = np.repeat([1, 2, 4], [48, 8, 4])
"""Clips of each source recording: 80 clips of 60, the proportions of a fold of ESC-10."""
SETTINGS = {"unrelated to the classes": (0.0, 0.5), "weak": (0.5, 0.5), "good": (1.0, 0.8)}
"""Setting -> distance of the class centres, and share of the variance within a class that source recordings have in common."""


def world(random: np.random.Generator, separation: float, shared: float, encoders: int) -> list[EmbeddingMatrix]:
    """Return the embeddings of the same clips by several equally good encoders."""
    sizes = random.permutation(SIZES)
    source = np.repeat(np.arange(len(sizes)), sizes)
    label = (np.arange(len(sizes)) % CLASSES)[source]

    def vectors() -> np.ndarray:
        of_sources = random.standard_normal((len(sizes), DIMENSIONS))[source]
        of_clips = random.standard_normal((len(source), DIMENSIONS))
        return separation * CENTRES[label] + np.sqrt(shared) * of_sources + np.sqrt(1 - shared) * of_clips

    names = np.arange(len(source)).astype(str)
    return [
        EmbeddingMatrix(names, label.astype(str), source.astype(str), source * 0, vectors()) for _ in range(encoders)
    ]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--worlds", type=int, default=200)
    parser.add_argument("--cluster-worlds", type=int, default=60)
    parser.add_argument("--smallest", action="store_true", help="two worlds: does it still work?")
    arguments = parser.parse_args()
    worlds, cluster_worlds = (2, 2) if arguments.smallest else (arguments.worlds, arguments.cluster_worlds)
    print(f"{worlds} worlds ({cluster_worlds} for clusters) of {SIZES.sum()} clips, {len(SIZES)} source recordings")
    print(f"{'coverage of the 95 % interval':32}" + "".join(f"{m:>12}" for m in (*CLIP_MEASURES, *CLUSTER_MEASURES)))
    rates = {}
    for name, (separation, shared) in SETTINGS.items():
        means, lows, highs, by_t, by_signs = [], [], [], [], []
        for seed in range(worlds):
            pair = [next(iterate_blocks(e)) for e in world(np.random.default_rng(seed), separation, shared, 2)]
            values = [clip_values(g) for g in pair]
            without = [
                np.array([mean_values(clip_values(g, keep=k)) for k in masks_without_groups(g.source)]) for g in pair
            ]
            source, rows = pair[0].source, range(len(CLIP_MEASURES))
            intervals = [mean_interval(values[0][i], without[0][:, i], source, is_share=i > 0) for i in rows]
            means.append(mean_values(values[0]))
            lows.append([interval.low for interval in intervals])
            highs.append([interval.high for interval in intervals])
            differences = values[0] - values[1]
            errors = [jackknife_error(without[0][:, i] - without[1][:, i]) for i in rows]
            by_t.append([p_value(np.nanmean(differences[i]), errors[i], len(without[0]) - 1) for i in rows])
            is_query = ~np.isnan(differences)
            by_signs.append([sign_flip(differences[i][is_query[i]], source[is_query[i]])[0] for i in rows])
        coverage = interval_coverage(means, lows, highs)
        measures = [
            clusters(world(np.random.default_rng(seed), separation, shared, 1)[0]) for seed in range(cluster_worlds)
        ]
        coverage = np.concatenate(
            [
                coverage,
                interval_coverage(
                    [[m.value for m in one] for one in measures],
                    [[m.interval.low for m in one] for one in measures],
                    [[m.interval.high for m in one] for one in measures],
                ),
            ]
        )
        print(f"{name:32}" + "".join(f"{share:12.3f}" for share in coverage), flush=True)
        rates[name] = [(np.array(p) < 0.05).mean(axis=0) for p in (by_t, by_signs)]
    for title, i in (("p < 0.05 for equal encoders", 0), ("the same by flipping signs", 1)):
        print(title)
        for name, both in rates.items():
            print(f"{name:32}" + "".join(f"{share:12.3f}" for share in both[i]))


def interval_coverage(values: list, lows: list, highs: list) -> np.ndarray:
    """Return the share of worlds whose interval contains the mean value."""
    low, high = np.array(lows, float), np.array(highs, float)
    truth = np.mean(values, axis=0)
    return ((low <= truth) & (truth <= high)).mean(axis=0)


if __name__ == "__main__":
    main()
