"""Bytes from and to the other side, decoded and logged, under a deadline; what they say is of no interest here.

A transport says what to wait on (``fileno``), how to get what has come (``_receive``) and to send (``_write_some``).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NoReturn

from hornpipe import deadline as deadlines
from hornpipe import wait
from hornpipe._native.buffers import ByteSink, Intake, Lookout
from hornpipe.expect.exceptions import EOF, TIMEOUT
from hornpipe.expect.matcher import Stream
from hornpipe.expect.searches import Sought

_BATCH = 64 * 1024
"""Bytes taken from a talkative transport before they are searched, where ``maxread`` does not say less."""
DEFAULT_MAXREAD = 2000
_MOST_SOUGHT = 16
_LONGEST_SOUGHT = 16
"""Strings that are looked for in a flood, and their bytes."""
PLAIN_TEXT = {"utf-8", "ascii", "iso8859-1"}
"""Encodings in which a byte below 128 is always that character of ASCII."""


def deadline_of(timeout: float | None) -> int:
    """The deadline for a timeout in pexpect's manner: what has passed already is 0, not an error."""
    if timeout is not None and timeout < 0:
        timeout = 0
    return deadlines.after(timeout)


@lru_cache(maxsize=128)
def _lookout_for(sought: tuple[Sought, ...], text: bool) -> Lookout | None:
    """One lookout for them all, if they are few and, as text, ASCII."""
    if len(sought) > _MOST_SOUGHT or (text and not all(one.string.isascii() for one in sought)):
        return None
    strings = [(one.string.encode() if text else one.string, one.folded) for one in sought]
    return Lookout(strings, text)


