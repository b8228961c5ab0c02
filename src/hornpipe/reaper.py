"""Who owns which pid and which status.

Every child of ours is waited for by its own number and never by ``waitpid(-1)``, which would take
the statuses of others (perlipc:S10b). Dropped children are reaped by a thread that exists only
while there are any.
"""

from __future__ import annotations

import atexit
import os
import signal
from _thread import RLock
from sys import is_finalizing
from typing import Any

from hornpipe import wait
from hornpipe._native import process as _process
from hornpipe._native import spawn as _spawn
from hornpipe.deadline import NEVER, after
from hornpipe.endings import endings
from hornpipe.fd import Descriptor, nonblocking, pipe
from hornpipe.status import ExitStatus
from hornpipe.wait import finalizer

_NOT_OURS = -2
SUCCESS = ExitStatus(0)
"""What nearly every child ends with."""

ours: set[Child] = set()
"""All that are being started, run, or are dead and not reaped."""


class Child:
    """One child process that is ours to reap. Everybody who waits gets the same status (gotcha:R3).

    Also a signal handler that looks while the code it has interrupted does so: that is what handlers
    of CHLD are for, and it comes just then. Hence a lock that its thread may take twice (gotcha:SIG15).
    """

    __slots__ = ("_lock", "_raw", "pid", "pidfd", "status")

    def __init__(self) -> None:
        self.pid = 0
        """0 until its birth."""
        self.pidfd = -1
        """Readable once the child has ended; -1 where the system has no pidfds."""
        self.status: ExitStatus | None = None
        """The status, if it has been learnt yet."""
        self._raw: list[int] = []
        self._lock = RLock()

    def poll(self) -> ExitStatus | None:
        """The status if the child has ended, reaping it; never blocks."""
        if self.status is None:
            with self._lock:
                if not self._raw:
                    _process.reap(self.pid, self.pidfd, self._raw)
                if self._raw:
                    raw = self._raw[0]
                    self._settle(SUCCESS if raw == 0 else self._recover() if raw == _NOT_OURS else ExitStatus(raw))
        return self.status

    def _settle(self, status: ExitStatus) -> None:
        if self.status is None:
            self.status = status
        ours.discard(self)

    def _recover(self) -> ExitStatus:
        # CHLD is ignored, or somebody's waitpid(-1) was quicker. The kernel may still know: from
        # Linux 6.15 a pidfd keeps the status, from the moment it reports POLLHUP (reaped).
        if self.pidfd >= 0:
            raw = _process.lost_status(self.pidfd)
            if raw < 0 and wait.one(self.pidfd, 0, after(0.05)):
                raw = _process.lost_status(self.pidfd)
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
            try:
                return bool(wait.on(self._fileno, wait.READ, deadline))
            except wait.ClosedMeanwhile:
                if self not in ours:
                    return True  # another thread was quicker, and has let go of it
                raise
        return wait.child(self.pid, deadline) is not False

    def _fileno(self) -> int:
        if self.pidfd < 0:
            raise wait.ClosedMeanwhile(f"the pidfd of process {self.pid} was closed by another thread")
        return self.pidfd

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
            # Reaped by a stranger: the number may be anybody's by now.
            lost = self.pidfd < 0 and wait.child(self.pid, 0) is None
            try:
                # From this look to the call no handler can run, and reap it.
                if self._raw or lost:
                    return False
                if group:
                    os.killpg(self.pid, number)
                elif not self._signal_by_pidfd(number):
                    if wait.child(self.pid, 0) is None:
                        return False
                    os.kill(self.pid, number)
            except ProcessLookupError:
                return False
        return True

    def _signal_by_pidfd(self, number: int) -> bool:
        if self.pidfd < 0:
            return False
        try:
            _process.send_signal(self.pidfd, number)
        except ProcessLookupError:
            raise
        except OSError:
            # Missing, or forbidden by a sandbox, with whatever errno it likes (gotcha:R2). Where the
            # signal or the right to send it is the matter, kill(2) will say so as well.
            return False
        return True

    def end(self, group: bool = False) -> None:
        """Its start was interrupted, so nobody will hear of it: kill it (and the group it leads), and reap it."""
        if self.pid and self.status is None:
            self.signal(signal.SIGKILL)
            if group:
                self.signal(signal.SIGKILL, group=True)
            if self.wait(after(0.05)) is None:
                drop(self)

    def detach(self) -> int:
        """Give it away, pidfd and all: somebody else reaps it."""
        ours.discard(self)
        pidfd, self.pidfd = self.pidfd, -1
        return pidfd

    def close(self) -> None:
        """Let go of the pidfd: nobody will wait for it or signal it any more."""
        pidfd, self.pidfd = self.pidfd, -1
        if pidfd >= 0:
            wait.close(pidfd)

    def _left_alone(self) -> None:
        # A signal handler may have interrupted the constructor; and at the end of a program its modules are emptied
        # before the last objects go.
        if getattr(self, "pidfd", -1) >= 0 and os is not None:
            self.close()

    __del__ = finalizer(_left_alone)


_missed = False


