"""Running children: what ``start()`` and ``background()`` give."""

from __future__ import annotations

import signal
import warnings
from typing import Protocol, Self

from hornpipe import deadline as deadlines
from hornpipe import reaper
from hornpipe.errors import CommandTimeout, brief
from hornpipe.names import signal_number
from hornpipe.reaper import Child
from hornpipe.status import ExitStatus
from hornpipe.wait import finalizer

GRACE = 1.0
"""Seconds between a polite TERM and KILL, unless told otherwise."""
AFTER_KILL = 0.04
"""Seconds given to a killed process to go. One in uninterruptible sleep may stay for longer (gotcha:T5);
promise 3 allows 50 ms, and some of them are for us."""


class Containment(Protocol):
    """The supervisor's client, as far as a process needs to know it."""

    rung: str
    pid: int
    expired: bool

    def signal(self, number: int) -> None:
        """Send a signal to everything inside."""

    def terminate(self, grace: float) -> None:
        """TERM now, KILL after ``grace`` seconds."""

    def status(self) -> ExitStatus | None:
        """How the program ended, once the supervisor has said so."""

    def survivors(self) -> tuple[int, ...]:
        """Processes that outlived a KILL."""

    def close(self) -> None:
        """Let go, which kills whatever is left."""


class Process:
    """A child process: waited for, signalled and never confused with another one.

    Dropped while it runs, it is reported by a ``ResourceWarning`` and reaped in the background.
    """

    _forgotten = False
    _timeout: float | None = None
    _deadline = deadlines.NEVER
    _grace = GRACE

    def __init__(
        self, child: Child, command: object, *, rung: str = "process", containment: Containment | None = None
    ) -> None:
        self._containment = containment  # before the child: a handler may raise in here, and the finalizer wants both
        self._child = child
        self._command = command
        self._rung = rung

    def limit(self, timeout: float | None, deadline: int, grace: float) -> None:
        """Give it a deadline of its own, which holds at the next call that waits: ``CommandTimeout``.

        ``timeout`` is, for the message, how many seconds it had; ``grace`` seconds are between its TERM and its KILL.
        """
        self._timeout, self._deadline, self._grace = timeout, deadline, grace

    @property
    def pid(self) -> int:
        """The number of the process that runs the program."""
        return self._containment.pid if self._containment is not None else self._child.pid

    @property
    def rung(self) -> str:
        """How far ``kill`` reaches: ``"process"``, ``"group"``, ``"session"``, ``"subreaper"`` or ``"cgroup"``."""
        return self._containment.rung if self._containment is not None else self._rung

    @property
    def label(self) -> str:
        """The command as a line that can be pasted into a shell."""
        return brief(str(self._command))

    def fileno(self) -> int:
        """The pidfd: readable once it is over (for a contained process, once nothing of it is left).

        ``OSError`` where the system has no pidfds.
        """
        pidfd = self._child.pidfd
        if pidfd < 0:
            raise OSError("this system has no pidfds: wait() for the process instead")
        return pidfd

    @property
    def expired(self) -> bool:
        """Whether its supervisor ended it because its timeout was over."""
        if self._containment is None:
            return False
        self._containment.status()  # takes in what the supervisor has said
        return self._containment.expired

    @property
    def pidfd(self) -> int:
        """What ``fileno`` gives, and -1 where that raises: the system has none, or it is over and has been let go."""
        return self._child.pidfd

    def poll(self) -> ExitStatus | None:
        """The status, or ``None`` while it runs. Never blocks."""
        return self._translate(self._child.poll())

    def wait(self, timeout: float | None = None) -> ExitStatus:
        """Wait until it is over; ``TimeoutError`` after ``timeout`` seconds, and it goes on running.

        When the command's own timeout is over, it is ended and ``CommandTimeout`` is raised.
        """
        asked = deadlines.after(timeout)
        status = self.wait_until(deadlines.sooner(asked, self._deadline))
        if status is not None and not self.expired:
            return status
        if status is not None or deadlines.passed(self._deadline):
            if status is None:
                status = self.terminate(self._grace)
            raise CommandTimeout(
                f"{self.label!r} did not finish within {self._timeout:g} s",
                command=self.label,
                timeout=self._timeout,
                status=status,
                survivors=() if status is not None else self.survivors(),
            )
        raise TimeoutError(f"{self.label!r} (pid {self.pid}) still runs after {timeout:g} s")

    def wait_until(self, deadline: int) -> ExitStatus | None:
        """The same with a deadline: ``None`` when it passed first."""
        return self._translate(self._child.wait(deadline))

    def _translate(self, status: ExitStatus | None) -> ExitStatus | None:
        if status is None or self._containment is None:
            return status
        inner = self._containment.status()
        return inner if inner is not None else ExitStatus(None, f"the supervisor of {self.label!r} was lost")

    @property
    def ended(self) -> bool:
        """Whether it is over; looks, and leaves it unreaped."""
        return self._child.ended()

    def wait_for_end(self, deadline: int) -> bool:
        """Wait until it is over without reaping it, so that its group can still be signalled (gotcha:T4)."""
        return self._child.wait_for_end(deadline)

    def kill(self, which: str | int = "KILL") -> bool:
        """Send a signal (by name or number) to as much as ``rung`` says; false when nobody is left.

        A finished process is left alone: its number may belong to somebody else by now.
        """
        number = signal_number(which)
        if self._containment is not None:
            if self._child.ended():
                return False
            self._containment.signal(number)
            return True
        if not self._child.signal(number, group=self._rung != "process"):
            return False
        if number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            # A stopped process acts on them only once it goes on.
            self._child.signal(signal.SIGCONT, group=self._rung != "process")
        return True

    def kill_program(self, number: int) -> bool:
        """Send a signal to the program alone and to nobody it started; false when it has ended."""
        return self._child.signal(number)

    def terminate(self, grace: float = GRACE) -> ExitStatus | None:
        """End it: TERM, and KILL after ``grace`` seconds.

        Its status, or ``None`` in the rare case that it outlives even the KILL for a while.
        """
        deadlines.check_timeout(grace, "grace")
        end = deadlines.after(grace)
        if grace > 0:
            self.ask_to_end(grace)
            self._child.wait_for_end(end)
        # Not asked whether it has ended: its group may live on without it.
        self.kill("KILL")
        return self.wait_until(deadlines.after(AFTER_KILL))

    def ask_to_end(self, grace: float) -> None:
        """TERM; a supervisor also follows it up with KILL after ``grace`` seconds by itself."""
        if self._containment is None:
            self.kill("TERM")
        elif not self._child.ended():
            self._containment.terminate(grace)

    def survivors(self) -> tuple[int, ...]:
        """Processes that have outlived a KILL so far, by pid."""
        if self._child.ended():
            return ()
        return (self._containment.survivors() if self._containment is not None else ()) or (self.pid,)

    def release(self) -> None:
        """Let go of the pidfd of a process that is over."""
        if self._child.status is not None:
            self._child.close()

    def forget(self) -> None:
        """Nobody will wait for it: reap it in the background."""
        if not self._forgotten:
            reaper.drop(self._child)  # first: what a handler raises here must not keep it from being done again
            self._forgotten = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if kind is not None:
            self.terminate()
        else:
            self.wait()

    def __repr__(self) -> str:
        status = self._child.status
        return f"<Process {self.label!r}, pid {self.pid}, {'running' if status is None else status}>"

    def _left_alone(self) -> None:
        try:
            child = self._child
            forgotten = self._forgotten or child.status is not None or child.poll() is not None
        except (AttributeError, TypeError):
            return  # a constructor that failed, or an interpreter that is going down
        try:
            if not forgotten:
                self.forget()  # first: where warnings are errors, the next call does not return
                warnings.warn(
                    f"{self.label!r} (pid {self.pid}) still runs and nobody waits for it; "
                    "wait(), terminate(), or start it with background()",
                    ResourceWarning,
                    source=self,
                    stacklevel=2,
                )
        finally:
            if self._containment is not None:
                self._containment.close()

    __del__ = finalizer(_left_alone)


class Detached:
    """A process in the background: it shares our stdout and stderr, and is never a zombie (perlipc:D4)."""

    def __init__(self, process: Process) -> None:
        self._process = process
        process.forget()

    @property
    def pid(self) -> int:
        """Its number."""
        return self._process.pid

    def alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def kill(self, which: str | int = "TERM") -> bool:
        """Send it a signal; false when it has ended."""
        return self._process.kill(which)

    def fileno(self) -> int:
        """Its pidfd: readable once it has ended."""
        return self._process.fileno()

    def __repr__(self) -> str:
        return f"<Detached {self._process.label!r}, pid {self.pid}>"
