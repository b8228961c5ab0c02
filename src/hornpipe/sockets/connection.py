"""A file object with a peer: streams over TCP and Unix names (perlipc:N2, N3, N19).

Text is sent line by line, and whatever is gathered goes out before a read waits, so that one
``print`` is one packet and no question stays in our own buffer. The descriptor stays in blocking
mode and can be a child's stdin; only ``wait`` waits.
"""

from __future__ import annotations

import array
import errno
import fcntl
import os
import struct
import termios
from _socket import (
    AF_UNIX,
    CMSG_SPACE,
    IPPROTO_TCP,
    MSG_CMSG_CLOEXEC,
    MSG_CTRUNC,
    SCM_RIGHTS,
    SHUT_RDWR,
    SHUT_WR,
    SO_KEEPALIVE,
    SO_PEERCRED,
    SOCK_STREAM,
    SOL_SOCKET,
    TCP_KEEPCNT,
    TCP_KEEPIDLE,
    TCP_KEEPINTVL,
    TCP_NODELAY,
    socketpair,
)
from _socket import socket as Calls
from _thread import allocate_lock
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, cast

from hornpipe import wait
from hornpipe._native.buffers import ReadBuffer
from hornpipe.address import Address
from hornpipe.deadline import NEVER, after, check_timeout, passed, sooner
from hornpipe.errors import LimitExceeded, NoAnswer, ReaderGone
from hornpipe.fd import Descriptor, above_stdio
from hornpipe.handle import Handle
from hornpipe.lines import BYTES, TEXT, Codec, Str, text_codec
from hornpipe.locks import HasFileno
from hornpipe.sockets.descriptor import NO_WAIT, Socket

if TYPE_CHECKING:
    from ssl import SSLObject

LINE_LIMIT = 1 << 20
"""Characters of a line unless told otherwise: nobody sends longer ones in good faith."""
MESSAGE_LIMIT = 16 << 20
"""The same for a message that ends with a dot."""

_BLOCK = 64 * 1024
_FIRST_READ = 16 * 1024
_LONGEST_READ = 256 * 1024
_MOST_SENT = 1 << 20
"""Bytes given to one send(2): the lock is not held for longer than that takes."""
LINGER = 2.0
"""Seconds for which close() waits for a peer that was still sending."""
_QUIET = 0.05
"""Seconds without input after which such a peer is taken to have finished."""
_MOST_FDS = 253
"""Descriptors that one message carries (SCM_MAX_FD)."""
_PEERCRED = struct.Struct("iII")


class Credentials(NamedTuple):
    """Who is at the other end of a Unix connection, from the kernel."""

    pid: int
    """0 when the process is not visible from here (another pid namespace)."""
    uid: int
    gid: int


