"""Send each request once, also if several processes have the same requests at the same time.

Just before a request leaves, the process takes a lease of its result keys and reads the result store again. A request whose
lease another running process has is postponed: its response is taken from the store when it arrives, and the request is sent
only if the other process ended without it.
"""

import time
from collections.abc import Callable, Mapping, Sequence

from vlm_audio_pipeline.classifiers.language_models.messages import Backend, Reply, ReplyCallback, Request, Scoring
from vlm_audio_pipeline.storage.leases import Leases

_POLL_S = 0.2
_MAX_POLL_S = 2.0


def ask_with_leases(
    backend: Backend,
    requests: Sequence[Request],
    keys: Sequence[Mapping[Scoring, str]],
    leases: Leases,
    take_stored: Callable[[int], bool],
    on_reply: ReplyCallback,
    on_wait: Callable[[], None],
) -> str | None:
    """Ask a backend every request that no other process answers; see `Backend.ask`.

    Args:
        backend: the backend. One without `set_claim` sends every request.
        requests: the requests.
        keys: the result key of each scoring of each request.
        leases: the leases of this process; all are released at the end.
        take_stored: called with the position of a request; takes its response from the result store, and returns whether there
            is one.
        on_reply: stores a reply; the leases of its scorings are released afterwards.
        on_wait: called before waiting for another process.

    Returns:
        Why the backend stopped early, or None.
    """
    claimed: set[int] = set()

    def ask(positions: Sequence[int]) -> tuple[str | None, list[int]]:
        postponed: list[int] = []

        def claim(i: int) -> bool:
            position = positions[i]
            if not leases.take(list(keys[position].values())):
                postponed.append(position)
                return False
            if take_stored(position):
                leases.release(list(keys[position].values()))
                return False
            claimed.add(position)
            return True

        def on_reply_release(i: int, reply: Reply) -> None:
            position = positions[i]
            on_reply(position, reply)
            if position in claimed:  # another reply may bring the other scorings of this request
                by_scoring = keys[position].items()
                leases.release([key for name, key in by_scoring if reply.scorings is None or name in reply.scorings])

        if (set_claim := getattr(backend, "set_claim", None)) is not None:  # a backend of another package may have none
            set_claim(claim)
        return backend.ask([requests[i] for i in positions], on_reply_release), postponed

    try:
        stop_reason, postponed = ask(range(len(requests)))
        wait_s = _POLL_S
        while postponed:
            postponed = [i for i in postponed if not take_stored(i)]
            if stop_reason is not None:
                break
            if free := [i for i in postponed if not leases.is_any_held(list(keys[i].values()))]:
                stop_reason, still_postponed = ask(free)
                postponed = sorted({*postponed} - {*free} | {*still_postponed})
                wait_s = _POLL_S
            elif postponed:
                on_wait()
                time.sleep(wait_s)
                wait_s = min(1.5 * wait_s, _MAX_POLL_S)
        return stop_reason
    finally:
        leases.close()
