"""n sources to n sinks in one loop, without a thread: any volume in any direction at once (gotcha:C1).

Reading stdout to its end before stderr, or writing all input before reading, deadlocks as soon
as one pipe is full. So every end that is ready is served, and only those.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol

from hornpipe import wait
from hornpipe.fd import PIPE_SIZE, Descriptor, nonblocking, widen, write_some
from hornpipe.lines import Codec, Kept, Tail

_FIRST_READ = 64 * 1024
_STEP_WITHOUT_PIDFD = 50_000_000
"""Nanoseconds between looks at a child that cannot be polled, while it is being fed."""


class Sink(Protocol):
    """Where a source's bytes go: one read(2) into it, 0 at the end, -1 when nothing was there."""

    def fill(self, fd: int, size: int, /) -> int:
        """Read at most ``size`` bytes from ``fd``."""
        ...


class Keeper:
    """A sink that keeps what it is given, within a limit."""

    __slots__ = ("kept",)

    def __init__(self, limit: int | None) -> None:
        self.kept = Kept(limit)

    def fill(self, fd: int, size: int) -> int:
        """Read into what is kept."""
        sink = self.kept.sink
        if sink is not None:
            return sink.fill(fd, size)
        try:
            data = os.read(fd, size)
        except BlockingIOError:
            return -1
        except OSError as error:
            if error.errno == 5:  # EIO: a pty's other side is closed, its end of file
                return 0
            raise
        self.kept.add(data)
        return len(data)


class Tee(Keeper):
    """A sink that passes everything on to a descriptor and keeps the end."""

    __slots__ = ("_onward",)

    def __init__(self, onward: int, limit: int) -> None:
        super().__init__(Tail(limit))
        self._onward = onward

    def fill(self, fd: int, size: int) -> int:
        """Read, pass on, keep."""
        before = self.kept.seen
        count = super().fill(fd, min(size, 65536))
        if count > 0:
            self._pass_on(self.kept.last(self.kept.seen - before))
        return count

    def _pass_on(self, data: bytes) -> None:
        # Our own stderr is shared with whoever started us, so it is not made non-blocking; after
        # poll a write of PIPE_BUF bytes (4096 on Linux) does not block.
        rest = memoryview(data)
        while rest:
            wait.one(self._onward, wait.WRITE, -1)
            try:
                rest = rest[write_some(self._onward, rest[:4096]) :]
            except OSError:
                return  # our stderr is gone: what was kept is still there


class Discard:
    """A sink for what nobody wants."""

    __slots__ = ()

    def fill(self, fd: int, size: int) -> int:
        """Read and forget."""
        try:
            return len(os.read(fd, size))
        except BlockingIOError:
            return -1
        except OSError as error:
            if error.errno == 5:
                return 0
            raise


class Feed:
    """What is written to a child's stdin: bytes, or an iterator that may be endless."""

    __slots__ = ("_chunks", "_encode", "_rest", "taken")

    def __init__(self, data: Any, codec: Codec[Any]) -> None:
        self._encode = codec.encode
        self._rest = memoryview(b"")
        self._chunks: Iterator[Any] = iter(())
        self.taken = 0
        """Bytes that the kernel took."""
        if isinstance(data, str | bytes | bytearray | memoryview):
            self._rest = memoryview(data.encode("utf-8", "surrogateescape") if isinstance(data, str) else data).cast("B")
            if isinstance(data, str) and codec.encoding is not None:
                self._rest = memoryview(codec.encode(data))
        elif hasattr(data, "read"):
            self._chunks = iter(lambda: data.read(65536), codec.empty)
        else:
            self._chunks = iter(data)

    def push(self, fd: int) -> bool:
        """Write what there is room for; false when all has been written."""
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return False
            self._rest = memoryview(chunk if isinstance(chunk, bytes | bytearray) else self._encode(chunk)).cast("B")
        count = write_some(fd, self._rest[:PIPE_SIZE])
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

    __slots__ = ("_feeds", "_sizes", "_sources", "_stop", "_stopped")

    def __init__(self) -> None:
        self._sources: dict[int, tuple[Descriptor, Sink]] = {}
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

    def reads(self, fd: int) -> bool:
        """Whether this descriptor still is a source."""
        return fd in self._sources

    def run(self, deadline: int) -> bool:
        """Move everything; false when the deadline passed first."""
        while self._sources or self._feeds:
            if not self.step(deadline):
                return False
        return True

    def step(self, deadline: int) -> bool:
        """Wait once and serve what is ready; false when the deadline passed first."""
        if len(self._sources) == 1 and not self._feeds:
            for fd in self._sources:
                if not wait.one(fd, wait.READ, deadline):
                    return False
                self._read(fd)
                return True
        wanted = [(fd, wait.READ) for fd in self._sources]
        wanted += [(fd, wait.WRITE) for fd in self._feeds]
        limit = deadline
        if self._feeds:
            if self._stop >= 0:
                wanted.append((self._stop, wait.READ))
            else:
                limit = _earlier(deadline, _STEP_WITHOUT_PIDFD)
        ready = wait.until(wanted, limit)
        if not ready:
            if limit == deadline:
                return False
            if self._stopped is not None and self._stopped():
                self._end_feeds()
            return not _passed(deadline)
        for fd, bits in ready:
            if fd in self._sources:
                self._read(fd)
            elif fd in self._feeds:
                self._write(fd, bits)
            else:
                self._end_feeds()
        return True

    def _read(self, fd: int) -> None:
        source, sink = self._sources[fd]
        size = self._sizes.get(fd, _FIRST_READ)
        count = sink.fill(fd, size)
        if count == 0:
            del self._sources[fd]
            source.close()
        elif count == size == _FIRST_READ:
            # A full read says that the pipe was full: much is coming.
            self._sizes[fd] = PIPE_SIZE
            widen(fd)

    def _write(self, fd: int, bits: int) -> None:
        sink, feed = self._feeds[fd]
        try:
            more = feed.push(fd)
        except BrokenPipeError:
            more = False  # it may leave early: whether that was right is for its status to say
        if not more:
            self._end_feed(fd)
        elif feed.taken == 65536:
            widen(fd)

    def _end_feed(self, fd: int) -> None:
        sink, feed = self._feeds.pop(fd)
        sink.close()
        feed.close()

    def _end_feeds(self) -> None:
        for fd in list(self._feeds):
            self._end_feed(fd)

    def close(self) -> None:
        """Close whatever is left, without reading it."""
        for source, _ in self._sources.values():
            source.close()
        self._sources.clear()
        self._end_feeds()


def _earlier(deadline: int, step: int) -> int:
    from hornpipe.deadline import after, sooner

    return sooner(deadline, after(step / 1e9))


def _passed(deadline: int) -> bool:
    from hornpipe.deadline import passed

    return passed(deadline)
