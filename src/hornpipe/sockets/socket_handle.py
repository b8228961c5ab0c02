"""A socket as a handle: bytes in and out under deadlines, and an end that destroys nothing.

The descriptor stays in blocking mode and can be a child's stdin; only ``wait`` waits.
"""

from __future__ import annotations

import errno
from _socket import SHUT_RDWR
from _socket import socket as Calls
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NoReturn, Self, cast

from hornpipe import wait
from hornpipe._native.buffers import RESET, HandleLines, SocketBuffer
from hornpipe.address import Address
from hornpipe.deadline import NEVER, after, check_timeout, passed, sooner
from hornpipe.errors import ReaderGone
from hornpipe.handle import Handle
from hornpipe.lines import Codec, Str, check_newline
from hornpipe.sockets.descriptor import NO_WAIT, Socket

LINE_LIMIT = 1 << 20
"""Characters of a line unless told otherwise: nobody sends longer ones in good faith."""

_BLOCK = 64 * 1024
_LONGEST_READ = 256 * 1024
_MOST_SENT = 1 << 20
"""Bytes given to one send(2): the lock is not held for longer than that takes."""


class _Late:
    """An attribute that is worked out when it is first asked for: most clients are never named."""

    def __init__(self, work_out: Callable[[Any], Any]) -> None:
        self._work_out = work_out

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, stream: Any, owner: type) -> Any:
        value = stream.__dict__[self._name] = self._work_out(stream)
        return value


