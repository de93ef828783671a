"""Projections of embeddings to two dimensions: PCA, whose axes are directions of variance, and UMAP, whose axes have no meaning.

UMAP (McInnes, Healy & Melville, arXiv 1802.03426) compiles itself at its first use in a process, about 10 s. Its
coordinates are therefore kept in the result store, keyed by the embeddings.

Belongs here: coordinates. Does not belong here: plots (`reports`), and measures of the embeddings (`embedding_quality`).
"""

import numpy as np
import pyarrow as pa

from vlm_audio_pipeline.contracts.hashing import digest, fingerprint
from vlm_audio_pipeline.engines import Failure, compute_results
from vlm_audio_pipeline.evaluation.embedding_matrix import EmbeddingMatrix
from vlm_audio_pipeline.evaluation.tables import rows_of
from vlm_audio_pipeline.storage.result_store import ResultStore

UMAP_VERSION = 1
"""Raise it when `umap_points` would return other coordinates for the same embeddings."""
NEIGHBOURS = 15
"""Neighbours of each clip in UMAP, umap-learn's default."""
UMAP_SETTINGS = {"n_neighbors": NEIGHBOURS, "min_dist": 0.1, "metric": "cosine", "random_state": 0}
"""umap-learn's defaults, except for the metric and the seed."""


def pca_points(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Project on the two directions of most variance (Pearson 1901; scikit-learn's `PCA`, full decomposition).

    Args:
        x: (n, dimensions) float64, n of 3 or more, 2 dimensions or more, not all the same.

    Returns:
        (n, 2) float64 coordinates, in units of x, and (2,) float64, the share of the variance along each.
    """
    from sklearn.decomposition import PCA

    pca = PCA(2, svd_solver="full")
    return pca.fit_transform(x), pca.explained_variance_ratio_


def umap_points(x: np.ndarray, result_store: ResultStore) -> np.ndarray:
    """Project points by UMAP, or read the stored coordinates of the same points.

    Args:
        x: (n, dimensions) float64; n above the 15 neighbours.
        result_store: where UMAP coordinates are kept.

    Returns:
        (n, 2) float32 coordinates without unit; distances between groups far apart have no meaning.
    """
    vectors = np.ascontiguousarray(x, dtype="<f4")
    key = fingerprint("umap", UMAP_VERSION, UMAP_SETTINGS, list(x.shape), digest(vectors.tobytes()), length=64)

    def compute(batch: list[np.ndarray]) -> list[bytes | Failure]:
        import umap

        # With more than one thread UMAP ignores the seed.
        coordinates = umap.UMAP(**UMAP_SETTINGS, n_jobs=1).fit_transform(batch[0])
        return [np.ascontiguousarray(coordinates, dtype="<f4").tobytes()]

    [payload] = compute_results([key], [vectors], compute, result_store, kind="projection", workers=1)
    assert isinstance(payload, bytes)
    return np.frombuffer(payload, "<f4").reshape(-1, 2)


def projections_table(clips: pa.Table, embeddings: pa.Table, result_store: ResultStore) -> pa.Table:
    """Project one encoder's embeddings by every method, standardised as in `embedding_quality`.

    Args:
        clips: `clips` rows of the folds that exist.
        embeddings: `embeddings` rows of one encoder.
        result_store: where UMAP coordinates are kept.

    Returns:
        `projections` rows without `study` and `encoder`; coordinates are null, with the reason, where there are too few
        clips or all embeddings are the same.

    Raises:
        VlmAudioError: when vectors differ in length.
    """
    points = EmbeddingMatrix.of(clips, embeddings)
    n = len(points.clip)
    clip_columns = [
        {"clip": c, "label": label, "source": source, "fold": fold}
        for c, label, source, fold in zip(
            *(column.tolist() for column in (points.clip, points.label, points.source, points.fold)), strict=True
        )
    ]
    lines = []
    for method, min_clips in {"pca": 3, "umap": NEIGHBOURS + 1}.items():
        reason = _why_undefined(points, min_clips)
        if reason:
            lines += [{**row, "method": method, "reason": reason} for row in clip_columns]
            continue
        explained: list[float] | list[None] = [None, None]
        if method == "pca":
            coordinates, shares = pca_points(points.standardised)
            explained = shares.tolist()
        else:
            coordinates = umap_points(points.standardised, result_store)
        lines += [
            {**row, "method": method, "x": x, "y": y, "explained_x": explained[0], "explained_y": explained[1]}
            for row, (x, y) in zip(clip_columns, coordinates.tolist(), strict=True)
        ]
    assert len(lines) == 2 * n
    return rows_of("projections", lines, filled=("study", "encoder"))


def _why_undefined(points: EmbeddingMatrix, min_clips: int) -> str | None:
    n, dimensions = points.x.shape
    if n < min_clips:
        return f"it takes {min_clips} clips, got {n}"
    if dimensions < 2:
        return f"vectors must have 2 dimensions or more, got {dimensions}"
    return None if np.ptp(points.x, axis=0).any() else "all vectors are the same"
