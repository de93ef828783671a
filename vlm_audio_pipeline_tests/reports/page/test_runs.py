"""The numbers that stand for outcomes on the page."""

import re
from importlib.resources import files

from vlm_audio_pipeline.measures import predictions
from vlm_audio_pipeline.reports.page.runs import NO_MAJORITY, OUTCOMES


def test_every_outcome_has_a_number_of_its_own():
    """No vote is counted as an error because both have one number, and none as a class: classes are numbers from 0."""
    numbers = [-1 - i for i in range(len(OUTCOMES))]
    assert NO_MAJORITY not in numbers
    assert max(*numbers, NO_MAJORITY) < 0
    assert set(OUTCOMES) == set(predictions.OUTCOMES) - {"answered"}


def test_the_scripts_name_outcomes_by_the_numbers_of_the_page():
    script = files("vlm_audio_pipeline.reports.page").joinpath("static/base.js").read_text()
    assert re.search(r"outcomes\.forEach\(\(outcome, i\) => \(outcomeNames\[-1 - i\]", script)
    assert len(OUTCOMES) == -1 - NO_MAJORITY, "no majority is the name after those of the outcomes"
