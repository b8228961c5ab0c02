"""What reads from or writes to a running command: lines, a reader, a writer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, Self

from hornpipe import wait
from hornpipe._native.buffers import LineReader, iterated_natively
from hornpipe.deadline import after, passed, sooner
from hornpipe.errors import LimitExceeded, ReaderGone
from hornpipe.fd import Descriptor, nonblocking, widen
from hornpipe.handle import Handle
from hornpipe.job import Job, aborting
from hornpipe.lines import Codec, Str
from hornpipe.status import ExitStatus
from hornpipe.wait import finalizer

_FIRST_READ = 64 * 1024
_LONGEST_READ = 256 * 1024
_SHOWN = 4096


class OfJob:
    """What every stream of a running command knows of it."""

    _job: Job

    @property
    def pid(self) -> int:
        """The number of the (first) process."""
        return self._job.processes[0].pid

    @property
    def status(self) -> ExitStatus | None:
        """How the command (the last stage) ended; ``None`` while it runs."""
        return self._job.statuses[-1]


@iterated_natively
class Lines(LineReader, Generic[Str], OfJob):
    """The lines of a command's output without their terminators, each as soon as it is whole.

    An iterator and a context manager: leaving it early ends the command, which is no error.
    A line ends with LF or CR LF; the last one needs no terminator.
    """

    def __init__(self, job: Job, source: Descriptor, codec: Codec[Str], line_limit: int | None) -> None:
        # The native iterator makes the lines, so that a `for` loop over us runs at its speed.
        super().__init__(**codec.line_reader_arguments(line_limit))
        self._job = job
        self._source = source
        self._codec = codec
        self._line_limit = line_limit
        self._size = _FIRST_READ
        self._over = False

    if TYPE_CHECKING:

        def __next__(self) -> Str: ...

    def __init_subclass__(cls) -> None:
        raise TypeError("Lines is not for subclassing")

    def _refill(self) -> None:
        seen = wait.closings_so_far()
        if self._source.closed:
            self.end_here()
            return
        fd = self._source.fileno()
        try:
            if passed(self._job.deadline):
                self._expire()  # output without end is always ready, and no excuse
            count: int | None = None
            if self._job.pump.busy:
                # What has come here is taken first; else whatever comes, here or there.
                count = wait.fill(self, fd, self._size, 0, seen)
                if count is None and not self._job.pump.step(self._job.deadline, ((fd, wait.READ),), seen):
                    self._expire()
            else:
                count = wait.fill(self, fd, self._size, self._job.deadline, seen)
                if count is None:
                    self._expire()
        except BaseException:
            self.close()
            raise
        if count == 0:
            self._source.close()
        elif count == self._size == _FIRST_READ:
            self._size = _LONGEST_READ
            widen(fd)

    def _expire(self) -> None:
        self._job.read_so_far = lambda: self.peek(_SHOWN)
        self._job.expire()

    def _line_too_long(self) -> None:
        start = self.take(self._line_limit or 0)
        self.close()
        raise LimitExceeded(
            f"a line of {self._job.label!r} is longer than line_limit={self._line_limit} bytes",
            limit=self._line_limit or 0,
            data=self._codec.decode(start),
        )

    def _at_end(self) -> None:
        if not self._over:
            with aborting(self._job):
                self._over = True
                self._job.complete()

    def fileno(self) -> int:
        """The descriptor its output comes from, for poll; lines already read are not seen there."""
        return self._source.fileno()

    def close(self) -> None:
        """Stop reading and end the command, unless it has ended already."""
        if not self._over:
            with aborting(self._job):
                self._over = True
                self._source.close()
                self.end_here()
                self.take(-1)
                self._job.leave()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _left_alone(self) -> None:
        if not getattr(self, "_over", True):
            self.close()

    __del__ = finalizer(_left_alone)


class CommandHandle(Handle[Str], OfJob):
    """A file object with a running command on the other end: however it is left, the command is over as well."""

    def __init__(
        self,
        job: Job,
        source: Descriptor | None,
        sink: Descriptor | None,
        codec: Codec[Str],
        *,
        by_line: bool = False,
        line_limit: int | None = None,
    ) -> None:
        if sink is not None:
            nonblocking(sink.fileno())
        super().__init__(
            source, sink, codec, deadline=job.deadline, by_line=by_line, line_limit=line_limit, name=job.label
        )
        self._job = job
        self._over = False
        if source is not None:
            buffer = self._buffer  # and not self: a cycle would leave our end to the collector
            job.read_so_far = lambda: buffer.peek(_SHOWN)

    def _expired(self, doing: str) -> None:
        with aborting(self._job):
            self._over = True
            self._close_ends()
            self._job.expire()

    def _gone(self) -> ReaderGone:
        """It has closed its input, most often by ending: its status says why."""
        status = self._job.processes[0].wait_until(sooner(self._deadline, after(0.5)))
        how = f"it {status}" if status is not None else "it still runs"
        return ReaderGone(
            f"{self._name!r} reads no more: {how}; {self._taken} bytes had been taken{self._job.drained_stderr()}",
            taken=self._taken,
            status=status,
        )

    def _finish(self, left: bool) -> None:
        """Wait for the command and check it; or end it, which is no failure, where we have ``left`` it."""
        with aborting(self._job):
            self._over = True
            self._close_ends()
            if left:
                self._job.leave()
            else:
                self._job.complete()

    def _abort(self) -> None:
        if not self._over:
            with aborting(self._job):
                self._over = True
                self._pending.clear()
                self._close_ends()
                self._job.abort()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is None:
            self.close()
        else:
            self._abort()

    def _left_alone(self) -> None:
        if not getattr(self, "_over", True):
            self._finish(left=True)

    __del__ = finalizer(_left_alone)


class Reader(CommandHandle[Str]):
    """A command's output as a file object.

    Leaving its ``with`` block after the end waits and checks the status; before the end it ends
    the command, which is no error.
    """

    def __init__(self, job: Job, source: Descriptor, codec: Codec[Str], line_limit: int | None) -> None:
        super().__init__(job, source, None, codec, line_limit=line_limit)

    _reads_itself = False

    def _fill(self) -> None:
        try:
            while self._job.pump.busy:
                seen = wait.closings_so_far()
                fd = self._reading_from()
                if wait.one(fd, wait.READ, 0, seen) > 0:
                    break
                if not self._job.pump.step(self._deadline, ((fd, wait.READ),), seen):
                    self._expired("reading")
            super()._fill()
        except ValueError:
            raise
        except BaseException:
            self._abort()
            raise

    def _expired(self, doing: str) -> None:
        # Our end stays open until it has ended, so that what it says of TERM does not end it by PIPE.
        self._job.expire()

    def close(self) -> None:
        """Stop reading: wait and check after the end, end the command before it."""
        if self._over:
            return
        ended = self._buffer.ended or self._at_end_now()
        self._finish(left=not ended)

    def _at_end_now(self) -> bool:
        # Whoever read exactly what there was has not seen the end, but has not left early either.
        if len(self._buffer) or self._source is None or self._source.closed:
            return False
        if not wait.one(self._source.fileno(), wait.READ, 0):
            return False
        return self._buffer.fill(self._source.fileno(), 1) == 0


class Writer(CommandHandle[Str]):
    """A command's input as a file object. Leaving its ``with`` block waits and checks the status."""

    def __init__(self, job: Job, sink: Descriptor, codec: Codec[Str]) -> None:
        super().__init__(job, None, sink, codec)

    def _wait_for_room(self) -> None:
        while self._job.pump.busy:
            seen = wait.closings_so_far()
            fd = self._writing_to()
            if wait.one(fd, wait.WRITE, 0, seen) > 0:
                return
            if not self._job.pump.step(self._deadline, ((fd, wait.WRITE),), seen):
                self._expired("writing to")
        super()._wait_for_room()

    def _reader_gone(self) -> None:
        with aborting(self._job):
            self._over = True
            self._close_ends()
            gone = self._gone()
            self._job.leave()
            raise gone from None

    def close(self) -> None:
        """Send the rest, close, wait for the command and check its status."""
        if self._over:
            return
        try:
            self.flush()
        except BaseException:
            self._abort()
            raise
        self._finish(left=False)
