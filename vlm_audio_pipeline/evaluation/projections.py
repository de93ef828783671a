"""Projections of embeddings to two dimensions: PCA, whose axes are directions of variance, and UMAP, whose axes have no meaning.

A plane can show classes as better separated than they are: UMAP pulls neighbours together. Each row therefore has the silhouette
of the classes in the plane beside that in the space of the embeddings.

UMAP (McInnes, Healy & Melville, arXiv 1802.03426) takes seconds for large datasets, and compiles itself at its first use on a
machine, about 10 s. Its coordinates are therefore kept in the result store, keyed by the embeddings.

Belongs here: coordinates. Does not belong here: plots (`reports`), and measures of the embeddings (`embedding_quality`).
"""

from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict

from vlm_audio_pipeline.contracts.hashing import digest, fingerprint
from vlm_audio_pipeline.engines import Failure, compute_results
from vlm_audio_pipeline.evaluation.clip_blocks import iterate_silhouettes
from vlm_audio_pipeline.evaluation.clip_sample import MAX_COMPARED_CLIPS
from vlm_audio_pipeline.evaluation.compiled_umap import import_umap
from vlm_audio_pipeline.evaluation.embedding_matrix import EmbeddingMatrix
from vlm_audio_pipeline.evaluation.tables import build_rows
from vlm_audio_pipeline.storage.result_store import ResultStore

UMAP_VERSION = 1
"""Increase it when `umap_points` would return other coordinates for the same embeddings."""
NEIGHBOURS = 15
"""Neighbours of each clip in UMAP, umap-learn's default."""
UMAP_SETTINGS: dict[str, Any] = {"n_neighbors": NEIGHBOURS, "min_dist": 0.1, "metric": "cosine", "random_state": 0}
"""umap-learn's defaults, except for the metric and the seed."""


class Projection(BaseModel):
    """How embeddings are projected to two dimensions."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    scaling: Literal["standardised", "unit", "none"] = "standardised"
    """Vectors before the projection. standardised: each dimension at mean 0 and standard deviation 1; unit: each vector at length 1; none: as the encoder returns them."""
    metric: Literal["cosine", "euclidean"] = "cosine"
    """Distance between vectors in UMAP."""

    @property
    def umap_settings(self) -> dict[str, Any]:
        """Settings of UMAP."""
        return {**UMAP_SETTINGS, "metric": self.metric}

    def parameters(self) -> dict[str, Any]:
        """Return everything that determines the coordinates, for the fingerprint of the step."""
        scaling = {} if self.scaling == "standardised" else {"scaling": self.scaling}
        return {"umap": {"version": UMAP_VERSION, **self.umap_settings}, **scaling}

    def scale(self, points: EmbeddingMatrix) -> np.ndarray:
        """Return the vectors to project, (n, dimensions) float64."""
        if self.scaling == "standardised":
            return points.standardised_vectors
        if self.scaling == "none":
            return points.x
        lengths = np.linalg.norm(points.x, axis=1, keepdims=True)
        scaled: np.ndarray = points.x / np.where(lengths > 0, lengths, 1)
        return scaled


DEFAULT_PROJECTION = Projection()


def pca_points(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Project on the two directions of largest variance (Pearson 1901; scikit-learn's `PCA`, full decomposition).

    Args:
        x: (n, dimensions) float64, at least 3 points of at least 2 dimensions, not all equal.

    Returns:
        (n, 2) float64 coordinates, in units of x, and (2,) float64, the share of the variance along each.
    """
    from sklearn.decomposition import PCA

    pca = PCA(2, svd_solver="full")
    return pca.fit_transform(x), pca.explained_variance_ratio_


def umap_points(x: np.ndarray, result_store: ResultStore, settings: dict[str, Any] = UMAP_SETTINGS) -> np.ndarray:
    """Project points by UMAP, or read the stored coordinates of the same points.

    Args:
        x: (n, dimensions) float64; n at least 16, more than the 15 neighbours.
        result_store: stores UMAP coordinates.
        settings: for `umap.UMAP`.

    Returns:
        (n, 2) float32 coordinates without unit; distances between distant groups have no meaning.
    """
    vectors = np.ascontiguousarray(x, dtype="<f4")
    key = fingerprint("umap", UMAP_VERSION, settings, list(x.shape), digest(vectors.tobytes()), length=64)

    def compute(batch: list[np.ndarray]) -> list[bytes | Failure]:
        umap = import_umap()
        # With more than one thread UMAP ignores the seed.
        coordinates = umap.UMAP(**settings, n_jobs=1).fit_transform(batch[0])
        return [np.ascontiguousarray(coordinates, dtype="<f4").tobytes()]

    [payload] = compute_results([key], [vectors], compute, result_store, kind="projection", max_parallel=1)
    assert isinstance(payload, bytes)
    return np.frombuffer(payload, "<f4").reshape(-1, 2)


