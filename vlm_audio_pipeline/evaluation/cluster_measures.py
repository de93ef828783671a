"""Clusters of embeddings against the classes: NMI, AMI and ARI of k-means, over several seeds.

k-means finds a local optimum that depends on its seed. The value of a measure is therefore the mean over `SEEDS` seeds, beside
its smallest and largest value.

Belongs here: clusterings and their agreement with labels. Does not belong here: intervals (`embedding_intervals`).
"""

import numpy as np

SEEDS = 8
"""Number of seeds of k-means: 0, 1, ..."""
STARTS = 10
"""Starts of k-means for each seed; the best one counts."""
CLUSTER_MEASURES = ("nmi", "ami", "ari")
"""The measures, in the order of `agreement`."""


def reduce_dimensions(x: np.ndarray) -> np.ndarray:
    """Return coordinates of n points with the same pairwise distances in at most n dimensions (principal axes).

    It makes k-means on long vectors of few clips faster and changes no distance.

    Args:
        x: (n, dimensions) float64.
    """
    if x.shape[1] <= x.shape[0]:
        return x
    u, lengths, _ = np.linalg.svd(x, full_matrices=False)
    reduced: np.ndarray = u * lengths
    return reduced


def cluster(x: np.ndarray, clusters: int, seed: int) -> np.ndarray:
    """Return the cluster of each point by k-means (Lloyd 1982; scikit-learn's `KMeans`, k-means++ starts).

    Args:
        x: (n, dimensions) float64, rows of length 1.
        clusters: number of clusters, at most n.
        seed: of the starts.

    Returns:
        (n,) int from 0.
    """
    from sklearn.cluster import KMeans

    assigned: np.ndarray = KMeans(clusters, n_init=STARTS, random_state=seed).fit_predict(x)
    return assigned


def agreement(labels: np.ndarray, clusters: np.ndarray) -> np.ndarray:
    """Return NMI, AMI and ARI of a clustering of n clips and each of several labellings.

    NMI: mutual information over the mean of both entropies. AMI: the same, each minus the mutual information that is expected of
    random partitions with these sizes, so that its chance level is 0 (Vinh et al., JMLR 11, 2010). ARI: Hubert & Arabie, J.
    Classification 2, 1985. scikit-learn has these functions for one labelling; this one is faster for many.

    Args:
        labels: (labellings, n) int from 0, each with at least two and fewer than n values.
        clusters: (n,) int from 0.

    Returns:
        (labellings, 3) float64.
    """
    from sklearn.metrics.cluster import expected_mutual_information

    m, n = labels.shape
    rows, columns = labels.max() + 1, clusters.max() + 1
    cells = (np.arange(m)[:, None] * rows + labels) * columns + clusters
    tables = np.bincount(cells.ravel(), minlength=m * rows * columns).reshape(m, rows, columns)
    row_sums, column_sums = tables.sum(axis=2), tables[0].sum(axis=0)
    row_entropy, column_entropy = -_log_sum(row_sums / n), -_log_sum(column_sums / n)
    mutual = _log_sum(tables.reshape(m, -1) / n) + row_entropy + column_entropy
    mean_entropy = (row_entropy + column_entropy) / 2
    filled = tables[:, :, column_sums > 0].astype(np.int64)
    expected = np.array(
        [expected_mutual_information(t[sizes > 0], n) for t, sizes in zip(filled, row_sums, strict=True)]
    )
    pairs, row_pairs, column_pairs = (
        (counts * (counts - 1)).sum(axis=-1) / 2 for counts in (tables.reshape(m, -1), row_sums, column_sums)
    )
    expected_pairs = row_pairs * column_pairs / (n * (n - 1) / 2)
    ari = (pairs - expected_pairs) / ((row_pairs + column_pairs) / 2 - expected_pairs)
    return np.stack([mutual / mean_entropy, (mutual - expected) / (mean_entropy - expected), ari], axis=1)


def _log_sum(shares: np.ndarray) -> np.ndarray:
    """Return the sum of p ln p over the last axis, with 0 ln 0 = 0."""
    total: np.ndarray = (shares * np.log(np.where(shares > 0, shares, 1))).sum(axis=-1)
    return total
