"""The half of a stream that sends: by lines or by blocks, all of it, and each once, whoever writes in between."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from hornpipe import wait
from hornpipe._native.buffers import SocketBuffer
from hornpipe.deadline import passed
from hornpipe.errors import ReaderGone
from hornpipe.handle import Handle
from hornpipe.lines import Str
from hornpipe.sockets.descriptor import NO_WAIT, Socket

_BLOCK = 64 * 1024
"""Bytes that are gathered at most."""
_MOST_SENT = 1 << 20
"""Bytes given to one send(2): the lock is not held for longer than that takes."""


class StreamSender(Handle[Str]):
    """What is written is gathered in the native buffer, and sent from there; ``SocketHandle`` has all the rest."""

    _buffer: SocketBuffer
    _socket: Socket
    _newline: str
    _after_cr: bool
    _finished: bool
    _read_by: int

    if TYPE_CHECKING:

        def _by(self, timeout: float | None) -> int: ...
        def _expired(self, doing: str) -> NoReturn: ...
    else:
        _pending = property(lambda stream: stream._buffer.pending)
        _sending = property(lambda stream: stream._buffer.sending)
        _taken = property(lambda stream: stream._buffer.taken)

    def _begin_to_write(self) -> None:
        pass  # all of it is the buffer's

    def _writing_to(self) -> int:
        if self._sink is None or self._socket.closed:
            raise ValueError(f"{self._described()} is closed")
        if self._finished:
            raise ValueError(f"{self._described()} was shut down for writing")
        return self._socket.fileno()

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
        if self._interrupts_itself():
            self._leave_behind(encoded)
            return len(data)
        with self._sending:
            sent = self._send_at_once(encoded) if ends and not self._pending and len(encoded) < _BLOCK else 0
            if sent:
                self._pending[:0] = encoded[sent:]  # before what a handler has gathered meanwhile
            else:
                self._pending.extend(encoded)
        if self._pending and (ends or self._left_to_others or len(self._pending) >= _BLOCK):
            self._push(self._by(timeout))
        return len(data)

    _left_to_others = False
    """Whether a signal's handler has gathered something for whom it had interrupted."""
    _behind = b""
    """What it could not put where the rest is, of which something was just being sent."""

    def _leave_behind(self, data: bytes) -> None:
        try:
            self._pending.extend(data)
        except BufferError:
            self._behind += data
        self._left_to_others = True

    def _interrupts_itself(self) -> bool:
        """Whether we are a signal's handler that came while this thread was sending here.

        What it writes is gathered behind what is being sent, and whoever was interrupted sends it as well. Sent from
        here it would come in the middle of that, and that twice.
        """
        lock: Any = self._sending
        return bool(lock._is_owned())

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
        """Send one piece of what is gathered; whether that was all, so far as it is ours to send."""
        if self._interrupts_itself():
            return True
        with self._sending:
            try:
                self._send_some()
            except (BrokenPipeError, ConnectionResetError):
                self._pending.clear()
                self._gone()
            over = not self._has_unsent()
        if self._left_to_others:
            self._left_to_others = False
            with self._sending:
                behind, self._behind = self._behind, b""
                self._pending.extend(behind)
            over = not self._has_unsent()
        return over

    def _has_unsent(self) -> bool:
        """Whether there is anything that the kernel has not taken."""
        return bool(self._pending)

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

    def _send_some(self) -> None:
        """One send(2) of what is gathered."""
        if self._pending:
            count = self._send_now(self._pending)
            del self._pending[:count]
            self._buffer.taken += count

    def _send_now(self, data: bytearray) -> int:
        try:
            with memoryview(data) as whole, whole[:_MOST_SENT] as part:
                return self._socket.calls.send(part, NO_WAIT)
        except BlockingIOError:
            return 0
