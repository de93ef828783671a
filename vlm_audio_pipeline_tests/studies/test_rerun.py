import pytest
from dagster._utils.schedules import is_valid_cron_string  # private: the oracle, in this test alone
from pydantic import ValidationError

from vlm_audio_pipeline.studies.rerun import Rerun

GOOD = [
    "0 3 * * *",
    "*/15 * * * *",
    "0 0 1,15 * mon-fri",
    "30 2 * jan,JUL sun",
    "5-1 * * * *",
    "0-30/10 8-18 * * 1",
    "5 4 * * 7",
]
BAD = ["", "0 3 * *", "60 3 * * *", "0 24 * * *", "0 3 0 * *", "0 3 * 13 *", "0 3 * * 8", "a * * * *"]
BAD += [
    "0 3 30 2 *",
    "R R * * *",
    "H 3 * * *",
    "0 3 L * *",
    "0 3 1W * *",
    "@daily",
]  # a date that does not exist, or an extension of cron
BAD += ["*/0 * * * *", "0 3 * * mon-", "0 3 * * *,", "@midnight-ish", "0 0 3 * * *"]


@pytest.mark.parametrize("line", GOOD)
def test_every_accepted_schedule_is_accepted_by_dagster(line):
    assert is_valid_cron_string(line)
    assert Rerun(schedule=line).schedule == line


@pytest.mark.parametrize("line", BAD)
def test_other_schedules_are_refused_with_an_example(line):
    with pytest.raises(ValidationError, match=r"must be a cron line of five fields .*; use \"0 3"):
        Rerun(schedule=line)


def test_scheduled_reruns_are_free_by_default():
    rerun = Rerun(schedule=" 0  3 * * * ")
    assert (rerun.schedule, rerun.paid, rerun.download_gb) == ("0 3 * * *", False, 20)
    with pytest.raises(ValidationError):
        Rerun(schedule="0 3 * * *", when="always")
    with pytest.raises(ValidationError):
        Rerun(schedule="0 3 * * *", download_gb=-1)
