"""The table `rendering_effects`: accuracy by class and rendering, with their interaction, of classifiers that differ only in rendering.

The interaction of a class and a rendering is its accuracy minus that of the class over all renderings, minus that of the rendering
over all classes, plus the mean of all: how much better this rendering is for this class than both lead to expect.

Belongs here: the two-way table of one group of classifiers, its intervals and tests. Does not belong here: which classifiers form a
group (`optional_analysis_stages`).
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from vlm_audio_pipeline.evaluation.embedding_intervals import (
    MIN_SOURCES,
    jackknife_error,
    masks_without_groups,
    student_quantile,
)
from vlm_audio_pipeline.evaluation.permuted_labels import permuted_labels
from vlm_audio_pipeline.evaluation.tables import build_rows
from vlm_audio_pipeline.measures.uncertainty import share_interval

PERMUTATIONS = 999


class _ClipResult(NamedTuple):
    """The share of the trials of a clip that are correct, its class and its source recording."""

    accuracy: float
    label: str
    source: str


def rendering_effects_table(predictions: Mapping[str, pa.Table], groups: Mapping[str, Mapping[str, str]]) -> pa.Table:
    """Compute the two-way table of each group, for each scoring without a control.

    Args:
        predictions: classifier -> its `predictions` rows.
        groups: name of a group -> rendering -> classifier.

    Returns:
        `rendering_effects` rows without `study`; a row with the label "" is over all classes.
    """
    lines: list[dict[str, Any]] = []
    for group, by_rendering in groups.items():
        results = {r: _clip_results(predictions[c]) for r, c in by_rendering.items() if c in predictions}
        absent = [classifier for classifier in by_rendering.values() if classifier not in predictions]
        scorings = sorted({scoring for by_scoring in results.values() for scoring in by_scoring})
        for scoring in scorings:
            present = {r: by_scoring[scoring] for r, by_scoring in results.items() if scoring in by_scoring}
            reason = f"not run: {', '.join(absent)}" if absent else None
            names = {"group": group, "scoring": scoring}
            lines += [
                names | {"classifier": by_rendering[line["rendering"]]} | line for line in _group_lines(present, reason)
            ]
    return build_rows("rendering_effects", lines)


def _clip_results(table: pa.Table) -> dict[str, dict[str, _ClipResult]]:
    """Return scoring -> clip -> its result, without controls."""
    trials: dict[str, dict[str, list[bool]]] = {}
    facts: dict[str, tuple[str, str]] = {}
    for row in table.select(["scoring", "control", "clip", "label", "source", "correct"]).to_pylist():
        if row["control"] == "none":
            trials.setdefault(row["scoring"], {}).setdefault(row["clip"], []).append(row["correct"])
            facts[row["clip"]] = (row["label"], row["source"])
    return {
        scoring: {clip: _ClipResult(float(np.mean(values)), *facts[clip]) for clip, values in by_clip.items()}
        for scoring, by_clip in trials.items()
    }


def _group_lines(results: Mapping[str, Mapping[str, _ClipResult]], reason: str | None) -> list[dict[str, Any]]:
    """Return the rows of one group and scoring, over the clips that every rendering has."""
    renderings = list(results)
    clips = sorted(set.intersection(*(set(by_clip) for by_clip in results.values())))
    correct = np.array([[results[r][clip].accuracy for r in renderings] for clip in clips]).reshape(-1, len(renderings))
    first_results = [results[renderings[0]][clip] for clip in clips]
    classes, label = np.unique([result.label for result in first_results], return_inverse=True)
    sources = np.array([result.source for result in first_results])
    source = np.unique(sources, return_inverse=True)[1]
    if reason is None and (len(renderings) < 2 or len(classes) < 2 or source.max(initial=0) + 1 < MIN_SOURCES):
        reason = f"needs 2 renderings, 2 classes and {MIN_SOURCES} source recordings"
    if any(len(by_clip) > len(clips) for by_clip in results.values()):
        reason = reason or "the renderings have predictions of different clips"
    tests = {} if reason else _tests(correct, label, source)
    interactions = None if reason else _interactions(correct, label, source)
    lines = []
    for j, rendering in enumerate(renderings):
        for k, name in [(-1, ""), *enumerate(classes.tolist())]:
            chosen = np.ones(len(clips), bool) if k < 0 else label == k
            interval = share_interval(correct[chosen, j], sources[chosen])
            line = {
                "rendering": rendering,
                "label": name,
                "accuracy": float(correct[chosen, j].mean()) if chosen.any() else None,
                "low": interval and interval.low,
                "high": interval and interval.high,
                "clips": int(chosen.sum()),
                "reason": reason,
                **(tests if k < 0 else {}),
            }
            if interactions is not None and k >= 0:
                line |= dict(
                    zip(("interaction", "interaction_low", "interaction_high"), interactions[k, j], strict=True)
                )
            lines.append(line)
    return lines


def interaction_table(correct: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Return the interactions of classes and renderings; every class counts equally.

    Args:
        correct: (clips, renderings) float.
        label: (clips,) int from 0; every class has a clip.

    Returns:
        (classes, renderings) float64; rows and columns sum to 0.
    """
    member = np.eye(label.max() + 1)[label]
    cells = member.T @ correct / member.sum(axis=0)[:, None]
    table: np.ndarray = cells - cells.mean(axis=1, keepdims=True) - cells.mean(axis=0) + cells.mean()
    return table


