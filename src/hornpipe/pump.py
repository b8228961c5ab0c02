"""n sources to n sinks in one loop, without a thread: any volume in any direction at once (gotcha:C1).

Reading stdout to its end before stderr, or writing all input before reading, deadlocks as soon
as one pipe is full. So every end that is ready is served, and only those.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

from hornpipe import wait
from hornpipe.deadline import NEVER, after, passed, sooner
from hornpipe.fd import PIPE_SIZE, Descriptor, nonblocking, widen
from hornpipe.lines import TEXT, Codec, Kept, Tail

_FIRST_READ = 64 * 1024
_BIG_READ = 256 * 1024
_STEP_WITHOUT_PIDFD = 0.05
"""Seconds between looks at a child that cannot be polled, while it is being fed."""


def read_some(source: Descriptor, size: int) -> bytes | None:
    """One read(2): nothing at the end, ``None`` when somebody else was quicker."""
    try:
        return os.read(source._fd, size)
    except BlockingIOError:
        return None
    except OSError as error:
        if error.errno == errno.EIO:  # a pty whose other side is closed: its end of file (gotcha:TTY1)
            return b""
        raise


class Sink(Protocol):
    """Where a source's bytes go: one read(2) into it, 0 at the end, -1 when nothing was there.

    It looks the number up (``_fd``) in the very call: in any function of Python's before that a signal's handler may
    close the source, and the number be another file's.
    """

    def fill(self, source: Descriptor, size: int, /) -> int:
        """Read at most ``size`` bytes from ``source``."""
        ...


class Keeper:
    """A sink that keeps what it is given, within a limit."""

    __slots__ = ("kept",)

    def __init__(self, limit: int | None) -> None:
        self.kept = Kept(limit)

    def fill(self, source: Descriptor, size: int) -> int:
        """Read into what is kept."""
        sink = self.kept.sink
        if sink is not None:
            return sink.fill(source._fd, size)
        data = read_some(source, size)
        if not data:
            return -1 if data is None else 0
        self.kept.add(data)
        return len(data)


class StrictKeeper(Keeper):
    """A keeper that fails as soon as more than its limit has come: there may be no end to it."""

    __slots__ = ("_exceeded",)

    def __init__(self, limit: int, exceeded: Callable[[Kept], Exception]) -> None:
        super().__init__(limit)
        self._exceeded = exceeded

    def fill(self, source: Descriptor, size: int) -> int:
        """Read into what is kept."""
        before = self.kept.truncated
        got = super().fill(source, size)
        # Once: whoever then ends the child goes on reading, for what it says when it is told to end.
        if self.kept.truncated and not before:
            raise self._exceeded(self.kept)
        return got


class Tee:
    """A sink that passes everything on to a descriptor and keeps the end."""

    __slots__ = ("kept", "onward", "rest")

    def __init__(self, onward: int, limit: int) -> None:
        self.kept = Kept(Tail(limit))
        self.onward = onward
        self.rest = memoryview(b"")
        """What there was no room for yet. Nothing more is read meanwhile, so the child feels it, as it should."""

    def fill(self, source: Descriptor, size: int) -> int:
        """Read, pass on, keep."""
        data = read_some(source, min(size, 65536))
        if not data:
            return -1 if data is None else 0
        self.kept.add(data)
        self.rest = memoryview(data)
        self.pass_on()
        return len(data)

    def pass_on(self) -> None:
        """Write what there is room for, without waiting: the pump waits, and knows until when."""
        # Our own stderr is shared with whoever started us, so it is not made non-blocking; after
        # poll a write of PIPE_BUF bytes (4096 on Linux) does not block.
        try:
            while self.rest and self.onward >= 0 and wait.one(self.onward, wait.WRITE, 0):
                self.rest = self.rest[wait.write_some(self.onward, self.rest[:4096]) :]
        except OSError:
            self.onward = -1  # our stderr is gone: what was kept is still there
        if self.onward < 0:
            self.rest = memoryview(b"")


def as_bytes(data: object, codec: Codec[Any]) -> bytes | memoryview:
    r"""What is fed to a child, whichever kind it comes in; text is encoded as the command's text is.

    >>> from hornpipe.lines import TEXT
    >>> as_bytes("caf\u00e9", TEXT)
    b'caf\xc3\xa9'
    """
    if isinstance(data, str):
        return (codec if codec.is_text else TEXT).encode(data)
    if isinstance(data, bytes):
        return data
    if isinstance(data, bytearray | memoryview):
        return memoryview(data).cast("B")
    raise TypeError(f"a command's input is made of str or bytes, not {type(data).__name__}")


def pieces(data: Any, codec: Codec[Any]) -> Iterator[bytes | memoryview]:
    """The bytes of whatever was given as input, piece by piece."""
    if isinstance(data, str | bytes | bytearray | memoryview):
        yield as_bytes(data, codec)
    elif hasattr(data, "read"):
        while chunk := data.read(65536):
            yield as_bytes(chunk, codec)
    else:
        for chunk in data:
            yield as_bytes(chunk, codec)


class Feed:
    """What is written to a child's stdin: bytes, or an iterator that may be endless."""

    __slots__ = ("_chunks", "_rest", "taken")

    def __init__(self, data: Any, codec: Codec[Any]) -> None:
        self._rest = memoryview(b"")
        self.taken = 0
        """Bytes that the kernel took."""
        self._chunks = pieces(data, codec)

    def push(self, sink: Descriptor) -> bool:
        """Write what there is room for; false when all has been written."""
        if not self._rest:
            # One piece at a time: an iterator that gives nothing for ever must not keep us from the clock.
            chunk = next(self._chunks, None)
            if chunk is None:
                return False
            self._rest = memoryview(chunk)
        count = wait.write_some(sink._fd, self._rest[:PIPE_SIZE])
        self.taken += count
        self._rest = self._rest[count:]
        return True

    def close(self) -> None:
        """Tell a generator that nobody wants more."""
        end: Callable[[], object] | None = getattr(self._chunks, "close", None)
        if end is not None:
            end()


