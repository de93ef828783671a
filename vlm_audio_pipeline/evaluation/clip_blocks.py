"""The measures of clips in blocks of queries, so that memory does not grow with the square of the number of clips.

A block holds the distances and ranks of its queries to all clips. Up to 2,048 clips there is one block.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from vlm_audio_pipeline.classifiers.knn import distances
from vlm_audio_pipeline.evaluation.clip_measures import CLIP_MEASURES, ClipGeometry, clip_values, silhouettes
from vlm_audio_pipeline.evaluation.embedding_intervals import masks_without_groups
from vlm_audio_pipeline.evaluation.embedding_matrix import EmbeddingMatrix

BLOCK_PAIRS = 2**22
"""Pairs of clips in a block; a pair takes about 60 bytes while its rank is computed."""


@dataclass(frozen=True)
class ClipMeans:
    """Values and means of `CLIP_MEASURES`.

    Attributes:
        values: (measures, n) float64, of each clip; see `clip_values`.
        means_without_groups: (groups, measures) float64, means without each group of source recordings; see `masks_without_groups`.
        permuted: (permutations, measures) float64, means for each of the other labels.
    """

    values: np.ndarray
    means_without_groups: np.ndarray
    permuted: np.ndarray


def compute_in_blocks(embeddings: EmbeddingMatrix, permutations: Iterable[np.ndarray] = ()) -> ClipMeans:
    """Compute the measures of all clips, without groups of source recordings, and for permuted labels.

    Args:
        embeddings: n clips.
        permutations: other labels, (n,) int each.
    """
    keeps = list(masks_without_groups(clip_sources(embeddings)))
    labels = list(permutations)
    values = []
    without, permuted = _Means(len(keeps)), _Means(len(labels))
    for geometry in iterate_blocks(embeddings):
        values.append(clip_values(geometry))
        for i, keep in enumerate(keeps):
            without.add(i, clip_values(geometry, keep=keep))
        for i, label in enumerate(labels):
            permuted.add(i, clip_values(geometry, label))
    return ClipMeans(np.hstack(values), without.means(), permuted.means())


def iterate_blocks(embeddings: EmbeddingMatrix) -> Iterator[ClipGeometry]:
    """Yield the geometry of consecutive blocks of queries."""
    x, label, source = embeddings.standardised_vectors, clip_labels(embeddings), clip_sources(embeddings)
    step = max(BLOCK_PAIRS // max(len(label), 1), 1)
    for first in range(0, len(label), step):
        queries = np.arange(first, min(first + step, len(label)))
        distance = distances(x[queries], x, "cosine")
        order = np.argsort(distance, axis=1, kind="stable")
        is_candidate = source[order] != source[queries, None]
        ranks = np.where(is_candidate, np.cumsum(is_candidate, axis=1), np.inf)
        rank = np.empty_like(ranks)
        np.put_along_axis(rank, order, ranks, axis=1)
        distance[np.arange(len(queries)), queries] = 0
        yield ClipGeometry(distance, rank, label, source, first)


def iterate_silhouettes(
    x: np.ndarray, label: np.ndarray, metric: Literal["cosine", "euclidean"]
) -> Iterator[np.ndarray]:
    """Yield the silhouettes of consecutive blocks of points.

    Args:
        x: (n, dimensions) float64.
        label: (n,) int from 0.
        metric: the distance.
    """
    step, keep = max(BLOCK_PAIRS // max(len(label), 1), 1), np.ones(len(label), bool)
    for first in range(0, len(label), step):
        rows = np.arange(first, min(first + step, len(label)))
        distance = distances(x[rows], x, metric)
        distance[rows - first, rows] = 0
        yield silhouettes(distance, label, keep, first)


def clip_labels(embeddings: EmbeddingMatrix) -> np.ndarray:
    """Return the class of each clip, (n,) int from 0."""
    return np.unique(embeddings.label, return_inverse=True)[1]


def clip_sources(embeddings: EmbeddingMatrix) -> np.ndarray:
    """Return the source recording of each clip, (n,) int from 0, without gaps."""
    return np.unique(embeddings.source, return_inverse=True)[1]


class _Means:
    """Means over the clips of all blocks that have a value; NaN for measures without any."""

    def __init__(self, count: int):
        self._totals = np.zeros((count, len(CLIP_MEASURES)))
        self._counts = np.zeros((count, len(CLIP_MEASURES)), int)

    def add(self, i: int, values: np.ndarray) -> None:
        has_value = ~np.isnan(values)
        self._totals[i] += np.where(has_value, values, 0).sum(axis=1)
        self._counts[i] += has_value.sum(axis=1)

    def means(self) -> np.ndarray:
        means: np.ndarray = np.where(self._counts > 0, self._totals / np.maximum(self._counts, 1), np.nan)
        return means
