"""How well vectors sort clips into classes with nothing learnt: clusters, neighbours, retrieval.

What belongs here: measures of one encoder's vectors against the true labels, and what was claimed of such vectors. What
does not: pictures of them (`projections`), and anything that learns from labels (`classifiers`).

One geometry for all: every dimension brought to mean 0 and standard deviation 1 over the clips, then cosine distance, as
the k-NN classifier has it, so that no encoder gains or loses by the scale of its numbers. Neighbours and retrieval never
take a clip of the query's own source recording, which would be found by its background noise.
"""

from dataclasses import dataclass
from math import comb

import numpy as np
import pyarrow as pa

from vlm_audio_pipeline.classifiers.knn import distances
from vlm_audio_pipeline.evaluation.spaces import Space
from vlm_audio_pipeline.evaluation.tables import rows_of

NEIGHBOURS = 5
"""Nearest clips looked at by `knn_purity`, as many as the k-NN classifier asks by default."""
CUTS = (1, 5, 10)
"""Ranks at which recall is taken."""

CLAIMS = {
    "clap-htsat": "can-vlms-hear, from a UMAP plot and zero-shot accuracy (99.25 %), gives no number of the space: "
    "'audio-specific models (CLAP) show superior performance'",
    "music2latent": "can-vlms-hear plots Music2Latent (8192-d, mean over time) by UMAP beside CLAP and AIMv2 and states "
    "no number",
    "aimv2": "can-vlms-hear, from a UMAP plot, gives no number: 'visual embedding analysis reveals challenges in treating "
    "audio classification as a pure visual task'; it took the upper left patch for the picture, so the verdict is unsafe",
}
"""Part of a model id, lower case -> what github.com/harpreetsahota204/can-vlms-hear says of that space (its README)."""


@dataclass(frozen=True)
class Measure:
    """One number: `value` is None where `reason` says why; `chance` is None where no formula gives it."""

    name: str
    value: float | None
    method: str
    clips: int
    reason: str | None = None
    chance: float | None = None


def silhouette(space: Space) -> Measure:
    """Mean over clips of (b - a) / max(a, b) (Rousseeuw, J. Comput. Appl. Math. 20, 1987).

    a is the mean distance to the other clips of the class, b the smallest mean distance to another class. Clips of one
    source are not taken apart.
    """
    method = "mean silhouette of the true classes, cosine distance of standardised vectors"
    n, classes = len(space.clip), len(set(space.label))
    if (reason := _no_classes(space)) is None and classes >= n:
        reason = "every class has one clip alone"
    if reason:
        return Measure("silhouette", None, method, n, reason)
    from sklearn.metrics import silhouette_score

    far = distances(space.standardised, space.standardised, "cosine")
    np.fill_diagonal(far, 0)
    return Measure("silhouette", float(silhouette_score(far, space.label, metric="precomputed")), method, n)


def clusters(space: Space) -> list[Measure]:
    """Normalised mutual information and adjusted Rand index of k-means against the classes, k = number of classes.

    NMI: mutual information over the arithmetic mean of both entropies (Vinh et al., JMLR 11, 2010). ARI: Hubert & Arabie,
    J. Classification 2, 1985; 0 is expected of chance.
    """
    n, k = len(space.clip), len(set(space.label))
    method = f"k-means, k = {k} classes, 10 starts, seed 0, on standardised vectors of length 1"
    if reason := _no_classes(space):
        return [Measure(name, None, method, n, reason) for name in ("nmi", "ari")]
    from sklearn.cluster import KMeans
    from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

    found = KMeans(k, n_init=10, random_state=0).fit_predict(space.unit)
    return [
        Measure("nmi", float(normalized_mutual_info_score(space.label, found)), method, n),
        Measure("ari", float(adjusted_rand_score(space.label, found)), method, n, chance=0.0),
    ]