def _interactions(correct: np.ndarray, label: np.ndarray, source: np.ndarray) -> np.ndarray:
    """Return (classes, renderings, 3): interaction, and its interval by the jackknife over source recordings (or NaN)."""
    estimate = interaction_table(correct, label)
    low = high = np.full(estimate.shape, np.nan)
    keeps = list(masks_without_groups(source))
    if all(len(np.unique(label[keep])) == len(estimate) for keep in keeps):
        without = np.array([interaction_table(correct[keep], label[keep]) for keep in keeps])
        errors = np.apply_along_axis(jackknife_error, 0, without)
        margin = student_quantile(len(keeps) - 1) * errors
        low, high = estimate - margin, estimate + margin
    return np.stack([estimate, low, high], axis=-1)


def _tests(correct: np.ndarray, label: np.ndarray, source: np.ndarray) -> dict[str, float]:
    """Return the p-values of two permutation tests, (b + 1) / (m + 1).

    Renderings: if they were equal, those of each source recording could be exchanged (Friedman's idea, JASA 32, 1937). Interaction:
    if the effect of renderings did not depend on the class, each clip's profile over renderings, without its mean, could belong to
    any class; classes are permuted by source recording.
    """
    random = np.random.default_rng(0)
    sums = np.stack([np.bincount(source, weights=column) for column in correct.T], axis=1)
    spreads = [random.permuted(sums, axis=1).sum(axis=0).var() for _ in range(PERMUTATIONS)]
    profiles = correct - correct.mean(axis=1, keepdims=True)
    profiles -= profiles.mean(axis=0)
    permuted = [_class_sum_of_squares(profiles, other) for other in permuted_labels(label, source, PERMUTATIONS)]
    return {
        "p_rendering": _p_value(sums.sum(axis=0).var(), spreads),
        "p_interaction": _p_value(_class_sum_of_squares(profiles, label), permuted),
    }


def _class_sum_of_squares(profiles: np.ndarray, label: np.ndarray) -> float:
    """Return the sum of squares of the mean profiles of the classes."""
    member = np.eye(label.max() + 1)[label]
    sizes = np.maximum(member.sum(axis=0), 1)[:, None]
    return float(((member.T @ profiles) ** 2 / sizes).sum())


def _p_value(value: float, permuted: Sequence[float]) -> float:
    return (sum(other >= value - 1e-12 for other in permuted) + 1) / (len(permuted) + 1)
