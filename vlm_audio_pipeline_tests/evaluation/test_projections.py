import subprocess
import sys

import numpy as np
import pytest

from vlm_audio_pipeline.evaluation.projections import pca_points, projections_table, umap_points
from vlm_audio_pipeline.storage.result_store import ResultStore
from vlm_audio_pipeline.storage.schemas import TABLES
from vlm_audio_pipeline_tests.classifiers.stage_runner import embeddings_table, gaussian_blobs


@pytest.fixture
def result_store(data_folder):
    return ResultStore(data_folder.result_store)


def project(clips, x, result_store):
    table = projections_table(clips, embeddings_table(clips, x), result_store)
    return TABLES["projections"].conform(table, study="s", encoder="e").to_pylist()


def test_pca_is_the_singular_value_decomposition():
    _, _, x = gaussian_blobs()
    points, shares = pca_points(x.astype(float))
    centred = x.astype(float) - x.mean(axis=0, dtype=float)
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    np.testing.assert_allclose(np.abs(points), np.abs(u[:, :2] * s[:2]), atol=1e-9)
    np.testing.assert_allclose(shares, (s**2 / (s**2).sum())[:2])


@pytest.mark.slow  # UMAP compiles itself
def test_both_methods_for_every_clip(result_store):
    from sklearn.manifold import trustworthiness

    _, clips, x = gaussian_blobs(apart=8)
    rows = project(clips, x, result_store)
    assert [(r["method"], r["clip"]) for r in rows] == [
        (m, c) for m in ("pca", "umap") for c in clips["clip"].to_pylist()
    ]
    assert {(r["clip"], r["label"], r["fold"], r["source"]) for r in rows} == set(
        zip(*(clips[n].to_pylist() for n in ("clip", "label", "fold", "source")), strict=True)
    )
    pca, umap = rows[:90], rows[90:]
    assert {r["explained_x"] for r in umap} == {None} and 0 < pca[0]["explained_y"] <= pca[0]["explained_x"] < 1
    points = np.array([[r["x"], r["y"]] for r in umap])
    labels = np.array([r["label"] for r in umap])
    # blobs 8 standard deviations apart stay apart: every clip's nearest neighbour in the projection is of its class
    distances = np.linalg.norm(points[:, None] - points, axis=-1) + np.diag([np.inf] * 90)
    assert (labels[distances.argmin(axis=1)] == labels).all()
    assert trustworthiness(x, points, n_neighbors=5) > 0.8


@pytest.mark.slow  # UMAP compiles itself
def test_umap_is_computed_once_for_the_same_vectors_and_the_seed_holds(result_store, tmp_path, monkeypatch):
    _, _, x = gaussian_blobs(per_class=2)
    first = umap_points(x, result_store)
    assert (first.shape, result_store.count("projection")) == ((30, 2), 1)
    other = umap_points(x, ResultStore(tmp_path / "other.sqlite"))
    np.testing.assert_array_equal(first, other)
    monkeypatch.setitem(sys.modules, "umap", None)  # importing it would now fail
    np.testing.assert_array_equal(umap_points(x, result_store), first)
    with pytest.raises(ImportError):
        umap_points(x + 1, result_store)
    assert result_store.count("projection") == 1


@pytest.mark.parametrize(("n", "methods"), [(0, []), (2, []), (3, ["pca"]), (15, ["pca"])])
def test_too_few_clips(n, methods, result_store):
    _, clips, x = gaussian_blobs()
    rows = project(clips.slice(0, n), x[:n], result_store)
    assert sorted({r["method"] for r in rows if r["x"] is not None}) == methods
    reasons = {r["reason"] for r in rows if r["x"] is None}
    assert reasons <= {f"it takes 3 clips, got {n}", f"it takes 16 clips, got {n}"} and (reasons or not n)


def test_equal_or_one_dimensional_vectors_have_no_projection(result_store):
    _, clips, x = gaussian_blobs()
    assert {r["reason"] for r in project(clips, np.ones_like(x), result_store)} == {"all vectors are the same"}
    assert {r["reason"] for r in project(clips, x[:, :1], result_store)} == {
        "vectors must have 2 dimensions or more, got 1"
    }


def test_loading_the_file_loads_neither_umap_nor_numba():
    code = "import sys, vlm_audio_pipeline.evaluation.projections; print([m for m in ('umap', 'numba', 'sklearn') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
