"""The one place that blocks.

Every wait is a poll(2) under a deadline in which Python's signal handlers run as soon as they
can: their exceptions come out of the call, otherwise it goes on with the time it had left
(perlipc:S13). A descriptor that another thread closes meanwhile ends the wait (gotcha:R8).
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Iterable

from hornpipe._native import timed_call as _timed
from hornpipe._native import wait as _wait
from hornpipe._native.buffers import ByteSink, Intake, Lookout, ReadBuffer

READ = select.POLLIN
WRITE = select.POLLOUT
CLOSED = _wait.CLOSED
OUTDATED = _wait.OUTDATED

# What poll reports beside POLLIN when nobody will write any more, and beside POLLOUT when nobody
# will read: both mean that the next call will not block.
_OVER = select.POLLHUP | select.POLLERR


class ClosedMeanwhile(ValueError):
    """The handle was closed by another thread while this one waited on it."""


def until(wanted: list[tuple[int, int]], deadline: int, seen: int = -1) -> list[tuple[int, int]]:
    """Wait for any of ``[(fd, events), ...]``: those that are ready, with what poll(2) said of them.

    Empty when the deadline passed first; all with OUTDATED when a descriptor has been closed since there were ``seen``
    closings.
    """
    ready = _wait.many(wanted, deadline, seen)
    for fd, bits in ready:
        if bits == CLOSED:
            raise ClosedMeanwhile(f"descriptor {fd} was closed by another thread")
    return ready


def one(fd: int, events: int, deadline: int, seen: int = -1) -> int:
    """Wait for one descriptor: what poll(2) said of it, 0 when the deadline passed first; OUTDATED as of ``until``."""
    bits = _wait.one(fd, events, deadline, seen)
    if bits == CLOSED:
        raise ClosedMeanwhile(f"descriptor {fd} was closed by another thread")
    return bits


def on(fileno: Callable[[], int], events: int, deadline: int) -> int:
    """The same for what another thread may close meanwhile: ``fileno`` gives its number, or raises when it is closed.

    Between the look for the number and the poll it can be closed and its number given to another file, on
    which the wait would go on for ever.
    """
    while True:
        seen = _wait.closings_so_far()
        bits = _wait.one(fileno(), events, deadline, seen)
        if bits == CLOSED:
            raise ClosedMeanwhile("the descriptor was closed by another thread")
        if bits != OUTDATED:
            return bits


def on_any(wanted: Callable[[], list[tuple[int, int]]], deadline: int) -> list[tuple[int, int]]:
    """``until`` for what another thread may close meanwhile: ``wanted`` gives the numbers, or raises."""
    while True:
        seen = _wait.closings_so_far()
        ready = until(wanted(), deadline, seen)
        if not any(bits == OUTDATED for _, bits in ready):
            return ready


closings_so_far = _wait.closings_so_far
"""Taken before a number is looked up that another thread may be about to close."""


def fill(buffer: ByteSink | ReadBuffer, fd: int, size: int, deadline: int, seen: int = -1) -> int | None:
    """Wait for data and read at most ``size`` bytes of it into ``buffer``, in one step.

    The count; 0 at the end; -1 when somebody else was quicker, or when a descriptor has been closed
    since there were ``seen`` closings (look the number up again); ``None`` when the deadline passed.
    """
    count = buffer.fill_when_ready(fd, size, deadline, seen)
    if count == CLOSED:
        raise ClosedMeanwhile(f"descriptor {fd} was closed by another thread")
    return count


def read_on(
    intake: Intake, fd: int, lookout: Lookout, before: bytes, size: int, most: int, deadline: int, seen: int
) -> bytes | int | None:
    """Read, at most ``size`` bytes at once, until the lookout sees something, or ``most`` bytes or the end have come.

    What has come, b"" at the end; at the deadline what there is, ``None`` if nothing. -1 is as with ``fill``. What was
    read when a signal handler raises is still in the ``intake``. ``before`` is what came before, a few bytes of it.
    """
    data: bytes | int | None = intake.read_on(fd, lookout, before, size, most, deadline, seen)
    if isinstance(data, int) and data == CLOSED:
        raise ClosedMeanwhile(f"descriptor {fd} was closed by another thread")
    return data


def child(pid: int, deadline: int) -> bool | None:
    """Wait for a child that has no pidfd: whether it has ended; ``None`` when it is not ours to wait for."""
    ended = _timed.child(pid, deadline)
    return None if ended < 0 else bool(ended)


def open_path(owner: object, path: str | bytes, flags: int, mode: int, deadline: int) -> bool:
    """Open a path, waiting for a FIFO's other end; close-on-exec, into ``owner._fd``. False at the deadline."""
    return _timed.open_path(owner, os.fsencode(path), flags | os.O_CLOEXEC, mode, deadline)


def open_renewed(owner: object, path: str | bytes, fresh: bytes, deadline: int) -> bool | None:
    """Open a FIFO for writing when somebody reads it, and put ``fresh`` in its place at once.

    It goes into ``owner._fd``; whether the other was done; ``None`` at the deadline. With the deadline 0 nothing is
    waited for, and ``OSError`` (ENXIO) says that nobody reads.
    """
    flags = os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC | (0 if deadline else os.O_NONBLOCK)
    return _timed.open_renewed(owner, os.fsencode(path), fresh, flags, deadline)


def lock_file(fd: int, operation: int, deadline: int) -> bool:
    """flock(2): whether the lock was had by the deadline."""
    return _timed.lock_file(fd, operation, deadline)


def suspend(opened: Iterable[int], deadline: int) -> bool:
    """Open these signals until one has been handled; false when the deadline passed first."""
    return _wait.suspend(opened, deadline)


woken = _wait.wake
"""Ends every wait on a descriptor that is about to be closed."""

write_some = _wait.write_some
"""One write(2) to a descriptor that does not block: the count, or 0 when there is no room now.

Between the look for the number, as its argument, and the write no handler runs and no other thread, as they might at
the entry of a function of Python's: the number is not another file's by then."""

close = _wait.close
"""Closes a descriptor, and ends every wait on it first."""
own = _wait.own
"""Gives the descriptor that a native call opens to its owner, before any signal's handler can raise."""
own_both = _wait.own_both
"""The same for a call that opens two."""
own_first = _wait.own_first
"""The same for a call that gives something else as well, which is returned."""
finalizer = _wait.finalizer
"""A ``__del__`` of which no Ctrl-C is lost."""
let_go = _wait.let_go
"""The finalizer of what owns a descriptor."""


def readable(bits: int) -> bool:
    """Whether a read would not block: data, or the end."""
    return bool(bits & (READ | _OVER))


def hung_up(bits: int) -> bool:
    """Whether a terminal has nobody on its other side: it takes no more bytes then, and gives no error."""
    return bool(bits & select.POLLHUP)


def writable(bits: int) -> bool:
    """Whether a write would not block: room, or nobody left to read."""
    return bool(bits & (WRITE | _OVER))
