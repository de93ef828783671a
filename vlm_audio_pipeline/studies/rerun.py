"""What a study says about being rerun unattended.

What belongs here: the words of the study file and their check. What does not: who looks when (`orchestration`).
"""

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

_FIELDS = {  # of a cron line: lowest and highest number, names; https://pubs.opengroup.org/onlinepubs/9699919799/utilities/crontab.html
    "minute": (0, 59, ()),
    "hour": (0, 23, ()),
    "day of the month": (1, 31, ()),
    "month": (1, 12, ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")),
    "day of the week": (0, 7, ("sun", "mon", "tue", "wed", "thu", "fri", "sat")),
}


def _cron(text: str) -> str:
    """Check a cron line: five fields of numbers, names, ranges `a-b`, steps `*/n` and lists of these."""
    parts = text.split()
    if len(parts) != len(_FIELDS):
        raise ValueError(
            f"must be a cron line of five fields (minute, hour, day of the month, month, day of the week), got '{text}'; "
            'use "0 3 * * *" for every night at 3'
        )
    for part, (what, (lowest, highest, names)) in zip(parts, _FIELDS.items(), strict=True):
        numbers = {name: lowest + i for i, name in enumerate(names)}
        for piece in part.lower().split(","):
            if not _fits(piece, lowest, highest, numbers):
                raise ValueError(
                    f"{what} must be *, numbers from {lowest} to {highest}, ranges a-b, steps */n or a list of these, "
                    f"got '{part}'; correct '{text}'"
                )
    return " ".join(parts)


def _fits(piece: str, lowest: int, highest: int, numbers: dict[str, int]) -> bool:
    found = re.fullmatch(r"(\*|[a-z0-9]+)(?:-([a-z0-9]+))?(?:/(\d+))?", piece)
    if found is None:
        return False
    first, last, step = found.groups()
    if step is not None and (not 1 <= int(step) <= highest or (first != "*" and last is None)):
        return False
    if first == "*":
        return last is None
    ends = [numbers.get(end, int(end) if end.isdigit() else -1) for end in (first, last) if end is not None]
    return all(lowest <= end <= highest for end in ends) and ends == sorted(ends)


class Rerun(BaseModel):
    """Rerun a study by itself when its dataset or its models change."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    schedule: Annotated[str, AfterValidator(_cron)]
    """When to look, as a cron line: "0 3 * * *" is every night at 3, in the time zone of the machine's clock."""
    paid: bool = False
    """Whether classifiers that may cost money run unattended too, as far as the study's budget goes."""
    download_gb: float = Field(20.0, ge=0, allow_inf_nan=False)
    """The most to download of new weights at one time, GB; larger ones wait for `vlm-audio fetch`. 0: never download."""
