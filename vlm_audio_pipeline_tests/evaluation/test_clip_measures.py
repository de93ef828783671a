import tracemalloc

import numpy as np
import pytest

from vlm_audio_pipeline.evaluation import clip_blocks
from vlm_audio_pipeline.evaluation.clip_blocks import clip_labels, compute_in_blocks, iterate_blocks
from vlm_audio_pipeline.evaluation.clip_measures import CLIP_MEASURES, ClipGeometry, clip_values, mean_values
from vlm_audio_pipeline.evaluation.embedding_matrix import EmbeddingMatrix


def matrix(seed=0, n=40, sources=25, classes=3, dimensions=5):
    random = np.random.default_rng(seed)
    source = np.sort(np.concatenate([np.arange(sources), random.integers(0, sources, n - sources)]))
    label = random.integers(0, classes, sources)[source]
    x = random.standard_normal((n, dimensions)) + 0.7 * np.eye(classes, dimensions)[label]
    return EmbeddingMatrix(np.arange(n).astype(str), label.astype(str), source.astype(str), source * 0, x)


def retrieval_of_query(geometry, i, keep):
    """Return purity, average precision and R@1, 5, 10 of one query, clip by clip; None without a relevant clip."""
    from sklearn.metrics import average_precision_score

    others = keep & (geometry.source != geometry.source[i])
    hits, similarity = geometry.label[others] == geometry.label[i], -geometry.distance[i][others]
    if not hits.any():
        return None
    ranked = hits[np.argsort(-similarity, kind="stable")]
    firsts = [float(np.argmax(ranked) < k) for k in (1, 5, 10)]
    return [ranked[:5].mean(), average_precision_score(hits, similarity), *firsts]


@pytest.mark.parametrize("share_left_out", [0, 0.2, 0.6])
def test_values_without_some_clips_equal_scikit_learn_on_the_others(share_left_out):
    from sklearn.metrics import silhouette_samples

    geometry = next(iterate_blocks(matrix()))
    keep = np.random.default_rng(1).random(40) >= share_left_out
    values = clip_values(geometry, keep=keep)
    assert values.shape == (len(CLIP_MEASURES), 40) and np.isnan(values[:, ~keep]).all()
    distance = geometry.distance[np.ix_(keep, keep)]
    np.testing.assert_allclose(
        values[0, keep], silhouette_samples(distance, geometry.label[keep], metric="precomputed"), atol=1e-12
    )
    for i in np.flatnonzero(keep):
        expected = retrieval_of_query(geometry, i, keep)
        np.testing.assert_allclose(values[1:, i], [np.nan] * 5 if expected is None else expected, atol=1e-12)


def test_values_for_other_labels_equal_those_of_a_geometry_with_these_labels():
    geometry = next(iterate_blocks(matrix()))
    label = np.random.default_rng(2).permutation(geometry.label)
    other = ClipGeometry(geometry.distance, geometry.rank, label, geometry.source)
    np.testing.assert_array_equal(clip_values(geometry, label), clip_values(other))


def test_the_only_clip_of_a_class_has_silhouette_0_and_is_no_query():
    geometry = next(iterate_blocks(matrix()))
    label = geometry.label.copy()
    label[7] = 3
    values = clip_values(geometry, label)
    assert values[0, 7] == 0 and np.isnan(values[1:, 7]).all()


def test_means_leave_out_clips_without_a_value():
    np.testing.assert_array_equal(mean_values(np.array([[1.0, np.nan, 2.0], [np.nan] * 3])), [1.5, np.nan])
    one_class = clip_values(next(iterate_blocks(matrix())), np.zeros(40, int))
    assert np.isnan(one_class[0]).all() and (one_class[1] == 1).all()


def test_blocks_of_queries_have_the_values_of_one_block(monkeypatch):
    clips = matrix(n=60, sources=30)
    permutations = [np.roll(clip_labels(clips), k) for k in (1, 2)]
    whole = compute_in_blocks(clips, permutations)
    assert len(list(iterate_blocks(clips))) == 1
    monkeypatch.setattr(clip_blocks, "BLOCK_PAIRS", 60 * 7)  # 7 queries: 8 blocks and a block of 4
    assert len(list(iterate_blocks(clips))) == 9
    parts = compute_in_blocks(clips, permutations)
    for name in ("values", "means_without_groups", "permuted"):
        np.testing.assert_allclose(getattr(parts, name), getattr(whole, name), rtol=1e-12, equal_nan=True)


def test_memory_does_not_grow_with_the_square_of_the_clips(monkeypatch):
    """Distances and ranks of 600 clips take 2 x 2.9 MB; those of a block of 24 queries 0.2 MB, and five times that for a while."""
    clips = matrix(n=600, sources=3)
    assert clips.standardised_vectors.shape == (600, 5)
    monkeypatch.setattr(clip_blocks, "BLOCK_PAIRS", 24 * 600)
    tracemalloc.start()
    compute_in_blocks(clips)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2e6
