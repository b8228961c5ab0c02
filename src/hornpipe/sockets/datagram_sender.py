"""The half of a datagram socket that sends: to whom, when there is room, and what became of it."""

from __future__ import annotations

import errno
from _socket import AF_INET6
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NoReturn

from hornpipe import wait
from hornpipe.address import Address
from hornpipe.deadline import after, check_timeout, passed, sooner
from hornpipe.locks import HasFileno
from hornpipe.resolve import places
from hornpipe.sockets import batches, rights
from hornpipe.sockets.descriptor import NO_WAIT, Socket
from hornpipe.sockets.refusals import next_refusal

if TYPE_CHECKING:
    from hornpipe.sockets.datagrams import Datagram

_ROOM = 0.005
"""Seconds between tries of a Unix receiver whose queue is full, of which no event tells (gotcha:U4)."""

_NO_PIECES = {errno.EINVAL, errno.EIO, errno.EMSGSIZE, errno.EOPNOTSUPP, errno.ENOPROTOOPT}


class Sender:
    """A socket that sends whole messages; ``DatagramSocket`` receives them as well."""

    def __init__(self, socket: Socket, scheme: str, peer: Address | None, timeout: float | None) -> None:
        self._socket = socket
        self._scheme = scheme
        self._peer = peer
        self.timeout = check_timeout(timeout)
        """Seconds that a call may take which is given no limit of its own."""
        # For the socket module's names of those that were looked up once: a sender sends to few, and often.
        self._known: dict[Address, Any] = {}
        self._pieces_go = scheme == "udp"

    # --- what it is ---

    @property
    def peer(self) -> Address | None:
        """The only one it talks to; ``None`` if it is not connected."""
        return self._peer

    @property
    def local(self) -> Address | None:
        """Our address; ``None`` for a Unix socket without a name."""
        self.fileno()
        return Address.of(self._scheme, self._socket.calls.getsockname())

    @property
    def closed(self) -> bool:
        """Whether it has been closed."""
        return self._socket.closed

    def fileno(self) -> int:
        """The descriptor, for poll and friends."""
        if self._socket.closed:
            raise ValueError(f"{self._shown()} is closed")
        return self._socket.fileno()

    def _shown(self) -> str:
        return f"the datagram socket to {self._peer}" if self._peer else "the datagram socket"

    def __repr__(self) -> str:
        return f"<{type(self).__name__} to {self._peer or 'anybody'}{', closed' if self.closed else ''}>"

    def _by(self, timeout: float | None) -> int:
        return after(self.timeout if timeout is None else timeout)

    # --- sending ---

    def send(
        self,
        data: bytes,
        to: str | Address | None = None,
        *,
        fds: Iterable[int | HasFileno] = (),
        timeout: float | None = None,
    ) -> None:
        """Send one message, whole or not at all; waits while the queue is full.

        ``to`` is whom, where there is no peer. ``OSError`` (EMSGSIZE) when it is too long for any
        datagram, ``TimeoutError`` when the queue stays full for ``timeout`` seconds. An earlier message
        that was refused is told of here, once (``ConnectionRefusedError``, naming who refused), and
        ``data`` is not sent then (gotcha:U2).
        """
        deadline = self._by(timeout)
        name = self._name_of(to, deadline)
        numbers = rights.numbers_of(fds)
        control = rights.message(numbers) if numbers else []
        if control and self._scheme != "unixgram" and self._scheme != "unixseqpacket":
            raise ValueError("descriptors travel over Unix sockets only")
        while True:
            try:
                self._sendmsg(data, control, name)
                return
            except BlockingIOError:
                self._await_room(deadline, name)
            except OSError as error:
                self._not_sent(error, len(data), to)

    def _sendmsg(self, data: bytes, control: list[Any], name: Any) -> None:
        if name is None:
            self._socket.calls.sendmsg([data], control, NO_WAIT)
        else:
            self._socket.calls.sendmsg([data], control, NO_WAIT, name)

    def send_many(
        self,
        messages: Iterable[bytes] | Iterable[tuple[bytes, str | Address]] | Iterable[Datagram],
        to: str | Address | None = None,
        *,
        timeout: float | None = None,
    ) -> None:
        """Send messages, in as few system calls as the system allows; waits while the queue is full.

        They are all for ``to`` or the peer; where there is neither, each comes with its receiver, or is a
        ``Datagram`` that goes back to its sender. An ``OSError`` midway, ``TimeoutError`` after ``timeout``
        seconds too, has ``.sent``, how many have gone.

        >>> import hornpipe as hp
        >>> one, other = hp.datagram_pair()
        >>> with one, other:
        ...     one.send_many([b"a", b"b"], timeout=5)
        ...     [message.data for message in other.receive_many(timeout=5)]
        [b'a', b'b']
        """
        deadline = self._by(timeout)
        all_of_them, names = self._addressed(messages, to, deadline)
        sent = 0
        try:
            while sent < len(all_of_them):
                try:
                    count = self._send_some(all_of_them, names, sent)
                except OSError as error:
                    whom = to or (self._address_of(names[sent]) if isinstance(names, list) else None)
                    self._not_sent(error, len(all_of_them[sent]), whom)
                if count < 0:
                    self._await_room(deadline, names)
                else:
                    sent += count
        except OSError as error:
            error.sent = sent  # type: ignore[attr-defined]
            raise

    def _addressed(self, messages: Iterable[Any], to: Any, deadline: int) -> tuple[list[bytes], Any]:
        if to is not None or self._peer is not None:
            return list(messages), self._raw_name_of(to, deadline)
        pairs = [each[:2] for each in messages]
        return [data for data, _ in pairs], [self._raw_name_of(whom, deadline) for _, whom in pairs]

    def _address_of(self, raw: bytes) -> Address | None:
        return Address.of(self._scheme, batches.name_of(raw))

    def _raw_name_of(self, to: str | Address | None, deadline: int) -> bytes | None:
        name = self._name_of(to, deadline)
        return None if name is None else batches.raw_name(self._socket.calls.family, name)

    def _send_some(self, messages: list[bytes], names: Any, start: int) -> int:
        fd = self.fileno()
        if not batches.IN_ONE_CALL:
            return self._send_one(messages[start], names[start] if isinstance(names, list) else names)
        if self._pieces_go:
            try:
                return batches.send(fd, messages, names, start, True)
            except OSError as error:
                if error.errno not in _NO_PIECES:
                    raise
                # An older kernel, a device that cannot, or messages that have to be cut further on their way.
                self._pieces_go = False
        return batches.send(fd, messages, names, start, False)

    def _send_one(self, data: bytes, raw: bytes | None) -> int:
        try:
            self._sendmsg(data, [], None if raw is None else batches.name_of(raw))
        except BlockingIOError:
            return -1
        return 1

    def _name_of(self, to: str | Address | None, deadline: int) -> Any:
        self.fileno()
        if to is None:
            if self._peer is None:
                raise ValueError("send() needs to know whom: this socket has no peer")
            return None
        if self._peer is not None:
            raise ValueError(f"this socket talks to {self._peer} only")
        address = Address.parse(to)
        if address.scheme != self._scheme:
            raise ValueError(f"{str(address)!r} cannot be reached over {self._scheme}")
        name = self._known.get(address)
        if name is None:
            name = self._look_up(address, deadline)
            if len(self._known) >= 1024:
                self._known.clear()
            self._known[address] = name
        return name

    def _look_up(self, address: Address, deadline: int) -> Any:
        family = self._socket.calls.family
        found = places(address, deadline)
        for place in found:
            if place.family == family:
                return place.name
        if family == AF_INET6:  # a dual-stack socket reaches IPv4 by mapped addresses
            host, port = found[0].name
            return f"::ffff:{host}", port, 0, 0
        raise OSError(errno.EAFNOSUPPORT, f"{address} is of another family than {self.local}")

    def _await_room(self, deadline: int, name: Any) -> None:
        if self._scheme == "udp" or name is None:
            ready = bool(wait.on(self.fileno, wait.WRITE, deadline))
        else:
            # Writable says that we have room; it is the receiver who has none (gotcha:U4).
            wait.until([], sooner(deadline, after(_ROOM)))
            ready = True
        if not ready or passed(deadline):
            raise TimeoutError(f"time ran out while sending over {self._shown()}: the queue is full")

    def _not_sent(self, error: OSError, size: int, to: str | Address | None) -> NoReturn:
        whom = to or self._peer
        if error.errno == errno.EMSGSIZE:
            raise OSError(errno.EMSGSIZE, f"{size} bytes are too long for one datagram to {whom}") from None
        if error.errno == errno.EACCES and self._scheme == "udp":
            raise PermissionError(errno.EACCES, f"{whom} is a broadcast address, which takes broadcast=True") from None
        self._tell_refusals()
        raise OSError(error.errno, f"cannot send to {whom}: {error.strerror}") from None

    def _tell_refusals(self) -> None:
        """Raise what ICMP said of an earlier message, naming whom that was to (gotcha:U2)."""
        refusal = next_refusal(self._socket.calls) if self._scheme == "udp" else None
        if refusal is not None:
            raise refusal
