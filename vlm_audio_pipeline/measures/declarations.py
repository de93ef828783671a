"""All measures by name.

To add a measure, write its formula and declare it in the tuple of its module; the tables `metrics` and `leaderboard`,
the terminal, the report page and the exports read the declaration.
"""

from collections.abc import Iterable

from vlm_audio_pipeline.measures.accuracy import ACCURACY_MEASURES
from vlm_audio_pipeline.measures.agreement import AGREEMENT_MEASURES
from vlm_audio_pipeline.measures.costs import COST_MEASURES
from vlm_audio_pipeline.measures.measure import Measure, Place
from vlm_audio_pipeline.measures.probabilities import PROBABILITY_MEASURES

RANKED_BY = "accuracy"
"""The measure that ranks the leaderboard; it is shown with its interval and its denominator."""


def by_name(measures: Iterable[Measure]) -> dict[str, Measure]:
    """Index measures by name.

    Raises:
        ValueError: for a name declared twice, and for a measure shown where only leaderboard columns are.
    """
    named: dict[str, Measure] = {}
    for measure in measures:
        if measure.name in named:
            raise ValueError(f"measure '{measure.name}' is declared twice; give one of them another name")
        if not measure.leaderboard and set(measure.shown_in) - {"page_details"}:
            raise ValueError(f"measure '{measure.name}' is shown in {measure.shown_in}: set leaderboard=True")
        named[measure.name] = measure
    return named


MEASURES: dict[str, Measure] = by_name((*ACCURACY_MEASURES, *AGREEMENT_MEASURES, *PROBABILITY_MEASURES, *COST_MEASURES))
"""In the order of the leaderboard's columns."""


def shown_measures(place: Place, *, content: bool | None = None) -> list[Measure]:
    """Return the measures with a column of their own at a place; `RANKED_BY` is not among them.

    Args:
        place: where they are shown.
        content: only measures of the predictions themselves (True) or of time and cost (False); None for both.
    """
    return [
        m for m in MEASURES.values() if place in m.shown_in and m.name != RANKED_BY and content in (None, m.content)
    ]
