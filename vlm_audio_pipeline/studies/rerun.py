"""The option `rerun` of a study file: when a scheduled rerun of the study starts.

Belongs here: the fields and their checks. Does not belong here: what a scheduled rerun runs (`planning.scheduled_reruns`).
"""

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

_NAMES = set("sun mon tue wed thu fri sat jan feb mar apr may jun jul aug sep oct nov dec".split())  # noqa: SIM905


def _check_cron(text: str) -> str:
    """Check a cron line of five fields. Random, hashed and "last day" fields, which croniter also reads, are refused."""
    from croniter import croniter

    line = " ".join(text.split())
    rule = f"must be a cron line of five fields (minute, hour, day of the month, month, day of the week), got '{text}'"
    if len(line.split()) != 5 or not set(re.findall("[a-z]+", line.lower())) <= _NAMES:
        raise ValueError(f'{rule}; use "0 3 * * *" for every night at 3')
    try:
        croniter(line).get_next()  # raises an error for a date that does not exist, such as 31 February
    except ValueError as error:
        raise ValueError(f'{rule}: {error}; use "0 3 * * *" for every night at 3') from error
    return line


class Rerun(BaseModel):
    """Rerun a study on a schedule if its dataset or its models changed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schedule: Annotated[str, AfterValidator(_check_cron)]
    """When to check for changes, as a cron line: "0 3 * * *" is every night at 3, in the time zone of the machine's clock."""
    paid: bool = False
    """Also run classifiers that may cost money, within the study's budget."""
    download_gb: float = Field(20.0, ge=0, allow_inf_nan=False)
    """Largest download of new weights, GB; larger ones wait for `vlm-audio fetch`. 0: never download."""
