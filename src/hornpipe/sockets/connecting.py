"""Connecting: the first of a host's addresses that answers (RFC 8305), under one deadline (gotcha:SO4)."""

from __future__ import annotations

import errno
import os
from _socket import (
    AF_UNIX,
    IPPROTO_TCP,
    SO_ERROR,
    SOCK_STREAM,
    SOL_SOCKET,
    TCP_NODELAY,
    gaierror,
)
from _socket import socket as Calls
from typing import TYPE_CHECKING, Any, NamedTuple

from hornpipe import wait
from hornpipe.address import Address
from hornpipe.deadline import after, passed, sooner
from hornpipe.lines import TEXT, check_newline
from hornpipe.resolve import Place, places
from hornpipe.sockets.connection import Connection
from hornpipe.sockets.descriptor import Socket
from hornpipe.sockets.socket_handle import LINE_LIMIT

if TYPE_CHECKING:
    from ssl import SSLContext

_HEAD_START = 0.25
"""Seconds that an address has before the next one is tried beside it (RFC 8305, section 5)."""
_FULL = 0.01
"""Seconds between tries of a Unix listener whose queue is full: no event tells of room (gotcha:SO11)."""


def connect(
    address: str | Address,
    *,
    timeout: float | None = None,
    tls: bool | SSLContext = False,
    server_name: str | None = None,
    local: str | Address | None = None,
    newline: str = "\n",
    line_limit: int | None = LINE_LIMIT,
    receives_fds: bool = False,
) -> Connection[str]:
    r"""Connect to ``address``: ``tcp://host:port`` or ``unix:///path`` (perlipc:N4, N9).

    ``timeout`` seconds bound the look-up, the connecting and TLS together (``TimeoutError``), and then each
    call of the connection that is given none of its own (its ``timeout`` attribute). A host's addresses are
    tried one beside the other, of both families in turn; the error says what became of each.
    A line longer than ``line_limit`` bytes is refused when it is read; ``None`` bounds nothing.

    ``tls`` is true for the system's authorities and the standard library's defaults, or an
    ``SSLContext``; ``server_name`` is whose certificate is wanted, if not the host's. ``local`` is the
    address to come from. ``newline="crlf"`` (or ``"\r\n"``) for the protocols of the Internet.

    >>> connect("tcp://127.0.0.1:1", timeout=5)
    Traceback (most recent call last):
    ...
    ConnectionRefusedError: [Errno 111] no connection to tcp://127.0.0.1:1: Connection refused
    """
    where = Address.parse(address)
    if where.socket_type != SOCK_STREAM:
        raise ValueError(f"{str(where)!r} is no stream; open_datagram is for datagrams")
    if tls and where.is_unix and not server_name:
        raise ValueError("tls over a Unix name needs a server_name, whose certificate is wanted")
    origin = None if local is None else Address.parse(local)
    if origin is not None and origin.scheme != where.scheme:
        raise ValueError(f"local={str(origin)!r} cannot connect to {str(where)!r}")
    newline = check_newline(newline)
    deadline = after(timeout)
    kind, extra = _kind(tls, server_name or where.host)
    place, socket = _Race(where, origin, deadline, timeout).run()
    try:
        peer = Address.of(where.scheme, socket.calls.getpeername())
    except OSError:  # reset already: whoever reads or writes hears of it
        peer = Address.of(where.scheme, place.name)
    connection = kind(
        socket,
        TEXT,
        scheme=where.scheme,
        peer=peer,
        name=str(where),
        timeout=timeout,
        newline=newline,
        line_limit=line_limit,
        receives_fds=receives_fds,
        **extra,
    )
    if tls:
        _encrypt(connection, server_name or where.host, deadline)
    return connection


def _kind(tls: bool | SSLContext, server_name: str) -> tuple[type[Connection[Any]], dict[str, Any]]:
    if not tls:
        return Connection, {}
    import ssl

    from hornpipe.sockets.tls import TlsConnection

    context = ssl.create_default_context() if isinstance(tls, bool) else tls
    if not isinstance(context, ssl.SSLContext):
        raise TypeError(f"tls must be true, or an SSLContext, not {tls!r}")
    if context.protocol == ssl.PROTOCOL_TLS_SERVER:
        raise ValueError("tls is a context for servers; ssl.create_default_context() makes one for clients")
    return TlsConnection, {"context": context, "server_name": server_name}


def _encrypt(connection: Any, server_name: str, deadline: int) -> None:
    try:
        connection.shake(deadline)
    except BaseException as error:
        connection.leave()
        if isinstance(error, OSError) and not isinstance(error, TimeoutError):
            error.add_note(f"while connecting to {connection.name} as {server_name!r}")
        raise


class _Attempt(NamedTuple):
    """One numeric address that is being tried."""

    place: Place
    socket: Socket


