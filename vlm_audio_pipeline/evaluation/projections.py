"""Vectors brought to the plane, to be looked at: PCA, whose axes mean something, and UMAP, whose axes do not.

What belongs here: coordinates. What does not: drawing them (`reports`), and measuring the space they come from
(`embedding_quality`), which no plane can stand for.

UMAP (McInnes, Healy & Melville, arXiv 1802.03426) compiles itself at its first use in a process, about 10 s; so its
coordinates are kept in the row store, keyed by the vectors, and are computed once for each content.
"""

import numpy as np
import pyarrow as pa

from vlm_audio_pipeline.contracts.hashing import digest, fingerprint
from vlm_audio_pipeline.engines import Failure, map_rows
from vlm_audio_pipeline.evaluation.spaces import Space
from vlm_audio_pipeline.evaluation.tables import rows_of
from vlm_audio_pipeline.storage.result_store import RowStore

UMAP_VERSION = 1
"""Raise it when `umap_points` would give other coordinates for the same vectors."""
NEIGHBOURS = 15
"""Clips that UMAP looks at around each clip, umap-learn's default."""
UMAP_SETTINGS = {"n_neighbors": NEIGHBOURS, "min_dist": 0.1, "metric": "cosine", "random_state": 0}
"""umap-learn's own defaults, but for the metric, and a seed."""


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


def umap_points(x: np.ndarray, rows: RowStore) -> np.ndarray:
    """Lay points out by UMAP, or take the layout that is stored for these very points.

    Args:
        x: (n, dimensions) float64; n above the 15 neighbours it looks at.
        rows: the row store.

    Returns:
        (n, 2) float32 coordinates without unit; distances between far groups mean nothing.
    """
    vectors = np.ascontiguousarray(x, dtype="<f4")
    key = fingerprint("umap", UMAP_VERSION, UMAP_SETTINGS, list(x.shape), digest(vectors.tobytes()), length=64)

    def compute(batch: list[np.ndarray]) -> list[bytes | Failure]:
        import umap

        laid_out = umap.UMAP(**UMAP_SETTINGS, n_jobs=1).fit_transform(batch[0])  # one thread: the seed then holds
        return [np.ascontiguousarray(laid_out, dtype="<f4").tobytes()]

    [payload] = map_rows([key], [vectors], compute, rows, kind="projection", workers=1)
    assert isinstance(payload, bytes)
    return np.frombuffer(payload, "<f4").reshape(-1, 2)


def projections_table(clips: pa.Table, embeddings: pa.Table, rows: RowStore) -> pa.Table:
    """Project one encoder's vectors by every method, standardised as `embedding_quality` has them.

    Args:
        clips: `clips` rows of the folds that exist.
        embeddings: `embeddings` rows of one encoder.
        rows: the row store.

    Returns:
        `projections` rows without `study` and `encoder`; coordinates are null, with the reason, where there are too few
        clips or nothing differs.

    Raises:
        VlmAudioError: when vectors differ in length.
    """
    space = Space.of(clips, embeddings)
    n = len(space.clip)
    about = [
        {"clip": c, "label": label, "source": source, "fold": fold}
        for c, label, source, fold in zip(
            *(column.tolist() for column in (space.clip, space.label, space.source, space.fold)), strict=True
        )
    ]
    lines = []
    for method, least in {"pca": 3, "umap": NEIGHBOURS + 1}.items():
        reason = _no_plane(space, least)
        if reason:
            lines += [{**row, "method": method, "reason": reason} for row in about]
            continue
        explained: list[float] | list[None] = [None, None]
        if method == "pca":
            points, shares = pca_points(space.standardised)
            explained = shares.tolist()
        else:
            points = umap_points(space.standardised, rows)
        lines += [
            {**row, "method": method, "x": x, "y": y, "explained_x": explained[0], "explained_y": explained[1]}
            for row, (x, y) in zip(about, points.tolist(), strict=True)
        ]
    assert len(lines) == 2 * n
    return rows_of("projections", lines, filled=("study", "encoder"))


def _no_plane(space: Space, least: int) -> str | None:
    n, dimensions = space.x.shape
    if n < least:
        return f"it takes {least} clips, got {n}"
    if dimensions < 2:
        return f"vectors must have 2 dimensions or more, got {dimensions}"
    return None if np.ptp(space.x, axis=0).any() else "all vectors are the same"
