import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from vlm_audio_pipeline.evaluation import embedding_comparisons, embedding_quality, leakage, projections
from vlm_audio_pipeline.evaluation.clip_blocks import iterate_silhouettes
from vlm_audio_pipeline.evaluation.clip_sample import sample_positions
from vlm_audio_pipeline_tests.classifiers.stage_runner import embeddings_table, gaussian_blobs


def test_a_sample_has_whole_source_recordings_and_does_not_depend_on_the_order_of_clips():
    clips = [f"{source}-{take}" for source in range(50) for take in range(4)]
    sources = [clip.partition("-")[0] for clip in clips]
    chosen = [clips[i] for i in sample_positions(clips, sources, 41)]
    assert len(chosen) == len(set(chosen)) == 41
    counts = [sum(c.startswith(f"{s}-") for c in chosen) for s in range(50)]
    assert sorted(counts)[-11:] == [1] + [4] * 10  # 10 whole recordings and one clip
    backwards = sample_positions(clips[::-1], sources[::-1], 41)
    assert {clips[::-1][i] for i in backwards} == set(chosen)
    assert sample_positions(clips, sources, 200).tolist() == list(range(200))


def test_a_new_recording_replaces_at_most_its_own_number_of_clips():
    clips = [f"clip {i}" for i in range(300)]
    before = {clips[i] for i in sample_positions(clips, clips, 100)}
    after = {[*clips, "new"][i] for i in sample_positions([*clips, "new"], [*clips, "new"], 100)}
    assert len(before & after) >= 99


@pytest.fixture
def blobs():
    """Return `clips` and `embeddings` of 90 clips, and both for the 61 clips of a sample."""
    _, clips, x = gaussian_blobs()
    embeddings = embeddings_table(clips, x)
    chosen = sample_positions(clips["clip"].to_pylist(), clips["source"].to_pylist(), 61)
    ids = pc.take(clips["clip"], pa.array(chosen)).combine_chunks()
    sampled = [table.filter(pc.is_in(table["clip"], value_set=ids)) for table in (clips, embeddings)]
    return clips, embeddings, *sampled


def test_embedding_quality_above_the_declared_size_is_that_of_the_sample_and_says_so(blobs, monkeypatch):
    clips, embeddings, sampled_clips, sampled_embeddings = blobs
    expected = embedding_quality.embedding_quality_table(sampled_clips, sampled_embeddings).to_pylist()
    monkeypatch.setattr(embedding_quality, "MAX_COMPARED_CLIPS", 61)
    rows = embedding_quality.embedding_quality_table(clips, embeddings).to_pylist()
    assert [{**row, "method": ""} for row in rows] == [{**row, "method": ""} for row in expected]
    assert all(row["method"].endswith("; sample of 61 of 90 clips") for row in rows)
    assert not any("sample of" in row["method"] for row in expected)


def test_encoders_are_compared_on_the_same_sample(blobs, monkeypatch):
    clips, embeddings, *_ = blobs
    monkeypatch.setattr(embedding_comparisons, "MAX_COMPARED_CLIPS", 61)
    table = embedding_comparisons.embedding_comparisons_table(clips, {"a": embeddings, "b": embeddings}, 90, False)
    rows = {row["measure"]: row for row in table.to_pylist()}
    assert (rows["silhouette"]["clips"], rows["silhouette"]["difference"]) == (61, 0)


def test_clips_outside_the_sample_have_no_coordinates_and_the_reason(blobs, monkeypatch, data_folder):
    clips, embeddings, sampled_clips, _ = blobs
    monkeypatch.setattr(projections, "MAX_COMPARED_CLIPS", 61)
    monkeypatch.setattr(projections, "umap_points", lambda x, store, settings: x[:, :2])  # it takes seconds to compile
    rows = projections.projections_table(clips, embeddings, None).to_pylist()
    assert len(rows) == 2 * 90
    sampled = set(sampled_clips["clip"].to_pylist())
    for row in rows:
        assert row["reason"] == (None if row["clip"] in sampled else "not in the sample of 61 clips")
        assert (row["x"] is not None) == (row["y"] is not None) == (row["clip"] in sampled)


def test_a_search_of_near_duplicates_in_a_sample_says_so(blobs, monkeypatch):
    clips, embeddings, *_ = blobs
    monkeypatch.setattr(leakage, "MAX_SEARCHED_CLIPS", 61)
    rows = leakage.leakage_table(clips, {"e": embeddings}, {}, {}, "csv", None).to_pylist()
    [row] = [row for row in rows if row["kind"] == "near_duplicate"]
    assert row["checked"] == 61
    assert row["finding"].endswith("; sample of 61 of 90 clips")


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_silhouettes_in_blocks_equal_scikit_learn(monkeypatch, metric):
    from sklearn.metrics import silhouette_samples

    monkeypatch.setattr("vlm_audio_pipeline.evaluation.clip_blocks.BLOCK_PAIRS", 7 * 90)
    data, _, x = gaussian_blobs()
    label = np.unique([c.label for c in data.clips], return_inverse=True)[1]
    blocks = list(iterate_silhouettes(x.astype(float), label, metric))
    assert [len(block) for block in blocks] == [7] * 12 + [6]
    np.testing.assert_allclose(
        np.concatenate(blocks), silhouette_samples(x.astype(float), label, metric=metric), atol=1e-9
    )
