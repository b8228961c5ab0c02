"""Descriptors that are owned: close-on-exec from birth, above 2, closed once (gotcha:R7, R8, SP7)."""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Callable
from typing import Any

from hornpipe import wait

PIPE_SIZE = 1 << 20
"""What big streams are given, in bytes: the most an unprivileged process may ask for (pipe(7)).
Three times the throughput of the default 64 KiB, measured."""


class Descriptor:
    """One descriptor that is ours to close.

    >>> reader, writer = pipe()
    >>> os.write(writer.fileno(), b"x"), os.read(reader.fileno(), 9)
    (1, b'x')
    >>> reader.close(); reader.close(); reader.closed
    True
    >>> writer.close()
    """

    __slots__ = ("_fd",)

    def __init__(self, fd: int = -1) -> None:
        self._fd = fd  # set by the native room as well: see owned

    def fileno(self) -> int:
        """The number; ``ValueError`` once it is closed."""
        if self._fd < 0:
            raise ValueError("the descriptor is closed")
        return self._fd

    @property
    def closed(self) -> bool:
        """Whether it has been closed or given away."""
        return self._fd < 0

    def close(self) -> None:
        """Close it; closing twice does nothing."""
        # Forgotten before it is closed: from then on the number may belong to somebody else.
        fd, self._fd = self._fd, -1
        if fd >= 0:
            wait.close(fd)

    def detach(self) -> int:
        """Give the number away, open."""
        fd = self.fileno()
        self._fd = -1
        return fd

    def __enter__(self) -> Descriptor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _left_open(self) -> None:
        # At the end of a program its modules are emptied before the last objects go; the kernel closes what is left.
        if wait is not None:
            self.close()

    # Not a function of Python's: what a signal handler raises in it, be it KeyboardInterrupt, is lost.
    __del__ = wait.let_go


def above_stdio(fd: int) -> int:
    """The same file on a number above 2.

    A program that closed its stdin gets 0 for its next pipe; what it later prints to or reads
    from "the terminal" would go into our pipe (gotcha:SP7).
    """
    if fd > 2:
        return fd
    try:
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
    finally:
        os.close(fd)


def owned(call: Callable[..., int], *arguments: object) -> Descriptor:
    """What a native ``call`` opens, on a number above 2; it is owned before a signal's handler can raise.

    In ``Descriptor(os.open(...))`` there is an instant in which the number is nobody's.

    >>> with owned(os.open, os.devnull, os.O_RDONLY | os.O_CLOEXEC) as null:
    ...     os.read(null.fileno(), 1)
    b''
    """
    made = Descriptor()
    wait.own(made, call, *arguments)
    return _lifted(made)


def owned_pair(call: Callable[..., tuple[int, int]], *arguments: object) -> tuple[Descriptor, Descriptor]:
    """The same for a call that opens two."""
    one, other = Descriptor(), Descriptor()
    wait.own_both(one, other, call, *arguments)
    if one._fd > 2 and other._fd > 2:
        return one, other
    return _lifted(one), _lifted(other)


def open_path(path: str | bytes, flags: int, mode: int, deadline: int) -> Descriptor | None:
    """``os.open``, which waits for a FIFO's other end, but not beyond the deadline: ``None`` then."""
    made = Descriptor()
    return _lifted(made) if wait.open_path(made, path, flags, mode, deadline) else None


def open_renewed(path: str | bytes, fresh: bytes, deadline: int) -> tuple[Descriptor, bool] | None:
    """See ``wait.open_renewed``: what was opened, and whether ``fresh`` is in its place."""
    made = Descriptor()
    renewed = wait.open_renewed(made, path, fresh, deadline)
    return None if renewed is None else (_lifted(made), renewed)


def _lifted(made: Descriptor) -> Descriptor:
    if made._fd > 2:
        return made
    with made:
        return owned(fcntl.fcntl, made._fd, fcntl.F_DUPFD_CLOEXEC, 3)


def pipe() -> tuple[Descriptor, Descriptor]:
    """A pipe: its read end and its write end."""
    return owned_pair(os.pipe2, os.O_CLOEXEC)


def widen(fd: int) -> None:
    """Give a pipe ``PIPE_SIZE``, if the system lets us; anything else is left as it is."""
    try:
        fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, PIPE_SIZE)
    except OSError:
        pass  # the user's pipes are over their limit, or it is no pipe: slower, not wrong


def nonblocking(fd: int) -> None:
    """Make a descriptor that we created non-blocking.

    Never one that was inherited: the flag belongs to the open file, which others share (gotcha:P5).
    """
    os.set_blocking(fd, False)


def flush_printed() -> bool:
    """What we have printed comes before what others print, and once (perlipc:O9); false as for ``flush``."""
    try:
        sys.stdout.flush()
        sys.stderr.flush()
        return True
    except (AttributeError, OSError, ValueError, RuntimeError):
        pass  # one by one, to see
    printed = flush(sys.stdout)
    return flush(sys.stderr) and printed


def flush(stream: Any) -> bool:
    """Flush it, if it can be done; false when we are a handler of a signal that came in the middle of writing to it."""
    try:
        if stream is not None:
            stream.flush()
    except (OSError, ValueError):
        pass  # nobody is left to read it
    except RuntimeError:
        return False
    return True
