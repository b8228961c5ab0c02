"""Looking at processes through /proc, and ending the ones a test left.

A process is known here by its number and its start time together: the number alone may be somebody else's by the time
it is used.
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import signal
import time
from collections.abc import Iterable
from typing import NamedTuple

from hornpipe.testing.patience import wait_until

# From <linux/wait.h>: also children made by clone() with another exit signal than CHLD, which wait() leaves out.
_WALL = 0x40000000


class Seen(NamedTuple):
    """A process as /proc showed it."""

    pid: int
    parent: int
    state: str
    started: int
    command: str

    @property
    def is_zombie(self) -> bool:
        """Whether it has ended and waits to be reaped."""
        return self.state in "ZX"

    @property
    def identity(self) -> tuple[int, int]:
        """Number and start time: no other process of this boot has both."""
        return self.pid, self.started


def pids() -> list[int]:
    """The number of every process that /proc shows.

    >>> os.getpid() in pids()
    True
    """
    try:
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except FileNotFoundError:
        return []


def look_at(pid: int) -> Seen | None:
    """What /proc says about *pid*, or None if there is no such process.

    >>> look_at(os.getpid()).parent == os.getppid()
    True
    """
    stat = read_proc(pid, "stat")
    # The second field is the program's name in parentheses and may itself contain spaces and parentheses, so the
    # numbers start after the last one. They are the man page's fields from 3 on.
    name, found, rest = stat.rpartition(b")")
    if not found:
        return None
    fields = rest.split()
    words = read_proc(pid, "cmdline").rstrip(b"\0").replace(b"\0", b" ")
    if not words:  # zombies and kernel threads have no arguments any more
        words = b"[" + name.partition(b"(")[2] + b"]"
    return Seen(pid, int(fields[1]), fields[0].decode(), int(fields[19]), words.decode(errors="backslashreplace"))


def children() -> list[Seen]:
    """The children of this process, running or zombie, whichever thread started them. None of them is reaped.

    >>> children()
    []
    """
    try:
        # Asks for nothing but whether there are any: WNOWAIT leaves a zombie as it is. ECHILD is certain and costs
        # one system call, where reading /proc costs one file for each process of the machine.
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT | _WALL)
    except ChildProcessError:
        return []
    # /proc/self/task/*/children would be shorter, but promises completeness only for children that are all frozen.
    me = os.getpid()
    seen = (look_at(pid) for pid in pids())
    return [child for child in seen if child is not None and child.parent == me]


def find_marked(mark: str) -> list[int]:
    """The living processes that have *mark* somewhere in their arguments, this one excepted.

    Arguments stay when a program clears its environment, closes every descriptor and leaves its session; this is how a
    test finds what :mod:`hornpipe.testing.stubborn` has started.

        >>> find_marked("no process has this argument")
        []
    """
    wanted = os.fsencode(mark)
    if not wanted:
        raise ValueError("an empty mark would fit every process")
    me = os.getpid()
    return [pid for pid in pids() if pid != me and wanted in read_proc(pid, "cmdline")]


def wait_gone(pids: Iterable[int], timeout: float = 20.0) -> list[int]:
    """Wait until each of *pids* has ended (a zombie has) and return those that had not when *timeout* was over.

    >>> wait_gone([], timeout=1)
    []
    """
    deadline = time.monotonic() + timeout
    return [pid for pid in pids if not _ended(pid, deadline)]


def end(process: Seen, timeout: float = 10.0) -> bool:
    """KILL *process*, wait for its end and, if it is our child, reap it. False if it is still there after *timeout*.

    >>> end(look_at(os.posix_spawnp("sleep", ["sleep", "60"], os.environ)))
    True
    """
    _kill(process)
    gone = not wait_gone([process.pid], timeout)
    if gone and process.parent == os.getpid():
        # Its owner may have been quicker, which is as good.
        with contextlib.suppress(ChildProcessError):
            os.waitpid(process.pid, os.WNOHANG | _WALL)
    return gone


def read_proc(pid: int, name: str) -> bytes:
    """The file *name* of process *pid* in /proc; empty if the process is gone or not ours to read.

    >>> read_proc(os.getpid(), "comm") != b""
    True
    """
    try:
        with open(f"/proc/{pid}/{name}", "rb") as file:
            return file.read()
    except OSError:  # ENOENT before the open, ESRCH after it, EACCES for other people's
        return b""


def _kill(process: Seen) -> None:
    pidfd = _pidfd(process.pid)
    try:
        # 1. The process dies and is reaped.  2. Its number goes to a stranger.  3. We kill the stranger.
        # With a pidfd this cannot happen: it is opened first, and if then the number still has the start time we
        # know, the pidfd is that process for good. Without one, the gap between look and kill remains.
        now = look_at(process.pid)
        if now is None or now.started != process.started:
            return
        with contextlib.suppress(ProcessLookupError):
            if pidfd is None:
                os.kill(process.pid, signal.SIGKILL)
            else:
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    finally:
        if pidfd is not None:
            os.close(pidfd)


def _ended(pid: int, deadline: float) -> bool:
    pidfd = _pidfd(pid)
    if pidfd is not None:
        try:
            return bool(_poll([pidfd], deadline - time.monotonic()))
        finally:
            os.close(pidfd)
    try:
        wait_until(lambda: _is_gone(pid), deadline - time.monotonic())
    except TimeoutError:
        return False
    return True


def _is_gone(pid: int) -> bool:
    seen = look_at(pid)
    return seen is None or seen.is_zombie


def wait_for_a_death(processes: Iterable[Seen], timeout: float) -> None:
    """Return when one of *processes* ends, or after *timeout*.

    >>> wait_for_a_death([], timeout=0.001)
    """
    pidfds = [pidfd for seen in processes if not seen.is_zombie and (pidfd := _pidfd(seen.pid)) is not None]
    try:
        _poll(pidfds, timeout)
    finally:
        for pidfd in pidfds:
            os.close(pidfd)


def _pidfd(pid: int) -> int | None:
    """A pidfd, or None where the process is gone or the kernel (or a sandbox) has no pidfds."""
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return None


def _poll(descriptors: list[int], timeout: float) -> list[int]:
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    # Rounded up: milliseconds cut off would wake early and make the caller spin.
    return [number for number, _ in poll.poll(max(0, math.ceil(timeout * 1000)))]
