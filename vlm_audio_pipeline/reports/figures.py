"""Charts of results as PNG bytes, by matplotlib without a display."""

import io
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vlm_audio_pipeline.contracts.escapes import escape_plot
from vlm_audio_pipeline.evaluation.contrasts import default_scoring
from vlm_audio_pipeline.evaluation.result_names import EXAMPLES_KNN, result_name
from vlm_audio_pipeline.measures.declarations import MEASURES, RANKING_MEASURE
from vlm_audio_pipeline.measures.measure import Measure
from vlm_audio_pipeline.renderings.fonts import drawable_text, font_families
from vlm_audio_pipeline.renderings.frame import MATPLOTLIB_LOCK, default_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_NUMBERED_COLUMNS = 30
"""A confusion matrix with more columns has a scale of colours, because its cells are too small for numbers."""
INK, BAR, PALE = "#1f2933", "#2f6f9f", "#b8c4ce"


@contextmanager
def _plot(width: float, height: float, texts: Iterable[str]) -> Iterator["Plot"]:
    """Draw one plot in matplotlib's default style, with fonts for these texts.

    Args:
        width: inches.
        height: inches.
        texts: all texts of the plot that come from outside: names, labels and notes.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    escaped = {text: escape_plot(text) for text in texts}
    with MATPLOTLIB_LOCK, rc_context({**default_style(), "font.family": font_families(escaped.values())}):
        figure = Figure(figsize=(width, height), dpi=110, layout="constrained")
        plot = Plot(figure, figure.subplots(), {text: drawable_text(value) for text, value in escaped.items()})
        yield plot
        file = io.BytesIO()
        figure.savefig(file, format="png")
        plot.png = file.getvalue()


@dataclass
class Plot:
    """A plot that is being drawn.

    Attributes:
        figure: the figure.
        axes: its axes.
        labels: text -> the text as it is drawn.
        png: the finished image.
    """

    figure: "Figure"
    axes: "Axes"
    labels: dict[str, str]
    png: bytes = b""


def measure_charts(leaderboard: pa.Table) -> dict[str, bytes]:
    """Return a chart of each measure that is declared for plots: name -> PNG."""
    measures = [m for m in MEASURES.values() if "plot" in m.displays]
    return {measure.name: measure_chart(leaderboard, measure) for measure in measures}


def measure_chart(leaderboard: pa.Table, measure: Measure) -> bytes:
    """Return a bar chart of a measure, best first. A classifier that was not run has its note instead of a bar.

    A measure with an interval in the leaderboard has it as a line. Accuracies have their counts (correct of total). The axis ends at 1 for shares, else at the largest value.
    """
    sign = -1 if measure.order == "lower" else 1
    rows = sorted(
        leaderboard.to_pylist(),
        key=lambda r: float("-inf") if r[measure.name] is None else sign * r[measure.name],
    )
    values = [r[measure.name] for r in rows if r[measure.name] is not None]
    axis_end = 1.0 if measure.unit == "share of 1" else max(values, default=0) or 1.0
    names = [_name(row) for row in rows]
    texts = [*names, *(row["note"][:90] for row in rows)]
    text_style: dict[str, Any] = {"va": "center", "color": INK, "fontsize": 8}
    with _plot(7.5, 0.9 + 0.42 * max(len(rows), 1), texts) as plot:
        axes = plot.axes
        for y, row in enumerate(rows):
            value = row[measure.name]
            if value is None:
                axes.text(0.01 * axis_end, y, plot.labels[row["note"][:90]], **text_style)
                continue
            axes.barh(y, value, color=PALE if row["partial"] else BAR, height=0.7)
            has_counts = measure.name == RANKING_MEASURE and row["correct"] is not None
            counts = f"  ({row['correct']} of {row['predictions']})" if has_counts else ""
            low, high = row.get(f"{measure.name}_low"), row.get(f"{measure.name}_high")
            end = value
            if low is not None and high is not None:
                axes.errorbar(
                    value, y, xerr=[[max(0, value - low)], [max(0, high - value)]], color=INK, capsize=3, lw=1
                )
                end = max(value, high)
            axes.text(end + 0.01 * axis_end, y, measure.format(value, "") + counts, **text_style)
        has_intervals = f"{measure.name}_low" in leaderboard.column_names
        label = f"{measure.heading} ({measure.unit}{', with 95 % intervals' if has_intervals else ''})"
        axes.set(xlim=(0, 1.3 * axis_end), ylim=(-0.6, max(len(rows), 1) - 0.4), xlabel=label)
        axes.set_yticks(range(len(rows)), [plot.labels[name] for name in names], fontsize=8)
        axes.set_xticks(np.linspace(0, axis_end, 6))
        axes.spines[["top", "right", "left"]].set_visible(False)
    return plot.png


def _name(row: dict[str, Any]) -> str:
    """Return a unique name for a leaderboard row: classifier, scoring and control."""
    scoring = "" if row["scoring"] in ("", "score", "annotation", EXAMPLES_KNN) else f" ({row['scoring']})"
    return result_name(result_name(row["classifier"], row["scoring"]) + scoring, control=row["control"])


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
    with _plot(1.8 + 0.42 * len(columns), 1.2 + 0.42 * len(classes), columns) as plot:
        axes, labels = plot.axes, [plot.labels[name] for name in columns]
        colours = axes.imshow(counts, cmap="Blues", aspect="auto")
        if len(columns) > MAX_NUMBERED_COLUMNS:
            plot.figure.colorbar(colours, label="number of predictions", shrink=0.5)
        else:
            for (y, x), n in np.ndenumerate(counts):
                if n:
                    color = "white" if n > counts.max() / 2 else INK
                    axes.text(x, y, str(n), ha="center", va="center", fontsize=7, color=color)
        axes.set_xticks(range(len(columns)), labels, rotation=60, ha="right", fontsize=8)
        axes.set_yticks(range(len(classes)), labels[: len(classes)], fontsize=8)
        axes.set(xlabel="predicted class", ylabel="true class")
    return plot.png


def overall_accuracy(metrics: pa.Table) -> float | None:
    """Return the accuracy over all clips with the original input, or None."""
    for row in default_rows(metrics).to_pylist():
        if (row["metric"], row["subset"], row["label"]) == ("accuracy", "all", ""):
            return None if row["value"] is None else round(row["value"], 4)
    return None
