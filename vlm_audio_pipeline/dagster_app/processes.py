"""Identify the process of a run, so that a run whose process has ended does not block later runs.

The name of a process consists of host, process id and start time, because the kernel reuses process ids.
"""

import os
import socket
from pathlib import Path

PROCESS_TAG = ".dagster/vlm_audio_process"
"""Tag of a run: host, process id and start time. The UI does not show tags with this prefix."""


def this_process() -> str:
    """Return the name of this process."""
    return f"{socket.gethostname()} {os.getpid()} {_start_time(os.getpid())}"


def has_ended(name: str | None) -> bool:
    """Return whether a process of this machine has ended; False for a process of another machine, or without a name."""
    host, _, rest = (name or "").partition(" ")
    pid, _, start_time = rest.partition(" ")
    if host != socket.gethostname() or not pid.isdigit():
        return False
    return _start_time(int(pid)) != start_time


def _start_time(pid: int) -> str:
    """Return the boot id and the start time of a process, in kernel ticks since boot; "" if there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        try:  # without /proc, only the process id can be checked
            os.kill(pid, 0)
        except OSError:
            return ""
        return "unknown"
    # The command name may contain spaces. After it, index 0 is field 3 (state) and index 19 field 22 (start time): proc(5).
    fields = stat.rpartition(")")[2].split()
    return "" if fields[0] == "Z" else f"{boot} {fields[19]}"
