"""Who owns which pid and which status.

Every child of ours is waited for by its own number and never by ``waitpid(-1)``, which would take
the statuses of others (perlipc:S10b). Dropped children are reaped by a thread that exists only
while there are any.
"""

from __future__ import annotations

import os
import signal
from _thread import allocate_lock
from typing import Any

from hornpipe import wait
from hornpipe._native import spawn as _spawn
from hornpipe.deadline import NEVER, after
from hornpipe.endings import endings
from hornpipe.fd import Descriptor, nonblocking, pipe
from hornpipe.status import ExitStatus

_NOT_ENDED, _NOT_OURS = -1, -2

_running: dict[int, Child] = {}


class Child:
    """One child process that is ours to reap. Everybody who waits gets the same status (gotcha:R3)."""

    __slots__ = ("_lock", "pid", "pidfd", "status")

    def __init__(self, pid: int, pidfd: int) -> None:
        self.pid = pid
        self.pidfd = pidfd
        """Readable once the child has ended; -1 where the system has no pidfds."""
        self.status: ExitStatus | None = None
        """The status, if it has been learnt yet."""
        self._lock = allocate_lock()
        _running[pid] = self

    def poll(self) -> ExitStatus | None:
        """The status if the child has ended, reaping it; never blocks."""
        if self.status is None:
            with self._lock:
                if self.status is None:
                    raw = _spawn.reap(self.pid, self.pidfd)
                    if raw == _NOT_OURS:
                        self._settle(self._recover())
                    elif raw != _NOT_ENDED:
                        self._settle(ExitStatus(raw))
        return self.status

    def _settle(self, status: ExitStatus) -> None:
        self.status = status
        if _running.get(self.pid) is self:
            del _running[self.pid]

    def _recover(self) -> ExitStatus:
        # CHLD is ignored, or somebody's waitpid(-1) was quicker. The kernel may still know: from
        # Linux 6.15 a pidfd keeps the status, from the moment it reports POLLHUP (reaped).
        if self.pidfd >= 0:
            raw = _spawn.lost_status(self.pidfd)
            if raw < 0 and wait.one(self.pidfd, 0, after(0.05)):
                raw = _spawn.lost_status(self.pidfd)
            if raw >= 0:
                return ExitStatus(raw)
        if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
            return ExitStatus(None, "SIGCHLD is ignored, so the kernel reaped the process")
        return ExitStatus(None, f"something else in this program waited for process {self.pid}")

    def ended(self) -> bool:
        """Whether it has ended, without reaping it."""
        if self.status is not None:
            return True
        if self.pidfd >= 0:
            return bool(wait.one(self.pidfd, wait.READ, 0))
        return wait.child(self.pid, 0) is not False

    def wait_for_end(self, deadline: int) -> bool:
        """Wait until it has ended, without reaping it: its number and its group stay its own."""
        if self.status is not None:
            return True
        if self.pidfd >= 0:
            return bool(wait.one(self.pidfd, wait.READ, deadline))
        return wait.child(self.pid, deadline) is not False

    def wait(self, deadline: int) -> ExitStatus | None:
        """Wait for the status; ``None`` when the deadline passed first."""
        while self.wait_for_end(deadline):
            if self.poll() is not None:
                return self.status
        return self.poll()

    def signal(self, number: int, group: bool = False) -> bool:
        """Send a signal to it (or to the group it leads); false when there is nobody left.

        Never to a stranger (gotcha:R1): by pidfd, or under the lock that guards reaping, since an
        unreaped child keeps its number, and its group's.
        """
        with self._lock:
            if self.status is not None:
                return False
            try:
                if group:
                    if self.pidfd < 0 and wait.child(self.pid, 0) is None:
                        return False
                    os.killpg(self.pid, number)
                elif not self._signal_by_pidfd(number):
                    if wait.child(self.pid, 0) is None:
                        return False  # reaped by a stranger: the number may be anybody's by now
                    os.kill(self.pid, number)
            except ProcessLookupError:
                return False
        return True

    def _signal_by_pidfd(self, number: int) -> bool:
        if self.pidfd < 0:
            return False
        try:
            _spawn.send_signal(self.pidfd, number)
        except ProcessLookupError:
            raise
        except OSError:
            # Missing, or forbidden by a sandbox, with whatever errno it likes (gotcha:R2). Where the
            # signal or the right to send it is the matter, kill(2) will say so as well.
            return False
        return True

    def close(self) -> None:
        """Let go of the pidfd: nobody will wait for it or signal it any more."""
        pidfd, self.pidfd = self.pidfd, -1
        if pidfd >= 0:
            os.close(pidfd)

    def __del__(self) -> None:
        self.close()