class Pump:
    """Sources with their sinks, feeds with their descriptors, and one loop over them."""

    __slots__ = ("_feeds", "_full", "_sizes", "_sources", "_stop", "_stopped")

    def __init__(self) -> None:
        self._sources: dict[int, tuple[Descriptor, Sink]] = {}
        self._full: dict[int, Tee] = {}
        self._sizes: dict[int, int] = {}
        self._feeds: dict[int, tuple[Descriptor, Feed]] = {}
        self._stop = -1
        self._stopped: Callable[[], bool] | None = None

    def drain(self, source: Descriptor, sink: Sink) -> None:
        """Read ``source`` into ``sink`` until its end, and close it then."""
        self._sources[source.fileno()] = source, sink

    def feed(self, sink: Descriptor, data: Any, codec: Codec[Any], stop: int, stopped: Callable[[], bool]) -> Feed:
        """Write ``data`` to ``sink`` and close it then.

        It is also over when nobody reads any more, or when ``stop`` (a pidfd, or -1 to ask
        ``stopped`` now and then) says that the child has ended: its own children may hold the
        pipe open without ever reading.
        """
        feed = Feed(data, codec)
        nonblocking(sink.fileno())
        self._feeds[sink.fileno()] = sink, feed
        self._stop = stop
        self._stopped = stopped
        return feed

    @property
    def busy(self) -> bool:
        """Whether anything is left to move."""
        return bool(self._sources or self._feeds)

    def run(self, deadline: int) -> bool:
        """Move everything; false when the deadline passed first."""
        while self._sources or self._feeds:
            # Output without end is always ready, and no excuse.
            if not self.step(deadline) or (deadline != NEVER and passed(deadline)):
                return not (self._sources or self._feeds)
        return True

    def step(self, deadline: int, beside: Sequence[tuple[int, int]] = (), seen: int | None = None) -> bool:
        """Wait once and serve what is ready; false when the deadline passed first.

        What is in ``beside`` (descriptors with events) ends the wait too, and is left alone. Nothing is waited for when
        a descriptor has been closed since there were ``seen`` closings: its number may be another file's.
        """
        if seen is None:
            seen = wait.closings_so_far()
        if len(self._sources) == 1 and not self._feeds and not beside and not self._full:
            for fd in list(self._sources):
                bits = wait.one(fd, wait.READ, deadline, seen)
                if bits > 0:
                    self._read(fd)
                return bits != 0
        # From copies: a signal's handler may close us in the middle.
        wanted = [(fd, wait.READ) for fd in list(self._sources) if fd not in self._full]
        wanted += [(tee.onward, wait.WRITE) for tee in list(self._full.values())]
        wanted += [(fd, wait.WRITE) for fd in list(self._feeds)]
        wanted += beside
        limit = deadline
        if self._feeds:
            if self._stop >= 0:
                wanted.append((self._stop, wait.READ))
            else:
                limit = sooner(deadline, after(_STEP_WITHOUT_PIDFD))
        ready = wait.until(wanted, limit, seen)
        if any(bits == wait.OUTDATED for _, bits in ready):
            return True
        if not ready:
            if limit == deadline:
                return False
            if self._stopped is not None and self._stopped():
                self._end_feeds()
            return not passed(deadline)
        for fd, bits in ready:
            if fd in self._sources:
                self._read(fd)
            elif fd in self._feeds:
                if wait.hung_up(bits):
                    self._end_feed(fd)
                else:
                    self._write(fd)
            elif fd == self._stop:
                self._end_feeds()
        for fd, tee in list(self._full.items()):
            tee.pass_on()
            if not tee.rest:
                self._full.pop(fd, None)
        return True

    def _read(self, fd: int) -> None:
        found = self._sources.get(fd)
        if found is None:
            return  # a signal's handler has closed us
        source, sink = found
        size = self._sizes.get(fd, _FIRST_READ)
        count = sink.fill(source, size)
        if count == 0:
            self._sources.pop(fd, None)
            source.close()
        elif isinstance(sink, Tee) and sink.rest:
            self._full[fd] = sink
        elif count == size == _FIRST_READ:
            # A full read says that the pipe was full: much is coming. Longer reads than this make
            # the writer wait for whole pages of ours, and were slower.
            self._sizes[fd] = _BIG_READ
            widen(fd)

    def _write(self, fd: int) -> None:
        found = self._feeds.get(fd)
        if found is None:
            return  # the same
        sink, feed = found
        try:
            more = feed.push(sink)
        except BrokenPipeError:
            more = False  # it may leave early: whether that was right is for its status to say
        if not more:
            self._end_feed(fd)
        elif feed.taken == _FIRST_READ:
            widen(fd)  # exactly a pipe's worth was taken: it is full, and more is to come

    def _end_feed(self, fd: int) -> None:
        found = self._feeds.pop(fd, None)
        if found is not None:
            sink, feed = found
            sink.close()
            feed.close()

    def _end_feeds(self) -> None:
        for fd in list(self._feeds):
            self._end_feed(fd)

    def close(self) -> None:
        """Close whatever is left, without reading it."""
        for source, _ in list(self._sources.values()):
            source.close()
        self._sources.clear()
        self._full.clear()
        self._end_feeds()
