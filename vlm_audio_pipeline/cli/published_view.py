"""The table of published and measured results for the terminal."""

from collections.abc import Sequence
from typing import Any

from rich.console import Group, RenderableType

from vlm_audio_pipeline.cli.printing import PlainTable, PlainText
from vlm_audio_pipeline.contracts.number_text import rounded_text


def published_view(rows: Sequence[dict[str, Any]], title: str) -> RenderableType | None:
    """Return the classifiers that repeat a published result; below, the differences between the protocols of each.

    Args:
        rows: `published` rows; those that no classifier repeats are left out.
        title: title of the table.

    Returns:
        None without a classifier that repeats a published result.
    """
    repeated = [row for row in rows if row["classifier"]]
    if not repeated:
        return None
    table = PlainTable(title=title)
    for name in ("", "classifier", "published result"):
        table.add_column(name)
    for name in ("published", "measured", "95 % interval"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("reproduced", no_wrap=True)
    notes: dict[str, list[int]] = {}  # note -> the rows that it is about
    for number, row in enumerate(repeated, 1):
        scoring = "" if row["scoring"] in ("", "score", "annotation") else f" ({row['scoring']})"
        result = ", ".join(
            filter(None, (f"{row['publication']}/{row['system']}", row["setting"], row["variant"], row["split"]))
        )
        is_measured = row["measured"] is not None
        table.add_row(
            str(number),
            row["classifier"] + scoring,
            result,
            rounded_text(row["published"], 4),
            rounded_text(row["measured"], 3) if is_measured else "not run",
            f"{rounded_text(row['measured_low'], 3)} - {rounded_text(row['measured_high'], 3)}" if is_measured else "",
            row["reproduced"] or ("not tested" if is_measured else ""),
            style="" if is_measured else "dim",
        )
        lines = [row["reason"], *row["differences"].splitlines()]
        lines += [f"not stated in the publication: {line}" for line in row["not_stated"].splitlines()]
        for line in filter(None, lines):
            notes.setdefault(line, []).append(number)
    texts = (f"{', '.join(map(str, numbers))}: {note}" for note, numbers in notes.items())
    return Group(table, *(PlainText(text, style="dim") for text in texts))
