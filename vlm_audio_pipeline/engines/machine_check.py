"""The result of a check by `vlm-audio doctor`."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class MachineCheck:
    """The result of one check: "ok", "warn" (works, but slower or at risk) or "bad" (must be fixed)."""

    state: Literal["ok", "warn", "bad"]
    text: str
