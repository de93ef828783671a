"""Compare the embeddings of every pair of encoders on the same clips: differences with intervals and paired tests.

The standard error of a difference is that of the jackknife over source recordings (`embedding_intervals`). The variance over queries
is not used, because for a difference it is too small.

Belongs here: the measures with a value for each clip. Does not belong here: clusters, which have no value for a single clip,
and accuracies (`contrast_results`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pyarrow as pa

from vlm_audio_pipeline.evaluation.clip_blocks import compute_in_blocks
from vlm_audio_pipeline.evaluation.clip_measures import CLIP_MEASURES
from vlm_audio_pipeline.evaluation.clip_sample import MAX_COMPARED_CLIPS
from vlm_audio_pipeline.evaluation.embedding_intervals import (
    MIN_SOURCES,
    jackknife_error,
    student_quantile,
)
from vlm_audio_pipeline.evaluation.embedding_matrix import EmbeddingMatrix
from vlm_audio_pipeline.evaluation.significance import holm
from vlm_audio_pipeline.evaluation.tables import build_rows


@dataclass(frozen=True)
class _EncoderValues:
    """The values of one encoder on all clips.

    Attributes:
        values: (measures, n) float64, of each clip.
        means_without_groups: (groups, measures) float64, means without each group of source recordings.
    """

    values: np.ndarray
    means_without_groups: np.ndarray


def embedding_comparisons_table(
    clips: pa.Table, embeddings: Mapping[str, pa.Table], expected_clips: int, limited: bool
) -> pa.Table:
    """Compare every pair of encoders in every measure of `CLIP_MEASURES`; above `MAX_COMPARED_CLIPS` clips, on the same sample.

    Args:
        clips: `clips` rows of the folds that exist.
        embeddings: encoder -> its `embeddings` rows.
        expected_clips: number of usable clips of the dataset; encoders without a vector for each are not compared.
        limited: whether the run is limited to a part of the clips; then there are differences, but no test.

    Returns:
        `embedding_comparisons` rows without `study`.

    Raises:
        VlmAudioError: when the vectors of an encoder differ in length.
    """
    matrices = {
        name: EmbeddingMatrix.from_tables(clips, table, MAX_COMPARED_CLIPS)
        for name, table in sorted(embeddings.items())
    }
    reasons = {name: _not_compared_reason(matrix, expected_clips) for name, matrix in matrices.items()}
    encoder_values = {name: _encoder_values(m) for name, m in matrices.items() if reasons[name] is None}
    sources = {name: len(set(matrix.source)) for name, matrix in matrices.items()}
    lines: list[dict[str, Any]] = []
    for first, second in combinations(matrices, 2):
        base = {"encoder": first, "against": second, "sources": sources[first]}
        missing = [f"{name}: {reasons[name]}" for name in (first, second) if reasons[name]]
        if missing:
            lines += [{**base, "measure": m, "clips": 0, "reason": "; ".join(missing)} for m in CLIP_MEASURES]
        else:
            lines += _compare(base, encoder_values[first], encoder_values[second], limited)
    for measure in CLIP_MEASURES:
        tested = [line for line in lines if line["measure"] == measure and line.get("p") is not None]
        for line, p in zip(tested, holm([line["p"] for line in tested]), strict=True):
            line.update(p_holm=p, holm_over=len(tested))
    return build_rows("embedding_comparisons", lines)


def _encoder_values(matrix: EmbeddingMatrix) -> _EncoderValues:
    results = compute_in_blocks(matrix)
    return _EncoderValues(results.values, results.means_without_groups)


def _compare(
    base: dict[str, Any], first: _EncoderValues, second: _EncoderValues, limited: bool
) -> list[dict[str, Any]]:
    """Return the rows of one pair, without Holm's correction."""
    lines = []
    for i, measure in enumerate(CLIP_MEASURES):
        values = np.stack([first.values[i], second.values[i]])
        has_value = ~np.isnan(values).any(axis=0)
        line = {**base, "measure": measure, "clips": int(has_value.sum())}
        lines.append(line)
        if not has_value.any():
            line["reason"] = "no class has clips of two source recordings"
            continue
        value, against_value = values[:, has_value].mean(axis=1).tolist()
        difference = value - against_value
        line |= {"value": value, "against_value": against_value, "difference": difference}
        error = jackknife_error(first.means_without_groups[:, i] - second.means_without_groups[:, i])
        if len(first.means_without_groups) < MIN_SOURCES or np.isnan(error):
            line["reason"] = f"fewer than {MIN_SOURCES} source recordings, or undefined without one of them"
            continue
        degrees = len(first.means_without_groups) - 1
        margin = student_quantile(degrees) * error
        line |= {"low": difference - margin, "high": difference + margin}
        if limited:
            line["reason"] = "not tested: the run is limited to a part of the clips"
            continue
        line["p"] = p_value(difference, error, degrees)
    return lines


def p_value(difference: float, error: float, degrees: int) -> float:
    """Return the two-sided p-value of difference / error by Student's distribution; 1 without difference, 0 if only the error is 0.

    A sign-flip test of the differences of single queries is too sensitive here: it does not know that all queries of an encoder share
    one collection.
    """
    from scipy.stats import t

    if abs(difference) < 1e-12:
        return 1.0
    return float(2 * t.sf(abs(difference) / error, degrees)) if error > 0 else 0.0


def _not_compared_reason(matrix: EmbeddingMatrix, expected_clips: int) -> str | None:
    """Return why an encoder is not compared, or None."""
    if matrix.all_clips < expected_clips:
        return f"{matrix.all_clips} of {expected_clips} clips have an embedding"
    if len(set(matrix.label)) < 2:
        return "all clips are of one class"
    return None if np.ptp(matrix.x, axis=0).any() else "all vectors are the same"
