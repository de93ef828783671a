"""All measures by name.

To add a measure, write its formula and declare it in the tuple of its module; the tables `metrics` and `leaderboard`,
the terminal, the report page and the exports read the declaration.
"""

from collections.abc import Iterable

from vlm_audio_pipeline.measures.accuracy import ACCURACY_MEASURES
from vlm_audio_pipeline.measures.agreement import AGREEMENT_MEASURES
from vlm_audio_pipeline.measures.answers import ANSWER_MEASURES
from vlm_audio_pipeline.measures.costs import COST_MEASURES
from vlm_audio_pipeline.measures.measure import Display, Measure
from vlm_audio_pipeline.measures.probabilities import PROBABILITY_MEASURES

RANKING_MEASURE = "accuracy"
"""The measure that ranks the leaderboard; displays add its interval and its denominator."""


def index_by_name(measures: Iterable[Measure]) -> dict[str, Measure]:
    """Index measures by name.

    Raises:
        ValueError: for a name declared twice, and for a measure with a display that needs a leaderboard column.
    """
    named: dict[str, Measure] = {}
    for measure in measures:
        if measure.name in named:
            raise ValueError(f"measure '{measure.name}' is declared twice; give one of them another name")
        if not measure.leaderboard and set(measure.displays) - {"page_details"}:
            raise ValueError(f"measure '{measure.name}' has displays {measure.displays}, which need leaderboard=True")
        named[measure.name] = measure
    return named


MEASURES: dict[str, Measure] = index_by_name(
    (*ACCURACY_MEASURES, *AGREEMENT_MEASURES, *ANSWER_MEASURES, *PROBABILITY_MEASURES, *COST_MEASURES)
)
"""In the order of the leaderboard's columns."""


def measures_for_display(display: Display, *, in_data_version: bool | None = None) -> list[Measure]:
    """Return the measures of a display, without `RANKING_MEASURE`.

    Args:
        display: the display.
        in_data_version: only measures of the predictions themselves (True) or of time and cost (False); None for both.
    """
    return [
        m
        for m in MEASURES.values()
        if display in m.displays and m.name != RANKING_MEASURE and in_data_version in (None, m.in_data_version)
    ]