def end_all(grace: float = 1.0) -> None:
    """End the children that somebody holds: TERM, then KILL after ``grace`` seconds; those in the background stay.

    >>> end_all()
    """
    held = [child for child in list(_running.values()) if child not in _dropped and child.poll() is None]
    for child in held:
        child.signal(signal.SIGTERM)
        child.signal(signal.SIGCONT)
    limit = after(grace)
    for child in held:
        if child.wait(limit) is None:
            child.signal(signal.SIGKILL)
            child.wait(after(0.05))


endings.append(end_all)


def reap_strangers() -> int:
    """Reap every dead child that is not ours, as process 1 of a container must; how many there were.

    Statuses of our own children stay for their owners (gotcha:SIG7).

    >>> reap_strangers()
    0
    """
    count = 0
    owned = set(_running)
    for pid in _dead_children():
        if pid in owned:
            continue
        try:
            os.waitpid(pid, os.WNOHANG)
            count += 1
        except ChildProcessError:
            pass
    return count


def _dead_children() -> list[int]:
    # waitid(P_ALL) shows one dead child, always the same while it stays unreaped: one of our own
    # would hide the rest. So they are looked up in /proc.
    dead = []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
        except OSError:
            continue
        if fields[0] == b"Z" and int(fields[1]) == os.getpid():
            dead.append(int(name))
    return dead


# --- children whose handles were dropped ---

_lock = allocate_lock()
_dropped: list[Child] = []
_thread: Any = None
_wake: Descriptor | None = None
_LOOK_WITHOUT_PIDFD = 0.05


def drop(child: Child) -> None:
    """Reap this child in the background when it ends."""
    if child.poll() is not None:
        return
    with _lock:
        _dropped.append(child)
        _start()


def _start() -> None:
    """Start the thread, or tell it of a new child. The lock is held."""
    global _thread, _wake
    if _wake is not None:
        os.write(_wake.fileno(), b"+")
        return
    import threading

    woken, _wake = pipe()
    nonblocking(woken.fileno())
    _thread = threading.Thread(target=_reap, args=(woken,), name="hornpipe-reaper", daemon=True)
    _thread.start()


def _reap(woken: Descriptor) -> None:
    global _wake
    while True:
        with _lock:
            _dropped[:] = [child for child in _dropped if child.poll() is None]
            if not _dropped or _wake is None:
                # Under the lock: whoever drops a child from now on starts a new thread.
                if _wake is not None:
                    _wake.close()
                    _wake = None
                woken.close()
                return
            wanted = [(child.pidfd, wait.READ) for child in _dropped if child.pidfd >= 0]
            blind = len(wanted) < len(_dropped)
        wanted.append((woken.fileno(), wait.READ))
        # Children without a pidfd give nothing to poll, and a thread for each would be worse.
        for fd, _ in wait.until(wanted, after(_LOOK_WITHOUT_PIDFD) if blind else NEVER):
            if fd == woken.fileno():
                try:
                    os.read(fd, 4096)
                except BlockingIOError:
                    pass


def _stop_before_fork() -> None:
    """A fork beside a living thread is what everybody else is warned of: this one steps aside."""
    global _wake
    with _lock:
        thread = _thread if _wake is not None else None
        if _wake is not None:
            _wake.close()  # its other end reads the end of file
            _wake = None
    if thread is not None:
        thread.join(1.0)


def _go_on_after_fork() -> None:
    with _lock:
        if _dropped:
            _start()


def _forget_in_child() -> None:
    """The parent's children are not the child's."""
    global _lock, _thread, _wake
    _lock = allocate_lock()
    _dropped.clear()
    _running.clear()
    _thread = _wake = None


os.register_at_fork(before=_stop_before_fork, after_in_parent=_go_on_after_fork, after_in_child=_forget_in_child)
