"""Where a daemon's stdout and stderr go: a file, a descriptor, or a command that reads them (perlipc:D3).

A daemon writes to a bare pipe until whoever reads it dies; then it has PIPE, or an error in the middle of its
work whose traceback nobody sees. So between the two stands a keeper: a process that holds the reading end for as
long as somebody holds the other one, and starts the command again. What has not been read by then waits in the pipe.
"""

from __future__ import annotations

import fcntl
import os
import pickle
import struct
import termios
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Union

from hornpipe import wait
from hornpipe.command import Runnable, fn
from hornpipe.deadline import NEVER, after, passed, sooner
from hornpipe.errors import CommandTimeout
from hornpipe.fd import Descriptor, owned, pipe
from hornpipe.redirections import NULL

if TYPE_CHECKING:
    from pathlib import Path

Outlet = Union["Path", Runnable[Any], int, None]
"""Where a standard stream goes: a file (appended to), the stdin of a command, a descriptor, or /dev/null."""

_PAUSE = 0.5
"""Seconds from one start of a command to the next, at least."""
_LOOK_FOR_ROOM = 0.1
"""Seconds between looks into the pipe meanwhile."""


class Outlets:
    """The outlets of one daemon; what had to be opened for them is ours to close."""

    def __init__(self, chdir: str | os.PathLike[Any], umask: int) -> None:
        # A command works where the daemon does, which is started elsewhere.
        self._surroundings: Any = {"cwd": os.path.abspath(os.fsdecode(chdir)), "umask": umask}
        self._commands: list[tuple[Runnable[Any], int]] = []
        self.opened: list[Descriptor] = []

    def descriptor_of(self, outlet: Outlet) -> int | None:
        """The descriptor to write to; a command that is named again is the one that runs."""
        if outlet is None or isinstance(outlet, int):
            return outlet
        if not isinstance(outlet, Runnable):
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            return self._own(owned(os.open, outlet, flags, 0o640))
        for command, fd in self._commands:
            if command is outlet:
                return fd
        fd = self._own(self._start(outlet))
        self._commands.append((outlet, fd))
        return fd

    def _own(self, made: Descriptor) -> int:
        self.opened.append(made)
        return made.fileno()

    def _start(self, command: Runnable[Any]) -> Descriptor:
        command._refuse("daemonize", "stdin", "input", "pty")
        lines, writer = pipe()
        told, telling = pipe()
        with lines, told:
            with telling:
                keeper = fn(_keep, command, telling.fileno())
                keeper.with_options(
                    stdin=lines.fileno(),
                    stdout=NULL,
                    stderr=NULL,
                    new_session=True,
                    pass_fds=(telling.fileno(),),
                    **self._surroundings,
                ).background()
            news = b""
            while wait.one(told.fileno(), wait.READ, NEVER) and (data := os.read(told.fileno(), 65536)):
                news += data
        error = pickle.loads(news) if news else ChildProcessError(f"what was to start {command} has been killed")
        if error is not None:
            writer.close()
            raise error
        return writer

    def close(self) -> None:
        """Close all: commands read their end of file, and end."""
        for each in self.opened:
            each.close()


def _keep(command: Runnable[Any], telling: int) -> None:
    """The life of a keeper, whose stdin is the pipe."""
    os.set_inheritable(telling, False)
    due = after(_PAUSE)
    try:
        running = command.start()
    except OSError as error:
        os.write(telling, pickle.dumps(error))
        return
    os.write(telling, pickle.dumps(None))
    os.close(telling)
    last = False
    while True:
        with suppress(CommandTimeout):  # its own limit: it is the next one's turn
            running.wait()
        bits = wait.one(0, wait.READ, NEVER)
        if last or not bits & wait.READ:
            return  # nobody writes any more
        last = wait.hung_up(bits) or _pause(due, command)  # what is left then gets one chance
        due = after(_PAUSE)
        with suppress(OSError):
            running = command.start()


def _pause(until: int, command: Runnable[Any]) -> bool:
    """Let some time pass, but hold nobody up who writes meanwhile; whether they have all gone."""
    while not passed(until):
        with owned(os.open, "/proc/self/fd/0", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC) as again:
            if not wait.one(again.fileno(), wait.WRITE, 0):
                held = struct.unpack("i", fcntl.ioctl(0, termios.FIONREAD, bytes(4)))[0]
                lost = os.read(0, held).count(b"\n")
                word = f"hornpipe: {lost} lines are missing here: {command} did not run\n"
                with suppress(BlockingIOError):  # they were quicker, and there is no room again
                    os.write(again.fileno(), word.encode())
        if wait.one(0, 0, sooner(until, after(_LOOK_FOR_ROOM))):
            return True
    return False
