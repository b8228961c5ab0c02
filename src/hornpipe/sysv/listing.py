"""What there is: the segments, sets and queues of this IPC namespace, whoever made them, as /proc/sysvipc lists them.

The kernel shows them to everybody, also those that one may not use. Looking changes nothing: nothing is attached, no
time is set.
"""

from __future__ import annotations

import errno
import os
from typing import NamedTuple

from hornpipe._native import sysv as _sysv
from hornpipe.signals import alive
from hornpipe.sysv.failures import failure
from hornpipe.sysv.lasting import Owner
from hornpipe.sysv.limits import table_rows


class ListedSegment(NamedTuple):
    """A shared memory segment; pids and times are 0 for what has not happened (shmctl(2), proc(5))."""

    id: int
    owner: Owner
    size: int
    """Bytes, as it was asked for; it takes whole pages."""
    attaches: int
    """How often it is attached, over all processes."""
    creator_pid: int
    """0 for a process outside of our PID namespace."""
    last_pid: int
    """Who attached or detached it last; 0 also for a process outside of our PID namespace."""
    attach_time: int
    detach_time: int
    change_time: int
    """Seconds of the wall clock, as the two above: made, or its owner or mode set."""
    locked: bool
    """Whether it is kept out of swap."""
    doomed: bool
    """Whether it is removed, and goes when the last process leaves it."""
    resident: int
    """Bytes that are in memory now."""
    swapped: int
    """Bytes that are in swap space now."""


class ListedSet(NamedTuple):
    """A semaphore set (semctl(2), proc(5))."""

    id: int
    owner: Owner
    semaphores: int
    """How many it has."""
    operation_time: int
    """When an operation was last done on it, in seconds of the wall clock; 0 for never."""
    change_time: int
    """Made, or its owner, mode or values set."""


class ListedQueue(NamedTuple):
    """A message queue; pids and times are 0 for what has not happened (msgctl(2), proc(5))."""

    id: int
    owner: Owner
    bytes: int
    """In the queue now."""
    messages: int
    """In the queue now."""
    last_send_pid: int
    """0 also for a process outside of our PID namespace."""
    last_receive_pid: int
    send_time: int
    receive_time: int
    change_time: int
    """Seconds of the wall clock, as the two above: made, or its owner, mode or size set."""


Listed = ListedSegment | ListedSet | ListedQueue


def segments() -> list[ListedSegment]:
    """Every shared memory segment of this IPC namespace, by id.

    ``OSError`` (ENOSYS) where the kernel has no System V objects, or where /proc is not mounted.

    >>> import hornpipe as hp
    >>> with hp.sysv.SharedMemory.create(2000) as shm:
    ...     [found] = [each for each in hp.sysv.segments() if each.id == shm.id]
    >>> found.size, found.attaches, oct(found.owner.mode)
    (2000, 1, '0o600')
    """
    return sorted(
        ListedSegment(
            row["shmid"],
            _owner(row),
            row["size"],
            row["nattch"],
            row["cpid"],
            row["lpid"],
            row["atime"],
            row["dtime"],
            row["ctime"],
            bool(row["perms"] & _sysv.SHM_LOCKED),
            bool(row["perms"] & _sysv.SHM_DEST),
            row["rss"],
            row["swap"],
        )
        for row in _rows("shm")
    )


def semaphore_sets() -> list[ListedSet]:
    """Every semaphore set of this IPC namespace, by id; otherwise as ``segments``.

    >>> import hornpipe as hp
    >>> with hp.sysv.SemaphoreSet.create([1] * 10) as sems:
    ...     [found] = [each for each in hp.sysv.semaphore_sets() if each.id == sems.id]
    >>> found.semaphores
    10
    """
    return sorted(
        ListedSet(row["semid"], _owner(row), row["nsems"], row["otime"], row["ctime"]) for row in _rows("sem")
    )


def queues() -> list[ListedQueue]:
    """Every message queue of this IPC namespace, by id; otherwise as ``segments``.

    >>> import hornpipe as hp
    >>> with hp.sysv.MessageQueue.create() as queue:
    ...     queue.send(b"hi")
    ...     [found] = [each for each in hp.sysv.queues() if each.id == queue.id]
    >>> found.messages, found.bytes
    (1, 2)
    """
    return sorted(
        ListedQueue(
            row["msqid"],
            _owner(row),
            row["cbytes"],
            row["qnum"],
            row["lspid"],
            row["lrpid"],
            row["stime"],
            row["rtime"],
            row["ctime"],
        )
        for row in _rows("msg")
    )


