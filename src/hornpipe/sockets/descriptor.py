"""A socket that is owned: a descriptor with the calls for it."""

from __future__ import annotations

from _socket import MSG_DONTWAIT, MSG_NOSIGNAL, SOCK_STREAM, getdefaulttimeout
from _socket import socket as Calls
from _thread import allocate_lock

from hornpipe import wait
from hornpipe.fd import Descriptor, above_stdio

NO_WAIT = MSG_DONTWAIT | MSG_NOSIGNAL
"""For every send and receive. The descriptor itself stays in blocking mode, since a child that gets it for its
stdin shares the mode (gotcha:P5); and a peer that has gone is an error and no PIPE."""

_making = allocate_lock()


class Socket(Descriptor):
    """One socket, close-on-exec, above 2."""

    __slots__ = ("_calls", "_family")

    def __init__(self, calls: Calls) -> None:
        if calls.fileno() <= 2:
            family, kind, protocol = calls.family, calls.type, calls.proto
            calls = Calls(family, kind, protocol, fileno=above_stdio(calls.detach()))
        if calls.gettimeout() is not None:
            calls.setblocking(True)  # somebody's socket.setdefaulttimeout() is no rule for us
        super().__init__(calls.fileno())
        self._calls: Calls | None = calls
        self._family: int = calls.family

    @classmethod
    def accepted(cls, fd: int, family: int) -> Socket:
        """One that accept(2) has made; it has no name yet to be looked up, and is nobody else's."""
        if fd <= 2:
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
            with _making:
                if self._calls is None:
                    self._calls = self._made_calls()
        return self._calls

    def _made_calls(self) -> Calls:
        if self._fd < 0:
            return Calls.__new__(Calls)  # closed: each call says EBADF
        made = Calls(self._family, SOCK_STREAM, 0, self._fd)
        if getdefaulttimeout() is not None:
            made.setblocking(True)
        return made

    def close(self) -> None:
        """Close it; closing twice does nothing."""
        fd, self._fd = self._fd, -1
        # Two owners would close it twice, and the second time somebody else's. Where both are collected in a cycle,
        # the other one's finalizer may have been the first.
        if self._calls is not None and self._calls.detach() < 0:
            return
        if fd >= 0:
            wait.close(fd)

    def detach(self) -> int:
        """Give the number away, open."""
        if self._calls is not None:
            self._calls.detach()
        return super().detach()
