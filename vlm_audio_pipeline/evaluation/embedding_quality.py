"""How well embeddings separate the classes without training: clusters, neighbours and retrieval.

All measures use one geometry: every dimension at mean 0 and standard deviation 1 over the clips, then cosine distance, as
in the k-NN classifier, so that the scale of the numbers does not matter. Neighbours and retrieval leave out the clips of
the query's own source recording, which its background noise would identify.

Belongs here: measures of one encoder's embeddings against the true labels, and published statements about such embeddings.
Does not belong here: two-dimensional projections (`projections`), and anything that learns from labels (`classifiers`).
"""

from dataclasses import dataclass
from math import comb

import numpy as np
import pyarrow as pa

from vlm_audio_pipeline.classifiers.knn import distances
from vlm_audio_pipeline.evaluation.embedding_matrix import EmbeddingMatrix
from vlm_audio_pipeline.evaluation.tables import rows_of

NEIGHBOURS = 5
"""Number of nearest clips in `knn_purity`, the default of the k-NN classifier."""
RECALL_RANKS = (1, 5, 10)
"""Ranks k of recall at k."""

CLAIMS = {
    "clap-htsat": "can-vlms-hear, from a UMAP plot and zero-shot accuracy (99.25 %), gives no number for the embeddings: "
    "'audio-specific models (CLAP) show superior performance'",
    "music2latent": "can-vlms-hear plots Music2Latent (8192-d, mean over time) by UMAP beside CLAP and AIMv2 and states "
    "no number",
    "aimv2": "can-vlms-hear, from a UMAP plot, gives no number: 'visual embedding analysis reveals challenges in treating "
    "audio classification as a pure visual task'; it took the upper left patch for the image, so the verdict is unsafe",
}
"""Part of a model id, lower case -> what the README of github.com/harpreetsahota204/can-vlms-hear states about its
embeddings."""


@dataclass(frozen=True)
class EmbeddingMeasure:
    """One number: `value` is None where it is undefined, with the `reason`; `chance` is None without a formula for it."""

    name: str
    value: float | None
    method: str
    clips: int
    reason: str | None = None
    chance: float | None = None


def silhouette(embeddings: EmbeddingMatrix) -> EmbeddingMeasure:
    """Mean over clips of (b - a) / max(a, b) (Rousseeuw, J. Comput. Appl. Math. 20, 1987).

    a is the mean distance to the other clips of the class, b the smallest mean distance to another class. Clips of the
    same source count like others.
    """
    method = "mean silhouette of the true classes, cosine distance of standardised vectors"
    n, classes = len(embeddings.clip), len(set(embeddings.label))
    if (reason := _why_undefined(embeddings)) is None and classes >= n:
        reason = "every class has one clip alone"
    if reason:
        return EmbeddingMeasure("silhouette", None, method, n, reason)
    from sklearn.metrics import silhouette_score

    cosine_distances = distances(embeddings.standardised, embeddings.standardised, "cosine")
    np.fill_diagonal(cosine_distances, 0)
    value = float(silhouette_score(cosine_distances, embeddings.label, metric="precomputed"))
    return EmbeddingMeasure("silhouette", value, method, n)


def clusters(embeddings: EmbeddingMatrix) -> list[EmbeddingMeasure]:
    """Normalised mutual information and adjusted Rand index of k-means against the classes, k = number of classes.

    NMI: mutual information over the arithmetic mean of both entropies (Vinh et al., JMLR 11, 2010). ARI: Hubert & Arabie,
    J. Classification 2, 1985; its chance level is 0.
    """
    n, k = len(embeddings.clip), len(set(embeddings.label))
    method = f"k-means, k = {k} classes, 10 starts, seed 0, on standardised vectors of length 1"
    if reason := _why_undefined(embeddings):
        return [EmbeddingMeasure(name, None, method, n, reason) for name in ("nmi", "ari")]
    from sklearn.cluster import KMeans
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    cluster_of = KMeans(k, n_init=10, random_state=0).fit_predict(embeddings.unit)
    return [
        EmbeddingMeasure("nmi", float(normalized_mutual_info_score(embeddings.label, cluster_of)), method, n),
        EmbeddingMeasure("ari", float(adjusted_rand_score(embeddings.label, cluster_of)), method, n, chance=0.0),
    ]