def projections_table(
    clips: pa.Table, embeddings: pa.Table, result_store: ResultStore, projection: Projection = DEFAULT_PROJECTION
) -> pa.Table:
    """Project one encoder's embeddings by every method; by default standardised as in `embedding_quality`.

    Args:
        clips: `clips` rows of the folds that exist.
        embeddings: `embeddings` rows of one encoder.
        result_store: stores UMAP coordinates.
        projection: scaling of the vectors and metric of UMAP.

    Returns:
        `projections` rows without `study` and `encoder`; coordinates are null, with the reason, for too few
        clips, if all embeddings are the same, and for clips outside the sample of more than `MAX_COMPARED_CLIPS` clips.

    Raises:
        VlmAudioError: when vectors differ in length.
    """
    points = EmbeddingMatrix.from_tables(clips, embeddings, MAX_COMPARED_CLIPS)
    clip_columns = [
        {"clip": c, "label": label, "source": source, "fold": fold}
        for c, label, source, fold in zip(
            *(column.tolist() for column in (points.clip, points.label, points.source, points.fold)), strict=True
        )
    ]
    lines = []
    space = (
        None if _undefined_reason(points, 3) else class_silhouette(points, projection.metric, projection.scale(points))
    )
    for method, min_clips in {"pca": 3, "umap": NEIGHBOURS + 1}.items():
        reason = _undefined_reason(points, min_clips)
        if reason:
            lines += [{**row, "method": method, "reason": reason} for row in clip_columns]
            continue
        explained: list[float] | list[None] = [None, None]
        if method == "pca":
            coordinates, shares = pca_points(projection.scale(points))
            explained = shares.tolist()
        else:
            coordinates = umap_points(projection.scale(points), result_store, projection.umap_settings)
        constants = {
            "method": method,
            "explained_x": explained[0],
            "explained_y": explained[1],
            "silhouette_plane": class_silhouette(points, "euclidean", coordinates),
            "silhouette_space": space,
        }
        lines += [
            {**row, **constants, "x": x, "y": y} for row, (x, y) in zip(clip_columns, coordinates.tolist(), strict=True)
        ]
    assert len(lines) == 2 * len(points.clip)
    table = build_rows("projections", lines, added_columns=("study", "encoder"))
    return (
        table
        if points.all_clips == len(points.clip)
        else pa.concat_tables([table, _rows_outside(table, clips, embeddings)])
    )


def _rows_outside(table: pa.Table, clips: pa.Table, embeddings: pa.Table) -> pa.Table:
    """Return rows without coordinates for the clips that have an embedding and are not in the sample."""
    is_outside = pc.and_(
        pc.is_in(clips["clip"], value_set=embeddings["clip"].combine_chunks()),
        pc.invert(pc.is_in(clips["clip"], value_set=table["clip"].combine_chunks())),
    )
    columns = clips.filter(is_outside).select(["clip", "label", "source", "fold"]).to_pylist()
    reason = f"not in the sample of {MAX_COMPARED_CLIPS:,} clips"
    lines = [{**row, "method": method, "reason": reason} for method in ("pca", "umap") for row in columns]
    return build_rows("projections", lines, added_columns=("study", "encoder"))


def class_silhouette(
    points: EmbeddingMatrix, metric: Literal["cosine", "euclidean"], coordinates: np.ndarray
) -> float | None:
    """Return the mean silhouette of the classes; None with one class, or if every class has only one clip.

    Args:
        points: the clips.
        metric: the distance: the metric of the projection for the space, Euclidean in the plane, as the eye sees it.
        coordinates: (n, any) float.
    """
    label = np.unique(points.label, return_inverse=True)[1]
    if not 1 < len(set(label)) < len(label):
        return None
    return float(np.concatenate(list(iterate_silhouettes(coordinates.astype(np.float64), label, metric))).mean())


def _undefined_reason(points: EmbeddingMatrix, min_clips: int) -> str | None:
    n, dimensions = points.x.shape
    if n < min_clips:
        return f"at least {min_clips} clips are needed, got {n}"
    if dimensions < 2:
        return f"vectors must have 2 dimensions or more, got {dimensions}"
    return None if np.ptp(points.x, axis=0).any() else "all vectors are the same"