def retrieval(space: Space) -> list[Measure]:
    """Purity of neighbours, mean average precision and recall at 1, 5, 10: each clip asks for others of its class.

    A query ranks all clips of other sources by cosine distance, equal ones in the order of their ids. Purity is the mean
    share of its class among the nearest five; average precision the mean, over relevant clips, of precision at their
    rank (Manning, Raghavan & Schütze, Introduction to Information Retrieval, 2008, section 8.4); R@k the share of
    queries with a relevant clip among the first k. Queries without any relevant clip of another source are left out.

    What vectors that know nothing would give: purity R / N over a query's N candidates of which R are relevant; average
    precision (H_N + (N - H_N) (R - 1) / (N - 1)) / N with H_N = 1 + 1/2 + ... + 1/N, the mean over all orders; R@k
    1 - C(N - R, k) / C(N, k).
    """
    names = ("knn_purity", "map", *(f"r_at_{k}" for k in CUTS))
    reason = _no_classes(space)
    relevant = [] if reason else _ranked_relevance(space)
    method = {
        "knn_purity": f"share of the {NEIGHBOURS} nearest clips that are of the clip's class, mean over clips",
        "map": "mean average precision, each clip asking for its class",
        **{f"r_at_{k}": f"share of clips with one of their class among the nearest {k}" for k in CUTS},
    }
    about = {
        name: f"{text}; cosine of standardised vectors, clips of the same source left out"
        for name, text in method.items()
    }
    if not relevant:
        reason = reason or "no class has clips of two sources"
        return [Measure(name, None, about[name], 0, reason) for name in names]
    values = [_of_query(r) for r in relevant]
    chances = [_of_chance(len(r), int(r.sum())) for r in relevant]
    mean = np.mean(values, axis=0), np.mean(chances, axis=0)
    return [
        Measure(name, float(value), about[name], len(relevant), chance=float(chance))
        for name, value, chance in zip(names, *mean, strict=True)
    ]


def _ranked_relevance(space: Space) -> list[np.ndarray]:
    """Give for every query that has something to find its candidates, nearest first: (candidates,) bool, of its class."""
    x = space.standardised
    far = distances(x, x, "cosine")
    ranked = []
    for i, order in enumerate(np.argsort(far, axis=1, kind="stable")):
        candidates = order[space.source[order] != space.source[i]]
        hits = space.label[candidates] == space.label[i]
        if hits.any():
            ranked.append(hits)
    return ranked


def _of_query(relevant: np.ndarray) -> list[float]:
    ranks = np.flatnonzero(relevant) + 1
    precision = np.arange(1, len(ranks) + 1) / ranks
    return [relevant[:NEIGHBOURS].mean(), precision.mean(), *(float(ranks[0] <= k) for k in CUTS)]


def _of_chance(n: int, r: int) -> list[float]:
    harmonic = float((1 / np.arange(1, n + 1)).sum())
    mean_ap = (harmonic + (n - harmonic) * (r - 1) / (n - 1)) / n if n > 1 else 1.0
    return [r / n, mean_ap, *(1 - comb(n - r, min(k, n)) / comb(n, min(k, n)) for k in CUTS)]


def _no_classes(space: Space) -> str | None:
    if not len(space.clip):
        return "no clip has a vector yet"
    if len(set(space.label)) < 2:
        return "all clips are of one class"
    if not np.ptp(space.x, axis=0).any():
        return "all vectors are the same"
    return None


def claim_of(model: str | None) -> str | None:
    """Give what can-vlms-hear says of a model's space, or None.

    >>> claim_of("apple/aimv2-large-patch14-224").startswith("can-vlms-hear")
    True
    """
    if (model or "").startswith("demo-"):
        return None  # of the same architecture, and another model
    return next((claim for part, claim in CLAIMS.items() if part in (model or "").lower()), None)


def embedding_quality_table(clips: pa.Table, embeddings: pa.Table) -> pa.Table:
    """Take every measure of one encoder's vectors.

    Args:
        clips: `clips` rows of the folds that exist.
        embeddings: `embeddings` rows of one encoder.

    Returns:
        `embedding_quality` rows without `study` and `encoder`.

    Raises:
        VlmAudioError: when vectors differ in length.
    """
    space = Space.of(clips, embeddings)
    measures = [silhouette(space), *clusters(space), *retrieval(space)]
    constants = {"model": space.model, "dimensions": space.x.shape[1], "claim": claim_of(space.model)}
    lines = [{**vars(m), "measure": m.name, **constants} for m in measures]
    return rows_of("embedding_quality", lines, filled=("study", "encoder"))