class _Race:
    """The addresses of one host, each with a head start before the next."""

    def __init__(self, address: Address, local: Address | None, deadline: int, timeout: float | None) -> None:
        self._address = address
        self._local = local
        self._deadline = deadline
        self._timeout = timeout
        self._running: dict[int, _Attempt] = {}
        self._failed: list[tuple[Place, OSError]] = []

    def run(self) -> _Attempt:
        """The one that was connected first; ``OSError`` when none was."""
        waiting = _in_turn(places(self._address, self._deadline))
        try:
            while waiting or self._running:
                if waiting:
                    winner = self._start(waiting.pop(0))
                    if winner is not None:
                        return winner
                    if not self._running:
                        continue
                limit = sooner(self._deadline, after(_HEAD_START)) if waiting else self._deadline
                winner = self._await_one(limit)
                if winner is not None:
                    return winner
                if passed(self._deadline):
                    raise self._timed_out()
            raise self._failure()
        finally:
            for attempt in self._running.values():
                attempt.socket.close()

    def _start(self, place: Place) -> _Attempt | None:
        try:
            socket = Socket(Calls(place.family, self._address.socket_type, 0))
        except OSError as error:
            self._failed.append((place, error))
            return None
        attempt = _Attempt(place, socket)
        try:
            self._prepare(socket, place)
            while True:
                result = socket.calls.connect_ex(place.name)
                if result != errno.EAGAIN or place.family != AF_UNIX:
                    break
                # gotcha:SO11
                if passed(self._deadline):
                    raise self._timed_out("its queue is full")
                wait.until([], sooner(self._deadline, after(_FULL)))
        except TimeoutError:
            socket.close()
            raise
        except OSError as error:
            self._failed.append((place, error))
            socket.close()
            return None
        if result == errno.EINPROGRESS:
            self._running[socket.fileno()] = attempt
            return None
        return self._settle(attempt, result)

    def _prepare(self, socket: Socket, place: Place) -> None:
        socket.calls.setblocking(False)
        if self._address.scheme == "tcp":
            socket.calls.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
        if self._local is None:
            return
        for origin in places(self._local, self._deadline, passive=True):
            if origin.family == place.family:
                socket.calls.bind(origin.name)
                return
        raise OSError(errno.EADDRNOTAVAIL, f"local={str(self._local)!r} is of another family")

    def _settle(self, attempt: _Attempt, result: int) -> _Attempt | None:
        socket = attempt.socket
        if not result and self._is_itself(socket):
            result = errno.ECONNREFUSED
        if not result:
            socket.calls.setblocking(True)
            return attempt
        self._failed.append((attempt.place, OSError(result, os.strerror(result))))
        socket.close()
        return None

    def _is_itself(self, socket: Socket) -> bool:
        # Who tries an ephemeral port may be given that very port: TCP then connects it to itself (gotcha:SO11).
        try:
            return self._address.scheme == "tcp" and socket.calls.getsockname() == socket.calls.getpeername()
        except OSError:
            return False  # connected, and reset already: whoever reads or writes hears of it

    def _await_one(self, limit: int) -> _Attempt | None:
        for fd, _ in wait.until([(fd, wait.WRITE) for fd in self._running], limit):
            attempt = self._running.pop(fd)
            # Read once: reading it clears it (gotcha:SO4).
            winner = self._settle(attempt, attempt.socket.calls.getsockopt(SOL_SOCKET, SO_ERROR))
            if winner is not None:
                return winner
        return None

    def _tried(self) -> str:
        each = [f"{_shown(place)}: {error.strerror}" for place, error in self._failed]
        each += [f"{_shown(attempt.place)}: no answer" for attempt in self._running.values()]
        return "; ".join(each)

    def _timed_out(self, why: str = "") -> TimeoutError:
        return TimeoutError(
            f"no connection to {self._address} within {self._timeout:g} s: {why or self._tried() or 'no answer'}"
        )

    def _failure(self) -> OSError:
        first = self._failed[0][1]
        tried = self._tried() if len(self._failed) > 1 else str(first.strerror)
        hint = ""
        if self._address.is_unix and first.errno == errno.ECONNREFUSED:
            hint = " (the name is there, and nobody listens)"
        # OSError makes itself ConnectionRefusedError, FileNotFoundError, ... by its number.
        return OSError(first.errno, f"no connection to {self._address}: {tried}{hint}")


def _shown(place: Place) -> str:
    return os.fsdecode(place.name) if isinstance(place.name, bytes) else str(place.name[0])


def _in_turn(found: list[Place]) -> list[Place]:
    """The families in turn, beginning with that of the best address (RFC 8305, section 4)."""
    if not found:
        raise gaierror("the host has no address")
    first = [place for place in found if place.family == found[0].family]
    second = [place for place in found if place.family != found[0].family]
    order = []
    while first or second:
        order += first[:1] + second[:1]
        first, second = first[1:], second[1:]
    return order
