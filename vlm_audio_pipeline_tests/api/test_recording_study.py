"""The study of one part over the recordings that a caller gives."""

import pytest

from vlm_audio_pipeline.api.recording_study import drop_lower_priority
from vlm_audio_pipeline.storage.ledger import Budget


@pytest.mark.parametrize(
    ("classifiers", "first"),
    [(["gpt"], ()), (["gemini"], ("gpt",)), (["claude"], ("gpt", "gemini")), ([], ("gpt", "gemini"))],
)
def test_money_is_kept_for_the_classifiers_with_priority_over_those_that_are_called(classifiers, first):
    budget = drop_lower_priority(Budget(usd=1.0, first=("gpt", "gemini")), classifiers)
    assert (budget.usd, budget.first) == (1.0, first)
