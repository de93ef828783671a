"""The answers of compared studies about their vision-language models, as the rows of one table."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vlm_audio_pipeline.reports.page.compared_results import ComparedResults
from vlm_audio_pipeline.reports.page.verdicts import VerdictView, verdict_view


@dataclass(frozen=True)
class ComparedAnswers:
    """The answers of compared studies.

    Attributes:
        views: name of a study -> its verdicts; without earlier results, of which no answer is stored.
        models: (classifier, scoring) -> name of a study -> row of its `VerdictView`.
        references: what any model was compared with: name in `verdicts` -> heading.
    """

    views: dict[str, VerdictView]
    models: dict[tuple[str, str], dict[str, dict[str, Any]]]
    references: dict[str, str]


def compare_answers(compared: Sequence[ComparedResults]) -> ComparedAnswers | None:
    """Return the answers of compared results, or None if no study has a vision-language model."""
    views = {
        side.name: view
        for side in compared
        if side.is_current and (view := verdict_view(side.results.rows("verdicts"))) is not None
    }
    if not views:
        return None
    models: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for name, view in views.items():
        for row in view.rows:
            models.setdefault((row["classifier"], row["scoring"]), {})[name] = row
    return ComparedAnswers(views, models, {k: title for view in views.values() for k, title in view.columns.items()})
