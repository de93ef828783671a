"""The time zone of this machine, in which schedules run."""

import os
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError


def local_time_zone() -> str:
    """Return the name of this machine's time zone: `TZ`, else the target of /etc/localtime, else UTC."""
    link_target = (
        os.path.realpath("/etc/localtime").partition("zoneinfo/")[2] if Path("/etc/localtime").is_symlink() else ""
    )
    for name in (os.environ.get("TZ", "").lstrip(":"), link_target):
        try:
            return ZoneInfo(name).key if name else "UTC"
        except (ZoneInfoNotFoundError, ValueError, OSError):
            continue
    return "UTC"
