"""Expecting from a descriptor that somebody else has opened: a serial line, a FIFO, the end of a pipe."""

from __future__ import annotations

import os
from typing import Any

from hornpipe import wait
from hornpipe.expect.exceptions import ExceptionPexpect
from hornpipe.expect.spawnbase import SpawnBase

_PIECE = 512
"""Bytes written after each "writable" to a descriptor that may block: what POSIX lets a pipe take whole at least."""


class fdspawn(SpawnBase):
    """Expect from an open descriptor, or from what has a ``fileno()``.

    Its flags stay as they are, since others may share it (gotcha:P5).

    >>> import os
    >>> reader, writer = os.pipe()
    >>> os.write(writer, b"login: ")
    7
    >>> with fdspawn(reader) as line:
    ...     line.expect("log(.*): ")
    0
    >>> os.close(writer)
    """

    _piece = _PIECE

    def __init__(
        self,
        fd: Any,
        args: None = None,
        timeout: float | None = 30,
        maxread: int = 2000,
        searchwindowsize: int | None = None,
        logfile: Any = None,
        encoding: str | None = None,
        codec_errors: str = "strict",
        use_poll: bool = False,
        *,
        before_limit: int | None = None,
    ) -> None:
        if not isinstance(fd, int) and hasattr(fd, "fileno"):
            fd = fd.fileno()
        if not isinstance(fd, int):
            raise ExceptionPexpect(
                "The fd argument is not an int. If this is a command string then maybe you want to use pexpect.spawn."
            )
        try:
            os.fstat(fd)
        except OSError:
            raise ExceptionPexpect("The fd argument is not a valid file descriptor.") from None
        super().__init__(timeout, maxread, searchwindowsize, logfile, encoding, codec_errors, before_limit=before_limit)
        self.child_fd = fd
        self.own_fd = False
        self.closed = False
        self.use_poll = use_poll
        self.name = f"<file descriptor {fd}>"
        self.args = args
        self.command = None

    def isalive(self) -> bool:
        """Whether the descriptor is open."""
        if self.child_fd == -1:
            return False
        try:
            os.fstat(self.child_fd)
        except OSError:
            return False
        return True

    def close(self, force: bool = True) -> None:
        """Close the descriptor."""
        if self.child_fd == -1:
            return
        fd, self.child_fd = self.child_fd, -1
        self.closed = True
        wait.woken(fd)
        os.close(fd)

    def terminate(self, force: bool = False) -> bool:
        """A descriptor has nothing to end."""
        raise ExceptionPexpect("This method is not valid for file descriptors.")

    def kill(self, sig: int) -> None:
        """Nothing: a descriptor hears no signals."""

    def _write_some(self, data: memoryview) -> int:
        # Never without asking: it may be one that blocks.
        return super()._write_some(data) if wait.writable(wait.on(self._open_fd, wait.WRITE, 0)) else 0
