"""Sending signals, and asking whether somebody is there (perlipc:S7, S8, S17)."""

from __future__ import annotations

import errno
import os
import signal
from typing import Protocol

from hornpipe import wait
from hornpipe._native import signals as _signals
from hornpipe._native import spawn as _spawn
from hornpipe.fd import Descriptor
from hornpipe.names import signal_name, signal_number


class Killable(Protocol):
    """A process that knows how to be signalled safely."""

    def kill(self, which: str | int, /) -> object:
        """Send it a signal."""


def _check_pid(pid: object, what: str) -> int:
    if isinstance(pid, bool) or not isinstance(pid, int):
        raise TypeError(f"{what} is a process number, not a {type(pid).__name__}")
    if pid <= 0:
        meaning = "our own group" if pid == 0 else "every process we may signal" if pid == -1 else f"the group {-pid}"
        raise ValueError(f"{what} {pid} would mean {meaning}; kill_group() signals groups, nothing signals everybody")
    return pid


def kill(which: str | int, *targets: int | Killable) -> None:
    """Send a signal to processes: the signal first, as in Perl (kill(2)).

    A target is a number, or a ``Process`` (which is never confused with another one that got its
    number). All are tried; then ``ProcessLookupError`` or ``PermissionError`` for the first that could
    not be signalled. 0 and negative numbers are refused with ``ValueError``.

    >>> import hornpipe as hp
    >>> process = hp.cmd("sleep", "60").start()
    >>> hp.kill("TERM", process)
    >>> process.wait().signal
    <TERM: 15>
    """
    number = signal_number(which)
    if not targets:
        raise TypeError(f"kill({which!r}) names nobody: the signal comes first, and then whom to send it to")
    numbers = [target if hasattr(target, "kill") else _check_pid(target, "process") for target in targets]
    first: OSError | None = None
    for target in numbers:
        try:
            if isinstance(target, int):
                os.kill(target, number)
            elif target.kill(number) is False:
                raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))
        except OSError as error:
            error.strerror = f"cannot send {signal_name(number)} to process {target}: {error.strerror}"
            first = first or error
    if first is not None:
        raise first


def kill_group(which: str | int, group: int | None = None) -> None:
    """Send a signal to a process group; without ``group`` to our own, which we survive (perlipc:S7).

    Our own group gets it while we ignore it, as the page has it; with KILL and STOP, which nobody
    can ignore, ``ValueError`` asks for the group to be named. One of these signals that is pending for us
    at that moment is ignored with it.

    >>> import hornpipe as hp
    >>> process = hp.cmd("sleep", "60", new_session=True).start()
    >>> hp.signals.kill_group("HUP", process.pid)
    >>> process.wait().signal
    <HUP: 1>
    """
    number = signal_number(which)
    if group is not None:
        os.killpg(_check_pid(group, "group"), number)
        return
    if number in (signal.SIGKILL, signal.SIGSTOP):
        raise ValueError(
            f"{signal_name(number)} cannot be ignored, so it would reach us too; kill_group({signal_name(number)!r}, "
            "os.getpgrp()) says that this is meant"
        )
    with _signals.Held():
        _, before = _signals.look(number)
        # A signal that is ignored when it is sent never comes to exist, so this reaches everybody but us;
        # unless we have it blocked, as now: then ignoring it discards it once it has come.
        _signals.set_simply(number, True, 0)
        try:
            os.killpg(os.getpgrp(), number)
            _signals.set_simply(number, True, 0)
        finally:
            _signals.restore(number, before)


def alive(pid: int) -> bool:
    """Whether a process of this number runs: a zombie does not, one that we may not signal does.

    Only the number is asked about; for a child of ours ``Process.poll`` knows better.

    >>> import hornpipe as hp, os
    >>> hp.alive(os.getppid())
    True
    """
    _check_pid(pid, "process")
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # somebody else's, and there (gotcha:SIG8)
    with Descriptor() as pidfd:
        wait.own(pidfd, _spawn.pidfd_open, pid)
        if not pidfd.closed:
            return not wait.one(pidfd.fileno(), wait.READ, 0)
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] not in (b"Z", b"X")
    except ProcessLookupError:
        return False
    except OSError:
        return True  # hidden from us (hidepid), or no /proc: kill(2) has said that it is there


def queue(which: str | int, pid: int, value: int = 0) -> None:
    """Send a signal with a number that its receiver finds in ``.value`` (sigqueue(3), perlipc:S17).

    Real-time signals (``RTMIN+n``) arrive each once, however many are under way. ``BlockingIOError``
    when the kernel holds as many as it may for the receiver's user (RLIMIT_SIGPENDING).

    >>> import hornpipe as hp, os
    >>> with hp.watch("RTMIN+3") as signals:
    ...     for value in (7, 8):
    ...         hp.signals.queue("RTMIN+3", os.getpid(), value)
    ...     signals.get(timeout=5).value, signals.get(timeout=5).value
    (7, 8)
    """
    number = signal_number(which)
    _check_pid(pid, "process")
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"a signal carries a number, not a {type(value).__name__}")
    if not -(1 << 63) <= value < 1 << 63:
        raise ValueError(f"{value} does not fit into the 8 bytes that a signal carries")
    try:
        _signals.queue(pid, number, value)
    except BlockingIOError as error:
        error.strerror = (
            f"{signal_name(number)} for process {pid}: the kernel holds no more queued signals (RLIMIT_SIGPENDING); "
            "try again when some have been handled"
        )
        raise
