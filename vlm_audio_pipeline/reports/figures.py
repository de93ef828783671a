"""Charts of results as PNG bytes, by matplotlib without a display."""

import io
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vlm_audio_pipeline.evaluation.contrasts import default_scoring
from vlm_audio_pipeline.measures.declarations import MEASURES, RANKED_BY
from vlm_audio_pipeline.measures.measure import Measure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, BAR, PALE = "#1f2933", "#2f6f9f", "#b8c4ce"


def _figure(width: float, height: float, **kwargs: Any) -> "Figure":
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=110, layout="constrained", **kwargs)


def _png(figure: "Figure") -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()


def measure_charts(leaderboard: pa.Table) -> dict[str, bytes]:
    """Return a chart of each measure that is declared for plots: name -> PNG."""
    charts = [m for m in MEASURES.values() if "plot" in m.shown_in]
    return {measure.name: measure_chart(leaderboard, measure) for measure in charts}


def measure_chart(leaderboard: pa.Table, measure: Measure) -> bytes:
    """Return a bar chart of a measure, best first. Classifiers that were not run have their note in place of a bar.

    Accuracies have their counts (correct of total). The axis ends at 1 for shares, else at the largest value.
    """
    better = -1 if measure.order == "lower" else 1
    rows = sorted(
        leaderboard.to_pylist(),
        key=lambda r: float("-inf") if r[measure.name] is None else better * r[measure.name],
    )
    values = [r[measure.name] for r in rows if r[measure.name] is not None]
    axis_end = 1.0 if measure.unit == "share of 1" else max(values, default=0) or 1.0
    figure = _figure(7.5, 0.9 + 0.42 * max(len(rows), 1))
    axes = figure.subplots()
    text_style: dict[str, Any] = {"va": "center", "color": INK, "fontsize": 8, "parse_math": False}
    for y, row in enumerate(rows):
        value = row[measure.name]
        if value is None:
            axes.text(0.01 * axis_end, y, row["note"][:90], **text_style)
            continue
        axes.barh(y, value, color=PALE if row["partial"] else BAR, height=0.7)
        has_counts = measure.name == RANKED_BY and row["correct"] is not None
        counts = f"  ({row['correct']} of {row['predictions']})" if has_counts else ""
        axes.text(value + 0.01 * axis_end, y, measure.format(value, "") + counts, **text_style)
    names = [_name(row) for row in rows]
    label = f"{measure.heading} ({measure.unit})"
    axes.set(xlim=(0, 1.3 * axis_end), ylim=(-0.6, max(len(rows), 1) - 0.4), xlabel=label)
    axes.set_yticks(range(len(rows)), names, fontsize=8, parse_math=False)
    axes.set_xticks(np.linspace(0, axis_end, 6))
    axes.spines[["top", "right", "left"]].set_visible(False)
    return _png(figure)


def _name(row: dict[str, Any]) -> str:
    """Return a unique name for a leaderboard row: classifier, scoring and control."""
    scoring = "" if row["scoring"] in ("", "score", "annotation") else f" ({row['scoring']})"
    return row["classifier"] + scoring + (f" @ {row['control']}" if row["control"] not in ("", "none") else "")


def default_rows(table: pa.Table) -> pa.Table:
    """Return the rows of a classifier on original input (no control), with its default scoring."""
    originals = table.filter(pc.equal(table["control"], "none"))
    return (
        originals.filter(pc.equal(originals["scoring"], default_scoring(set(originals["scoring"].to_pylist()))))
        if originals.num_rows
        else originals
    )


def confusion_chart(confusion: pa.Table, classes: tuple[str, ...]) -> bytes:
    """Return a confusion matrix: true classes as rows, predicted classes and outcomes without a label as columns."""
    rows = default_rows(confusion).to_pylist()
    predicted = {r["predicted"] for r in rows}
    columns = [*classes, *sorted(predicted - set(classes))]
    counts = np.zeros((len(classes), len(columns)), int)
    for r in rows:
        counts[classes.index(r["label"]), columns.index(r["predicted"])] += r["count"]
    size = 1.8 + 0.42 * len(columns)
    figure = _figure(size, 1.2 + 0.42 * len(classes))
    axes = figure.subplots()
    axes.imshow(counts, cmap="Blues", aspect="auto")
    if len(columns) <= 30:
        for (y, x), n in np.ndenumerate(counts):
            if n:
                axes.text(
                    x, y, str(n), ha="center", va="center", fontsize=7, color="white" if n > counts.max() / 2 else INK
                )
    axes.set_xticks(range(len(columns)), columns, rotation=60, ha="right", fontsize=8)
    axes.set_yticks(range(len(classes)), classes, fontsize=8)
    axes.set(xlabel="predicted class", ylabel="true class")
    return _png(figure)


def overall_accuracy(metrics: pa.Table) -> float | None:
    """Return the accuracy over all clips with the original input, or None."""
    for row in default_rows(metrics).to_pylist():
        if (row["metric"], row["subset"], row["label"]) == ("accuracy", "all", ""):
            return None if row["value"] is None else round(row["value"], 4)
    return None
