import pytest

from vlm_audio_pipeline.reports.page.study_results import StudyResults
from vlm_audio_pipeline_tests.reports.exports.answers import write_answers


@pytest.fixture(scope="session")
def answers(tmp_path_factory) -> StudyResults:
    """The study of `answers.py`; tests do not change it."""
    return StudyResults.load(write_answers(tmp_path_factory.mktemp("answers")), "s")
