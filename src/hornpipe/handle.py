"""File objects over descriptors: one generic type for text and bytes, for reading, writing or both."""

from __future__ import annotations

import errno
import os
from _thread import LockType, RLock
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, Self, cast

from hornpipe import deadline as deadlines
from hornpipe import fd as descriptors
from hornpipe import wait
from hornpipe._native.buffers import HandleLines, ReadBuffer
from hornpipe.errors import LimitExceeded, ReaderGone
from hornpipe.lines import Codec, Str

_FIRST_READ = 16 * 1024
_LONGEST_READ = 256 * 1024
_SURE = 4096
_BLOCK = 64 * 1024
"""Bytes gathered before a block-buffered handle writes: what a pipe holds by default."""


class Handle(Generic[Str]):
    r"""A file object on a pipe, terminal or socket.

    Lines keep their newline, as with any file. All waiting is bounded by the handle's deadline;
    over it comes ``TimeoutError``. One thread may read while others write, each write whole; two that
    read at once need a lock of their own. Closing it from another thread ends a wait with ``ValueError``.

    >>> from hornpipe.fd import pipe
    >>> from hornpipe.lines import TEXT
    >>> reader, writer = pipe()
    >>> with Handle(None, writer, TEXT) as out:
    ...     print("one", "two", file=out)
    >>> with Handle(reader, None, TEXT) as lines:
    ...     list(lines)
    ['one two\n']
    """

    def __init__(
        self,
        source: descriptors.Descriptor | None,
        sink: descriptors.Descriptor | None,
        codec: Codec[Str],
        *,
        deadline: int = deadlines.NEVER,
        by_line: bool = False,
        line_limit: int | None = None,
        name: str = "",
    ) -> None:
        self._source = source
        self._sink = sink
        self._codec = codec
        self._deadline = deadline
        self._by_line = by_line
        self._line_limit = line_limit
        self._name = name
        self._buffer = self._new_buffer()
        self._read_size = _FIRST_READ
        self._decoder: Any = None
        self._decoded: Any = codec.empty
        self._begin_to_write()
        # Whether a write may block belongs to the open file, which others may share (gotcha:P5): it is left
        # as it is. After poll, so much does not block; see pipe(7) on PIPE_BUF.
        self._step = _SURE if sink is not None and os.get_blocking(sink.fileno()) else 0

    def _begin_to_write(self) -> None:
        self._pending = bytearray()
        # Held from the gathering until the kernel has it all: between the two another thread's data would be lost or
        # come twice. The deadline is the handle's, so whoever waits here waits no longer than for the pipe. Anew in the
        # same thread, since a signal handler may write in the middle of it.
        self._sending: LockType | RLock = RLock()
        self._taken = 0

    def _new_buffer(self) -> ReadBuffer:
        return ReadBuffer(self._codec.line_form, -1 if self._line_limit is None else self._line_limit)

    # --- what it is ---

    @property
    def name(self) -> str:
        """What the other end is, for messages."""
        return self._name

    @property
    def encoding(self) -> str | None:
        """The text encoding; ``None`` for bytes."""
        return self._codec.encoding

    @property
    def errors(self) -> str | None:
        """What happens to bytes that are not text; ``None`` for bytes."""
        return self._codec.errors

    @property
    def closed(self) -> bool:
        """Whether both directions are closed."""
        return (self._source is None or self._source.closed) and (self._sink is None or self._sink.closed)

    def readable(self) -> bool:
        """Whether there is something to read from."""
        return self._source is not None

    def writable(self) -> bool:
        """Whether there is something to write to."""
        return self._sink is not None

    def seekable(self) -> bool:
        """Pipes, terminals and sockets have no position."""
        return False

    def isatty(self) -> bool:
        """Whether the descriptor is a terminal."""
        return not self.closed and os.isatty(self.fileno())

    def fileno(self) -> int:
        """The descriptor that is read from, else the one written to; for poll and friends.

        What has been read ahead is not seen there.
        """
        end = self._source if self._source is not None else self._sink
        if end is None or end.closed:
            raise ValueError(f"{self._described()} is closed")
        return end.fileno()

    def _described(self) -> str:
        return f"the handle of {self._name}" if self._name else "the handle"

    def _reading_from(self) -> int:
        if self._source is None:
            raise ValueError(f"{self._described()} is only for writing")
        try:
            return self._source.fileno()
        except ValueError:
            raise ValueError(f"{self._described()} is closed") from None

    def _writing_to(self) -> int:
        if self._sink is None:
            raise ValueError(f"{self._described()} is only for reading")
        try:
            return self._sink.fileno()
        except ValueError:
            raise ValueError(f"{self._described()} is closed") from None

    # --- reading ---

    _reads_itself = True
    """Whether to wait for its descriptor and read it is all that it takes to get more."""

    def _fill(self) -> None:
        """One more read into the buffer, or its end."""
        seen = wait.closings_so_far()
        fd = self._reading_from()
        if self._deadline != deadlines.NEVER and deadlines.passed(self._deadline):
            self._expired("reading")  # output without end is always ready, and no excuse
        count = wait.fill(self._buffer, fd, self._read_size, self._deadline, seen)
        if count is None:
            self._expired("reading")
        elif count == self._read_size and count < _LONGEST_READ:
            # Full reads: much is coming. A wider pipe and longer reads are three times as fast.
            self._read_size = count * 4
            if self._read_size > _BLOCK:
                descriptors.widen(fd)

    @contextmanager
    def _until(self, deadline: int) -> Iterator[None]:
        """Its deadline, for a while."""
        before = self._deadline
        self._deadline = deadlines.sooner(before, deadline)
        try:
            yield
        finally:
            self._deadline = before

    def _expired(self, doing: str) -> None:
        raise TimeoutError(f"time ran out while {doing} {self._name}".rstrip())

    def read(self, size: int | None = -1) -> Str:
        """Read ``size`` characters (bytes for a bytes handle), or all until the end.

        Waits until that many have come; fewer come only at the end, where nothing is ''.
        """
        if size is None or size < 0:
            while not self._buffer.ended:
                self._fill()
            whole: Any = self._take_decoded()
            whole += self._decode_rest(self._buffer.take(-1))
            return cast(Str, whole)
        if not self._codec.is_text:
            while len(self._buffer) < size and not self._buffer.ended:
                self._fill()
            return self._codec.decode(self._buffer.take(size))
        while len(self._decoded) < size:
            if not len(self._buffer):
                if self._buffer.ended:
                    self._decoded += self._decode_rest(b"")
                    break
                self._fill()
                continue
            self._decoded += self._decode_piece(self._buffer.take(-1))
        result, self._decoded = self._decoded[:size], self._decoded[size:]
        return cast(Str, result)

    def read_some(self) -> Str:
        """Read what is there, at least one character; waits for it. Nothing at the end.

        >>> from hornpipe.fd import pipe
        >>> from hornpipe.lines import BYTES
        >>> import os
        >>> reader, writer = pipe()
        >>> os.write(writer.fileno(), b"partial")
        7
        >>> with Handle(reader, None, BYTES) as handle, writer:
        ...     handle.read_some()
        b'partial'
        """
        while True:
            if self._decoded:
                return self._take_decoded()
            if len(self._buffer):
                data = self._buffer.take(-1)
                piece = self._decode_piece(data) if self._codec.is_text else self._codec.decode(data)
                if piece:
                    return piece
            elif self._buffer.ended:
                return self._decode_rest(b"")
            else:
                self._fill()

    def _take_decoded(self) -> Str:
        result = self._decoded
        self._decoded = self._codec.empty
        return cast(Str, result)

    def _decode_piece(self, data: bytes) -> Str:
        if self._decoder is None:
            self._decoder = self._codec.decoder()
            self._buffer.form = -1  # what comes next in the buffer is not what is read next
        piece: Str = self._decoder.decode(data)
        return piece

    def _decode_rest(self, data: bytes) -> Str:
        if self._decoder is None:
            return self._codec.decode(data)
        decoder, self._decoder = self._decoder, None
        piece: Str = decoder.decode(data, True)
        return piece

    def _is_decoding(self) -> bool:
        """Whether there is text, or a part of a character, that has left the buffer and was not read."""
        if self._decoder is None:
            return bool(self._decoded)
        if self._decoded or not self._codec.native or self._decoder.getstate()[0]:
            return True
        self._decoder = None
        self._buffer.form = self._codec.line_form
        return False

    def readline(self, size: int | None = -1) -> Str:
        """Read one line with its newline; the last one may lack it; nothing is the end.

        With ``size``, at most so many characters of it. A line longer than the handle's
        ``line_limit`` raises ``LimitExceeded`` (a ``BufferError``).
        """
        wanted = -1 if size is None else size
        if wanted < 0:
            whole = self._buffer.next_line()
            if whole is None and self._reads_itself:
                # Nearly always the whole of it; what has not been done then is done below.
                seen = wait.closings_so_far()
                whole = self._buffer.await_line(self._reading_from(), self._read_size, self._deadline, seen)
            if whole is not None:
                return cast(Str, whole)
        if self._codec.is_text and (wanted >= 0 or not self._codec.plain_lines or self._is_decoding()):
            return self._decoded_line(wanted)
        while True:
            line = self._buffer.take_line(wanted)
            if line or self._buffer.ended or wanted == 0:
                self._check_line(line)
                return self._codec.decode(line)
            self._check_begun(len(self._buffer))
            self._fill()
            if wanted < 0:
                whole = self._buffer.next_line()
                if whole is not None:
                    return cast(Str, whole)

    def _decoded_line(self, size: int) -> Str:
        # After read(n), with a size, or where newlines are not single bytes: the border lies between characters.
        newline: Any = self._codec.newline
        while True:
            end = self._decoded.find(newline) + 1
            if size >= 0 and (end > size or (not end and len(self._decoded) >= size)):
                end = size
                break
            if end:
                break
            self._check_begun(len(self._decoded))
            if len(self._buffer):
                self._decoded += self._decode_piece(self._buffer.take(-1))
            elif self._buffer.ended:
                rest = self._decode_rest(b"")
                self._decoded += rest
                if not rest:
                    end = len(self._decoded)
                    break
            else:
                self._fill()
        line, self._decoded = self._decoded[:end], self._decoded[end:]
        self._check_line(line)
        return cast(Str, line)

    def _check_line(self, line: Any) -> None:
        limit = self._line_limit
        if limit is not None and len(line) > limit:
            cr, lf = ("\r", "\n") if isinstance(line, str) else (b"\r", b"\n")
            if len(line.removesuffix(lf).removesuffix(cr)) > limit:
                self._line_too_long(line[:limit] if isinstance(line, str) else self._codec.decode(line[:limit]))

    def _check_begun(self, size: int) -> None:
        # One more than the limit may still be the CR of its end.
        if self._line_limit is not None and size > self._line_limit + 1:
            self._line_too_long(self._decoded or self._codec.decode(self._buffer.take(self._line_limit)))

    def _line_too_long(self, start: Any) -> None:
        raise LimitExceeded(
            f"a line of {self._name or 'the stream'} is longer than line_limit={self._line_limit} bytes",
            limit=self._line_limit or 0,
            data=start,
        )

    def readlines(self, hint: int | None = -1) -> list[Str]:
        """All remaining lines, each with its newline; no more of them once they exceed ``hint`` characters."""
        lines: list[Str] = []
        size = 0
        for line in self:
            lines.append(line)
            size += len(line)
            if hint is not None and 0 < hint < size:
                break
        return lines

    def __iter__(self) -> Iterator[Str]:
        self._reading_from()
        return cast("Iterator[Str]", HandleLines(self._buffer, self.readline))

    def __next__(self) -> Str:
        line = self.readline()
        if not line:
            raise StopIteration
        return line

    def unread(self) -> bytes:
        """Take out what has been read ahead: whoever reads the descriptor itself needs it first."""
        if self._decoded:
            raise ValueError(f"{self._described()} has text read ahead, which is no longer the bytes it was")
        return self._buffer.take(-1)

    # --- writing ---

    def write(self, data: Str) -> int:
        """Write all of ``data``; its length.

        It is gathered into blocks (or lines, on a handle that flushes by line): ``flush`` sends
        it on its way. Raises ``BrokenPipeError`` with ``.taken``, the bytes that the kernel took,
        when the reader has gone.
        """
        self._writing_to()
        encoded = self._codec.encode(data)
        with self._sending:
            self._pending += encoded
            if len(self._pending) >= _BLOCK or (self._by_line and b"\n" in encoded):
                self.flush()
        return len(data)

    def writelines(self, lines: Iterable[Str]) -> None:
        """Write each of ``lines``, adding nothing."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Send what was gathered; returns when the kernel has taken all of it."""
        if not self._pending:
            return
        self._writing_to()
        with self._sending:
            # Taken out first: what raises midway is counted in .taken, not sent twice by close().
            data, self._pending = bytes(self._pending), bytearray()
            self._send(data)

    def _send(self, data: bytes) -> None:
        """Write all of it: partial writes are completed, and another writer may be quicker than us."""
        try:
            count = 0
            if not self._step:
                count = wait.write_some(self._writing_to(), data)
                self._taken += count
                if count == len(data):
                    return
            rest = memoryview(data)[count:]
            while rest:
                self._wait_for_room()
                count = wait.write_some(self._writing_to(), rest[: self._step] if self._step else rest)
                self._taken += count
                rest = rest[count:]
        except BrokenPipeError:
            self._reader_gone()

    def _wait_for_room(self) -> None:
        bits = wait.on(self._writing_to, wait.WRITE, self._deadline)
        if not bits:
            self._expired("writing to")
        self._check_hung_up(bits)

    def _check_hung_up(self, bits: int) -> None:
        if wait.hung_up(bits):
            raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))

    def _reader_gone(self) -> None:
        raise ReaderGone(
            f"nobody reads {self._name or 'this pipe'} any more; {self._taken} bytes had been taken",
            taken=self._taken,
        ) from None

    @property
    def taken(self) -> int:
        """Bytes that the kernel has taken so far of everything written."""
        return self._taken

    # --- the end ---

    def _close_ends(self) -> None:
        for end in (self._source, self._sink):
            if end is not None:
                end.close()
        self._buffer.forget_end()

    def close(self) -> None:
        """Flush and close; closing twice does nothing."""
        if self.closed:
            return
        try:
            if self._sink is not None and not self._sink.closed:
                self.flush()
        finally:
            self._close_ends()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is None:
            self.close()
            return
        # What the body raised is what the caller must see; the rest of the data goes nowhere.
        self._pending.clear()
        self._close_ends()

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"fd {self.fileno()}"
        return f"<{type(self).__name__} of {self._name or 'a descriptor'}, {state}>"