class Connection(Handle[Str]):
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

    def __init__(
        self,
        socket: Socket,
        codec: Codec[Str],
        *,
        scheme: str,
        peer: Address | None,
        name: str,
        timeout: float | None = None,
        newline: str = "\n",
        line_limit: int | None = LINE_LIMIT,
        receives_fds: bool = False,
    ) -> None:
        # Not as the sink: a handle makes its sink non-blocking, which children would inherit.
        super().__init__(socket, None, codec, by_line=True, line_limit=line_limit, name=name)
        self._sink = socket
        self._socket = socket
        self._scheme = scheme
        self._peer = peer
        self.timeout = timeout
        self._newline = check_newline(newline)
        self._receives_fds = receives_fds and scheme != "tcp"
        self._arrived: list[list[Descriptor]] = []
        self._dotted: list[Any] = []
        self._dotted_size = 0
        self._after_cr = False
        self._read_by = NEVER
        self._limit = NEVER
        self._tried = False
        self._finished = False
        self._received = 0
        self._successor: Connection[Any] | None = None
        # Held for a system call that does not wait: a reader sends what the writer has gathered.
        self._sending = allocate_lock()

    def _new_buffer(self) -> ReadBuffer:
        limit = -1 if self._line_limit is None else self._line_limit
        return ReadBuffer(self._codec.line_form, limit, lenient=True, is_socket=True)

    # --- who and how ---

    @property
    def timeout(self) -> float | None:
        """Seconds that a call may take which is given no limit of its own; ``None`` for ever."""
        return self._timeout

    @timeout.setter
    def timeout(self, timeout: float | None) -> None:
        self._timeout = check_timeout(timeout)

    def limit(self, deadline: int) -> None:
        """Bound all of its calls together by a deadline, whatever their own time-outs."""
        self._limit = deadline

    @property
    def deadline(self) -> int:
        """The deadline of a call that is given no time-out of its own."""
        return self._by(None)

    @property
    def is_unix(self) -> bool:
        """Whether the peer is on this machine, at a Unix socket."""
        return self._scheme == "unix"

    @property
    def received(self) -> int:
        """Bytes that have been read from the socket so far."""
        return self._received

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
        return Credentials(*_PEERCRED.unpack(self._socket.calls.getsockopt(SOL_SOCKET, SO_PEERCRED, _PEERCRED.size)))

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
        other._buffer.append(self._buffer.take(-1))
        if self._buffer.ended:
            other._buffer.end_here()
        self._arrived = []
        self._source = self._sink = None
        self._successor = other
        return other

    def _begin_to_read(self, timeout: float | None) -> None:
        self._read_by = self._by(timeout)
        self._tried = False

    def _by(self, timeout: float | None) -> int:
        own = after(self._timeout if timeout is None else timeout)
        return own if self._limit == NEVER else sooner(own, self._limit)

    # --- reading ---

    def _reading_from(self) -> int:
        if self._source is None:
            raise ValueError(f"{self._described()} is closed")
        return super()._reading_from()

    def _writing_to(self) -> int:
        if self._sink is None:
            raise ValueError(f"{self._described()} is closed")
        if self._finished:
            raise ValueError(f"{self._described()} was shut down for writing")
        return super()._writing_to()

    def _fill(self) -> None:
        if self._pending:
            self._push_until_readable()
        # A peer that always has more is no excuse; but what is there already may be had with a timeout of 0.
        if self._tried and passed(self._read_by):
            self._expired("reading from")
        self._tried = True
        seen = wait.closings_so_far()
        fd = self._reading_from()
        try:
            count = self._receive_with_fds(fd) if self._receives_fds else self._receive(fd, seen)
        except ConnectionResetError:
            raise ConnectionResetError(errno.ECONNRESET, f"{self._name} reset the connection") from None
        if count is None:
            self._expired("reading from")
        elif count > 0:
            self._received += count
            if count == self._read_size and count < _LONGEST_READ:
                self._read_size = count * 4

    def _receive(self, fd: int, seen: int) -> int | None:
        return wait.fill(self._buffer, fd, self._read_size, self._read_by, seen)

    def _receive_with_fds(self, fd: int) -> int | None:
        # A plain read would drop descriptors that come with the data, and reading ahead goes past where they are.
        if not wait.one(fd, wait.READ, self._read_by):
            return None
        try:
            data, messages, flags, _ = self._socket.calls.recvmsg(
                self._read_size, CMSG_SPACE(_MOST_FDS * 4), NO_WAIT | MSG_CMSG_CLOEXEC
            )
        except BlockingIOError:
            return -1
        fds = [Descriptor(above_stdio(each)) for each in _descriptors_in(messages)]
        for each in fds:
            os.set_inheritable(each.fileno(), False)  # gotcha:R7
        too_many = sum(map(len, self._arrived)) + len(fds) > _MOST_FDS
        if flags & MSG_CTRUNC or too_many:
            for each in fds:
                each.close()
        if flags & MSG_CTRUNC:
            raise OSError(errno.EMFILE, f"{self._name} sent more descriptors than this process may have open")
        if too_many:
            raise LimitExceeded(
                f"{self._name} sent more than {_MOST_FDS} descriptors that nobody took", limit=_MOST_FDS, data=data
            )
        if fds:
            self._arrived.append(fds)
        if data:
            self._buffer.append(data)
        else:
            self._buffer.end_here()
        return len(data)

    def _expired(self, doing: str) -> NoReturn:
        if doing.startswith("reading"):
            have = len(self._buffer) + len(self._decoded)
            raise TimeoutError(f"time ran out while reading from {self._name}; {have} bytes have come and are kept")
        raise TimeoutError(f"time ran out while writing to {self._name}; {self._taken} bytes had been taken")

    def read(self, size: int | None = -1, *, timeout: float | None = None) -> Str:
        """Read ``size`` characters (bytes), or all until the end; fewer come only at the end."""
        self._begin_to_read(timeout)
        return super().read(size)

    def read_some(self, *, timeout: float | None = None) -> Str:
        """Read what is there, at least one character; waits for it. Nothing at the end."""
        self._begin_to_read(timeout)
        return super().read_some()

    def readline(self, size: int | None = -1, *, timeout: float | None = None) -> Str:
        r"""Read one line. The last one may lack its newline; nothing is the end.

        A text line ends with ``\n``, sent as CR LF or as LF (gotcha:SO3). One that is longer than
        ``line_limit`` raises ``LimitExceeded`` before it is read to its end.
        """
        if size is None or size < 0:
            line = self._buffer.next_line()
            if line is not None:
                return cast(Str, line)
        self._begin_to_read(timeout)
        return self._lenient_line(size)

    def _lenient_line(self, size: int | None = -1) -> Str:
        line: Any = super().readline(size)
        if self._codec.is_text and line.endswith("\r\n"):
            return cast(Str, line[:-2] + "\n")
        return cast(Str, line)

    def read_exactly(self, size: int, *, timeout: float | None = None) -> Str:
        """Read ``size`` characters (bytes). ``NoAnswer`` (an ``EOFError``), with those that came, at an earlier end.

        After a ``TimeoutError`` what has come is still there to be read.
        """
        data = self.read(size, timeout=timeout)
        if len(data) < size:
            raise NoAnswer(f"{self._name} ended after {len(data)} of {size}", read=data, status=None)
        return data

    def read_until_dot(self, *, limit: int = MESSAGE_LIMIT, timeout: float | None = None) -> Str:
        """Read a message that ends with a dot on a line of its own, as in SMTP and POP3 (perlipc:N3).

        The dot is not part of it, and the second dot of lines that begin with two is removed. After
        a ``TimeoutError`` the next call goes on. ``LimitExceeded`` when it is longer than ``limit``.
        """
        self._begin_to_read(timeout)
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

    # --- writing ---

    def write(self, data: Str, *, timeout: float | None = None) -> int:
        r"""Write all of ``data``; its length. Text has each ``\n`` sent as the connection's ``newline``.

        Sent when a line is whole, at ``flush``, and before a read waits. ``BrokenPipeError`` with
        ``.taken`` when nobody reads any more; after a ``TimeoutError`` the rest goes with the next flush.
        """
        self._writing_to()
        encoded = self._codec.encode(self._with_newlines(data))
        with self._sending:
            self._pending += encoded
        if len(self._pending) >= _BLOCK or b"\n" in encoded:
            self._push(self._by(timeout))
        return len(data)

    def _with_newlines(self, data: Any) -> Any:
        if self._newline == "\n" or not isinstance(data, str) or not data:
            return data
        # CR LF that is there already stays one, also when it comes in two pieces.
        start = "\n" if self._after_cr and data[0] == "\n" else ""
        self._after_cr = data[-1] == "\r"
        return start + data[len(start) :].replace("\r\n", "\n").replace("\n", "\r\n")

    def write_until_dot(self, message: Str, *, timeout: float | None = None) -> None:
        """Write a message and the line with a dot that ends it; lines that begin with a dot get a second one."""
        text: Any = message
        newline: Any = self._codec.newline
        dot: Any = "." if self._codec.is_text else b"."
        if text[:1] == dot:
            text = dot + text
        text = text.replace(newline + dot, newline + dot + dot)
        if text and not text.endswith(newline):
            text += newline
        self.write(cast(Str, text + dot + newline), timeout=timeout)

    def flush(self, *, timeout: float | None = None) -> None:
        """Send what was gathered; returns when the kernel has taken all of it."""
        if self._pending:
            self._writing_to()
            self._push(self._by(timeout))

    def _push(self, deadline: int) -> None:
        """Send all that is gathered, whichever thread gathered it."""
        while not self._push_once():
            if not wait.one(self._writing_to(), wait.WRITE, deadline) or passed(deadline):
                self._expired("writing to")

    def _push_once(self) -> bool:
        with self._sending:
            try:
                return self._send_some()
            except (BrokenPipeError, ConnectionResetError):
                self._pending.clear()
                self._gone()

    def _gone(self) -> NoReturn:
        raise ReaderGone(f"{self._name} reads no more; {self._taken} bytes had been taken", taken=self._taken) from None

    def _push_until_readable(self) -> None:
        # Not all of it first: a peer that answers while it reads would wait for us as we for it (promise 2).
        while not self._push_once():
            bits = wait.one(self._writing_to(), wait.READ | wait.WRITE, self._read_by)
            if wait.readable(bits):
                return
            if not bits or passed(self._read_by):
                self._expired("writing to")

    def _send_some(self) -> bool:
        """One send(2) of what is gathered; whether that was all."""
        if not self._pending:
            return True
        count = self._send_now(self._pending)
        del self._pending[:count]
        self._taken += count
        return not self._pending

    def _send_now(self, data: bytearray) -> int:
        try:
            with memoryview(data) as whole, whole[:_MOST_SENT] as part:
                return self._socket.calls.send(part, NO_WAIT)
        except BlockingIOError:
            return 0

    # --- descriptors ---

    def send_fds(self, files: Iterable[int | HasFileno], data: bytes = b"\0", *, timeout: float | None = None) -> None:
        """Send descriptors to the process at the other end of a Unix connection, with at least a byte (gotcha:SO10).

        It gets its own ones for the same open files; ours stay ours. ``receive_fds(len(data))`` takes them.
        """
        self._only_unix("descriptors")
        numbers = array.array("i", [each if isinstance(each, int) else each.fileno() for each in files])
        if not data:
            raise ValueError("descriptors travel with at least one byte of data")
        if not 0 < len(numbers) <= _MOST_FDS:
            raise ValueError(f"between 1 and {_MOST_FDS} descriptors go in one message, not {len(numbers)}")
        deadline = self._by(timeout)
        self._push(deadline)
        count = 0
        while not count:
            try:
                count = self._socket.calls.sendmsg([data], [(SOL_SOCKET, SCM_RIGHTS, numbers)], NO_WAIT)
            except BlockingIOError:
                if not wait.one(self._writing_to(), wait.WRITE, deadline):
                    self._expired("writing to")
            except (BrokenPipeError, ConnectionResetError):
                self._gone()
        self._taken += count
        if count < len(data):
            with self._sending:
                self._pending[:0] = data[count:]
            self._push(deadline)

    def receive_fds(self, size: int = 1, *, timeout: float | None = None) -> tuple[bytes, list[Descriptor]]:
        """Receive the ``size`` bytes of one ``send_fds`` and the descriptors that came with them, ours to close.

        For connections made with ``receives_fds=True``: with others, descriptors that a peer sends
        unasked go nowhere (gotcha:SO10).
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

    # --- the end ---

    def shutdown(self, *, timeout: float | None = None) -> None:
        """Say that nothing more will be written: the peer reads the end, and its answer can still be read."""
        if self._finished:
            return
        self.flush(timeout=timeout)
        self._finished = True
        self._shut()

    def _shut(self) -> None:
        """Tell the peer that nothing more comes."""
        self._shut_socket()

    def _shut_socket(self) -> None:
        try:
            self._socket.calls.shutdown(SHUT_WR)
        except OSError as error:
            if error.errno != errno.ENOTCONN:  # the peer was quicker, and has gone altogether
                raise

    def close(self) -> None:
        """Flush and close, so that what was written arrives; closing twice does nothing.

        Closing with unread input resets the connection, and takes our last words with it
        (gotcha:SO12). So when the peer still sends it is heard out, for two seconds at most.
        """
        if self.closed:
            return
        try:
            self.flush()
            self._hear_out()
        finally:
            self._close_ends()

    def _hear_out(self) -> None:
        if not self._has_spoken() or self._buffer.ended or self._socket.calls.type != SOCK_STREAM:
            return
        # Nothing unread: a plain close. No shutdown in this case, for the connection may be a child's by now.
        if not self._discard():
            return
        self._finished = True
        self._shut_socket()
        deadline = after(LINGER)
        while not passed(deadline):
            if wait.one(self._socket.fileno(), wait.READ, sooner(deadline, after(_QUIET))):
                if not self._discard():
                    return
            elif not self._unsent():
                return

    def _has_spoken(self) -> bool:
        """Whether there are last words of ours that a reset would destroy."""
        return self._taken > 0

    def _discard(self) -> int:
        try:
            return len(self._socket.calls.recv(_LONGEST_READ, NO_WAIT))
        except OSError:
            return 0

    def _unsent(self) -> int:
        """Bytes that the peer's kernel has not acknowledged yet."""
        if self._scheme != "tcp":
            return 0
        answer = fcntl.ioctl(self._socket.fileno(), termios.TIOCOUTQ, bytes(4))
        return int.from_bytes(answer, "little" if struct.pack("=H", 1) == b"\1\0" else "big")

    def cut(self) -> None:
        """End both directions at once, from any thread: whoever reads meets the end, whoever writes a broken pipe."""
        try:
            self._socket.calls.shutdown(SHUT_RDWR)
        except OSError:
            pass  # it has ended already, or is closed

    def leave(self) -> None:
        """Close our descriptor and nothing else: the connection is another process's now."""
        with self._sending:
            self._pending.clear()
        self._close_ends()

    def _close_ends(self) -> None:
        super()._close_ends()
        for batch in self._arrived:
            for each in batch:
                each.close()
        self._arrived.clear()


def check_newline(newline: str) -> str:
    """Refuse what no protocol ends its lines with."""
    if newline not in ("\n", "\r\n"):
        raise ValueError(f"newline must be '\\n' or '\\r\\n', not {newline!r}")
    return newline


def _descriptors_in(messages: list[tuple[int, int, bytes]]) -> list[int]:
    found = array.array("i")
    for level, kind, data in messages:
        if level == SOL_SOCKET and kind == SCM_RIGHTS:
            found.frombytes(data[: len(data) - len(data) % found.itemsize])
    return list(found)


def socket_pair(*, timeout: float | None = None, receives_fds: bool = False) -> tuple[Connection[str], Connection[str]]:
    r"""Two ends of one Unix stream, for processes or threads of one program (perlipc:B6).

    >>> one, other = socket_pair()
    >>> with one, other:
    ...     one.write("ping\n"), other.readline(), other.credentials.pid == os.getpid()
    (5, 'ping\n', True)
    """
    ends = [Socket(Calls(end.family, end.type, end.proto, fileno=end.detach())) for end in socketpair()]
    one, other = (
        Connection(
            end, TEXT, scheme="unix", peer=None, name="a socket pair", timeout=timeout, receives_fds=receives_fds
        )
        for end in ends
    )
    return one, other
