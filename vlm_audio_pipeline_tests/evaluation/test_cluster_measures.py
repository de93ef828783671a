import numpy as np
from scipy.spatial.distance import pdist

from vlm_audio_pipeline.evaluation.cluster_measures import agreement, cluster, reduce_dimensions


def test_agreement_equals_scikit_learn():
    from sklearn.metrics import adjusted_mutual_info_score, adjusted_rand_score, normalized_mutual_info_score

    random = np.random.default_rng(0)
    clusters = random.integers(0, 4, 60)
    clusters[clusters == 2] = 3  # a number without a cluster
    labels = np.stack([random.integers(0, 3, 60), np.minimum(clusters, 1), (clusters + random.integers(0, 2, 60)) % 5])
    expected = [
        [f(y, clusters) for f in (normalized_mutual_info_score, adjusted_mutual_info_score, adjusted_rand_score)]
        for y in labels
    ]
    np.testing.assert_allclose(agreement(labels, clusters), expected, atol=1e-12)
    same = agreement(clusters[None, :], clusters)
    np.testing.assert_allclose(same, [[1, 1, 1]])


def test_fewer_dimensions_have_the_same_distances():
    x = np.random.default_rng(0).standard_normal((12, 300))
    assert reduce_dimensions(x).shape == (12, 12)
    np.testing.assert_allclose(pdist(reduce_dimensions(x)), pdist(x))
    assert reduce_dimensions(x.T) is not None and reduce_dimensions(x.T).shape == (300, 12)


def test_distant_groups_are_the_clusters():
    x = np.repeat([[0.0, 10.0], [10.0, 0.0]], 5, axis=0) + np.random.default_rng(0).standard_normal((10, 2)) / 10
    assert agreement(np.repeat([0, 1], 5)[None, :], cluster(x, 2, seed=0)).tolist() == [[1.0, 1.0, 1.0]]
