"""The System V objects of this machine, as /proc/sysvipc lists them."""

from __future__ import annotations

import ctypes
import os
from typing import NamedTuple

_NAMES = {"shm": "shared memory segment", "sem": "semaphore set", "msg": "message queue"}
_IDS = {"shm": "shmid", "sem": "semid", "msg": "msqid"}
_LETTERS = {"shm": "m", "sem": "s", "msg": "q"}
_IPC_RMID = 0


class SysVObject(NamedTuple):
    """One object. ``creator_pid`` is 0 for semaphore sets and message queues: the kernel does not keep it."""

    kind: str
    id: int
    key: int
    creator_uid: int
    creator_pid: int

    def __str__(self) -> str:
        return f"{_NAMES[self.kind]} {self.id} (key {self.key:#x})"

    @property
    def removal(self) -> str:
        """The shell command that removes it."""
        return f"ipcrm -{_LETTERS[self.kind]} {self.id}"


def sysv_objects() -> frozenset[SysVObject]:
    """Every shared memory segment, semaphore set and message queue in this IPC namespace.

    An id contains a counter that the kernel raises with each creation, so an object that took the place of a removed
    one is told from it.

        >>> {found.kind for found in sysv_objects()} <= {"shm", "sem", "msg"}
        True
    """
    return frozenset(found for kind in _NAMES for found in _read(kind))


def remove(found: SysVObject) -> None:
    """Remove *found* from the machine; nothing happens if it is gone already."""
    libc = ctypes.CDLL(None)
    if found.kind == "shm":
        libc.shmctl(found.id, _IPC_RMID, None)
    elif found.kind == "sem":
        libc.semctl(found.id, 0, _IPC_RMID)
    else:
        libc.msgctl(found.id, _IPC_RMID, None)


def may_be_ours(found: SysVObject) -> bool:
    """Whether the user who runs this process made *found*, and no other process is known to have.

    For semaphore sets and queues that is all one can know: one that another program of the same user made at the
    same moment looks the same.
    """
    if found.creator_uid not in {os.getuid(), os.geteuid()}:
        return False
    return found.creator_pid in {0, os.getpid()} or not os.path.exists(f"/proc/{found.creator_pid}")


def _read(kind: str) -> list[SysVObject]:
    try:
        with open(f"/proc/sysvipc/{kind}") as table:
            header, *rows = (line.split() for line in table)
    except OSError:  # a kernel without System V IPC, or a sandbox
        return []
    objects = []
    for row in rows:
        field = {name: int(text) for name, text in zip(header, row, strict=True)}
        objects.append(SysVObject(kind, field[_IDS[kind]], field["key"], field["cuid"], field.get("cpid", 0)))
    return objects
