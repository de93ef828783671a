"""How well embeddings separate the classes without training: clusters, neighbours and retrieval.

All measures use one geometry: every dimension at mean 0 and standard deviation 1 over the clips, then cosine distance, as
in the k-NN classifier, so that the scale of the numbers does not matter. Neighbours and retrieval leave out the clips of
the query's own source recording, because the same background noise would make them neighbours.

Belongs here: measures of one encoder's embeddings against the true labels, and published statements about such embeddings.
Does not belong here: two-dimensional projections (`projections`), and anything that learns from labels (`classifiers`).
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from math import comb
from typing import Any

import numpy as np
import pyarrow as pa

from vlm_audio_pipeline.evaluation.clip_blocks import clip_labels, clip_sources, compute_in_blocks
from vlm_audio_pipeline.evaluation.clip_measures import (
    CLIP_MEASURES,
    NEIGHBOURS,
    RECALL_RANKS,
    mean_values,
)
from vlm_audio_pipeline.evaluation.clip_sample import MAX_COMPARED_CLIPS
from vlm_audio_pipeline.evaluation.cluster_measures import (
    CLUSTER_MEASURES,
    SEEDS,
    STARTS,
    agreement,
    cluster,
    reduce_dimensions,
)
from vlm_audio_pipeline.evaluation.embedding_intervals import (
    NO_INTERVAL,
    SpreadInterval,
    half_sample_interval,
    halves,
    mean_interval,
)
from vlm_audio_pipeline.evaluation.embedding_matrix import EmbeddingMatrix
from vlm_audio_pipeline.evaluation.permuted_labels import PermutedReference, permuted_labels, permuted_reference
from vlm_audio_pipeline.evaluation.tables import build_rows

_EACH_CLASS_ONE_CLIP = "every class has only one clip"

CLAIMS = {
    "clap-htsat": "can-vlms-hear, from a UMAP plot, gives no number: 'remarkably clear separation between sound categories'",
    "music2latent": "can-vlms-hear, from a UMAP plot, gives no number: 'moderate clustering with some overlap between "
    "categories'",
    "aimv2": "can-vlms-hear, from a UMAP plot, gives no number: 'significant mixing between categories with no clear "
    "clustering pattern'; it used the vector of the upper left patch for the whole image, so the statement is uncertain",
}
"""Part of a model id, lower case -> what main_noteblog.ipynb of github.com/harpreetsahota204/can-vlms-hear states about its
embeddings."""


@dataclass(frozen=True)
class EmbeddingMeasure:
    """One number.

    Attributes:
        name: of the measure.
        value: None if it is undefined, with the `reason`.
        method: how it is computed, in words.
        clips: number of clips that it covers.
        reason: why `value` is None.
        chance: its chance level if there is a formula.
        interval: its 95 % interval by source recording.
        permuted: its values over permuted labels.
        seed_low: smallest value over the seeds of k-means; None for measures without a seed.
        seed_high: largest value over the seeds.
    """

    name: str
    value: float | None
    method: str
    clips: int
    reason: str | None = None
    chance: float | None = None
    interval: SpreadInterval = NO_INTERVAL
    permuted: PermutedReference | None = None
    seed_low: float | None = None
    seed_high: float | None = None

    def columns(self) -> dict[str, Any]:
        """Return the columns of its row."""
        permuted = self.permuted
        return {
            "measure": self.name,
            "value": self.value,
            "low": self.interval.low,
            "high": self.interval.high,
            "interval": self.interval.method,
            "reason": self.reason,
            "chance": self.chance,
            "permuted_mean": permuted and permuted.mean,
            "permuted_low": permuted and permuted.low,
            "permuted_high": permuted and permuted.high,
            "p_permuted": permuted and permuted.p,
            "seed_low": self.seed_low,
            "seed_high": self.seed_high,
            "clips": self.clips,
            "method": self.method,
        }


_OTHER_SOURCES = "; cosine of standardised vectors, clips of the same source left out"
METHODS = {
    "silhouette": "mean silhouette of the true classes, cosine distance of standardised vectors",
    "knn_purity": f"share of the {NEIGHBOURS} nearest clips that are of the clip's class, mean over clips{_OTHER_SOURCES}",
    "map": f"mean average precision, each clip a query for its class{_OTHER_SOURCES}",
    **{
        f"r_at_{k}": f"share of clips with a clip of their class among the nearest {k}{_OTHER_SOURCES}"
        for k in RECALL_RANKS
    },
}
"""Measure -> how it is computed."""


def clip_means(embeddings: EmbeddingMatrix) -> list[EmbeddingMeasure]:
    """Compute the measures that are means over clips (`clip_measures`), with intervals and permuted references.

    Chance levels, the mean over all orders of a query's N candidates of which R are relevant: purity R / N; average precision
    (H_N + (N - H_N) (R - 1) / (N - 1)) / N with H_N = 1 + 1/2 + ... + 1/N; R@k 1 - C(N - R, k) / C(N, k).
    """
    if reason := _undefined_reason(embeddings):
        return [EmbeddingMeasure(name, None, METHODS[name], 0, reason) for name in CLIP_MEASURES]
    label, source = clip_labels(embeddings), clip_sources(embeddings)
    results = compute_in_blocks(embeddings, _label_permutations(label, source))
    values, means_without_groups, permuted = results.values, results.means_without_groups, results.permuted
    means = mean_values(values)
    chances = _chance_values(label, source)
    measures = []
    for i, name in enumerate(CLIP_MEASURES):
        clips, value = int((~np.isnan(values[i])).sum()), float(means[i])
        reason = _undefined_clip_mean(name, embeddings, clips)
        if reason:
            measures.append(EmbeddingMeasure(name, None, METHODS[name], clips, reason))
            continue
        interval = mean_interval(values[i], means_without_groups[:, i], source, is_share=name != "silhouette")
        measures.append(
            EmbeddingMeasure(
                name,
                value,
                METHODS[name],
                clips,
                chance=chances.get(name),
                interval=interval,
                permuted=permuted_reference(value, permuted[:, i]),
            )
        )
    return measures


def _undefined_clip_mean(name: str, embeddings: EmbeddingMatrix, clips: int) -> str | None:
    if name == "silhouette":
        return _EACH_CLASS_ONE_CLIP if len(set(embeddings.label)) >= len(embeddings.label) else None
    return None if clips else "no class has clips of two source recordings"


def clusters(embeddings: EmbeddingMatrix) -> list[EmbeddingMeasure]:
    """Compute NMI, AMI and ARI of k-means against the classes, k = number of classes, with intervals and permuted references."""
    n, k = len(embeddings.clip), len(set(embeddings.label))
    method = f"k-means, k = {k} classes, {STARTS} starts, mean over seeds 0 to {SEEDS - 1}, on standardised vectors of length 1"
    if (reason := _undefined_reason(embeddings)) is None and k >= n:
        reason = _EACH_CLASS_ONE_CLIP
    if reason:
        return [EmbeddingMeasure(name, None, method, n, reason) for name in CLUSTER_MEASURES]
    label, source = clip_labels(embeddings), clip_sources(embeddings)
    x = reduce_dimensions(embeddings.unit)
    clusterings = [cluster(x, k, seed) for seed in range(SEEDS)]
    labels = np.array([label, *_label_permutations(label, source)])
    agreements = np.array([agreement(labels, clustering) for clustering in clusterings])
    by_seed = agreements[:, 0]
    values, *permutations = agreements.mean(axis=0)
    permuted = np.array(permutations).reshape(-1, len(CLUSTER_MEASURES))
    half_agreements = np.array([_half_agreement(x, label, keep) for keep in halves(source)]).reshape(
        -1, len(CLUSTER_MEASURES)
    )
    return [
        EmbeddingMeasure(
            name,
            float(values[i]),
            method,
            n,
            chance=None if name == "nmi" else 0.0,
            interval=half_sample_interval(float(values[i]), half_agreements[:, i]),
            permuted=permuted_reference(float(values[i]), permuted[:, i]),
            seed_low=float(by_seed[:, i].min()),
            seed_high=float(by_seed[:, i].max()),
        )
        for i, name in enumerate(CLUSTER_MEASURES)
    ]


def _half_agreement(x: np.ndarray, label: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """Return the cluster measures of some of the clips; NaN where they have one class, or one clip of each."""
    classes = len(np.unique(label[keep]))
    if not 1 < classes < keep.sum():
        return np.full(len(CLUSTER_MEASURES), np.nan)
    values: np.ndarray = agreement(label[keep][None, :], cluster(x[keep], classes, seed=0))[0]
    return values


def _label_permutations(label: np.ndarray, source: np.ndarray) -> Iterator[np.ndarray]:
    """Yield permuted labels; none for one source recording, and none with fewer than two classes."""
    if source.max() > 0:
        yield from (other for other in permuted_labels(label, source) if np.ptp(other) > 0)


def _chance_values(label: np.ndarray, source: np.ndarray) -> dict[str, float]:
    """Return the chance levels of the retrieval measures; empty if there is no query."""
    class_and_source = source * (label.max() + 1) + label
    candidates = len(source) - np.bincount(source)[source]
    # Clips of the class from other source recordings.
    relevant = np.bincount(label)[label] - np.bincount(class_and_source)[class_and_source]
    pairs = Counter((n, r) for n, r in zip(candidates.tolist(), relevant.tolist(), strict=True) if r)
    if not pairs:
        return {}
    chances = np.average([_query_chances(n, r) for n, r in pairs], axis=0, weights=list(pairs.values()))
    return dict(zip(CLIP_MEASURES[1:], chances.tolist(), strict=True))


def _query_chances(n: int, r: int) -> list[float]:
    harmonic = float((1 / np.arange(1, n + 1)).sum())
    mean_ap = (harmonic + (n - harmonic) * (r - 1) / (n - 1)) / n if n > 1 else 1.0
    return [r / n, mean_ap, *(1 - comb(n - r, min(k, n)) / comb(n, min(k, n)) for k in RECALL_RANKS)]


def _undefined_reason(embeddings: EmbeddingMatrix) -> str | None:
    if not len(embeddings.clip):
        return "no clip has an embedding yet"
    if len(set(embeddings.label)) < 2:
        return "all clips are of one class"
    if not np.ptp(embeddings.x, axis=0).any():
        return "all vectors are the same"
    return None


def claim_of(model: str | None) -> str | None:
    """Return what can-vlms-hear states about a model's embeddings, or None.

    >>> claim_of("apple/aimv2-large-patch14-224").startswith("can-vlms-hear")
    True
    """
    if (model or "").startswith("demo-"):
        return None  # the same architecture, but another model
    return next((claim for part, claim in CLAIMS.items() if part in (model or "").lower()), None)


def embedding_quality_table(clips: pa.Table, embeddings: pa.Table) -> pa.Table:
    """Compute every measure of one encoder's embeddings; of more than `MAX_COMPARED_CLIPS` clips, on a sample, as `method` says.

    Args:
        clips: `clips` rows of the folds that exist.
        embeddings: `embeddings` rows of one encoder.

    Returns:
        `embedding_quality` rows without `study` and `encoder`.

    Raises:
        VlmAudioError: when the vectors differ in length.
    """
    points = EmbeddingMatrix.from_tables(clips, embeddings, MAX_COMPARED_CLIPS)
    constants = {
        "model": points.model,
        "dimensions": points.x.shape[1],
        "sources": len(set(points.source)),
        "claim": claim_of(points.model),
    }
    lines = [{**measure.columns(), **constants} for measure in (*clip_means(points), *clusters(points))]
    for line in lines:
        line["method"] += points.sample_note
    return build_rows("embedding_quality", lines, added_columns=("study", "encoder"))
