"""A file object with a peer: streams over TCP and Unix names (perlipc:N2, N3, N19).

Text is sent line by line, and whatever is gathered goes out before a read waits, so that one
``print`` is one packet and no question stays in our own buffer.
"""

from __future__ import annotations

import errno
from _socket import (
    AF_UNIX,
    IPPROTO_TCP,
    MSG_CMSG_CLOEXEC,
    MSG_CTRUNC,
    SO_KEEPALIVE,
    SO_PEERCRED,
    SOL_SOCKET,
    TCP_KEEPCNT,
    TCP_KEEPIDLE,
    TCP_KEEPINTVL,
    TCP_NODELAY,
)
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from hornpipe import wait
from hornpipe.address import Address
from hornpipe.deadline import passed
from hornpipe.errors import LimitExceeded, NoAnswer
from hornpipe.fd import Descriptor
from hornpipe.lines import BYTES, Codec, Str, text_codec
from hornpipe.locks import HasFileno
from hornpipe.sockets import rights
from hornpipe.sockets.descriptor import NO_WAIT, Socket
from hornpipe.sockets.socket_handle import SocketHandle

if TYPE_CHECKING:
    from ssl import SSLObject

MESSAGE_LIMIT = 16 << 20
"""Characters of a message that ends with a dot, unless told otherwise."""


class Credentials(NamedTuple):
    """Who is at the other end of a Unix connection, from the kernel."""

    pid: int
    """0 when the process is not visible from here (another pid namespace)."""
    uid: int
    gid: int


