"""Named points at which a process can be made to die, so that tests kill it where it hurts.

What belongs here: the points' one function. What does not: who dies when; that is said from outside, by
`VLM_AUDIO_FAULT=<point>` or `<point>:<n>` for the n-th time. Unset, which is always but in tests, a point is one comparison
of text. Points there are: `download` (a chunk is on disk), `rows:<kind>` (a batch is computed and not yet stored: `inspection`,
`vector`, `answer`, and `scratch` for pictures), `picture` (one is drawn), `stage:<asset>` (a step is computed and not yet written), `part` (a part is
written under its temporary name), `catalogue` (it is built and not yet swapped in).
"""

import itertools
import os
import signal

_POINT, _, _COUNT = os.environ.get("VLM_AUDIO_FAULT", "").rpartition(":")
if not _COUNT.isdigit():  # a point without a number, whose own name may hold a colon
    _POINT, _COUNT = os.environ.get("VLM_AUDIO_FAULT", ""), "1"
_times = itertools.count(1)  # the next number is taken atomically, whichever thread asks


def point(name: str) -> None:
    """Die here by SIGKILL, as by a power cut or the out-of-memory killer, if that was asked for."""
    if name == _POINT and next(_times) == int(_COUNT):
        os.kill(os.getpid(), signal.SIGKILL)
