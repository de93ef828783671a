import subprocess
import sys

import numpy as np
import pytest

from vlm_audio_pipeline.evaluation.projections import (
    DEFAULT_PROJECTION,
    UMAP_SETTINGS,
    UMAP_VERSION,
    Projection,
    pca_points,
    projections_table,
    umap_points,
)
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


def test_the_silhouettes_of_plane_and_space_equal_scikit_learn(result_store):
    from sklearn.metrics import silhouette_score
    from sklearn.preprocessing import StandardScaler

    _, clips, x = gaussian_blobs()
    rows = project(clips.slice(0, 15), x[:15], result_store)  # too few for UMAP
    labels = clips["label"].to_pylist()[:15]
    row, plane = rows[0], np.array([[r["x"], r["y"]] for r in rows[:15]])
    z = StandardScaler().fit_transform(x[:15].astype(float))
    assert row["silhouette_plane"] == pytest.approx(silhouette_score(plane, labels))
    assert row["silhouette_space"] == pytest.approx(silhouette_score(z, labels, metric="cosine"))
    assert {r["silhouette_plane"] for r in rows[15:]} == {None}


@pytest.mark.slow  # UMAP is compiled at its first use
def test_both_methods_for_every_clip(result_store):
    from sklearn.manifold import trustworthiness

    _, clips, x = gaussian_blobs(separation=8)
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


@pytest.mark.slow  # UMAP is compiled at its first use
def test_umap_is_computed_once_and_is_reproducible(result_store, tmp_path, monkeypatch):
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


@pytest.mark.parametrize("scaling", ["standardised", "unit", "none"])
def test_vectors_are_scaled_before_the_projection(scaling, result_store):
    _, clips, x = gaussian_blobs()
    x = x[:15] * np.array([10.0] + [1.0] * (x.shape[1] - 1)) + 3
    expected = {
        "standardised": (x - x.mean(axis=0)) / x.std(axis=0),
        "unit": x / np.linalg.norm(x, axis=1, keepdims=True),
        "none": x,
    }[scaling]
    clips = clips.slice(0, 15)  # too few for UMAP
    table = projections_table(clips, embeddings_table(clips, x), result_store, Projection(scaling=scaling))
    rows = [row for row in table.to_pylist() if row["method"] == "pca"]
    order = np.argsort(clips["clip"].to_pylist())
    points, shares = pca_points(expected[order])
    np.testing.assert_allclose([[r["x"], r["y"]] for r in rows], points, atol=1e-4)
    assert rows[0]["explained_x"] == pytest.approx(shares[0], abs=1e-5)


def test_every_option_of_a_projection_makes_it_stale_and_the_default_does_not():
    assert DEFAULT_PROJECTION.parameters() == {"umap": {"version": UMAP_VERSION, **UMAP_SETTINGS}}
    others = [Projection(metric="euclidean"), Projection(scaling="unit"), Projection(scaling="none")]
    assert len({str(p.parameters()) for p in (DEFAULT_PROJECTION, *others)}) == 4
    assert Projection(metric="euclidean").umap_settings["metric"] == "euclidean"


@pytest.mark.slow  # UMAP is compiled at its first use
def test_the_map_of_can_vlms_hear_is_umap_at_the_defaults_of_fiftyone(result_store):
    # fiftyone.brain's compute_visualization(method="umap"): 15 neighbours, Euclidean, min_dist 0.1, of the vectors as stored
    import umap

    _, clips, x = gaussian_blobs(per_class=4)
    table = projections_table(
        clips, embeddings_table(clips, x), result_store, Projection(scaling="none", metric="euclidean")
    )
    points = [[r["x"], r["y"]] for r in table.to_pylist() if r["method"] == "umap"]
    order = np.argsort(clips["clip"].to_pylist())
    expected = umap.UMAP(n_neighbors=15, min_dist=0.1, metric="euclidean", random_state=0, n_jobs=1).fit_transform(
        x.astype("<f4")[order]
    )
    np.testing.assert_allclose(points, expected, atol=1e-4)


@pytest.mark.parametrize(("n", "methods"), [(0, []), (2, []), (3, ["pca"]), (15, ["pca"])])
def test_too_few_clips_have_no_projection(n, methods, result_store):
    _, clips, x = gaussian_blobs()
    rows = project(clips.slice(0, n), x[:n], result_store)
    assert sorted({r["method"] for r in rows if r["x"] is not None}) == methods
    reasons = {(r["method"], r["reason"]) for r in rows if r["x"] is None}
    needed = {"pca": 3, "umap": 16}
    assert reasons == {
        (method, f"at least {clips_needed} clips are needed, got {n}")
        for method, clips_needed in needed.items()
        if 0 < n < clips_needed
    }


def test_equal_or_one_dimensional_vectors_have_no_projection(result_store):
    _, clips, x = gaussian_blobs()
    assert {r["reason"] for r in project(clips, np.ones_like(x), result_store)} == {"all vectors are the same"}
    assert {r["reason"] for r in project(clips, x[:, :1], result_store)} == {
        "vectors must have 2 dimensions or more, got 1"
    }


def test_importing_the_module_does_not_import_umap_or_numba():
    code = "import sys, vlm_audio_pipeline.evaluation.projections; print([m for m in ('umap', 'numba', 'sklearn') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
