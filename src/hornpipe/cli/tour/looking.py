"""What the rows look with: /proc, and not hornpipe, which is what is being judged."""

from __future__ import annotations

import os
import time
from pathlib import Path

SLACK = 2.0
"""Seconds by which a row that measures time may be late on a busy machine; the promise is 0.05."""


def state_of(pid: int) -> str:
    """The letter of ps, ``Z`` for a zombie; empty when there is no such process."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:
        pass
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return "" if Path("/proc/self/stat").exists() else "?"
    except ProcessLookupError:
        return ""


def settle(pid: int, enough: str = "") -> None:
    """Give a process that is on its way out the time to go, or to reach one of the states that are *enough*."""
    end = time.monotonic() + SLACK
    while (state := state_of(pid)) and state not in enough and time.monotonic() < end:
        time.sleep(0.002)