def retrieval(embeddings: EmbeddingMatrix) -> list[EmbeddingMeasure]:
    """Purity of neighbours, mean average precision and recall at 1, 5, 10; each clip is a query for others of its class.

    A query ranks all clips of other sources by cosine distance, equal ones in the order of their ids. Purity is the mean
    share of its class among the nearest five; average precision the mean, over relevant clips, of precision at their
    rank (Manning, Raghavan & Schütze, Introduction to Information Retrieval, 2008, section 8.4); R@k the share of
    queries with a relevant clip among the first k. Queries without any relevant clip of another source are left out.

    Chance levels: purity R / N over a query's N candidates of which R are relevant; average precision
    (H_N + (N - H_N) (R - 1) / (N - 1)) / N with H_N = 1 + 1/2 + ... + 1/N, the mean over all orders; R@k
    1 - C(N - R, k) / C(N, k).
    """
    names = ("knn_purity", "map", *(f"r_at_{k}" for k in RECALL_RANKS))
    reason = _why_undefined(embeddings)
    relevant = [] if reason else _ranked_relevance(embeddings)
    method = {
        "knn_purity": f"share of the {NEIGHBOURS} nearest clips that are of the clip's class, mean over clips",
        "map": "mean average precision, each clip a query for its class",
        **{f"r_at_{k}": f"share of clips with one of their class among the nearest {k}" for k in RECALL_RANKS},
    }
    methods = {
        name: f"{text}; cosine of standardised vectors, clips of the same source left out"
        for name, text in method.items()
    }
    if not relevant:
        reason = reason or "no class has clips of two sources"
        return [EmbeddingMeasure(name, None, methods[name], 0, reason) for name in names]
    values = np.mean([_query_values(r) for r in relevant], axis=0)
    chances = np.mean([_chance_values(len(r), int(r.sum())) for r in relevant], axis=0)
    return [
        EmbeddingMeasure(name, float(value), methods[name], len(relevant), chance=float(chance))
        for name, value, chance in zip(names, values, chances, strict=True)
    ]


def _ranked_relevance(embeddings: EmbeddingMatrix) -> list[np.ndarray]:
    """Return for every query with a relevant clip its candidates, nearest first: (candidates,) bool, of its class."""
    x = embeddings.standardised
    ranked = []
    for i, order in enumerate(np.argsort(distances(x, x, "cosine"), axis=1, kind="stable")):
        candidates = order[embeddings.source[order] != embeddings.source[i]]
        hits = embeddings.label[candidates] == embeddings.label[i]
        if hits.any():
            ranked.append(hits)
    return ranked


def _query_values(relevant: np.ndarray) -> list[float]:
    ranks = np.flatnonzero(relevant) + 1
    precision = np.arange(1, len(ranks) + 1) / ranks
    return [relevant[:NEIGHBOURS].mean(), precision.mean(), *(float(ranks[0] <= k) for k in RECALL_RANKS)]


def _chance_values(n: int, r: int) -> list[float]:
    harmonic = float((1 / np.arange(1, n + 1)).sum())
    mean_ap = (harmonic + (n - harmonic) * (r - 1) / (n - 1)) / n if n > 1 else 1.0
    return [r / n, mean_ap, *(1 - comb(n - r, min(k, n)) / comb(n, min(k, n)) for k in RECALL_RANKS)]


def _why_undefined(embeddings: EmbeddingMatrix) -> str | None:
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
    """Compute every measure of one encoder's embeddings.

    Args:
        clips: `clips` rows of the folds that exist.
        embeddings: `embeddings` rows of one encoder.

    Returns:
        `embedding_quality` rows without `study` and `encoder`.

    Raises:
        VlmAudioError: when the vectors differ in length.
    """
    points = EmbeddingMatrix.of(clips, embeddings)
    measures = [silhouette(points), *clusters(points), *retrieval(points)]
    constants = {"model": points.model, "dimensions": points.x.shape[1], "claim": claim_of(points.model)}
    lines = [{**vars(m), "measure": m.name, **constants} for m in measures]
    return rows_of("embedding_quality", lines, filled=("study", "encoder"))
