"""A socket as a handle: bytes in and out under deadlines, and an end that destroys nothing.

The descriptor stays in blocking mode and can be a child's stdin; only ``wait`` waits.
"""

from __future__ import annotations

import errno
from _socket import SHUT_RDWR
from _socket import socket as Calls
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn, Self, cast

from hornpipe import wait
from hornpipe._native.buffers import RESET, HandleLines, SocketBuffer
from hornpipe.address import Address
from hornpipe.deadline import NEVER, after, check_timeout, passed, sooner
from hornpipe.lines import Codec, Str, check_newline
from hornpipe.sockets.descriptor import Socket
from hornpipe.sockets.stream_sender import StreamSender

LINE_LIMIT = 1 << 20
"""Bytes of a line unless told otherwise: nobody sends longer ones in good faith."""

_LONGEST_READ = 256 * 1024


class _Late:
    """An attribute that is worked out when it is first asked for: most clients are never named."""

    def __init__(self, work_out: Callable[[Any], Any]) -> None:
        self._work_out = work_out

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, stream: Any, owner: type) -> Any:
        value = stream.__dict__[self._name] = self._work_out(stream)
        return value


class SocketHandle(StreamSender[Str]):
    """What reads, writes and closes; ``Connection`` has the words for its user."""

    if not TYPE_CHECKING:
        _peer = _Late(lambda stream: Address.of(stream._scheme, _known(stream._peer_name)))
        _name = _Late(lambda stream: stream._nobody if stream._peer is None else str(stream._peer))

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

    @contextmanager
    def _until(self, deadline: int) -> Iterator[None]:
        before = self._buffer.life
        self._buffer.life = sooner(before, deadline)
        try:
            yield
        finally:
            self._buffer.life = before

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

    # --- the end ---

    def shutdown(self, *, timeout: float | None = None) -> None:
        """Say that nothing more will be written: the peer reads the end, and its answer can still be read.

        What was gathered is sent before that: ``TimeoutError`` when ``timeout`` seconds do not suffice (shutdown(2)).
        """
        if self._finished and not self._has_unsent():
            return
        deadline = self._by(timeout)
        with self._until(deadline):
            self.flush()
        self._finish()
        self._shut(deadline)

    def _finish(self) -> None:
        self._finished = True
        self._buffer.sink = -1

    def _shut(self, deadline: int) -> None:
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
