"""Datagrams: whole messages to and from anybody, over UDP and Unix names (perlipc:N13, N14, N19, gotcha:U1-U5)."""

from __future__ import annotations

from _socket import MSG_CMSG_CLOEXEC, MSG_CTRUNC, MSG_TRUNC
from collections import deque
from collections.abc import Callable
from typing import NamedTuple, NoReturn, Self

from hornpipe import wait
from hornpipe.address import Address
from hornpipe.deadline import after, check_timeout, seconds_left, sooner
from hornpipe.errors import NoAnswer
from hornpipe.fd import Descriptor
from hornpipe.sockets import batches, groups, rights
from hornpipe.sockets.batches import LONGEST_BATCH, Inbox
from hornpipe.sockets.datagram_sender import Sender
from hornpipe.sockets.descriptor import NO_WAIT, Socket
from hornpipe.sockets.unix_names import BoundName

LONGEST = 65535
"""Bytes of the longest datagram that IP has; over IPv4, 65507 of them are data. (Unix names have longer ones.)"""


class Datagram(NamedTuple):
    """One message as it came."""

    data: bytes
    sender: Address | None
    """Whom to answer; ``None`` for a Unix socket without a name, which cannot be answered (gotcha:U4)."""
    truncated: bool = False
    """Whether it was longer than what was to be received, and the rest is lost (gotcha:U1); or brought more descriptors
    than this process may have open, which are closed then (gotcha:SO10)."""
    fds: tuple[Descriptor, ...] = ()
    """Descriptors that came with it, ours to close; only with ``receives_fds``."""