class Connection(SocketHandle[Str]):
    r"""A stream to a peer, for reading and writing at once: a file object in both directions.

    It speaks text (UTF-8, nothing lost); ``as_bytes()`` gives the same connection speaking bytes.
    Lines of text end with ``\n`` whether the peer sent CR LF or LF (a lone CR is data); what is
    written ends as ``newline`` says. ``timeout`` is the limit in seconds of each call that is given
    none of its own. One thread may read while another writes.

    >>> import hornpipe as hp
    >>> one, other = hp.socket_pair()
    >>> with one, other:
    ...     print("hello", file=one)
    ...     other.readline(timeout=5)
    'hello\n'
    """

    def __init__(self, socket: Socket, codec: Codec[Str], *, receives_fds: bool = False, **options: Any) -> None:
        super().__init__(socket, codec, **options)
        self._receives_fds = receives_fds and self._scheme != "tcp"
        self._arrived: list[list[Descriptor]] = []
        self._dotted: list[Any] = []
        self._dotted_size = 0
        self._successor: Connection[Any] | None = None
        self._plain = False
        if not self._receives_fds:
            self._is_plain()

    def _begin(self) -> None:
        self._arrived = []

    # --- who and how ---

    @property
    def is_unix(self) -> bool:
        """Whether the peer is on this machine, at a Unix socket."""
        return self._scheme == "unix"

    @property
    def latest(self) -> Connection[Any]:
        """The object that speaks for the connection now: what the last ``as_bytes()`` or ``as_text()`` gave."""
        found: Connection[Any] = self
        while found._successor is not None:
            found = found._successor
        return found

    @property
    def peer(self) -> Address | None:
        """The other end's address; ``None`` for a Unix socket that has no name, as most clients'."""
        return self._peer

    @property
    def local(self) -> Address | None:
        """Our end's address; ``None`` for a Unix socket that has no name."""
        self._reading_from()
        return Address.of(self._scheme, self._socket.calls.getsockname())

    @property
    def credentials(self) -> Credentials:
        """The process at the other end of a Unix connection, and its user and group (gotcha:SO9).

        As they were when it called connect, or, seen from a client, listen: the process that
        accepted may be another one, and the number somebody else's by now.
        """
        self._only_unix("credentials")
        import struct

        who = struct.Struct("iII")
        return Credentials(*who.unpack(self._socket.calls.getsockopt(SOL_SOCKET, SO_PEERCRED, who.size)))

    @property
    def nodelay(self) -> bool:
        """Whether small packets leave at once (TCP_NODELAY): on, since whole lines are gathered here."""
        return self._scheme == "tcp" and bool(self._socket.calls.getsockopt(IPPROTO_TCP, TCP_NODELAY))

    @nodelay.setter
    def nodelay(self, on: bool) -> None:
        self._socket.calls.setsockopt(IPPROTO_TCP, TCP_NODELAY, int(on))

    @property
    def tls(self) -> SSLObject | None:
        """The session of an encrypted connection, for ``version()``, ``getpeercert()``, ...; else ``None``."""
        return None

    def handshake(self, *, timeout: float | None = None) -> None:
        """On an encrypted connection, agree on keys and check certificates as its ``SSLContext`` says.

        ``connect`` has done it. What a listener has accepted does it at its first use, in the time of that
        call and in ten seconds at most: accepting waits for no client. After a ``TimeoutError`` the next
        use goes on with it. ``ssl.SSLError`` when the peer's part of it is not acceptable, or ours to it;
        ``ConnectionAbortedError`` when the peer has gone.
        """

    def keep_alive(self, idle: int = 60, interval: int = 10, count: int = 5) -> None:
        """Notice a TCP peer that has vanished: ask after ``idle`` seconds of silence, ``count`` times (tcp(7))."""
        calls = self._socket.calls
        for option, value in ((TCP_KEEPIDLE, idle), (TCP_KEEPINTVL, interval), (TCP_KEEPCNT, count)):
            calls.setsockopt(IPPROTO_TCP, option, value)
        calls.setsockopt(SOL_SOCKET, SO_KEEPALIVE, 1)

    def _only_unix(self, what: str) -> None:
        self._reading_from()
        if self._socket.calls.family != AF_UNIX:
            raise ValueError(f"{what} come over Unix sockets only, and this is {self._name}")

    def as_bytes(self) -> Connection[bytes]:
        """The same connection, speaking bytes; this object is closed by it, the connection is not."""
        return cast("Connection[bytes]", self._as(BYTES))

    def as_text(self, encoding: str = "utf-8", errors: str = "surrogateescape") -> Connection[str]:
        """The same connection, speaking text; this object is closed by it, the connection is not."""
        return cast("Connection[str]", self._as(text_codec(encoding, errors)))

    def _as(self, codec: Codec[Any]) -> Connection[Any]:
        self._reading_from()
        if self._decoded or self._dotted or (self._decoder is not None and self._decoder.getstate()[0]):
            raise ValueError(f"{self._described()} has text read ahead, which is no longer the bytes it was")
        other: Connection[Any] = object.__new__(type(self))
        other.__dict__.update(self.__dict__, _codec=codec, _decoder=None, _decoded=codec.empty)
        other._buffer = other._new_buffer()
        other._buffer.inherit(self._buffer)
        held = self._buffer.take(-1)
        other._buffer.append(held)
        other._received_before = self.received - len(held)
        if self._buffer.ended:
            other._buffer.end_here()
        self._arrived = []
        self._source = self._sink = None
        self._buffer.source = self._buffer.sink = -1
        self._successor = other
        return other

    # --- messages ---

    def readline(self, size: int | None = -1, *, timeout: float | None = None) -> Str:
        r"""Read one line. The last one may lack its newline; nothing is the end.

        A text line ends with ``\n``, sent as CR LF or as LF (gotcha:SO3). One that is longer than
        ``line_limit`` bytes raises ``LimitExceeded`` before it is read to its end. With ``size``, at most
        so many characters (bytes) of it. ``TimeoutError`` after ``timeout`` seconds; the line's beginning
        is still there to be read.
        """
        buffer = self._buffer
        if timeout is None and (size is None or size < 0):
            line = buffer.read_line()  # nearly always all there is to do
            if line is not None:
                return cast(Str, line)
            self._explain()
        self._begin_to_read(timeout)
        if not len(buffer) and not buffer.ended and buffer.form >= 0 and (size is None or size < 0):
            # Where somebody is talked with, the whole line comes at once.
            self._fill()
            line = buffer.next_line()
            if line is not None:
                return cast(Str, line)
        return self._lenient_line(size)

    def _lenient_line(self, size: int | None = -1) -> Str:
        line: Any = super().readline(size)
        if self._codec.is_text and line.endswith("\r\n"):
            return cast(Str, line[:-2] + "\n")
        return cast(Str, line)

    def read_exactly(self, size: int, *, timeout: float | None = None) -> Str:
        """Read ``size`` characters (bytes). ``NoAnswer`` (an ``EOFError``), with those that came, at an earlier end.

        ``TimeoutError`` after ``timeout`` seconds; what has come by then is still there to be read.
        """
        if size < 0:
            raise ValueError(f"read_exactly() takes 0 or more characters (bytes), not {size!r}")
        data = self.read(size, timeout=timeout)
        if len(data) < size:
            raise NoAnswer(f"{self._name} ended after {len(data)} of {size}", read=data, status=None)
        return data

    def read_until_dot(self, *, limit: int = MESSAGE_LIMIT, timeout: float | None = None) -> Str:
        r"""Read a message that ends with a dot on a line of its own, as in SMTP and POP3 (perlipc:N3).

        The dot is not part of it, and the second dot of lines that begin with two is removed.
        ``TimeoutError`` after ``timeout`` seconds; the next call goes on. ``LimitExceeded`` when it is
        longer than ``limit`` characters (bytes).

        >>> import hornpipe as hp
        >>> one, other = hp.socket_pair()
        >>> with one, other:
        ...     one.write_until_dot("Hello,\n.hidden\n", timeout=5)
        ...     other.read_until_dot(timeout=5)
        'Hello,\n.hidden\n'
        """
        self._begin_to_read(timeout)
        if not self._dotted:
            self._dotted = []  # what it has is everybody's, see kind_like_this()
        empty: Any = self._codec.empty
        dot: Any = "." if self._codec.is_text else b"."
        while True:
            line: Any = self._lenient_line()
            if line.startswith(dot):
                if line.rstrip("\r\n" if self._codec.is_text else b"\r\n") == dot:
                    return cast(Str, empty.join(self._take_dotted()))
                if line.startswith(dot + dot):
                    line = line[1:]
            if not line:
                message = empty.join(self._take_dotted())
                raise NoAnswer(f"{self._name} ended before the dot that ends a message", read=message, status=None)
            self._dotted.append(line)
            self._dotted_size += len(line)
            if self._dotted_size > limit:
                start = empty.join(self._take_dotted())[:limit]
                raise LimitExceeded(f"a message of {self._name} is longer than limit={limit}", limit=limit, data=start)

    def _take_dotted(self) -> list[Any]:
        lines, self._dotted, self._dotted_size = self._dotted, [], 0
        return lines

    def write_until_dot(self, message: Str, *, timeout: float | None = None) -> None:
        """Write a message and the line with a dot that ends it; lines that begin with a dot get a second one.

        ``TimeoutError`` after ``timeout`` seconds; the rest goes with the next flush.
        """
        text: Any = message
        newline: Any = self._codec.newline
        dot: Any = "." if self._codec.is_text else b"."
        if text[:1] == dot:
            text = dot + text
        text = text.replace(newline + dot, newline + dot + dot)
        if text and not text.endswith(newline):
            text += newline
        self.write(cast(Str, text + dot + newline), timeout=timeout)

    def ask(self, line: Str, *, timeout: float | None = None) -> Str:
        """Send one line and return the next one that comes, both without a newline.

        ``NoAnswer`` (an ``EOFError``) when the peer ends instead; ``TimeoutError`` after ``timeout``
        seconds, and its answer may still come.

        >>> import hornpipe as hp
        >>> one, other = hp.socket_pair()
        >>> with one, hp.cmd("bc", stdin=other, stdout=other).start():
        ...     other.leave()
        ...     one.ask("6 * 7", timeout=5)
        ...     one.shutdown()
        '42'
        """
        text: Any = line
        # Nearly always the whole of it; what has not been done then is done below.
        try:
            answer = self._buffer.ask(line) if timeout is None else self._buffer.ask(line, self._by(timeout))
        except ConnectionResetError:
            self._reset()
        if answer is not None:
            return cast(Str, answer)
        taken = self._buffer.said
        self._writing_to()
        self._begin_to_read(timeout)
        newline: Any = self._codec.newline
        encoded = self._codec.encode(self._with_newlines(text if text.endswith(newline) else text + newline))
        with self._sending:
            self._pending.extend(encoded[taken:])
        self._push_until_readable()
        found: Any = self._lenient_line()
        if not found.endswith(newline):
            raise NoAnswer(f"{self._name} ended before it answered {line!r}", read=found, status=None)
        return cast(Str, found.removesuffix(newline).removesuffix("\r" if self._codec.is_text else b"\r"))

    # --- descriptors ---

    def send_fds(self, files: Iterable[int | HasFileno], data: bytes = b"\0", *, timeout: float | None = None) -> None:
        """Send descriptors to the process at the other end of a Unix connection, with at least a byte (gotcha:SO10).

        It gets its own ones for the same open files; ours stay ours. ``receive_fds(len(data))`` takes them.
        ``ValueError`` when this is no Unix connection; ``TimeoutError`` after ``timeout`` seconds (unix(7)).
        """
        self._only_unix("descriptors")
        numbers = rights.numbers_of(files)
        if not data:
            raise ValueError("descriptors travel with at least one byte of data")
        if not numbers:
            raise ValueError("send_fds() sends descriptors, and was given none")
        deadline = self._by(timeout)
        self._push(deadline)
        count = 0
        while not count:
            try:
                count = self._socket.calls.sendmsg([data], rights.message(numbers), NO_WAIT)
            except BlockingIOError:
                if not wait.on(self._writing_to, wait.WRITE, deadline) or passed(deadline):
                    self._expired("writing to")
            except (BrokenPipeError, ConnectionResetError):
                self._gone()
        self._buffer.taken += count
        if count < len(data):
            with self._sending:
                self._pending[:0] = data[count:]
            self._push(deadline)

    def receive_fds(self, size: int = 1, *, timeout: float | None = None) -> tuple[bytes, list[Descriptor]]:
        """Receive the ``size`` bytes of one ``send_fds`` and the descriptors that came with them, ours to close.

        For connections made with ``receives_fds=True``: with others, descriptors that a peer sends
        unasked go nowhere (gotcha:SO10). ``NoAnswer`` when the end or plain data comes instead;
        ``TimeoutError`` after ``timeout`` seconds (unix(7)).

        >>> import hornpipe as hp
        >>> one, other = hp.socket_pair(receives_fds=True)
        >>> with one, other, open("/dev/null") as file:
        ...     one.send_fds([file], b"null", timeout=5)
        ...     data, (received,) = other.receive_fds(4, timeout=5)
        ...     received.close()
        ...     data
        b'null'
        """
        self._only_unix("descriptors")
        if not self._receives_fds:
            raise ValueError(f"{self._described()} was not made with receives_fds=True")
        self._begin_to_read(timeout)
        while len(self._buffer) < size and not self._buffer.ended:
            self._fill()
        data = self._buffer.take(size)
        if len(data) < size:
            raise NoAnswer(f"{self._name} ended after {len(data)} of {size} bytes", read=data, status=None)
        if not self._arrived:
            raise NoAnswer(f"no descriptor came with what {self._name} sent", read=data, status=None)
        return data, self._arrived.pop(0)

    def _receive(self, fd: int, seen: int) -> int | None:
        if not self._receives_fds:
            return super()._receive(fd, seen)
        # A plain read would drop descriptors that come with the data, and reading ahead goes past where they are.
        if not wait.on(self._reading_from, wait.READ, self._read_by):
            return None
        try:
            data, messages, flags, _ = self._socket.calls.recvmsg(
                self._read_size, rights.ROOM, NO_WAIT | MSG_CMSG_CLOEXEC
            )
        except BlockingIOError:
            return -1
        fds = rights.arrived(messages)
        too_many = sum(map(len, self._arrived)) + len(fds) > rights.MOST
        if flags & MSG_CTRUNC or too_many:
            for each in fds:
                each.close()
        if flags & MSG_CTRUNC:
            self._buffer.append(data)  # of that nothing is lost
            raise OSError(errno.EMFILE, f"{self._name} sent more descriptors than this process may have open")
        if too_many:
            raise LimitExceeded(
                f"{self._name} sent more than {rights.MOST} descriptors that nobody took", limit=rights.MOST, data=data
            )
        if fds:
            self._arrived.append(fds)
        if data:
            self._buffer.append(data)
        else:
            self._buffer.end_here()
        return len(data)

    def _drop_arrived(self) -> None:
        for batch in self._arrived:
            for each in batch:
                each.close()
        self._arrived = []
