"""The terminal we stand on, lent to what we run and taken back (gotcha:SP10)."""

from __future__ import annotations

import os
import signal
import termios
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from hornpipe import wait
from hornpipe._native.signals import Held

if TYPE_CHECKING:
    from hornpipe.contain import Supervisor
    from hornpipe.process import Process
    from hornpipe.reaper import Child
    from hornpipe.spawn.recipe import Recipe


class Foreground:
    """One group of processes in front on our terminal.

    A child in a group of its own would be stopped as soon as it read from the terminal; so its group
    becomes the foreground group, and Ctrl-C goes to it alone. The stages of a pipeline are in one
    group together, since any of them may read from the terminal: ``ls | less`` does in its last.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._modes: Any = termios.tcgetattr(fd)
        self._holder: Child | None = None
        self._watched: list[tuple[Process, Supervisor]] = []

    @property
    def group(self) -> int:
        """The group that all stages share; 0 where there is only one, which leads its own."""
        return 0 if self._holder is None else self._holder.pid

    def gather(self, recipe: Recipe, deadline: int) -> None:
        """Make a group for all stages, and put it in front.

        A shell has the first stage lead it, and reaps that one when all have joined. Ours are reaped by
        their supervisors; so a process that does nothing leads it, and its number is the group's until
        we reap it.
        """
        from hornpipe import contain

        self._holder = contain.hold_group(recipe, deadline)
        self._give(self.group)

    def watch(self, process: Process, supervisor: Supervisor) -> None:
        """It is in the group; its supervisor tells when it is stopped."""
        self._watched.append((process, supervisor))

    def shared_by(self, process: Process) -> bool:
        """Whether a signal to the shared group reaches it."""
        return self._holder is not None and any(process is other for other, _ in self._watched)

    def signal(self, number: int) -> None:
        """Send a signal to the shared group as a whole, so that nobody in it gets it twice."""
        if self._holder is None:
            return
        self._holder.signal(number, group=True)
        if number == signal.SIGTERM:
            # A stopped process acts on it only once it goes on.
            self._holder.signal(signal.SIGCONT, group=True)

    def wait_for_end(self, deadline: int) -> bool:
        """Wait until all that are in the group have ended; false when the deadline passed first."""
        while running := [(process, supervisor) for process, supervisor in self._watched if not process.ended]:
            # Stopped from the keyboard: so are we, and with us the shell's job. Looked at before
            # waiting: the news may have come together with that of the start.
            if all(supervisor.stopped_by for _, supervisor in running):
                self._stop_with([supervisor for _, supervisor in running])
            if not wait.until([(supervisor.fileno(), wait.READ) for _, supervisor in running], deadline):
                return False
            for process, supervisor in running:
                if not supervisor.listen() and not process.wait_for_end(deadline):
                    return False
        return True

    def _stop_with(self, supervisors: list[Supervisor]) -> None:
        self._take_back(restore=True)
        if self._stop_ourselves(supervisors[0].stopped_by):
            self._give(self.group or os.getpgid(supervisors[0].pid))
        for supervisor in supervisors:
            supervisor.resume()
        if self._holder is not None:
            # Once, and not by each supervisor. 1. One of them, and all go on.  2. Another Ctrl-Z: all have stopped.
            # 3. The next supervisor comes to it, and all go on: that stop would be lost.
            self._holder.signal(signal.SIGCONT, group=True)

    def close(self, restore: bool) -> None:
        """The terminal is ours again; with its modes as they were, if the child may have left others."""
        self._take_back(restore)
        if self._holder is not None:
            self._holder.end()
            self._holder.close()

    def _take_back(self, restore: bool) -> None:
        self._give(os.getpgrp())
        if restore:
            termios.tcsetattr(self.fd, termios.TCSADRAIN, self._modes)

    def _give(self, group: int) -> None:
        # From the background tcsetpgrp is answered with TTOU, which would stop us.
        with Held(), suppress(OSError):  # the terminal has hung up, or the group has just ended
            os.tcsetpgrp(self.fd, group)

    def _stop_ourselves(self, number: int) -> bool:
        """Stop as the child was stopped; returns when somebody says CONT: whether we are in front then."""
        handler = signal.getsignal(number)
        if handler is signal.SIG_IGN:
            return True  # started by a shell without job control: there is nobody to resume us
        os.killpg(os.getpgrp(), number)
        return in_front(self.fd)


def in_front(fd: int) -> bool:
    """Whether it is a terminal, and our group is in front on it."""
    try:
        return os.tcgetpgrp(fd) == os.getpgrp()
    except OSError:
        return False


def foreground() -> Foreground | None:
    """The terminal on our stdin, if we are in front on it."""
    return Foreground(0) if in_front(0) else None
