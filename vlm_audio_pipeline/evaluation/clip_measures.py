"""Measures with a value for each clip: the silhouette of its class, and retrieval with the clip as the query.

The measure of an encoder is the mean over clips. Distances and ranks are computed once. The values can then be computed again
for other labels (`permuted_labels`) or without some clips (`embedding_intervals`) at a small cost.

Belongs here: values of single clips. Does not belong here: clusters (`cluster_measures`), means and their intervals.
"""

from dataclasses import dataclass

import numpy as np

NEIGHBOURS = 5
"""Number of nearest clips in `knn_purity`, the default of the k-NN classifier."""
RECALL_RANKS = (1, 5, 10)
"""Ranks k of recall at k."""
CLIP_MEASURES = ("silhouette", "knn_purity", "map", *(f"r_at_{k}" for k in RECALL_RANKS))
"""The measures, in the order of the rows of `clip_values`."""


@dataclass(frozen=True)
class ClipGeometry:
    """Distances of q consecutive queries to n clips, and the ranks of their neighbours. Clips at equal distance are ranked in the order of the clips.

    Attributes:
        distance: (q, n) float64, cosine distance of standardised vectors, 0 from a clip to itself.
        rank: (q, n) float64. rank[i, j] is the rank of clip j among the clips of other source recordings, by distance from
            query i, from 1; infinite for clips of the source recording of the query.
        label: (n,) int, classes from 0.
        source: (n,) int, source recordings from 0.
        first: position of the first query among the clips.
    """

    distance: np.ndarray
    rank: np.ndarray
    label: np.ndarray
    source: np.ndarray
    first: int = 0


def clip_values(geometry: ClipGeometry, label: np.ndarray | None = None, keep: np.ndarray | None = None) -> np.ndarray:
    """Return the value of every clip in each of `CLIP_MEASURES`.

    Args:
        geometry: distances and ranks of n clips.
        label: (n,) int, other classes than those of the geometry.
        keep: (n,) bool, False for clips to leave out, as a query and as a neighbour.

    Returns:
        (measures, q) float64. NaN for clips left out, and in retrieval for clips without a clip of their class from another
        source recording.
    """
    label = geometry.label if label is None else label
    keep = np.ones(len(label), bool) if keep is None else keep
    return np.vstack([silhouettes(geometry.distance, label, keep, geometry.first), _retrieval(geometry, label, keep)])


def mean_values(values: np.ndarray) -> np.ndarray:
    """Return the means of (measures, n) values over the clips that have one; NaN for measures without any."""
    has_value = ~np.isnan(values)
    counts = has_value.sum(axis=1)
    totals = np.where(has_value, values, 0).sum(axis=1)
    return np.where(counts > 0, totals / np.maximum(counts, 1), np.nan)


def silhouettes(distance: np.ndarray, label: np.ndarray, keep: np.ndarray, first: int = 0) -> np.ndarray:
    """Return (b - a) / max(a, b) of each clip (Rousseeuw, J. Comput. Appl. Math. 20, 1987).

    a is the mean distance to the other clips of the class, b the smallest mean distance to another class. Clips of the same
    source recording are included. The only clip of a class has the value 0.

    Args:
        distance: (q, n) float64, of consecutive clips to all clips; 0 from a clip to itself.
        label: (n,) int from 0.
        keep: (n,) bool.
        first: position of the first of the q clips.

    Returns:
        (q,) float64, NaN for clips left out, and for all clips if fewer than two classes are left.
    """
    member = np.eye(label.max() + 1)[label] * keep[:, None]
    sizes = member.sum(axis=0)
    values = np.full(len(distance), np.nan)
    if (sizes > 0).sum() < 2:
        return values
    rows = np.flatnonzero(keep[first : first + len(distance)])
    own_class = label[first + rows]
    totals = distance[rows] @ member
    inside = totals[np.arange(len(rows)), own_class] / np.maximum(sizes[own_class] - 1, 1)
    means = np.where(sizes > 0, totals / np.maximum(sizes, 1), np.inf)
    means[np.arange(len(rows)), own_class] = np.inf
    outside = means.min(axis=1)
    larger = np.maximum(inside, outside)
    is_defined = (sizes[own_class] > 1) & (larger > 0)
    values[rows] = np.where(is_defined, (outside - inside) / np.where(larger > 0, larger, 1), 0)
    return values


def _retrieval(geometry: ClipGeometry, label: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """Return purity, average precision and recall at `RECALL_RANKS` of each query: (5, q) float64.

    Average precision is the mean, over the relevant clips, of the precision at their rank (Manning, Raghavan & Schütze,
    Introduction to Information Retrieval, 2008, section 8.4). Recall at k is 1 if a relevant clip is among the first k.
    """
    values = np.full((2 + len(RECALL_RANKS), len(geometry.rank)), np.nan)
    first, end = geometry.first, geometry.first + len(geometry.rank)
    dropped = np.flatnonzero(~keep)
    candidates = keep.sum() - np.bincount(geometry.source, weights=keep)[geometry.source]
    for number in np.unique(label[keep]):
        members = np.flatnonzero((label == number) & keep)
        class_queries = members[(members >= first) & (members < end)]
        ranks = geometry.rank[np.ix_(class_queries - first, members)]
        if len(dropped):  # a candidate moves up by the number of dropped clips before it
            ranks = ranks - _count_before(geometry.rank[np.ix_(class_queries - first, dropped)], ranks, len(label))
        ranks = np.sort(ranks, axis=1)
        relevant = np.isfinite(ranks).sum(axis=1)
        has_relevant = relevant > 0
        queries, ranks, relevant = class_queries[has_relevant] - first, ranks[has_relevant], relevant[has_relevant]
        if not len(queries):
            continue
        precision = np.arange(1, ranks.shape[1] + 1) / ranks  # 0 at infinite ranks
        values[0, queries] = (ranks <= NEIGHBOURS).sum(axis=1) / np.minimum(NEIGHBOURS, candidates[first + queries])
        values[1, queries] = precision.sum(axis=1) / relevant
        for row, k in enumerate(RECALL_RANKS, start=2):
            values[row, queries] = ranks[:, 0] <= k
    return values


def _count_before(dropped: np.ndarray, ranks: np.ndarray, clips: int) -> np.ndarray:
    """Count, for each query and rank, the dropped clips with a smaller rank: (q, m) int; 0 for infinite ranks.

    Args:
        dropped: (q, d) float, ranks of the dropped clips, distinct within a row where finite.
        ranks: (q, m) float, ranks from 1.
        clips: the largest possible rank.
    """
    marks = np.zeros((len(dropped), clips + 1), np.int32)
    row, column = np.nonzero(np.isfinite(dropped))
    marks[row, dropped[row, column].astype(int)] = 1
    counts = np.cumsum(marks, axis=1, dtype=np.int32, out=marks)
    is_finite = np.isfinite(ranks)
    positions = np.where(is_finite, ranks, 1).astype(int) - 1
    before: np.ndarray = np.where(is_finite, np.take_along_axis(counts, positions, axis=1), 0)
    return before