def end_all(grace: float = 1.0) -> None:
    """End the children that somebody holds: TERM, then KILL after ``grace`` seconds; those in the background stay.

    >>> end_all()
    """
    held = [child for child in list(ours) if child.pid and child not in _dropped and child.poll() is None]
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

    Statuses of our own children stay for their owners (gotcha:SIG7). May be called from a signal
    handler and from any thread: while a child of ours is being born, whoever starts it calls again.

    >>> reap_strangers()
    0
    """
    listed = _listed_dead()
    if listed is not None:
        return sum(_reap_one(pid) for pid in _not_ours(listed))
    # Without /proc there is waitid(P_ALL), which shows one dead child, always the same while it stays
    # unreaped: one of ours hides those after it until it is waited for.
    count = 0
    while (shown := _shown_dead()) and any(_reap_one(pid) for pid in _not_ours([shown])):
        count += 1
    return count


def catch_up() -> None:
    """A child has been born: reap the strangers that had to wait for that."""
    global _missed
    if _missed:
        _missed = False
        reap_strangers()


def _not_ours(dead: list[int]) -> list[int]:
    # 1. A child of ours is born and ends, and is found dead; its number is known to nobody else yet.
    # 2. It must not be taken for a stranger: so its starter, who may be the one that our signal
    #    handler interrupts, is asked to call again, and all wait for that.
    # 3. The starter may have looked just before it was asked; then the number is known by now.
    global _missed
    asked = False
    while any(not child.pid for child in ours.copy()):
        if asked:
            return []
        _missed = asked = True
    owned = {child.pid for child in ours.copy()}
    return [pid for pid in dead if pid not in owned]


def _reap_one(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid  # not yet, where its other threads live on
    except ChildProcessError:
        return False


def _listed_dead() -> list[int] | None:
    listed = _listed()
    return None if listed is None else [pid for pid, dead in listed.items() if dead]


def children() -> dict[int, bool]:
    """Every child of this process, whoever started it, and whether it is dead and unreaped; none without /proc.

    >>> children()
    {}
    """
    return _listed() or {}


def _listed() -> dict[int, bool] | None:
    us = os.getpid()
    try:
        # A /proc of another pid namespace has other numbers: as good as none.
        names = os.listdir("/proc") if os.readlink("/proc/self") == str(us) else None
    except OSError:
        return None
    if names is None:
        return None
    found = {}
    for name in names:
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == us:
            found[int(name)] = fields[0] == b"Z"
    return found


def _shown_dead() -> int:
    try:
        shown = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return 0
    return 0 if shown is None else shown.si_pid


# --- children whose handles were dropped ---

_lock = RLock()
_dropped: list[Child] = []
_thread: Any = None
_wake: Descriptor | None = None
_LOOK_WITHOUT_PIDFD = 0.05


def drop(child: Child) -> None:
    """Reap this child in the background when it ends."""
    if child.poll() is not None or _over or is_finalizing():
        return
    _mind_forks_and_the_end()
    with _lock:
        _dropped.append(child)
        _start()


def adopt(pid: int) -> None:
    """Reap this child, which was started before we were this program, in the background."""
    child = Child()
    child.pid, child.pidfd = pid, _spawn.pidfd_open(pid)
    ours.add(child)
    drop(child)


def _start() -> None:
    """Start the thread, or tell it of a new child. The lock is held."""
    global _thread, _wake
    if _wake is not None:
        os.write(_wake.fileno(), b"+")
        return
    import threading

    from hornpipe._native.signals import Held  # a program that drops no child does without that module

    # In one piece: after what a handler raised in the middle, a _wake without a thread would be told of children for
    # ever. And the thread takes no signals: what the program has blocked in its own threads must stay blocked, and
    # queued ones come in order only while a single thread takes them (gotcha:SIG14, SIG18).
    with Held():
        woken, writer = pipe()
        nonblocking(woken.fileno())
        thread = threading.Thread(target=_reap, args=(woken,), name="hornpipe-reaper", daemon=True)
        _thread, _wake = thread, writer
        try:
            thread.start()
        except RuntimeError:
            # No room for another thread. The next child that is dropped tries again, for this one too.
            writer.close()
            woken.close()
            _wake = None


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


def is_ours(thread: object) -> bool:
    """Whether it is the thread of this room, which steps aside for a fork and is no obstacle to one."""
    return thread is _thread


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
        if _dropped and not _over:
            _start()


def _stop_at_the_end() -> None:
    """What the last objects leave is not for a thread any more.

    1. It holds a lock of this room, or of a child.  2. The interpreter ends: a daemon thread stops
    where it next asks for the GIL.  3. The last handles are dropped, and wait for that lock for ever.
    """
    global _over
    _over = True
    _stop_before_fork()


def _forget_in_child() -> None:
    """The parent's children are not the child's."""
    global _lock, _thread, _wake
    _lock = RLock()
    _dropped.clear()
    ours.clear()
    _thread = _wake = None


_minding = False
_over = False


def _mind_forks_and_the_end() -> None:
    """From the first one on that is dropped: what runs at a fork costs more than the fork."""
    global _minding
    if not _minding:
        _minding = True
        os.register_at_fork(
            before=_stop_before_fork, after_in_parent=_go_on_after_fork, after_in_child=_forget_in_child
        )
        atexit.register(_stop_at_the_end)
