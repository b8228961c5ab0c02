"""The system's limits on System V objects, and how much of them is used (svipc(7), proc(5))."""

from __future__ import annotations

import errno
import os
from typing import NamedTuple

from hornpipe.errors import SystemLimit, system_limit

SEMVMX = 32767
"""The highest value of a semaphore; it is compiled into the kernel."""
PAGE = os.sysconf("SC_PAGE_SIZE")
"""Bytes of a page, in which the kernel counts segments."""

_FOLDER = "/proc/sys/kernel/"
_ORDINALS = ("first", "second", "third", "fourth")
# Name -> file under /proc/sys/kernel, and which of its numbers.
_FILES = {
    "SHMMAX": ("shmmax", 0),
    "SHMALL": ("shmall", 0),
    "SHMMNI": ("shmmni", 0),
    "SEMMSL": ("sem", 0),
    "SEMMNS": ("sem", 1),
    "SEMOPM": ("sem", 2),
    "SEMMNI": ("sem", 3),
    "MSGMAX": ("msgmax", 0),
    "MSGMNB": ("msgmnb", 0),
    "MSGMNI": ("msgmni", 0),
}


class Limits(NamedTuple):
    """What this system allows now, each under its name in svipc(7); ``None`` where it does not tell."""

    SHMMAX: int | None
    """Bytes of a segment."""
    SHMALL: int | None
    """Pages of all segments."""
    SHMMNI: int | None
    """Segments."""
    SEMMSL: int | None
    """Semaphores of a set."""
    SEMMNS: int | None
    """Semaphores of all sets."""
    SEMOPM: int | None
    """Operations of one ``op``."""
    SEMMNI: int | None
    """Sets."""
    SEMVMX: int
    """The value of a semaphore."""
    MSGMAX: int | None
    """Bytes of a message."""
    MSGMNB: int | None
    """Bytes of a queue, until its ``max_bytes`` is set."""
    MSGMNI: int | None
    """Queues."""


def limits() -> Limits:
    """The limits of this IPC namespace, as they are now.

    >>> limits().SEMVMX
    32767
    """
    return Limits(SEMVMX=SEMVMX, **{name: _number(*place) for name, place in _FILES.items()})


def limit(name: str) -> int | None:
    """One of them."""
    return SEMVMX if name == "SEMVMX" else _number(*_FILES[name])


def knob(name: str) -> str:
    """Where it is set, in words."""
    if name == "SEMVMX":
        return "the kernel's source"
    file, place = _FILES[name]
    return f"the {_ORDINALS[place]} number in {_FOLDER}{file}" if file == "sem" else f"{_FOLDER}{file}"


def reached(error: int, name: str, sentence: str) -> SystemLimit:
    """The error for a limit; ``sentence`` says what was asked for, the rest is added."""
    value = limit(name)
    shown = "the limit" if value is None else str(value)
    return system_limit(error, f"{sentence} {shown} ({name}); {_remedy(name)}", name=name, value=value, knob=knob(name))


def used_up(table: str, wanted: int) -> SystemLimit:
    """ENOSPC: which table of the system is full (gotcha:Y5); it has nothing to do with disks."""
    objects, things = usage(table)
    if table == "msg":
        name, used = "MSGMNI", objects
    elif table == "sem":
        name = "SEMMNI" if _is_full("SEMMNI", objects, 1) or not _is_full("SEMMNS", things, wanted) else "SEMMNS"
        used = objects if name == "SEMMNI" else things
    else:
        name = "SHMMNI" if _is_full("SHMMNI", objects, 1) or not _is_full("SHMALL", things, wanted) else "SHMALL"
        used = objects if name == "SHMMNI" else things
    what = {
        "MSGMNI": "message queues",
        "SEMMNI": "semaphore sets",
        "SEMMNS": f"semaphores, and {wanted} more are asked for",
        "SHMMNI": "shared memory segments",
        "SHMALL": f"pages of shared memory, and {wanted} more are asked for",
    }[name]
    return reached(errno.ENOSPC, name, f"the system has {used} {what}; it allows")


def usage(table: str) -> tuple[int, int]:
    """How many objects there are, and how many semaphores, pages or messages in them."""
    column = {"sem": "nsems", "shm": "size", "msg": "qnum"}[table]
    rows = table_rows(table)
    if table == "shm":
        return len(rows), sum(-(-row[column] // PAGE) for row in rows)
    return len(rows), sum(row[column] for row in rows)


def table_rows(table: str) -> list[dict[str, int]]:
    """/proc/sysvipc/``table`` by its column names; it shows also what one may not use."""
    try:
        with open(f"/proc/sysvipc/{table}") as file:
            header, *rows = (line.split() for line in file)
    except (OSError, ValueError):
        return []
    # "perms" is octal, all else decimal.
    return [
        {name: int(text, 8 if name == "perms" else 10) for name, text in zip(header, row, strict=False)} for row in rows
    ]


def _is_full(name: str, used: int, wanted: int) -> bool:
    most = limit(name)
    return most is not None and used + wanted > most


def _remedy(name: str) -> str:
    return "that is fixed in the kernel" if name == "SEMVMX" else f"root raises it in {knob(name)}"


def _number(file: str, place: int) -> int | None:
    try:
        with open(_FOLDER + file) as opened:
            return int(opened.read().split()[place])
    except (OSError, ValueError, IndexError):
        return None
