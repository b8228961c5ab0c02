"""Both ends of a running command at once, without deadlock (perlipc:B1, B2)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, cast

from hornpipe import pty, wait
from hornpipe._native.buffers import ReadBuffer
from hornpipe.command.streams import CommandHandle
from hornpipe.deadline import after, sooner
from hornpipe.errors import CommandTimeout, LimitExceeded, NoAnswer, ReaderGone
from hornpipe.fd import Descriptor
from hornpipe.handle import Handle
from hornpipe.job import Job
from hornpipe.lines import Codec, Str

DEFAULT_LIMIT = 64 << 20
"""Bytes of unread output that sending may pile up."""

_READ = 64 * 1024


class Duplex(CommandHandle[Str]):
    """A conversation with a command: its input, its output and, if wanted, its stderr.

    Whatever is sent, its output is read meanwhile, so neither side can block the other for good.
    A program that sees a pipe may keep its answers in its own buffer: then ``pty=True``, ``stdbuf``
    or the program's own flag for it are the cures (gotcha:P3).
    """

    def __init__(
        self,
        job: Job,
        source: Descriptor,
        sink: Descriptor,
        errors: Descriptor | None,
        codec: Codec[Str],
        *,
        buffer_limit: int | None,
        line_limit: int | None,
        terminal: bool,
    ) -> None:
        super().__init__(job, source, sink, codec, by_line=True, line_limit=line_limit)
        self._errors_end = errors
        self._errors_read = ReadBuffer()
        self._limit = DEFAULT_LIMIT if buffer_limit is None else int(buffer_limit)
        self._terminal = terminal
        self._line_begun = b""
        self._answer_by = self._deadline
        # Nothing but stdout to serve; and then a question with its answer can be one native call.
        self._plain = errors is None and not job.pump.busy
        simple_codec = codec.native or not codec.is_text
        self._simple = self._plain and simple_codec and not terminal and line_limit is None

    # --- sending ---

    def send(self, data: Str) -> None:
        """Write all of ``data`` now. Output that comes meanwhile is kept, ``buffer_limit`` bytes at most.

        Raises ``LimitExceeded`` (a ``BufferError``) beyond that, ``BrokenPipeError`` when the command
        reads no more.
        """
        self.write(data)
        self.flush()

    def _send(self, data: bytes) -> None:
        if self._terminal:
            self._line_begun = pty.check_input(data, self._line_begun)
        super()._send(data)

    def _wait_for_room(self) -> None:
        self._check_hung_up(self._serve(self._deadline, self._sink).get(self._writing_to(), 0))
        held = len(self._buffer) + len(self._errors_read)
        self._check_held(held, f"was sent more while {held} bytes of its output had not been read; read them")

    def _check_held(self, held: int, what: str) -> None:
        if held > self._limit:
            raise LimitExceeded(
                f"{self._name!r} {what}, or raise buffer_limit={self._limit}",
                limit=self._limit,
                data=self._codec.empty,
            )

    def _check_begun(self, size: int) -> None:
        # Without a line_limit, too, output without end or newline must not fill the memory.
        super()._check_begun(size)
        held = size + len(self._errors_read)
        self._check_held(held, f"wrote {held} bytes and ended no line; read() or read_some() what there is")

    def _reader_gone(self) -> None:
        if self._sink is not None:
            self._sink.close()
        raise self._gone() from None

    def close_input(self) -> None:
        """Half-close: the command reads its end of file, and may still answer (gotcha:P9)."""
        if self._sink is None or self._sink.closed:
            return
        self.flush()
        if self._terminal:
            # A terminal has no half-close: its end of file is a character at the start of a line,
            # twice in the middle of one.
            Handle._send(self, pty.END_OF_FILE * (2 if self._line_begun else 1))
        self._sink.close()

    # --- receiving ---

    def _serve(self, deadline: int, sink: Descriptor | None = None) -> dict[int, int]:
        """Wait once for output, and for room in ``sink``, and take in the output; what was ready."""
        ends: list[tuple[Descriptor, ReadBuffer]] = []
        for end, buffer in ((self._source, self._buffer), (self._errors_end, self._errors_read)):
            if end is not None and not end.closed and not buffer.ended:
                ends.append((end, buffer))

        if not ends and sink is None:
            self._reading_from()  # says so where a handler or another thread has closed us: nothing would end the wait

        def wanted() -> list[tuple[int, int]]:
            room = [] if sink is None else [(sink.fileno(), wait.WRITE)]
            return room + [(end.fileno(), wait.READ) for end, _ in ends]

        if self._job.pump.busy:
            seen = wait.closings_so_far()
            if not self._job.pump.step(deadline, wanted(), seen):
                self._late(deadline)
            ready = dict(wait.on_any(wanted, 0)) if sink or ends else {}
        else:
            ready = dict(wait.on_any(wanted, deadline))
            if not ready:
                self._late(deadline)
        for end, buffer in ends:
            if ready.get(end.fileno()):
                buffer.fill(end.fileno(), _READ)
        return ready

    def _late(self, deadline: int) -> None:
        if deadline == self._deadline:
            self._expired("reading")
        raise TimeoutError(self._so_far(f"{self._name!r} did not answer in time"))

    def _so_far(self, what: str) -> str:
        read: Any = self._decoded[:200]
        read += self._codec.decode(self._buffer.peek(200))
        return f"{what}; read so far: {read!r}" if read else f"{what}; nothing was read"

    _reads_itself = False

    def _fill(self) -> None:
        if self._plain and self._answer_by == self._deadline:
            super()._fill()
        else:
            self._serve(self._answer_by)

    def ask(self, line: Str, timeout: float | None = None) -> Str:
        """Send one line and return the next line of the output, both without a newline.

        ``TimeoutError`` after ``timeout`` seconds, saying what had been read (the conversation can go
        on); ``EOFError`` with the status when the command ends instead of answering; ``LimitExceeded``
        when it writes more than ``buffer_limit`` bytes without a newline, which can still be read.

        >>> import hornpipe as hp
        >>> with hp.cmd("bc").duplex() as bc:
        ...     bc.ask("6 * 7")
        '42'
        """
        deadline = self._deadline if timeout is None else sooner(self._deadline, after(timeout))
        taken = 0
        if self._simple and not (self._pending or self._decoder or self._decoded):
            # Nearly always the whole of it; what has not been done then is done below.
            to, source = self._sink, self._source
            assert to is not None
            assert source is not None
            # Their numbers, -1 once they are closed, in one step: a function between them would let handlers in.
            answer: Str | None = self._buffer.exchange(line, to._fd, source._fd, _READ, deadline, most=self._limit)
            taken = self._buffer.asked
            self._taken += taken
            if answer is not None:
                return answer
        data = self._codec.encode(line)
        if data[-1:] != b"\n":
            data += b"\n"
        with self._sending:
            self._pending += data[taken:]
            self.flush()
        if self._decoded or self._decoder is not None:
            self._answer_by = deadline
            try:
                answer_text: Any = self.readline()
            finally:
                self._answer_by = self._deadline
            if answer_text[-1:] != self._codec.newline:
                self._no_answer(line, self._codec.encode(answer_text))
            return cast(Str, answer_text.removesuffix("\n").removesuffix("\r"))
        buffer = self._buffer
        while True:
            read = buffer.take_line(-1)
            if read:
                if read[-1:] == b"\n":
                    return self._codec.decode(read[: -2 if read[-2:-1] == b"\r" else -1])
                self._no_answer(line, read)
            if buffer.ended:
                self._no_answer(line, b"")
            self._check_begun(len(buffer))
            if self._plain:
                seen = wait.closings_so_far()
                count = wait.fill(buffer, self._reading_from(), _READ, deadline, seen)
                if count is None:
                    self._late(deadline)
            else:
                self._serve(deadline)

    def _no_answer(self, line: Str, read: bytes) -> None:
        status = self._job.processes[-1].wait_until(sooner(self._deadline, after(0.5)))
        how = "closed its output" if status is None else str(status)
        raise NoAnswer(
            f"{self._name!r} {how} before it answered {line!r}; it wrote {self._codec.decode(read)!r}"
            + self._job.drained_stderr(),
            read=self._codec.decode(read),
            status=status,
        )

    def events(self) -> Iterator[tuple[Literal["stdout", "stderr"], Str]]:
        """What comes, as it comes: ``("stdout", data)`` or ``("stderr", data)``, until both have ended.

        Order is kept within a stream; across two pipes the kernel keeps none.
        """
        names: tuple[Literal["stdout", "stderr"], ...] = ("stdout", "stderr")
        decoders: dict[str, Any] = {name: self._codec.decoder() if self._codec.is_text else None for name in names}
        if self._decoder is not None:
            decoders["stdout"], self._decoder = self._decoder, None
        if self._decoded:
            yield "stdout", self._take_decoded()
        while True:
            open_ends = False
            for name, end, buffer in (
                (names[0], self._source, self._buffer),
                (names[1], self._errors_end, self._errors_read),
            ):
                data = buffer.take(-1)
                ended = buffer.ended or end is None or end.closed
                open_ends = open_ends or not ended
                decoder = decoders[name]
                piece = self._codec.decode(data) if decoder is None else decoder.decode(data, ended)
                if piece:
                    yield name, piece
            if not open_ends:
                return
            if not len(self._buffer) and not len(self._errors_read):
                self._serve(self._deadline)

    def read_errors(self) -> Str:
        """What has come on stderr and was not yielded by ``events``; never waits."""
        if self._errors_end is not None and not self._errors_end.closed:
            while not self._errors_read.ended and wait.one(self._errors_end.fileno(), wait.READ, 0):
                self._errors_read.fill(self._errors_end.fileno(), _READ)
        return self._codec.decode(self._errors_read.take(-1))

    # --- the end ---

    def _close_ends(self) -> None:
        super()._close_ends()
        if self._errors_end is not None:
            self._errors_end.close()

    def close(self) -> None:
        """Close the input, read what still comes, wait and check the status.

        A command that does not end by itself within its ``grace`` is ended, which is no failure;
        ``CommandTimeout`` where the deadline passes before that.
        """
        if self._over:
            return
        try:
            limit = sooner(self._deadline, after(self._job.grace))
            try:
                self.close_input()
            except ReaderGone:
                pass  # it has ended by itself: its status counts
            left = self._drain(limit)
            if left and limit == self._deadline:
                self._expired("closing")
        except BaseException:
            self._abort()
            raise
        self._finish(left)

    def _drain(self, limit: int) -> bool:
        """Read and forget until the command has ended; true when it has not by then."""
        while not (self._buffer.ended and (self._errors_end is None or self._errors_read.ended)):
            self._buffer.take(-1)
            self._errors_read.take(-1)
            try:
                self._serve(limit)
            except TimeoutError as error:
                if isinstance(error, CommandTimeout):
                    raise
                return True
        return not all(process.wait_for_end(limit) for process in self._job.processes)
