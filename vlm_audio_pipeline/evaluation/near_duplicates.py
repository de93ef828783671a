"""Near duplicates: clips of different folds whose embeddings are more similar than this encoder makes those of different recordings.

A fixed cosine does not work. An encoder that separates the classes well gives two different recordings of rain a cosine
above 0.99; for another encoder, the same recording with a little noise is below it. So every clip has its own scale: the
cosine distance (1 - cosine) to its third nearest neighbour among the other source recordings of its own fold, which are different
recordings by the dataset's own account. The relative distance of two clips is their cosine distance divided by the geometric
mean of their scales (local scaling: Zelnik-Manor and Perona, Self-Tuning Spectral Clustering, NeurIPS 2004).

The relative distances r of clips to their nearest neighbours in their own fold have a power law near 0, P(r < x)
proportional to x^k, with k half the intrinsic dimension of the vectors. The tail is fitted (Hill, A Simple General Approach to
Inference About the Tail of a Distribution, Annals of Statistics 3, 1975; with the median instead of the mean, because a
few duplicates within a fold must not change the threshold) and extrapolated to the relative distance below which
`EXPECTED_NEIGHBOURS` neighbours in other folds are expected without duplicates.

Belongs here: the threshold and the pairs. Does not belong here: findings in words (`leakage`).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from vlm_audio_pipeline.evaluation.embedding_matrix import EmbeddingMatrix

EXPECTED_NEIGHBOURS = 0.05
"""Number of nearest neighbours in other folds, below the threshold, that are expected if there are no duplicates."""
NEIGHBOUR = 3
"""The neighbour of another source whose distance is the scale of a clip."""
TAIL = 0.25
"""Share of the relative distances that the tail is fitted on."""
MIN_CLIPS = 80
"""Minimum number of clips with a scale."""
MIN_DISTANCE = 1e-6
"""Distances below it are rounding errors of float32."""
MAX_PAIRS_AT_A_TIME = 2**24
"""Maximum pairs of clips that are compared at a time, in at most 1000 rows; a pair takes about 20 bytes."""
MAX_DISTANCE = 0.1
"""Clips with a cosine below 0.9 are not near duplicates, however far apart different recordings are."""


@dataclass(frozen=True)
class NearDuplicates:
    """Pairs of clips in different folds that are closer than the threshold and have a cosine above 0.9, the most similar first.

    Attributes:
        first: (pairs,) int, index of the first clip.
        second: (pairs,) int, index of the second clip, above the first.
        cosine: (pairs,) float.
        threshold: relative distance below which clips with such a cosine are near duplicates.
    """

    first: np.ndarray
    second: np.ndarray
    cosine: np.ndarray
    threshold: float


def near_duplicates(embeddings: EmbeddingMatrix) -> NearDuplicates | str:
    """Return the near duplicates, or the reason why they cannot be determined."""
    folds = np.unique(embeddings.fold)
    if len(folds) < 2:
        return f"{len(embeddings.clip)} clips of one fold have embeddings" if len(folds) else "0 clips have embeddings"
    unit = embeddings.unit
    scale = np.full(len(unit), np.nan)
    for rows, distance in _distances_in_folds(embeddings, unit):
        if distance.shape[1] >= NEIGHBOUR:
            scale[rows] = np.partition(distance, NEIGHBOUR - 1, axis=1)[:, NEIGHBOUR - 1]
    scale[~np.isfinite(scale)] = np.nan
    has_scale = np.isfinite(scale)
    if has_scale.sum() < MIN_CLIPS:
        return f"{has_scale.sum()} clips have {NEIGHBOUR} clips of other source recordings in their fold, and {MIN_CLIPS} such clips are needed"
    if np.median(scale[has_scale]) < 10 * MIN_DISTANCE:
        return "clips of different source recordings have the same embedding"
    sqrt_scale = np.sqrt(scale)
    nearest = np.full(len(unit), np.inf)
    for rows, distance in _distances_in_folds(embeddings, unit):
        fold_sqrt_scale = sqrt_scale[embeddings.fold == embeddings.fold[rows[0]]]
        nearest[rows] = (
            np.nanmin(np.where(np.isfinite(fold_sqrt_scale), distance / fold_sqrt_scale, np.inf), axis=1)
            / sqrt_scale[rows]
        )
    threshold = _extrapolate(nearest[has_scale], comparisons=int(has_scale.sum()) * (len(folds) - 1))
    blocks = []
    block_rows = rows_per_block(len(unit))
    for start in range(0, len(unit), block_rows):
        rows = np.arange(start, min(start + block_rows, len(unit)))
        distance = np.maximum(1 - unit[rows] @ unit.T, MIN_DISTANCE)
        is_close = (distance < threshold * sqrt_scale[rows][:, None] * sqrt_scale[None, :]) & (distance < MAX_DISTANCE)
        i, j = np.nonzero(is_close & (embeddings.fold[rows][:, None] != embeddings.fold[None, :]))
        is_ordered = i + start < j
        blocks.append(np.stack([i[is_ordered] + start, j[is_ordered], 1 - distance[i[is_ordered], j[is_ordered]]]))
    first, second, cosine = np.concatenate(blocks, axis=1)
    order = np.lexsort((second, first, -cosine))
    return NearDuplicates(first[order].astype(int), second[order].astype(int), cosine[order], threshold)


def rows_per_block(clips: int) -> int:
    """Return how many clips are compared at a time with all clips, so that memory does not grow with the square of their number.

    >>> rows_per_block(400), rows_per_block(100_000)
    (1000, 167)
    """
    return min(1000, max(1, MAX_PAIRS_AT_A_TIME // max(clips, 1)))


def _distances_in_folds(embeddings: EmbeddingMatrix, unit: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield rows of clips of one fold, and their distances to all clips of the fold, infinite for clips of the same source."""
    for fold in np.unique(embeddings.fold):
        fold_indices = np.flatnonzero(embeddings.fold == fold)
        block_rows = rows_per_block(len(fold_indices))
        for start in range(0, len(fold_indices), block_rows):
            rows = fold_indices[start : start + block_rows]
            distance = np.maximum(1 - unit[rows] @ unit[fold_indices].T, MIN_DISTANCE)
            distance[embeddings.source[rows][:, None] == embeddings.source[fold_indices][None, :]] = np.inf
            yield rows, distance


def _extrapolate(nearest: np.ndarray, comparisons: int) -> float:
    """Return the relative distance below which `EXPECTED_NEIGHBOURS` nearest neighbours are expected without duplicates.

    Args:
        nearest: (n,) float, relative distances between different recordings.
        comparisons: number of nearest neighbours in other folds.
    """
    edge = float(np.quantile(nearest, TAIL))
    excess = np.log(edge / nearest[nearest <= edge])
    inverse_k = float(np.median(excess)) / np.log(2)  # the excess is exponential, with median ln 2 / k
    # One standard error above, so that an error of the fit lowers the threshold rather than raises it: a higher threshold
    # would call different recordings duplicates. The standard error of the median of m values is 1 / (ln 2 sqrt(m)) of 1 / k.
    inverse_k *= 1 + 1 / (np.log(2) * np.sqrt(len(excess)))
    return float(edge * (EXPECTED_NEIGHBOURS / (comparisons * TAIL)) ** inverse_k)