class Transport:
    """The mechanics under the words of :class:`hornpipe.expect.SpawnBase`, which has what a user calls."""

    name: str
    encoding: str | None = None
    codec_errors: str
    timeout: float | None
    maxread: int
    child_fd: int
    closed: bool
    flag_eof = False
    logfile: Any
    logfile_read: Any
    logfile_send: Any
    _decoder: Any
    _plain_text = True
    _stream: Stream[Any]
    _intake: Intake
    _ahead: list[Any]
    """Taken from the transport while we waited for something else, not yet looked at."""

    # --- text and bytes ---

    def _coerce_send_string(self, text: Any) -> Any:
        if self.encoding is None and isinstance(text, str):
            return text.encode("utf-8")
        return text

    def _encode(self, text: Any) -> bytes:
        if isinstance(text, str):
            return text.encode(self.encoding or "utf-8", self.codec_errors)
        return bytes(text)

    def _decode(self, data: bytes, final: bool = False) -> Any:
        return data if self._decoder is None else self._decoder.decode(data, final)

    def _log(self, text: Any, direction: str) -> None:
        for log in (self.logfile, self.logfile_send if direction == "send" else self.logfile_read):
            if log is not None:
                log.write(text)
                log.flush()

    # --- receiving ---

    def fileno(self) -> int:
        """The descriptor."""
        return self.child_fd

    def _open_fd(self) -> int:
        # Asked for anew before each use: a handler, or another thread, may have closed it since, and its number may be
        # another file's.
        if self.closed or self.child_fd < 0:
            raise ValueError("I/O operation on closed file.")
        return self.child_fd

    _longest_read = 16 * 1024
    """Bytes: a terminal seldom gives more than 4096 in one read. To look again and again for what comes next, and not
    to sleep, was tried: on a busy machine a flood took a fifth longer, since what fills the terminal needs the
    processor as well."""

    def _receive(self, size: int, deadline: int) -> bytes | None:
        """At most ``size`` bytes; none at the end (a terminal's end is EIO, gotcha:TTY1); ``None`` at the deadline."""
        sink = ByteSink()
        while True:
            seen = wait.closings_so_far()
            count = wait.fill(sink, self._open_fd(), min(size, self._longest_read), deadline, seen)
            if count is None:
                return None
            if count >= 0:
                return sink.finish()

    def _more(self, deadline: int) -> bool:
        """What comes next, decoded and logged, goes into the stream; false at the deadline; raises ``EOF``."""
        if self._ahead:
            self._stream.feed(self._ahead.pop(0))
            return True
        lookout, size = None, self.maxread
        # With a window over the end of what has come, how much comes at once is a part of what that means.
        if size >= DEFAULT_MAXREAD and self._stream.search_window is None:
            lookout, size = self._lookout(), _BATCH
        text = self._take(size, deadline, lookout)
        if text is None:
            return False
        if lookout is None or self._intake.seen or not self._stream.pass_over(text):
            self._stream.feed(text)
        return True

    def _lookout(self) -> Lookout | None:
        """For what has to come before a look at it pays; ``None`` where each piece has to be looked at by itself."""
        if self.logfile is not None or self.logfile_read is not None:
            return None  # they are told at once
        if self._decoder is not None and (not self._plain_text or self._decoder.getstate()[0]):
            return None
        heralds = self._stream.heralds()
        return None if heralds is None else _lookout_for(tuple(heralds), self._decoder is not None)

    def _take(self, size: int, deadline: int, lookout: Lookout | None = None) -> Any:
        if self.closed:
            raise ValueError("I/O operation on closed file.")
        while True:
            data = self._receive(size, deadline) if lookout is None else self._read_on(lookout, size, deadline)
            if data is None:
                return None
            if not data:
                self._ended()
            text = self._decode(data)
            if text:  # else only the first half of a character has come
                self._log(text, "read")
                return text

    def _read_on(self, lookout: Lookout, most: int, deadline: int) -> bytes | None:
        """As ``_receive``, but more and more of it, until the lookout sees something."""
        tail = self._stream.tail(_LONGEST_SOUGHT - 1)
        before: bytes = tail.encode("ascii", "replace") if isinstance(tail, str) else tail
        data: bytes | int | None = -1
        while isinstance(data, int):
            seen = wait.closings_so_far()
            try:
                fd, size = self._open_fd(), self._longest_read
                data = wait.read_on(self._intake, fd, lookout, before, size, most, deadline, seen)
            except BaseException:
                # What a handler raises takes nothing away of what has come.
                self._stream.feed(self._decode(self._intake.take(-1)))
                raise
        return data

    def _ended(self) -> NoReturn:
        self.flag_eof = True
        if self._decoder is not None:
            rest = self._decoder.decode(b"", True)
            if rest:
                self._log(rest, "read")
                self._stream.feed(rest)
        raise EOF("End of file")

    async def _readable_async(self, deadline: int) -> bool:
        """Let the loop go on until there is something to read; false when the deadline passed first."""
        from asyncio import get_running_loop

        loop = get_running_loop()
        ready = loop.create_future()

        def settle(result: bool) -> None:
            if not ready.done():
                ready.set_result(result)

        fd = self.fileno()
        left = deadlines.seconds_left(deadline)
        timer = None if left is None else loop.call_later(left, settle, False)
        loop.add_reader(fd, settle, True)
        try:
            result: bool = await ready
            return result
        finally:
            loop.remove_reader(fd)
            if timer is not None:
                timer.cancel()

    # --- sending ---

    def _write(self, data: bytes) -> int:
        """All of it, under the object's timeout; what the other side says meanwhile is kept."""
        if not data:
            return 0
        view = memoryview(data)
        sent = self._write_some(view[: self._piece])
        if sent == len(view):
            return sent  # nearly always
        deadline = deadline_of(self.timeout)
        reading = True
        while sent < len(view):
            count = self._write_some(view[sent : sent + self._piece])
            sent += count
            if count:
                continue
            bits = wait.on(self._open_fd, wait.READ | wait.WRITE if reading else wait.WRITE, deadline)
            # Output without end is always ready, and no excuse.
            if not bits or (not bits & wait.WRITE and deadlines.passed(deadline)):
                raise TIMEOUT(
                    f"{self.name} does not read what is sent to it: "
                    f"{sent} of {len(view)} bytes were taken within {self.timeout:g} s"
                )
            if not bits & wait.WRITE:
                reading = reading and self._take_meanwhile()
                if not reading and wait.hung_up(bits):
                    raise EOF(f"{self.name} has gone: {sent} of {len(view)} bytes were taken")
        return sent

    _piece = _BATCH
    """Bytes written at once."""

    def _write_some(self, data: memoryview) -> int:
        return wait.write_some(self._open_fd(), data)

    def _take_meanwhile(self) -> bool:
        try:
            text = self._take(_BATCH, 0)
        except EOF:
            return False
        if text is not None:
            self._ahead.append(text)
        return True
