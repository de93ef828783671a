import numpy as np
import pytest
from scipy.stats import t

from vlm_audio_pipeline.evaluation.clip_measures import CLIP_MEASURES
from vlm_audio_pipeline.evaluation.embedding_comparisons import embedding_comparisons_table, p_value
from vlm_audio_pipeline.storage.schemas import TABLES
from vlm_audio_pipeline_tests.classifiers.stage_runner import embeddings_table, gaussian_blobs


def compare(clips, vectors, expected_clips=90, limited=False):
    embeddings = {name: embeddings_table(clips, x) for name, x in vectors.items()}
    table = embedding_comparisons_table(clips, embeddings, expected_clips, limited)
    rows = TABLES["embedding_comparisons"].conform(table, study="s").to_pylist()
    return {(row["measure"], row["encoder"], row["against"]): row for row in rows}


def test_a_better_encoder_is_found_and_equal_ones_differ_by_0():
    _, clips, good = gaussian_blobs(separation=3)
    weak = np.random.default_rng(0).standard_normal(good.shape)
    rows = compare(clips, {"good": good, "copy": good * 2, "weak": weak})
    assert len(rows) == 3 * len(CLIP_MEASURES)
    same = rows["map", "copy", "good"]
    assert (same["difference"], same["p"], same["p_holm"]) == (pytest.approx(0), 1.0, 1.0)
    better = rows["map", "good", "weak"]
    assert better["difference"] == better["value"] - better["against_value"] > 0.2
    assert 0 < better["low"] < better["difference"] < better["high"] and better["p_holm"] < 0.001
    # Holm: the smaller p of `copy - weak` and `good - weak` is multiplied by 3, for three pairs
    smallest = min(rows["map", name, "weak"]["p"] for name in ("copy", "good"))
    assert better["p_holm"] == pytest.approx(3 * smallest, rel=1e-6) and better["holm_over"] == 3


def test_parts_of_the_clips_are_not_tested():
    _, clips, x = gaussian_blobs()
    limited = compare(clips, {"a": x, "b": x[::-1]}, limited=True)["map", "a", "b"]
    assert limited["low"] is not None and limited["p"] is limited["p_holm"] is None
    assert "limited" in limited["reason"]
    row = compare(clips, {"a": x, "b": x}, expected_clips=100)["map", "a", "b"]
    assert row["difference"] is None
    assert row["reason"] == "a: 90 of 100 clips have an embedding; b: 90 of 100 clips have an embedding"


def test_encoders_without_a_value_have_a_reason():
    _, clips, x = gaussian_blobs()
    rows = compare(clips, {"a": x, "b": np.ones_like(x)})
    assert {row["reason"] for row in rows.values()} == {"b: all vectors are the same"}
    _, few, x = gaussian_blobs(n_folds=2, per_class=2)  # six source recordings
    [reason] = {row["reason"] for row in compare(few, {"a": x, "b": x[::-1]}, expected_clips=12).values()}
    assert reason.startswith("fewer than 10 source recordings")


def test_p_values_by_student():
    assert p_value(0.3, 0.1, 20) == pytest.approx(2 * t.sf(3, 20))
    assert (p_value(0.0, 0.0, 20), p_value(0.1, 0.0, 20)) == (1.0, 0.0)
