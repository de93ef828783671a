"""Figures for people, as PNG bytes, drawn by matplotlib without a display."""

import io
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from vlm_audio_pipeline.evaluation.contrasts import meant

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


def accuracy_chart(leaderboard: pa.Table) -> bytes:
    """Draw accuracies as bars, best first, with their denominators; rows that were not run are named."""
    rows = sorted(leaderboard.to_pylist(), key=lambda r: -1.0 if r["accuracy"] is None else r["accuracy"])
    figure = _figure(7.5, 0.9 + 0.42 * max(len(rows), 1))
    axes = figure.subplots()
    write: dict[str, Any] = {"va": "center", "color": INK, "fontsize": 8, "parse_math": False}
    for y, row in enumerate(rows):
        if row["accuracy"] is None:
            axes.text(0.01, y, row["note"][:90], **write)
            continue
        axes.barh(y, row["accuracy"], color=PALE if row["partial"] else BAR, height=0.7)
        counted = "" if row["correct"] is None else f"  ({row['correct']} of {row['predictions']})"
        axes.text(row["accuracy"] + 0.01, y, f"{row['accuracy']:.3f}{counted}", **write)
    names = [_name(row) for row in rows]
    axes.set(xlim=(0, 1.3), ylim=(-0.6, max(len(rows), 1) - 0.4), xlabel="accuracy (share of 1)")
    axes.set_yticks(range(len(rows)), names, fontsize=8, parse_math=False)
    axes.set_xticks(np.linspace(0, 1, 6))
    axes.spines[["top", "right", "left"]].set_visible(False)
    return _png(figure)


def _name(row: dict[str, Any]) -> str:
    """Name a row of the leaderboard, so that no two have one name."""
    scoring = "" if row["scoring"] in ("", "score", "judgement") else f" ({row['scoring']})"
    return row["classifier"] + scoring + (f" @ {row['control']}" if row["control"] not in ("", "none") else "")


def of_the_model(table: pa.Table) -> pa.Table:
    """Keep of a classifier's rows those of the real input, and of one scoring: the one that is meant where none is named."""
    real = table.filter(pc.equal(table["control"], "none"))
    return real.filter(pc.equal(real["scoring"], meant(set(real["scoring"].to_pylist())))) if real.num_rows else real


def confusion_chart(confusion: pa.Table, classes: tuple[str, ...]) -> bytes:
    """Draw confusion counts, true classes by rows; outcomes without a label have columns of their own."""
    rows = of_the_model(confusion).to_pylist()
    given = {r["predicted"] for r in rows}
    columns = [*classes, *sorted(given - set(classes))]
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
    axes.set(xlabel="predicted", ylabel="true")
    return _png(figure)


def headline(metrics: pa.Table) -> float | None:
    """Give the accuracy over all clips with the real input, or None."""
    for row in of_the_model(metrics).to_pylist():
        if (row["metric"], row["subset"], row["label"]) == ("accuracy", "all", ""):
            return None if row["value"] is None else round(row["value"], 4)
    return None