class SocketHandle(Handle[Str]):
    """What reads, writes and closes; ``Connection`` has the words for its user."""

    _buffer: SocketBuffer

    if not TYPE_CHECKING:
        _peer = _Late(lambda stream: Address.of(stream._scheme, _known(stream._peer_name)))
        _name = _Late(lambda stream: stream._nobody if stream._peer is None else str(stream._peer))
        # What is written, too, is the native buffer's affair.
        _pending = property(lambda stream: stream._buffer.pending)
        _sending = property(lambda stream: stream._buffer.sending)
        _taken = property(lambda stream: stream._buffer.taken)

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
    ) -> None:
        self._newline = check_newline(newline)
        # Not as the sink: a handle makes its sink non-blocking, which children would inherit.
        super().__init__(socket, None, codec, by_line=True, line_limit=line_limit, name=name)
        self._sink = socket
        self._socket = socket
        self._scheme = scheme
        self._peer = peer
        self.timeout = timeout
        self._after_cr = False
        self._read_by = NEVER
        self._tried = False
        self._finished = False
        self._received_before = 0

    def kind_like_this(self) -> type[Self]:
        """A class for many streams like this one, which share in it what they have in common.

        The constructor is slow; and a forked child that copies so many references copies a page for each.
        """
        common = {**self.__dict__, "_nobody": self._name, "__doc__": type(self).__doc__}
        for each in ("_peer", "_name", "_socket", "_source", "_sink"):
            del common[each]
        common["_settings"] = common.pop("_buffer")
        return type(type(self).__name__, (type(self),), common)

    @classmethod
    def of(cls, socket: Socket, name: Any) -> Self:
        """One of them, whose peer the socket module calls ``name``; or what will tell that when it is called."""
        made = object.__new__(cls)
        made._peer_name = name
        made._socket = made._source = made._sink = socket
        made._buffer = cls._settings.fresh(socket._fd if cls._plain else -1)
        if not cls._plain:
            made._begin()
        return made

    family: int
    """Of those: AF_INET and so on."""
    _peer_name: Any
    _nobody: str
    _settings: SocketBuffer
    _plain: bool
    """Whether its descriptor can be read and written as it is: most of it is one native call then."""

    def _begin(self) -> None:
        """What each has of its own when it is not plain."""

    def _begin_to_write(self) -> None:
        pass  # see _new_buffer

    def _new_buffer(self) -> SocketBuffer:
        limit = -1 if self._line_limit is None else self._line_limit
        return SocketBuffer(self._codec.line_form, limit, crlf=self._newline != "\n")

    def _is_plain(self) -> None:
        """Let its descriptor be read and written natively."""
        self._plain = True
        self._buffer.source = self._buffer.sink = self._socket.fileno()

    @property
    def timeout(self) -> float | None:
        """Seconds that a call may take which is given no limit of its own; ``None`` for ever."""
        return None if self._buffer.timeout < 0 else self._buffer.timeout

    @timeout.setter
    def timeout(self, timeout: float | None) -> None:
        seconds = check_timeout(timeout)
        self._buffer.timeout = -1 if seconds is None else seconds

    @property
    def newline(self) -> str:
        r"""What a line that is written ends with, ``\n`` or ``\r\n``."""
        return self._newline

    @property
    def calls(self) -> Calls:
        """The system calls on its socket, as the socket module has them."""
        return self._socket.calls

    @property
    def deadline_of_life(self) -> int:
        """What ``limit`` has set."""
        return self._buffer.life

    def limit(self, deadline: int) -> None:
        """Bound all of its calls together by a deadline, whatever their own time-outs."""
        self._buffer.life = deadline

    @property
    def deadline(self) -> int:
        """The deadline of a call that is given no time-out of its own."""
        return self._by(None)

    @property
    def received(self) -> int:
        """Bytes that have been read from the socket so far."""
        return self._received_before + self._buffer.received

    def _begin_to_read(self, timeout: float | None) -> None:
        self._read_by = self._by(timeout)
        self._tried = False

    def _by(self, timeout: float | None) -> int:
        life = self._buffer.life
        if timeout is None:
            timeout = self._buffer.timeout
            if timeout < 0:
                return life
        own = after(timeout)
        return own if life == NEVER else sooner(own, life)

    # --- reading ---

    def _reading_from(self) -> int:
        if self._source is None or self._socket.closed:
            raise ValueError(f"{self._described()} is closed")
        return self._socket.fileno()

    def _writing_to(self) -> int:
        if self._sink is None or self._socket.closed:
            raise ValueError(f"{self._described()} is closed")
        if self._finished:
            raise ValueError(f"{self._described()} was shut down for writing")
        return self._socket.fileno()

    _reads_itself = False

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
            count = self._receive(fd, seen)
        except ConnectionResetError:
            self._reset()
        if count is None:
            self._expired("reading from")
        elif count == self._read_size and count < _LONGEST_READ:
            self._read_size = count * 4

    def _reset(self) -> NoReturn:
        raise ConnectionResetError(errno.ECONNRESET, f"{self._name} reset the connection") from None

    def _receive(self, fd: int, seen: int) -> int | None:
        """Read once into the buffer: as ``wait.fill`` tells."""
        return wait.fill(self._buffer, fd, self._read_size, self._read_by, seen)

    def _explain(self) -> None:
        """Raise what has ended a native call, if that is what it was."""
        said = self._buffer.said
        if said == 0:
            self._expired("reading from")
        if said == RESET:
            self._reset()
        if said == wait.CLOSED:
            raise wait.ClosedMeanwhile(f"{self._described()} was closed by another thread")

    def __iter__(self) -> Iterator[Str]:
        self._reading_from()
        return cast("Iterator[Str]", HandleLines(self._buffer, self._line_after_all))

    def _line_after_all(self) -> Str:
        """A line that the native buffer has not given."""
        self._explain()
        return self.readline()

    def _expired(self, doing: str) -> NoReturn:
        if doing.startswith("reading"):
            have = len(self._buffer) + len(self._decoded)
            raise TimeoutError(f"time ran out while reading from {self._name}; {have} bytes have come and are kept")
        raise TimeoutError(f"time ran out while writing to {self._name}; {self._taken} bytes had been taken")

    def read(self, size: int | None = -1, *, timeout: float | None = None) -> Str:
        """Read ``size`` characters (bytes), or all until the end; fewer come only at the end.

        ``TimeoutError`` after ``timeout`` seconds; what has come by then is still there to be read.
        """
        self._begin_to_read(timeout)
        return super().read(size)

    def read_some(self, *, timeout: float | None = None) -> Str:
        """Read what is there, at least one character (byte); waits for it. Nothing at the end.

        ``TimeoutError`` when nothing has come after ``timeout`` seconds.
        """
        self._begin_to_read(timeout)
        return super().read_some()

    # --- writing ---

    def write(self, data: Str, *, timeout: float | None = None) -> int:
        r"""Write all of ``data``; its length. Text has each ``\n`` sent as the connection's ``newline``.

        Sent when a line is whole, at ``flush``, and before a read waits. ``BrokenPipeError`` with
        ``.taken`` when nobody reads any more; ``TimeoutError`` after ``timeout`` seconds, and the rest
        goes with the next flush.
        """
        done = self._buffer.write(data)
        if done > 0:
            return len(data)
        if done < 0:
            self._push(self._by(timeout))
            return len(data)
        self._writing_to()
        encoded = self._codec.encode(data if self._newline == "\n" else self._with_newlines(data))
        ends = b"\n" in encoded
        with self._sending:
            sent = self._send_at_once(encoded) if ends and not self._pending and len(encoded) < _BLOCK else 0
            if sent == len(encoded):
                return len(data)
            self._pending.extend(encoded[sent:])
        if ends or len(self._pending) >= _BLOCK:
            self._push(self._by(timeout))
        return len(data)

    def _with_newlines(self, data: Any) -> Any:
        if self._newline == "\n" or not isinstance(data, str) or not data:
            return data
        # CR LF that is there already stays one, also when it comes in two pieces.
        start = "\n" if self._after_cr and data[0] == "\n" else ""
        self._after_cr = data[-1] == "\r"
        return start + data[len(start) :].replace("\r\n", "\n").replace("\n", "\r\n")

    def flush(self, *, timeout: float | None = None) -> None:
        """Send what was gathered; returns when the kernel has taken all of it.

        ``TimeoutError`` after ``timeout`` seconds; the rest goes with the next flush.
        """
        if self._pending:
            self._writing_to()
            self._push(self._by(timeout))

    def _push(self, deadline: int) -> None:
        """Send all that is gathered, whichever thread gathered it."""
        while not self._push_once():
            if not wait.on(self._writing_to, wait.WRITE, deadline) or passed(deadline):
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
            bits = wait.on(self._writing_to, wait.READ | wait.WRITE, self._read_by)
            if wait.readable(bits):
                return
            if not bits or passed(self._read_by):
                self._expired("writing to")

    def _send_at_once(self, data: bytes) -> int:
        """How much of it goes without having been gathered; whatever is wrong shows when the rest is sent."""
        try:
            count = self._socket.calls.send(data, NO_WAIT)
        except OSError:
            return 0
        self._buffer.taken += count
        return count

    def _send_some(self) -> bool:
        """One send(2) of what is gathered; whether that was all."""
        if not self._pending:
            return True
        count = self._send_now(self._pending)
        del self._pending[:count]
        self._buffer.taken += count
        return not self._pending

    def _send_now(self, data: bytearray) -> int:
        try:
            with memoryview(data) as whole, whole[:_MOST_SENT] as part:
                return self._socket.calls.send(part, NO_WAIT)
        except BlockingIOError:
            return 0

    # --- the end ---

    def shutdown(self, *, timeout: float | None = None) -> None:
        """Say that nothing more will be written: the peer reads the end, and its answer can still be read.

        What was gathered is sent before that: ``TimeoutError`` when ``timeout`` seconds do not suffice (shutdown(2)).
        """
        if self._finished:
            return
        self.flush(timeout=timeout)
        self._finish()
        self._shut()

    def _finish(self) -> None:
        self._finished = True
        self._buffer.sink = -1

    def _shut(self) -> None:
        """Tell the peer that nothing more comes."""
        self._socket.finish()

    def close(self) -> None:
        """Flush and close, so that what was written arrives; closing twice does nothing.

        Closing with unread input resets the connection, and takes our last words with it
        (gotcha:SO12). So when the peer still sends it is heard out, for two seconds at most.
        """
        socket = self._socket
        if self._source is None or socket._fd < 0:
            return
        # Nearly always all there is to do, and what most clients end with: without the calls that say the same.
        if self._buffer.leave_at_rest():
            if socket._calls is None:
                fd, socket._fd = socket._fd, -1
                wait.close(fd)
            else:
                self._close_ends()
            return
        try:
            if self._pending:
                self.flush()
            self._hear_out()
        finally:
            self._close_ends()

    def _hear_out(self) -> None:
        if not self._has_spoken() or self._buffer.ended:
            return
        # Nothing unread: a plain close. No shutdown in this case, for the connection may be a child's by now.
        if wait.one(self._socket.fileno(), wait.READ, 0) and self._socket.discard():
            self._finish()
            self._socket.hear_out()

    def _has_spoken(self) -> bool:
        """Whether there are last words of ours that a reset would destroy."""
        return self._taken > 0

    def _close_ends(self) -> None:
        if self._source is not None:
            self._buffer.source = self._buffer.sink = -1
            self._socket.close()
            self._buffer.forget_end()
        if self._arrived:
            self._drop_arrived()

    _arrived: Any = ()

    def _drop_arrived(self) -> None:
        """Close the descriptors that came and were not taken."""

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


def _known(name: Any) -> Any:
    return name() if callable(name) else name
