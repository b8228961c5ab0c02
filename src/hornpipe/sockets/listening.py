"""Listening, and taking in who connects (perlipc:N4, N8, N17)."""

from __future__ import annotations

import errno
import os
import select
from _socket import (
    AF_UNIX,
    IPPROTO_TCP,
    SHUT_RDWR,
    SOCK_STREAM,
    TCP_NODELAY,
)
from _socket import socket as Calls
from collections import OrderedDict
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Self

from hornpipe import wait
from hornpipe.address import Address
from hornpipe.deadline import after, check_timeout, passed, sooner
from hornpipe.fd import Descriptor, owned
from hornpipe.lines import TEXT, check_newline
from hornpipe.sockets.connection import Connection
from hornpipe.sockets.descriptor import Socket
from hornpipe.sockets.listening_sockets import Made
from hornpipe.sockets.socket_handle import LINE_LIMIT
from hornpipe.sockets.unix_names import BoundName, check_mode

if TYPE_CHECKING:
    from ssl import SSLContext

_BACKLOG = 65535
"""More than the system allows: it cuts it to its own limit, net.core.somaxconn."""
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.01, 1.0
"""Seconds between tries when there are no descriptors left."""

# accept(2): errors of the connection that is waiting, which is gone with them. The next one may be fine.
_LOST = {
    errno.ECONNABORTED,
    errno.EPROTO,
    errno.ENETDOWN,
    errno.ENOPROTOOPT,
    errno.EHOSTDOWN,
    errno.ENONET,
    errno.EHOSTUNREACH,
    errno.EOPNOTSUPP,
    errno.ENETUNREACH,
    errno.EPERM,
    errno.ETIMEDOUT,
}
_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class Listener:
    """Sockets that listen, at one address or several.

    A context manager and an iterator of connections; ``fileno()`` can be polled. Leaving closes it
    and removes the Unix names that this process made for it.

    >>> import hornpipe as hp
    >>> with listen("tcp://127.0.0.1:0") as listener, hp.connect(listener.address) as client:
    ...     with listener.accept(timeout=5) as connection:
    ...         connection.peer == client.local
    True
    """

    def __init__(
        self,
        sockets: list[tuple[Socket, Address]],
        names: list[BoundName],
        kind: type[Connection[Any]],
        options: dict[str, Any],
        *,
        passed: bool,
    ) -> None:
        self._sockets = OrderedDict((socket.fileno(), (socket, address)) for socket, address in sockets)
        self._names = names
        self._is_passed = passed
        self._kind = kind
        self._options = options
        self._all: Descriptor | None = None
        self._kinds: dict[int, type[Connection[Any]]] = {}
        for socket, _ in sockets:
            # Who is ready may have gone before we ask, or have been taken in by a sibling.
            socket.calls.setblocking(False)
            if socket.calls.family != AF_UNIX:
                socket.calls.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)  # connections have it from here, on Linux

    @property
    def addresses(self) -> list[Address]:
        """Where it listens, with the ports that the system chose."""
        return [address for _, address in self._sockets.values()]

    @property
    def address(self) -> Address:
        """Where it listens, the first if there are several."""
        self.fileno()
        return self.addresses[0]

    @property
    def encrypts(self) -> bool:
        """Whether its connections are encrypted."""
        return self._kind is not Connection

    @property
    def closed(self) -> bool:
        """Whether it has been closed."""
        return not self._sockets

    def fileno(self) -> int:
        """What is readable when somebody waits to be accepted; for several sockets, an epoll descriptor."""
        if not self._sockets:
            raise ValueError("the listener is closed")
        if len(self._sockets) == 1:
            return next(iter(self._sockets))
        if self._all is None:
            epoll = select.epoll()
            for fd in self._sockets:
                epoll.register(fd, select.EPOLLIN)
            self._all = owned(os.dup, epoll.fileno())
            epoll.close()
        return self._all.fileno()

    def accept(self, timeout: float | None = None) -> Connection[str]:
        """The next connection; ``TimeoutError`` when none comes within ``timeout`` seconds (accept(2)).

        One that has gone before it was accepted is passed over. When the process or the system has
        no descriptors left it tries again, ever less often, until the deadline.
        """
        return self._next(timeout)

    def _next(self, timeout: float | None) -> Connection[str]:
        deadline = after(timeout)
        pause = _SHORTEST_PAUSE
        # Of one socket it is not asked first whether somebody waits: on a busy server somebody does.
        ready = list(self._sockets) if len(self._sockets) == 1 else self._ready(deadline)
        last = False
        while True:
            lack: OSError | None = None
            for fd in ready:
                try:
                    taken = self.take(fd)
                except OSError as error:
                    if error.errno not in _EXHAUSTED:
                        raise
                    lack = error
                else:
                    if taken is not None:
                        return taken
            if lack is not None:
                # It is still waiting, so the next poll would come at once: no spinning.
                wait.until([], sooner(deadline, after(pause)))
                pause = min(2 * pause, _LONGEST_PAUSE)
            if last:
                why = f": {lack.strerror}" if lack else ""
                raise TimeoutError(f"no connection to {self._shown()} within {timeout:g} s{why}") from lack
            ready = self._ready(deadline)
            last = passed(deadline)

    def _ready(self, deadline: int) -> list[int]:
        return [fd for fd, _ in wait.on_any(self._wanted, deadline)]

    def _wanted(self) -> list[tuple[int, int]]:
        self.fileno()
        return [(fd, wait.READ) for fd in self._sockets]

    @property
    def descriptors(self) -> list[int]:
        """Each of its sockets: what is readable when somebody waits there to be taken in."""
        self.fileno()
        return list(self._sockets)

    def take(self, fd: int) -> Connection[str] | None:
        """Take in who waits at one of its ``descriptors``; ``None`` when nobody does (any more). Never waits.

        ``OSError`` (EMFILE, ENFILE, ENOBUFS, ENOMEM) when there is no room: whoever waits goes on waiting.
        """
        kind = self._kinds.get(fd)
        try:
            # First: once somebody has been accepted, nothing may fail, though a handler or another thread closes us.
            if kind is None:
                kind = self._make_kind(fd)
            socket, _ = self._sockets[fd]
            # Who is busy must not keep the others from being heard. In one step: a signal's handler finds us whole.
            self._sockets.move_to_end(fd)
            taken = Socket.accepted(-1, kind.family)
            name = wait.own_first(taken, socket.calls._accept)  # type: ignore[attr-defined]  # typeshed leaves it out
        except BlockingIOError:
            return None
        except (KeyError, ValueError, OSError) as error:
            if fd not in self._sockets:
                raise ValueError("the listener is closed") from None
            if isinstance(error, OSError) and error.errno in _LOST:
                return None
            raise
        return kind.of(taken if taken.fileno() > 2 else Socket.accepted(taken.detach(), kind.family), name)

    def connection(self, fd: int, taken: int, name: Any) -> Connection[str]:
        """The connection of a client that was accepted at one of its ``descriptors``: its own, and its name.

        Instead of the name it may be what tells it when it is called.
        """
        kind = self._kinds.get(fd)
        if kind is None:
            kind = self._make_kind(fd)
        return kind.of(Socket.accepted(taken, kind.family), name)

    def bound(self, timeout: float | None) -> None:
        """From now on ``timeout`` seconds are the limit of each call on a connection that is given none of its own.

        ``TimeoutError`` is raised by the call that is over it.
        """
        self._options["timeout"] = timeout
        self._kinds.clear()

    def _make_kind(self, fd: int) -> type[Connection[str]]:
        socket, address = self._sockets[fd]
        made: Connection[str] = self._kind(
            socket, TEXT, scheme=address.scheme, peer=None, name=f"a client of {address}", **self._options
        )
        kind = made.kind_like_this()
        kind.family = socket.calls.family
        self._kinds[fd] = kind
        return kind

    def calls(self, fd: int) -> Calls:
        """The system calls on one of its ``descriptors``, as the socket module has them."""
        return self._sockets[fd][0].calls

    def refuse(self) -> None:
        """Listen no more, whoever else has these sockets too; but not where a service manager does, whose they are.

        Who has connected and was not accepted is turned away.
        """
        for socket, _ in list(self._sockets.values()) if not self._is_passed else ():  # a thread may be taking in
            try:
                socket.calls.shutdown(SHUT_RDWR)
            except OSError:
                pass  # done already

    def leave(self) -> None:
        """Close our descriptors and nothing else: another process listens there now. Names go with ``close``."""
        if self._all is not None:
            self._all.close()
        sockets, self._sockets = self._sockets, OrderedDict()
        for socket, _ in sockets.values():
            socket.close()

    def _shown(self) -> str:
        return " and ".join(map(str, self.addresses)) or "the listener"

    def __iter__(self) -> Iterator[Connection[str]]:
        while True:
            yield self._next(None)

    def close(self) -> None:
        """Stop listening and remove the names that this process made; closing twice does nothing.

        Who has connected and was not accepted is turned away. In a forked child only the child's
        descriptors are closed: the parent goes on listening.
        """
        names, self._names = self._names, []
        try:
            for name in names:
                name.remove()
        finally:
            self.leave()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Listener at {self._shown()}>" if self._sockets else "<Listener, closed>"


