"""The declaration of a measure."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from vlm_audio_pipeline.contracts.number_text import rounded_text
from vlm_audio_pipeline.measures.predictions import ALL_CLIPS, Number, PredictionArrays

Display = Literal["terminal", "page", "page_details", "export", "plot"]
"""Displays of a measure: the leaderboard in the terminal, the leaderboard of the report page, the list of other measures
on that page, the LaTeX table, and the charts. The CSV and parquet exports have every column of the leaderboard."""


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A number that is computed from the predictions of one classifier, scoring and control.

    Attributes:
        name: its `metric` in the table `metrics`, and its column of the leaderboard.
        formula: `PredictionArrays` -> `Number`; with `per_class` the second argument is a class label.
        doc: its definition, for the documentation of the column.
        unit: "share of 1", "s", "USD", ...
        order: whether a higher or a lower value is better; None if neither is better.
        title: heading of its column in displays; by default the name in words.
        tex_title: the same in LaTeX; by default the title.
        decimals: number of decimals in displays.
        per_class: whether there is one number for each class.
        subset: clips that it covers. With "all", the table `metrics` has it for every subset; with another subset, it is only a column of the
            leaderboard.
        leaderboard: whether the leaderboard has a column for it.
        displays: its displays; without a leaderboard column, only `page_details` is allowed.
        integer: whether its values are whole numbers.
        includes_errors: whether it also covers predictions whose request failed; a failure is not a wrong answer.
        in_data_version: False if two runs of the same computation can differ (time, cost).
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
    displays: tuple[Display, ...] = ("page_details",)
    integer: bool = False
    includes_errors: bool = False
    in_data_version: bool = True

    def rows(self, predictions: PredictionArrays) -> PredictionArrays:
        """Return the predictions that it covers."""
        return predictions if self.includes_errors else predictions.without_errors

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
        """Its definition, its unit, and which values are better."""
        order = f"; {self.order} is better" if self.order else ""
        return f"{self.doc} ({self.unit}{order})"

    def format(self, value: float | None, missing: str) -> str:
        """Format a value for displays; return `missing` for None."""
        return missing if value is None else rounded_text(value, self.decimals)
