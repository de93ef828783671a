import numpy as np
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics.pairwise import cosine_distances, euclidean_distances
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from vlm_audio_pipeline.classifiers import knn
from vlm_audio_pipeline.classifiers.base import CLASSIFIERS
from vlm_audio_pipeline.classifiers.knn import NearestNeighbours, distance_blocks, distances, votes
from vlm_audio_pipeline.contracts.errors import VlmAudioError
from vlm_audio_pipeline.datasets.base import Clip
from vlm_audio_pipeline_tests.classifiers.stage_runner import (
    clips_table,
    dataset,
    embeddings_table,
    gaussian_blobs,
    run_fold,
)


def tables(clips, x):
    return {"clips": clips, "embeddings/e": embeddings_table(clips, x)}


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("k", [1, 4, 5, 1000])
@pytest.mark.parametrize("standardise", [True, False])
def test_votes_equal_those_of_scikit_learn(metric, k, standardise):
    data, clips, x = gaussian_blobs(separation=0.7)
    spec = NearestNeighbours(encoder="e", k=k, metric=metric, standardise=standardise)
    folds, labels = clips["fold"].to_numpy(), np.array(clips["label"].to_pylist())
    for fold in data.folds:
        predictions = run_fold(spec, "n", fold, data, tables(clips, x))["predictions"]
        train, z = folds != fold, x.astype(np.float64)
        if standardise:
            z = StandardScaler().fit(z[train]).transform(z)
        voters = min(k, int(train.sum()))  # with k above the number of training clips, all vote
        model = KNeighborsClassifier(voters, metric=metric, algorithm="brute").fit(z[train], labels[train])
        expected = model.predict_proba(z[~train])
        scores = np.array([[dict(row)[c] for c in model.classes_] for row in predictions["scores"].to_pylist()])
        np.testing.assert_allclose(scores, expected, atol=1e-6)
        np.testing.assert_allclose(scores.sum(axis=1), 1)
        clear = np.sum(expected == expected.max(axis=1, keepdims=True), axis=1) == 1
        assert clear.any() or voters < k  # if all vote, the balanced classes tie
        np.testing.assert_array_equal(
            np.array(predictions["predicted"].to_pylist())[clear], model.classes_[expected.argmax(1)][clear]
        )
        assert set(predictions["training_clips"].to_pylist()) == {train.sum()}


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), k=st.integers(1, 8))
def test_the_nearest_neighbour_decides_between_classes_with_equal_votes(seed, k):
    rng = np.random.default_rng(seed)
    distance = rng.permutation(12).astype(float)[None]
    labels = rng.integers(0, 4, 12)
    scores = votes(distance, labels, k, 4)[0]
    voters = labels[np.argsort(distance[0])][:k].tolist()
    max_votes = max(voters.count(c) for c in voters)
    assert scores.argmax() == next(c for c in voters if voters.count(c) == max_votes)
    assert (scores == scores.max()).sum() == 1
    np.testing.assert_allclose(scores, [voters.count(c) / k for c in range(4)], atol=1e-8)


def test_distances_equal_those_of_scikit_learn_also_for_zero_vectors():
    x = np.vstack([np.random.default_rng(0).standard_normal((5, 3)), np.zeros((1, 3))])
    np.testing.assert_allclose(distances(x, x, "euclidean"), euclidean_distances(x), atol=1e-7)
    off = ~np.eye(6, dtype=bool)  # scikit-learn sets the diagonal to 0
    np.testing.assert_allclose(distances(x, x, "cosine")[off], cosine_distances(x)[off], atol=1e-12)


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_blocks_of_distances_have_a_limited_number_of_pairs(metric, monkeypatch):
    random = np.random.default_rng(0)
    x, training = random.standard_normal((23, 3)), random.standard_normal((10, 3))
    x_sources, sources = random.integers(0, 6, 23).astype(str), random.integers(0, 6, 10).astype(str)
    monkeypatch.setattr(knn, "BLOCK_PAIRS", 45)  # 4 queries with 10 training clips each: 5 blocks and a block of 3
    blocks = [distance for _, distance in distance_blocks(x, x_sources, training, sources, metric)]
    assert [len(distance) for distance in blocks] == [4] * 5 + [3]
    expected = {"cosine": cosine_distances, "euclidean": euclidean_distances}[metric](x, training)
    expected[x_sources[:, None] == sources] = np.inf
    np.testing.assert_allclose(np.concatenate(blocks), expected, atol=1e-12)
    monkeypatch.setattr(knn, "BLOCK_PAIRS", 3)  # a block has at least one query
    assert len(list(distance_blocks(x, x_sources, training, sources, metric))) == 23


def test_clips_of_the_same_fold_or_source_recording_do_not_vote():
    # "q" has the vector of "twin" (same fold) and of "sibling" (same source recording, wrongly in another fold); only "far"
    # may vote
    listed = [Clip("far", "b", 2, "s2", ""), Clip("q", "a", 1, "s1", ""), Clip("sibling", "a", 2, "s1", "")]
    listed.append(Clip("twin", "a", 1, "s3", ""))
    data, x = dataset(listed, ("a", "b")), np.array([[9.0, 1], [1, 1], [1, 1], [1, 1]])
    spec = NearestNeighbours(encoder="e", k=1, standardise=False, metric="euclidean")
    predictions = run_fold(spec, "n", 1, data, tables(clips_table(listed), x))["predictions"]
    # "twin" has another source recording, so "sibling" may vote for it
    assert dict(zip(predictions["clip"].to_pylist(), predictions["predicted"].to_pylist(), strict=True)) == {
        "q": "b",
        "twin": "a",
    }


def test_a_fold_without_training_clips_is_refused():
    data, clips, x = gaussian_blobs(n_folds=1)
    with pytest.raises(VlmAudioError, match="folds other than 1, got none"):
        run_fold(NearestNeighbours(encoder="e"), "n", 1, data, tables(clips, x))
    with pytest.raises(VlmAudioError, match="another fold and source"):
        votes(np.array([[np.inf, np.inf]]), np.array([0, 1]), 1, 2)


def test_a_sample_predicts_some_clips_of_the_fold():
    data, clips, x = gaussian_blobs()
    sampled = run_fold(NearestNeighbours(encoder="e", sample={"clips": 15}), "n", 3, data, tables(clips, x))[
        "predictions"
    ]
    complete = run_fold(NearestNeighbours(encoder="e"), "n", 3, data, tables(clips, x))["predictions"]
    assert sampled.num_rows == 3  # 15 clips over 5 folds
    rest = complete.filter(pc.is_in(complete["clip"], value_set=sampled["clip"].combine_chunks()))
    assert sampled["scores"].to_pylist() == rest["scores"].to_pylist()


def test_a_sample_of_0_clips_gives_no_rows():
    data, clips, x = gaussian_blobs()
    # 1 clip over 5 folds: it is in the first fold, so the fifth has none
    few = run_fold(NearestNeighbours(encoder="e", sample={"clips": 1}), "n", 5, data, tables(clips, x))["predictions"]
    assert few.num_rows == 0


def test_registered():
    assert CLASSIFIERS.get("knn") is NearestNeighbours