class DatagramSocket(Sender):
    """A socket for whole messages.

    With a peer it hears nobody else, and learns that nobody is there; without one each message goes
    where it is told. An empty message is a message and no end. ``timeout`` is the limit in seconds of
    each call that is given none of its own; over it comes ``TimeoutError``.

    >>> import hornpipe as hp
    >>> with hp.open_datagram(local="udp://127.0.0.1:0") as server, hp.open_datagram(server.local) as client:
    ...     client.send(b"time?")
    ...     question = server.receive(timeout=5)
    ...     server.send(b"noon", question.sender)
    ...     client.receive(timeout=5).data
    b'noon'
    """

    def __init__(
        self,
        socket: Socket,
        scheme: str,
        peer: Address | None,
        name: BoundName | None = None,
        *,
        timeout: float | None = None,
        receives_fds: bool = False,
    ) -> None:
        super().__init__(socket, scheme, peer, timeout)
        self._bound = name
        self._receives_fds = receives_fds
        self._inbox: Inbox | None = None
        self._held: deque[Datagram] = deque()
        """What the kernel handed over in one piece with what was asked for."""
        self._pieces_come = False

    # --- receiving ---

    def receive(self, size: int = LONGEST, *, timeout: float | None = None) -> Datagram:
        """The next message; ``TimeoutError`` when none comes within ``timeout`` seconds.

        Of one that is longer than ``size`` bytes the rest is lost, and ``.truncated`` says so. A message of
        ours that was refused is told of by ``ConnectionRefusedError``, naming who refused (gotcha:U2).
        Of ``unixseqpacket``, the end of the peer is ``NoAnswer`` (an ``EOFError``).
        """
        return self._receive(size, self._by(timeout))

    def _receive(self, size: int, deadline: int) -> Datagram:
        while True:
            if self._held:
                return _cut(self._held.popleft(), size)
            self._await_message(deadline)
            try:
                found = self._take(size)
            except OSError as error:
                self._not_received(error)
            if found is not None:
                return found
            # gotcha:U5: what poll has promised had a wrong checksum.

    def _await_message(self, deadline: int) -> None:
        bits = wait.on(self.fileno, wait.READ, deadline)
        if not bits:
            raise TimeoutError(f"no datagram came over {self._shown()} in time")
        if not bits & wait.READ:
            self._tell_refusals()

    def _take(self, size: int) -> Datagram | None:
        """What is there; ``OSError`` as the system gives it."""
        if self._pieces_come:
            self._held += self._take_many(1, LONGEST)
            return _cut(self._held.popleft(), size) if self._held else None
        room = rights.ROOM if self._receives_fds else 0
        try:
            data, messages, flags, name = self._socket.calls.recvmsg(size, room, NO_WAIT | MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return None
        if not data and self._has_ended():
            raise NoAnswer(f"{self._peer} has ended", read=b"", status=None)
        fds = tuple(rights.arrived(messages)) if messages else ()
        sender = Address.of(self._scheme, name) if name else self._peer
        truncated = bool(flags & MSG_TRUNC)
        if self._receives_fds and flags & MSG_CTRUNC:
            for each in fds:
                each.close()
            truncated, fds = True, ()
        return Datagram(data, sender, truncated, fds)

    def _has_ended(self) -> bool:
        # Of the kinds with an end, where that looks like an empty message.
        return self._scheme == "unixseqpacket" and wait.hung_up(wait.one(self.fileno(), wait.READ, 0))

    def _not_received(self, error: OSError) -> NoReturn:
        self._tell_refusals()
        raise OSError(error.errno, f"{self._peer or 'a peer'}: {error.strerror}") from None

    def receive_many(self, most: int = 64, size: int = LONGEST, *, timeout: float | None = None) -> list[Datagram]:
        """All messages that are there, ``most`` at most, in one system call or few; waits for the first (gotcha:U5).

        Of those that are longer than ``size`` bytes the rest is lost. ``TimeoutError`` when none comes within
        ``timeout`` seconds.
        After this, messages of one sender that came together may be read together, so that poll no longer
        sees those that are left over when ``most`` was reached: they are there for the next call.
        """
        if most < 1 or size < 1:
            raise ValueError(f"receive_many() needs room for a message, not most={most!r}, size={size!r}")
        deadline = self._by(timeout)
        while True:
            found = [_cut(self._held.popleft(), size) for _ in range(min(most, len(self._held)))]
            if len(found) < most:
                try:
                    found += self._take_many(most - len(found), size)
                except OSError as error:
                    if not found:
                        self._not_received(error)
                    # else it is told of by the next call, which has nothing to return: it waits in the error queue
            if found:
                self._held += found[most:]
                return found[:most]
            self._await_message(deadline)

    def _take_many(self, most: int, size: int) -> list[Datagram]:
        """What is there; more of it, if that came in one piece. ``OSError`` as the system gives it, if nothing is."""
        if not batches.IN_ONE_CALL or self._receives_fds or self._scheme == "unixseqpacket":
            return self._take_one_by_one(most, size)
        fd = self.fileno()
        inbox = self._inbox
        if inbox is None or inbox.size < size:
            inbox = self._inbox = Inbox(max(size, LONGEST), Datagram, self._address_of)
        if not self._pieces_come and self._scheme == "udp":
            self._ask_for_pieces()
        found: list[Datagram] = []
        while len(found) < most:
            try:
                more: list[Datagram] = inbox.receive(fd, most - len(found), size, self._peer)
            except OSError:
                if not found:
                    raise
                break
            found += more
            if len(more) < LONGEST_BATCH:
                break
        return found

    def _take_one_by_one(self, most: int, size: int) -> list[Datagram]:
        found: list[Datagram] = []
        while len(found) < most:
            try:
                taken = self._take(size)
            except (OSError, NoAnswer):
                if not found:
                    raise
                break
            if taken is None:
                break
            found.append(taken)
        return found

    def _ask_for_pieces(self) -> None:
        try:
            self._socket.calls.setsockopt(batches.SOL_UDP, batches.UDP_GRO, 1)
            self._pieces_come = True
        except OSError:
            pass  # an older kernel

    def ask(
        self,
        data: bytes,
        *,
        tries: int = 3,
        timeout: float | None = None,
        accept: Callable[[Datagram], bool] | None = None,
    ) -> Datagram:
        """Send a question to the peer and return its answer, asking ``tries`` times within ``timeout`` seconds.

        Datagrams get lost, so it is asked again after a share of the time, each twice as long as the
        one before. Only the peer is heard (gotcha:U3); ``accept`` may look at an answer and pass it
        over, such as a late one to an earlier question. Without any limit, a try has a second at first.
        ``TimeoutError`` when none comes, or there is no room for the question; ``ConnectionRefusedError`` when
        nobody is there.

        >>> import hornpipe as hp
        >>> with hp.open_datagram(local="udp://127.0.0.1:0") as server, hp.open_datagram(server.local) as client:
        ...     client.ask(b"time?", tries=1, timeout=0.1)
        Traceback (most recent call last):
        TimeoutError: udp://127.0.0.1:... did not answer within 0.1 s, asked 1 times
        """
        if self._peer is None:
            raise ValueError("ask() needs a peer: whoever else could answer")
        if tries < 1:
            raise ValueError(f"tries must be 1 or more, not {tries!r}")
        limit = self.timeout if timeout is None else check_timeout(timeout)
        whole = limit if limit is not None else float(2**tries - 1)
        deadline = after(whole)
        share = whole / (2**tries - 1)
        for number in range(tries):
            self.send(data, timeout=seconds_left(deadline))
            until = deadline if number == tries - 1 else sooner(deadline, after(share * 2**number))
            while True:
                try:
                    answer = self._receive(LONGEST, until)
                except TimeoutError:
                    break
                if accept is None or accept(answer):
                    return answer
        raise TimeoutError(f"{self._peer} did not answer within {whole:g} s, asked {tries} times")

    # --- multicast ---

    def join(self, group: str, interface: str | None = None) -> None:
        """Hear what is sent to a multicast group; ``interface`` is the name of where from (perlipc:N14)."""
        groups.join(self._socket.calls, group, interface)

    def leave(self, group: str, interface: str | None = None) -> None:
        """Hear a multicast group no longer."""
        groups.leave(self._socket.calls, group, interface)

    def multicast(self, *, ttl: int | None = None, loop: bool | None = None, interface: str | None = None) -> None:
        """How far our multicasts go (1 is this network), whether we hear them, and where they leave."""
        groups.set_outgoing(self._socket.calls, ttl, loop, interface)

    # --- the end ---

    def close(self) -> None:
        """Close it, and remove the Unix name that was made for it; closing twice does nothing."""
        bound, self._bound = self._bound, None
        try:
            if bound is not None:
                bound.remove()
        finally:
            self._socket.close()
            self._inbox = None
            self._held.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _cut(datagram: Datagram, size: int) -> Datagram:
    if len(datagram.data) <= size:
        return datagram
    return datagram._replace(data=datagram.data[:size], truncated=True)
