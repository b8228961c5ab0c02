"""A socket that is owned: a descriptor with the calls for it."""

from __future__ import annotations

import errno
import sys
from _socket import AF_UNIX, MSG_DONTWAIT, MSG_NOSIGNAL, SHUT_WR, SOCK_STREAM, getdefaulttimeout
from _socket import socket as Calls
from _thread import RLock

from hornpipe import wait
from hornpipe.deadline import after, passed, sooner
from hornpipe.fd import Descriptor, owned

NO_WAIT = MSG_DONTWAIT | MSG_NOSIGNAL
"""For every send and receive. The descriptor itself stays in blocking mode, since a child that gets it for its
stdin shares the mode (gotcha:P5); and a peer that has gone is an error and no PIPE."""

LINGER = 2.0
"""Seconds for which a peer that was still sending is heard out before the end."""
_QUIET = 0.05
"""Seconds without input after which such a peer is taken to have finished."""
_MOST_DROPPED = 256 * 1024
"""Bytes that are dropped at a time."""

_COLLECTED = bool(Calls.__flags__ & 1 << 14)  # Py_TPFLAGS_HAVE_GC, since Python 3.12
"""Whether a cycle that holds a socket can be the end of its calls before ours, with a ``ResourceWarning``: what was
made later is finalized later."""

_making = RLock()  # a signal's handler may ask for the calls of a socket while those of one are being made


class Socket(Descriptor):
    """One socket, close-on-exec, above 2."""

    __slots__ = ("_calls", "_family")

    def __init__(self, calls: Calls) -> None:
        super().__init__()
        self._family: int = calls.family
        self._calls: Calls | None = calls
        if _COLLECTED or calls.fileno() <= 2:
            self._calls = None
            wait.own(self, owned(calls.detach).detach)
            self._make_calls(calls.type, calls.proto)
        else:
            if calls.gettimeout() is not None:
                calls.setblocking(True)  # somebody's socket.setdefaulttimeout() is no rule for us
            self._fd = calls.fileno()

    @classmethod
    def accepted(cls, fd: int, family: int) -> Socket:
        """One that accept(2) has made; it has no name yet to be looked up, and is nobody else's."""
        if 0 <= fd <= 2:
            return cls(Calls(family, SOCK_STREAM, 0, fileno=fd))
        made = cls.__new__(cls)
        made._fd = fd
        made._calls = None
        made._family = family
        return made

    @property
    def calls(self) -> Calls:
        """The system calls on it, as the socket module has them; of an accepted one, made when they are asked for."""
        if self._calls is None:
            self._make_calls(SOCK_STREAM, 0)
            assert self._calls is not None
        return self._calls

    def _make_calls(self, kind: int, protocol: int) -> None:
        with _making:
            made = Calls.__new__(Calls)
            try:
                if self._fd >= 0:  # else it is closed, and each call says EBADF
                    made.__init__(self._family, kind, protocol, self._fd)  # type: ignore[misc]
                    if getdefaulttimeout() is not None:
                        made.setblocking(True)
                self._calls = self._calls or made
            finally:
                # What a handler of a signal has made in between, or has raised: dropped as it is, ours would close
                # a descriptor that is not its own.
                if self._calls is not made:
                    made.detach()

    def close(self) -> None:
        """Close it; closing twice does nothing."""
        fd, self._fd = self._fd, -1
        try:
            # Two owners would close it twice, and the second time somebody else's. Where both are collected in a cycle,
            # the other one's finalizer may have been the first.
            if self._calls is not None:
                fd = self._calls.detach()
        finally:  # also when a signal's handler raises: nobody else knows of it any more
            if fd >= 0:
                wait.close(fd)

    def finish(self) -> None:
        """Tell the peer that nothing more comes (shutdown(2))."""
        try:
            self.calls.shutdown(SHUT_WR)
        except OSError as error:
            if error.errno != errno.ENOTCONN:  # the peer was quicker, and has gone altogether
                raise

    def discard(self) -> bool:
        """Drop what has come on a stream; whether that was anything. Never waits."""
        calls = self.calls
        if calls.type != SOCK_STREAM:
            return False
        try:
            return bool(calls.recv(_MOST_DROPPED, NO_WAIT))
        except OSError:
            return False

    def hear_out(self) -> None:
        """Let a peer that is still sending finish, for ``LINGER`` seconds at most (gotcha:SO12)."""
        self.finish()
        deadline = after(LINGER)
        while not passed(deadline):
            if wait.one(self.fileno(), wait.READ, sooner(deadline, after(_QUIET))):
                if not self.discard():
                    return
            elif not self._unsent():
                return

    def _unsent(self) -> int:
        """Bytes that the peer's kernel has not acknowledged yet."""
        if self._family == AF_UNIX:
            return 0
        import fcntl
        import termios

        return int.from_bytes(fcntl.ioctl(self.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder)

    def detach(self) -> int:
        """Give the number away, open."""
        if self._calls is not None:
            self._calls.detach()
        return super().detach()
