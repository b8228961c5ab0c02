"""Expecting from a socket."""

from __future__ import annotations

from typing import Any

from hornpipe import wait
from hornpipe.expect.exceptions import ExceptionPexpect
from hornpipe.expect.spawnbase import SpawnBase


class SocketSpawn(SpawnBase):
    r"""Expect from a connected stream socket, which stays the caller's in its modes and is closed by ``close``.

    >>> import socket
    >>> here, there = socket.socketpair()
    >>> there.sendall(b"220 ready\r\n")
    >>> with there, SocketSpawn(here) as server:
    ...     server.expect(r"(\d+) \w+\r\n")
    ...     server.match.group(1)
    0
    b'220'
    """

    def __init__(
        self,
        socket: Any,
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
        if not (hasattr(socket, "fileno") and hasattr(socket, "sendall")):
            raise ExceptionPexpect("The socket argument is not a socket.")
        if hasattr(socket, "pending"):
            raise ExceptionPexpect("A TLS socket cannot be read by its descriptor.")
        super().__init__(timeout, maxread, searchwindowsize, logfile, encoding, codec_errors, before_limit=before_limit)
        self.socket = socket
        self.child_fd = socket.fileno()
        self.closed = False
        self.use_poll = use_poll
        self.name = f"<socket {self.child_fd}>"
        self.args = args
        self.command = None

    def isalive(self) -> bool:
        """Whether the socket is open on our side."""
        return bool(self.socket.fileno() >= 0)

    def close(self, force: bool = True) -> None:
        """End the connection."""
        if self.child_fd == -1:
            return
        wait.woken(self.child_fd)
        self.child_fd = -1
        self.closed = True
        try:
            self.socket.shutdown(2)
        except OSError:
            pass  # the other side was quicker
        self.socket.close()

    def _write_some(self, data: memoryview) -> int:
        from socket import MSG_DONTWAIT

        if self.socket.gettimeout() is not None:
            return super()._write_some(data)  # it does not block, and its own send would wait as long as that
        try:
            count: int = self.socket.send(data, MSG_DONTWAIT)
        except BlockingIOError:
            return 0
        return count