def last_use(entry: Listed) -> int:
    """When somebody did something to the object, in seconds of the wall clock; making it counts.

    >>> import hornpipe as hp, time
    >>> with hp.sysv.MessageQueue.create() as queue:
    ...     [found] = [each for each in hp.sysv.queues() if each.id == queue.id]
    >>> time.time() - hp.sysv.last_use(found) < 60
    True
    """
    if isinstance(entry, ListedSegment):
        return max(entry.attach_time, entry.detach_time, entry.change_time)
    if isinstance(entry, ListedSet):
        return max(entry.operation_time, entry.change_time)
    return max(entry.send_time, entry.receive_time, entry.change_time)


def orphaned_since(entry: Listed) -> int | None:
    """Since when nobody uses the object, in seconds of the wall clock; ``None`` if somebody does, or may.

    It is an orphan if nobody has it attached or waits in it, and none of the processes that the kernel remembers lives:
    who made and last attached a segment, who last sent to and received from a queue, who last touched each semaphore.
    A process outside of our PID namespace may live, and so may one whose number another process has by now. The kernel
    does not tell who waits for a queue's first message: what was used a moment ago need not be abandoned, so look at
    how long ago it was.

    >>> import hornpipe as hp
    >>> with hp.sysv.SharedMemory.create(1) as shm:
    ...     [found] = [each for each in hp.sysv.segments() if each.id == shm.id]
    >>> hp.sysv.orphaned_since(found) is None       # we live
    True
    """
    users = _last_users(entry)
    if users is None or any(map(alive, users)):
        return None
    return last_use(entry)


def remove(entry: Listed) -> None:
    """Remove an object from the system, whether it is in use or not; nothing happens when it is gone already.

    ``PermissionError``, naming the owner, when it is neither ours nor made by us.

    >>> import hornpipe as hp
    >>> queue = hp.sysv.MessageQueue.create()
    >>> [found] = [each for each in hp.sysv.queues() if each.id == queue.id]
    >>> hp.sysv.remove(found)
    >>> [each for each in hp.sysv.queues() if each.id == queue.id]
    []
    """
    table, call = {
        ListedSegment: ("shm", _sysv.remove_segment),
        ListedSet: ("sem", _sysv.remove_set),
        ListedQueue: ("msg", _sysv.remove_queue),
    }[type(entry)]
    try:
        call(entry.id)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EIDRM):
            raise failure(table, error.errno or 0, "remove", id=entry.id, key=entry.owner.key) from None


def _last_users(entry: Listed) -> set[int] | None:
    """Who used it last, as far as the kernel remembers; ``None`` if it is used now, or by somebody without a number."""
    if isinstance(entry, ListedSegment):
        if entry.attaches:
            return None
        done = [(1, entry.creator_pid), (entry.attach_time, entry.last_pid)]
    elif isinstance(entry, ListedQueue):
        done = [(entry.send_time, entry.last_send_pid), (entry.receive_time, entry.last_receive_pid)]
    else:
        touched = _touched_by(entry)
        if touched is None:
            return None
        done = [(entry.operation_time, max(touched)), *((0, pid) for pid in touched)]
    if any(when and not pid for when, pid in done):
        return None
    return {pid for _, pid in done if pid}


def _touched_by(entry: ListedSet) -> set[int] | None:
    """Who touched each semaphore last, 0 for nobody; ``None`` if somebody waits for one, or if that is not told."""
    sems = _sysv.Semaphores()
    sems._use(entry.id, entry.owner.key, False, entry.semaphores)
    pids = set()
    try:
        for index in range(entry.semaphores):
            if sems._waiting(index, False) or sems._waiting(index, True):
                return None
            pids.add(sems._pid(index))
    except OSError:  # it is not ours to look into, or gone
        return None
    return pids


def _rows(table: str) -> list[dict[str, int]]:
    rows = table_rows(table)
    if not rows and not os.path.exists(f"/proc/sysvipc/{table}"):
        why = "System V objects cannot be listed: the kernel has none, or /proc is not mounted"
        raise OSError(errno.ENOSYS, why, f"/proc/sysvipc/{table}")
    return rows


def _owner(row: dict[str, int]) -> Owner:
    return Owner(row["key"], row["uid"], row["gid"], row["cuid"], row["cgid"], row["perms"] & 0o777)
