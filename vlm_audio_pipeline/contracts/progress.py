"""The callback through which long work reports how far it is."""

from collections.abc import Callable

Progress = Callable[[int, int, str], None]
"""Called as `progress(done, total, description)`; `description` names the work in a few words."""


def no_progress(done: int, total: int, description: str) -> None:
    """Report nothing."""
