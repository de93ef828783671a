"""The table `variance_components`: where the differences between trials of a classifier come from.

Belongs here: predictions -> balanced arrays, and the rows. Does not belong here: the estimates (`variance_components`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from vlm_audio_pipeline.evaluation.embedding_intervals import MIN_SOURCES
from vlm_audio_pipeline.evaluation.tables import build_rows
from vlm_audio_pipeline.evaluation.variance_components import REPEAT, VarianceComponent, variance_components


@dataclass(frozen=True)
class TrialDesign:
    """The trials of a classifier: every combination of draw, class order, wording and repeat, in this order; repeats change fastest.

    Attributes:
        draw: number of draws of examples.
        class_order: number of class orders.
        wording: number of wordings.
        repeat: number of repeats.
        ranked_draws: the selection whose draws are ranks and not a random sample, such as "medoid"; None otherwise.
    """

    draw: int
    class_order: int
    wording: int
    repeat: int
    ranked_draws: str | None = None

    @property
    def levels(self) -> dict[str, int]:
        """The number of levels of each factor, in the order of the trials."""
        return {"draw": self.draw, "class_order": self.class_order, "wording": self.wording, REPEAT: self.repeat}


def variance_components_table(predictions: Mapping[str, pa.Table], designs: Mapping[str, TrialDesign]) -> pa.Table:
    """Estimate the variance components of every classifier, scoring and control.

    Args:
        predictions: classifier -> its `predictions` rows.
        designs: classifier -> its trials.

    Returns:
        `variance_components` rows without `study`. A component without an estimate has a reason.
    """
    lines: list[dict[str, Any]] = []
    for classifier, table in predictions.items():
        rows = table.select(["scoring", "control", "trial", "clip", "source", "correct"]).to_pylist()
        for scoring, control in sorted({(row["scoring"], row["control"]) for row in rows}):
            names = {"classifier": classifier, "scoring": scoring, "control": control}
            group = [row for row in rows if (row["scoring"], row["control"]) == (scoring, control)]
            lines += [names | line for line in _group_lines(group, designs[classifier])]
    return build_rows("variance_components", lines)


def _group_lines(rows: list[dict[str, Any]], design: TrialDesign) -> list[dict[str, Any]]:
    """Return the rows of one classifier, scoring and control."""
    source_of = {row["clip"]: row["source"] for row in rows}
    clips = sorted(source_of)
    source = np.unique([source_of[clip] for clip in clips], return_inverse=True)[1]
    levels = {"clip": len(clips), **design.levels}
    counts = {"clips": len(clips), "sources": len(set(source_of.values()))}
    trials = int(np.prod(list(design.levels.values())))
    reason = None
    if len(rows) < len(clips) * trials:
        reason = f"{len(clips) * trials - len(rows)} of {len(clips) * trials} predictions are missing"
    elif trials < 2:
        reason = "one trial"
    elif counts["sources"] < MIN_SOURCES:
        reason = f"fewer than {MIN_SOURCES} source recordings"
    if reason:
        return [{**counts, "component": name, "levels": n, "reason": reason} for name, n in levels.items()]
    number = {clip: i for i, clip in enumerate(clips)}
    correct = np.zeros((len(clips), trials))
    for row in rows:
        correct[number[row["clip"]], row["trial"]] = row["correct"]
    factors = [name for name in ("draw", "class_order", "wording") if levels[name] > 1]
    array = correct.reshape([len(clips), *(levels[name] for name in factors), design.repeat])
    estimates = {c.effect: c for c in variance_components(array, ("clip", *factors), source)}
    lines = []
    for name in levels:
        if (name,) in estimates:
            lines.append({**counts, **_columns(estimates.pop((name,)), design)})
        else:
            lines.append(
                {**counts, "component": name, "levels": levels[name], "reason": f"one {name.replace('_', ' ')}"}
            )
    return lines + [{**counts, **_columns(component, design)} for component in estimates.values()]


def _columns(component: VarianceComponent, design: TrialDesign) -> dict[str, Any]:
    base = {"component": " x ".join(component.effect), "levels": component.levels}
    if design.ranked_draws and "draw" in component.effect:
        return {**base, "reason": f"draws of {design.ranked_draws} are ranks, not a random sample"}
    low, high = component.low, component.high
    return {
        **base,
        "variance": component.variance,
        "low": low,
        "high": high,
        "sd": max(component.variance, 0.0) ** 0.5,
        "sd_low": low**0.5,
        "sd_high": high**0.5,
        "variance_of_mean": component.variance_of_mean,
    }
