"""The figures of the result tables in README and docs/results.md, and the same figures of a leaderboard."""

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from vlm_audio_pipeline.contracts.number_text import rounded_text

README = Path(__file__).parents[1] / "README.md"
RESULTS = README.parent / "docs" / "results.md"


def read_figures(page: Path, header: str) -> dict[str, list[str]]:
    """Return the rows of the table whose header line begins with the given text: first cell -> the other cells."""
    lines = iter(page.read_text().splitlines())
    next(line for line in lines if line.startswith(header))
    next(lines)
    figures = {}
    for line in lines:
        if not line.startswith("|"):
            break
        label, *cells = (cell.strip() for cell in line.strip().strip("|").split("|"))
        figures[label] = cells
    return figures


def assert_figures_agree(
    page: Path, header: str, rows: Mapping[str, Mapping[str, Any]], other_rows: Collection[str] = ()
) -> None:
    """Check the rows of a table.

    Args:
        page: the page with the table.
        header: beginning of the table's header line.
        rows: beginning of a row's first cell -> row of the leaderboard.
        other_rows: beginnings of rows that another test checks. Every row of the table must be named by one of both.
    """
    for label, (accuracy, interval, *more) in read_figures(page, header).items():
        if any(label.startswith(beginning) for beginning in other_rows):
            continue
        [row] = [row for beginning, row in rows.items() if label.startswith(beginning)]
        assert accuracy == rounded_text(row["accuracy"], 3), label
        assert interval == f"{rounded_text(row['accuracy_low'], 3)} – {rounded_text(row['accuracy_high'], 3)}", label
        if more:
            counts = [int(n) for n in re.findall(r"\d+", more[0])]
            assert counts == [row["correct"], row["predictions"]], label
