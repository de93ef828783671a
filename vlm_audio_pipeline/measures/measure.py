"""The declaration of a measure."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from vlm_audio_pipeline.measures.predictions import ALL_CLIPS, Number

Place = Literal["terminal", "page", "page_details", "export", "plot"]
"""Where a measure is shown: the terminal's leaderboard, the report page's leaderboard, the page's list of further
measures, the LaTeX table, and the charts. The CSV and parquet exports have every column of the leaderboard."""


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A number that is computed from the predictions of one classifier, scoring and control.

    Attributes:
        name: its `metric` in the table `metrics`, and its column of the leaderboard.
        formula: `PredictionArrays` -> `Number`; with `per_class` the second argument is a class label.
        doc: what it is, as documentation of the column.
        unit: "share of 1", "s", "USD", ...
        order: whether a higher or a lower value is better; None where neither is.
        title: heading of its column where it is shown; by default the name in words.
        tex_title: the same in LaTeX; by default the title.
        decimals: digits after the point where it is shown.
        per_class: whether there is one number for each class.
        subset: clips it is over. `metrics` has every subset of a measure of "all"; another subset is for the leaderboard.
        leaderboard: whether the leaderboard has a column for it.
        shown_in: where it is shown; a measure without a leaderboard column can only be among `page_details`.
        integer: whether its values are whole numbers.
        content: False where two runs of the same computation may differ (time, cost).
    """

    name: str
    formula: Callable[..., Number]
    doc: str
    unit: str = "share of 1"
    order: Literal["higher", "lower"] | None = "higher"
    title: str = ""
    tex_title: str = ""
    decimals: int = 3
    per_class: bool = False
    subset: str = ALL_CLIPS
    leaderboard: bool = False
    shown_in: tuple[Place, ...] = ("page_details",)
    integer: bool = False
    content: bool = True

    @property
    def heading(self) -> str:
        """Heading of its column."""
        return self.title or self.name.replace("_", " ")

    @property
    def tex_heading(self) -> str:
        """Heading of its column in LaTeX."""
        return self.tex_title or self.heading.capitalize()

    @property
    def documentation(self) -> str:
        """What it is, its unit, and which values are better."""
        order = f"; {self.order} is better" if self.order else ""
        return f"{self.doc} ({self.unit}{order})"

    def format(self, value: float | None, missing: str) -> str:
        """Write a value as it is shown, or `missing` for None."""
        return missing if value is None else f"{value:.{self.decimals}f}"