def listen(
    *addresses: str | Address,
    passed: str | None = None,
    backlog: int = _BACKLOG,
    mode: int = 0o600,
    reuse: bool = True,
    timeout: float | None = None,
    newline: str = "\n",
    line_limit: int | None = LINE_LIMIT,
    receives_fds: bool = False,
    tls: SSLContext | None = None,
    keep: bool = False,
) -> Listener:
    r"""Listen at ``tcp://host:port`` or ``unix:///path``, or at several of them (perlipc:N17).

    ``tcp://:9000`` is every interface, of IPv4 and IPv6; port 0 is a free one. A Unix name has ``mode``
    whatever the umask; a dead one in its place is replaced, a living server's or a file of another
    kind never. ``passed`` names sockets that a service manager may have opened for us (LISTEN_FDNAMES):
    they are taken if they are there, and else the addresses are made here.

    ``timeout`` (seconds, then ``TimeoutError``), ``newline``, ``line_limit`` (bytes) and ``receives_fds`` are those of
    the connections. With ``tls``, an ``SSLContext`` for servers with its certificate loaded, they are encrypted: each
    shakes hands at its first use (or ``handshake()``), so that no client can hold up the next ``accept``.
    ``reuse=False`` does without SO_REUSEADDR, so that a restart meets the last one's connections.
    With ``keep`` the sockets outlive a restart (``restart_on_hup()``): the program that comes after this one in
    its process finds them by the same address, and whoever connects meanwhile waits for it.

    >>> import hornpipe as hp
    >>> with listen("tcp://127.0.0.1:0") as listener, hp.connect(listener.address) as client:
    ...     with listener.accept(timeout=5) as connection:
    ...         print("hello", file=connection)
    ...     client.read(timeout=5)
    'hello\n'
    """
    wanted = [Address.parse(address) for address in addresses]
    for address in wanted:
        if address.socket_type != SOCK_STREAM:
            raise ValueError(f"{str(address)!r} is no stream; open_datagram is for datagrams")
    if not wanted and passed is None:
        raise ValueError("listen() needs an address, or the name of passed sockets")
    check_mode(mode)
    options: dict[str, Any] = {
        "timeout": check_timeout(timeout),
        "newline": check_newline(newline),
        "line_limit": line_limit,
        "receives_fds": receives_fds,
    }
    kind = Connection if tls is None else _encrypted(tls, options)
    made = Made(backlog, mode, reuse)
    try:
        if passed is not None:
            made.adopt(passed)
        if not made.sockets:
            if not wanted:
                raise FileNotFoundError(errno.ENOENT, f"no socket named {passed!r} was passed to this process")
            for address in wanted:
                if not (keep and made.take_kept(address)):
                    made.make(address)
                if keep:
                    made.keep(address)
        return Listener(made.sockets, made.names, kind, options, passed=made.passed)
    except BaseException:
        made.undo()
        raise


def _encrypted(tls: SSLContext, options: dict[str, Any]) -> type[Connection[Any]]:
    import ssl

    from hornpipe.sockets.tls import TlsConnection

    if not isinstance(tls, ssl.SSLContext):
        raise TypeError(f"tls must be an SSLContext with a certificate, not {tls!r}")
    if tls.protocol == ssl.PROTOCOL_TLS_CLIENT:
        raise ValueError("tls is a context for clients; ssl.create_default_context(ssl.Purpose.CLIENT_AUTH) makes one")
    options |= {"context": tls, "server_name": None}
    return TlsConnection
