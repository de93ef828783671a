import subprocess
import sys

import numpy as np
import pytest
from sklearn.manifold import trustworthiness

from vlm_audio_pipeline.evaluation.projections import pca_points, projections_table, umap_points
from vlm_audio_pipeline.storage.result_store import RowStore
from vlm_audio_pipeline.storage.schemas import TABLES
from vlm_audio_pipeline_tests.classifiers.running import embeddings_table, toy


@pytest.fixture
def rows(layout):
    return RowStore(layout.rows)


def projected(clips, x, rows):
    table = projections_table(clips, embeddings_table(clips, x), rows)
    return TABLES["projections"].conform(table, study="s", encoder="e").to_pylist()


def test_pca_is_the_singular_value_decomposition():
    _, _, x = toy()
    points, shares = pca_points(x.astype(float))
    centred = x.astype(float) - x.mean(axis=0, dtype=float)
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    np.testing.assert_allclose(np.abs(points), np.abs(u[:, :2] * s[:2]), atol=1e-9)
    np.testing.assert_allclose(shares, (s**2 / (s**2).sum())[:2])


def test_both_methods_for_every_clip(rows):
    _, clips, x = toy(apart=8)
    found = projected(clips, x, rows)
    assert [(r["method"], r["clip"]) for r in found] == [
        (m, c) for m in ("pca", "umap") for c in clips["clip"].to_pylist()
    ]
    assert {(r["clip"], r["label"], r["fold"], r["source"]) for r in found} == set(
        zip(*(clips[n].to_pylist() for n in ("clip", "label", "fold", "source")), strict=True)
    )
    pca, umap = found[:90], found[90:]
    assert {r["explained_x"] for r in umap} == {None} and 0 < pca[0]["explained_y"] <= pca[0]["explained_x"] < 1
    points = np.array([[r["x"], r["y"]] for r in umap])
    labels = np.array([r["label"] for r in umap])
    # blobs 8 standard deviations apart stay apart: every clip's nearest neighbour in the plane is of its class
    far = np.linalg.norm(points[:, None] - points, axis=-1) + np.diag([np.inf] * 90)
    assert (labels[far.argmin(axis=1)] == labels).all()
    assert trustworthiness(x, points, n_neighbors=5) > 0.8


def test_umap_is_computed_once_for_the_same_vectors_and_the_seed_holds(rows, tmp_path, monkeypatch):
    _, _, x = toy(per_class=2)
    first = umap_points(x, rows)
    assert (first.shape, rows.count("projection")) == ((30, 2), 1)
    other = umap_points(x, RowStore(tmp_path / "other.sqlite"))
    np.testing.assert_array_equal(first, other)
    monkeypatch.setitem(sys.modules, "umap", None)  # importing it would now fail
    np.testing.assert_array_equal(umap_points(x, rows), first)
    with pytest.raises(ImportError):
        umap_points(x + 1, rows)
    assert rows.count("projection") == 1


@pytest.mark.parametrize("n, methods", [(0, []), (2, []), (3, ["pca"]), (15, ["pca"])])
def test_too_few_clips(n, methods, rows):
    _, clips, x = toy()
    found = projected(clips.slice(0, n), x[:n], rows)
    assert sorted({r["method"] for r in found if r["x"] is not None}) == methods
    without = {r["reason"] for r in found if r["x"] is None}
    assert without <= {f"it takes 3 clips, got {n}", f"it takes 16 clips, got {n}"} and (without or not n)


def test_nothing_to_see(rows):
    _, clips, x = toy()
    assert {r["reason"] for r in projected(clips, np.ones_like(x), rows)} == {"all vectors are the same"}
    assert {r["reason"] for r in projected(clips, x[:, :1], rows)} == {"vectors must have 2 dimensions or more, got 1"}


def test_loading_the_file_loads_neither_umap_nor_numba():
    code = "import sys, vlm_audio_pipeline.evaluation.projections; print([m for m in ('umap', 'numba', 'sklearn') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
