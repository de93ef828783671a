import pytest
from dagster._utils.schedules import is_valid_cron_string  # private: the oracle, in this test alone
from pydantic import ValidationError

from vlm_audio_pipeline.studies.rerun import Rerun

GOOD = ["0 3 * * *", "*/15 * * * *", "0 0 1,15 * mon-fri", "30 2 * jan,JUL sun", "0-30/10 8-18 * * 1", "5 4 * * 7"]
BAD = ["", "0 3 * *", "60 3 * * *", "0 24 * * *", "0 3 0 * *", "0 3 * 13 *", "0 3 * * 8", "a * * * *", "5-1 * * * *"]
BAD += ["*/0 * * * *", "0 3 * * mon-", "0 3 * * *,", "@midnight-ish", "0 0 3 * * *"]


@pytest.mark.parametrize("line", GOOD)
def test_what_dagster_takes_for_a_schedule(line):
    assert is_valid_cron_string(line)
    assert Rerun(schedule=line).schedule == line


@pytest.mark.parametrize("line", BAD)
def test_what_is_no_schedule_is_refused_with_what_would_be(line):
    with pytest.raises(ValidationError, match=r"five fields|must be \*, numbers from"):
        Rerun(schedule=line)


def test_nothing_paid_runs_unattended_unless_said():
    rerun = Rerun(schedule=" 0  3 * * * ")
    assert (rerun.schedule, rerun.paid, rerun.download_gb) == ("0 3 * * *", False, 20)
    with pytest.raises(ValidationError):
        Rerun(schedule="0 3 * * *", when="always")
    with pytest.raises(ValidationError):
        Rerun(schedule="0 3 * * *", download_gb=-1)
