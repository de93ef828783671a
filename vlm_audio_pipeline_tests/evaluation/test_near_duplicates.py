import numpy as np
import pytest

from vlm_audio_pipeline.evaluation.embedding_matrix import EmbeddingMatrix
from vlm_audio_pipeline.evaluation.near_duplicates import near_duplicates

N_FOLDS, PER_FOLD, CLASSES = 5, 80, 10


def space(spread, dimensions=64, seed=0):
    """Simulate 400 clips, two a source, of ten classes in five folds; `spread` within a class, 1 between classes.

    Two clips of one source are close to each other.
    """
    rng = np.random.default_rng(seed)
    n = N_FOLDS * PER_FOLD
    label, fold = np.arange(n) // 2 % CLASSES, np.arange(n) // PER_FOLD
    source = np.arange(n) // 2
    # some clips are more typical of their class than others
    sources = rng.standard_normal((n // 2, dimensions)) * rng.gamma(4, 0.25, (n // 2, 1))
    noise = 0.3 * rng.standard_normal((n, dimensions))
    x = rng.standard_normal((CLASSES, dimensions))[label] + spread * (sources[source] + noise)
    names = np.array([f"clip {i:03}" for i in range(n)])
    return EmbeddingMatrix(names, label.astype(str), source.astype(str), fold, x)


@pytest.mark.parametrize("spread", [0.05, 0.3, 1.0, 5.0])
@pytest.mark.parametrize("dimensions", [8, 64])
def test_different_recordings_are_not_duplicates_in_tight_and_wide_spaces(spread, dimensions):
    """In the tight space, hundreds of pairs of different recordings have a cosine above 0.99."""
    embeddings = space(spread, dimensions)
    other_fold = embeddings.fold[:, None] < embeddings.fold[None, :]
    above_099 = int(((embeddings.unit @ embeddings.unit.T > 0.99) & other_fold).sum())
    assert above_099 > 300 if spread == 0.05 else above_099 < 300
    counts = [len(near_duplicates(space(spread, dimensions, seed)).first) for seed in range(10)]
    assert sum(counts) <= 2  # expected: 10 x 0.05


@pytest.mark.parametrize("spread", [0.05, 0.3, 1.0, 5.0])
def test_a_copy_with_little_noise_is_found_in_tight_and_wide_spaces(spread):
    embeddings = space(spread)
    rng = np.random.default_rng(1)
    for i, j in ((0, 100), (7, 399), (150, 201)):
        embeddings.x[j] = embeddings.x[i] + 0.02 * spread * rng.standard_normal(64)
    found = near_duplicates(embeddings)
    assert {(0, 100), (7, 399), (150, 201)} <= set(zip(found.first.tolist(), found.second.tolist(), strict=True))
    assert set(found.second.tolist()) == {100, 399, 201}
    assert len(found.first) <= 6, "the other clip of a copied source is similar, too"
    assert (np.diff(found.cosine) <= 0).all()


def test_duplicates_within_a_fold_do_not_change_the_threshold_much():
    plain, with_copies = space(1.0), space(1.0)
    for i in (0, 10, 20):
        with_copies.x[i + 4] = with_copies.x[i]  # another source of the same fold
    thresholds = [near_duplicates(e).threshold for e in (plain, with_copies)]
    assert thresholds[1] == pytest.approx(thresholds[0], rel=0.3)


def test_spaces_that_cannot_be_checked_have_a_reason():
    embeddings = space(1.0)
    one_fold = EmbeddingMatrix(*(getattr(embeddings, n)[:80] for n in ("clip", "label", "source", "fold", "x")))
    assert near_duplicates(one_fold) == "80 clips of one fold have embeddings"
    few = EmbeddingMatrix(*(getattr(embeddings, n)[60:136] for n in ("clip", "label", "source", "fold", "x")))
    assert (
        near_duplicates(few)
        == "76 clips have 3 clips of other source recordings in their fold, and 80 such clips are needed"
    )
    same = EmbeddingMatrix(*(getattr(embeddings, n) for n in ("clip", "label", "source", "fold")), np.ones((400, 8)))
    same.x[:] = embeddings.label.astype(float)[:, None] == np.arange(8)
    assert near_duplicates(same) == "clips of different source recordings have the same embedding"
