"""Opening a socket for datagrams: what it is bound and connected to, and what it hears of (perlipc:N13)."""

from __future__ import annotations

import errno
import os
from _socket import (
    AF_INET,
    AF_INET6,
    AF_UNIX,
    IPPROTO_IP,
    IPPROTO_IPV6,
    IPV6_V6ONLY,
    SO_BROADCAST,
    SO_REUSEADDR,
    SOCK_STREAM,
    SOL_SOCKET,
)
from _socket import socket as Calls

from hornpipe.address import Address
from hornpipe.deadline import after
from hornpipe.resolve import places
from hornpipe.sockets.datagrams import DatagramSocket
from hornpipe.sockets.descriptor import Socket
from hornpipe.sockets.holders import holders
from hornpipe.sockets.refusals import IP_RECVERR, IPV6_RECVERR
from hornpipe.sockets.unix_names import BoundName, bind, check_mode

# ip(7), ipv6(7); the socket module does not have them.
_IP_MULTICAST_ALL, _IPV6_MULTICAST_ALL = 49, 29


def open_datagram(
    peer: str | Address | None = None,
    *,
    local: str | Address | None = None,
    timeout: float | None = None,
    broadcast: bool = False,
    reuse: bool = False,
    mode: int = 0o600,
    receives_fds: bool = False,
) -> DatagramSocket:
    """A socket for datagrams, to ``peer`` only or to and from anybody, at ``local`` (perlipc:N13).

    Addresses are ``udp://host:port`` and ``unixgram:///path``. ``timeout`` seconds bound the look-up,
    and then each call that is given none of its own (``TimeoutError``). ``broadcast`` allows sending to
    a whole network, ``reuse`` several sockets at one multicast port. A Unix ``local`` has ``mode``,
    replaces a dead name only, and is removed when the socket is closed; without one, nobody can answer.

    >>> with open_datagram(local="udp://127.0.0.1:0") as server, open_datagram(server.local) as client:
    ...     client.send(b"ping")
    ...     server.receive(timeout=5).data
    b'ping'
    """
    check_mode(mode)
    deadline = after(timeout)
    where = None if peer is None else Address.parse(peer)
    origin = None if local is None else Address.parse(local)
    given = [address for address in (where, origin) if address is not None]
    if not given:
        raise ValueError("open_datagram() needs a peer, a local address, or both")
    for address in given:
        if address.socket_type == SOCK_STREAM:
            raise ValueError(f"{str(address)!r} is a stream; connect and listen are for those")
        if address.scheme != given[0].scheme:
            raise ValueError(f"local={str(origin)!r} cannot reach {str(where)!r}")
    if where is None and origin is not None and origin.scheme == "unixseqpacket":
        raise ValueError(f"{str(origin)!r} needs a peer: such sockets are connected before they send or receive")
    opening = _Opening(where, origin, deadline)
    return opening.open(timeout, broadcast=broadcast, reuse=reuse, mode=mode, receives_fds=receives_fds)


class _Opening:
    """The steps of opening a socket, which leave nothing behind when one fails."""

    def __init__(self, peer: Address | None, local: Address | None, deadline: int) -> None:
        self._peer = peer
        self._local = local
        self._peers = [] if peer is None else places(peer, deadline)
        self._locals = [] if local is None else places(local, deadline, passive=True)

    def open(
        self, timeout: float | None, *, broadcast: bool, reuse: bool, mode: int, receives_fds: bool
    ) -> DatagramSocket:
        given = self._peer or self._local
        assert given is not None
        family = self._family()
        socket = Socket(Calls(family, given.socket_type, 0))
        name = None
        try:
            calls = socket.calls
            if family in (AF_INET, AF_INET6):
                # Refusals by name, and also for a socket without a peer (gotcha:U2).
                calls.setsockopt(IPPROTO_IP, IP_RECVERR, 1)
                # Only groups that this socket joined: by default it hears those of the whole machine.
                calls.setsockopt(IPPROTO_IP, _IP_MULTICAST_ALL, 0)
                if family == AF_INET6:
                    calls.setsockopt(IPPROTO_IPV6, IPV6_RECVERR, 1)
                    calls.setsockopt(IPPROTO_IPV6, _IPV6_MULTICAST_ALL, 0)
                    calls.setsockopt(IPPROTO_IPV6, IPV6_V6ONLY, int(bool(self._local and self._local.host)))
            if broadcast:
                calls.setsockopt(SOL_SOCKET, SO_BROADCAST, 1)
            if reuse:
                calls.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
            name = self._bind(socket, family, mode)
            peer = self._connect(calls, family)
            return DatagramSocket(socket, given.scheme, peer, name, timeout=timeout, receives_fds=receives_fds)
        except BaseException:
            if name is not None:
                name.remove()
            socket.close()
            raise

    def _family(self) -> int:
        families = [place.family for place in self._peers or self._locals]
        if self._peers and self._locals:
            both = {place.family for place in self._locals}
            families = [family for family in families if family in both]
            if not families:
                raise OSError(errno.EADDRNOTAVAIL, f"local={str(self._local)!r} is of another family")
        return families[0]

    def _bind(self, socket: Socket, family: int, mode: int) -> BoundName | None:
        if self._local is None:
            return None
        place = next(place for place in self._locals if place.family == family)
        try:
            if family == AF_UNIX:
                return bind(socket, self._local, mode, lambda: None)
            socket.calls.bind(place.name)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise OSError(errno.EADDRINUSE, f"{self._local} is in use{holders(place)}") from None
            if isinstance(error, FileExistsError | TimeoutError):
                raise
            raise OSError(error.errno, f"cannot have {self._local}: {error.strerror}") from None
        return None

    def _connect(self, calls: Calls, family: int) -> Address | None:
        if self._peer is None:
            return None
        place = next(place for place in self._peers if place.family == family)
        result = calls.connect_ex(place.name)
        if result:
            raise OSError(result, f"cannot reach {self._peer}: {os.strerror(result)}")
        return Address.of(self._peer.scheme, calls.getpeername())
