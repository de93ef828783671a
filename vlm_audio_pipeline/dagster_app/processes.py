"""Which process a run works in, so that one whose process died is not waited for for ever.

What belongs here: naming a process beyond its number, which is given out again. What does not: what to do about it.
"""

import os
import socket
from pathlib import Path

PROCESS_TAG = "vlm_audio_pipeline/process"
"""Tag of a run: host, process number and when that process began."""


def this_process() -> str:
    """Name this process."""
    return f"{socket.gethostname()} {os.getpid()} {_began(os.getpid())}"


def is_gone(name: str | None) -> bool:
    """Tell whether a process of this machine has ended; of another machine, or without a name, nothing is known."""
    host, _, rest = (name or "").partition(" ")
    number, _, began = rest.partition(" ")
    if host != socket.gethostname() or not number.isdigit():
        return False
    return _began(int(number)) != began


def _began(number: int) -> str:
    """Give when a process began, in the kernel's ticks since it started; "" for one that is not there."""
    try:
        told = Path(f"/proc/{number}/stat").read_text()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        try:  # where there is no /proc, its number must do
            os.kill(number, 0)
        except OSError:
            return ""
        return "unknown"
    fields = told.rpartition(")")[2].split()  # the name before may hold spaces; field 3 comes first here, proc(5)
    return "" if fields[0] == "Z" else f"{boot} {fields[19]}"
