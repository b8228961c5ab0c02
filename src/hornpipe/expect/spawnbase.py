"""What all ways of expecting share: the words of pexpect, over any transport."""

from __future__ import annotations

import codecs
import os
import sys
from collections.abc import Callable, Coroutine, Iterable, Iterator
from typing import Any, Self

from hornpipe import deadline as deadlines
from hornpipe import wait
from hornpipe._native.buffers import Intake
from hornpipe.deadline import NEVER
from hornpipe.expect import wanted
from hornpipe.expect.exceptions import EOF, TIMEOUT, ExceptionPexpect
from hornpipe.expect.matcher import Patterns, Stream, patterns_of
from hornpipe.expect.transport import DEFAULT_MAXREAD, PLAIN_TEXT, Transport, deadline_of
from hornpipe.process import Process

_SHOWN = 400
"""Characters of what was seen last in an error's message."""
_INHERIT = -1
"""pexpect's word for "as the object has it"."""


class SpawnBase(Transport):
    """The words that all share; :class:`hornpipe.expect.spawn` is the one that most people want.

    ``encoding=None`` is bytes; with an encoding everything given and got is text. ``before_limit`` bounds, in
    characters, how much of what came before a match is kept: its end. ``None`` keeps all.
    """

    pid: int | None = None

    def __init__(
        self,
        timeout: float | None = 30,
        maxread: int = DEFAULT_MAXREAD,
        searchwindowsize: int | None = None,
        logfile: Any = None,
        encoding: str | None = None,
        codec_errors: str = "strict",
        *,
        before_limit: int | None = None,
    ) -> None:
        self.stdin = sys.stdin
        self.stdout = sys.stdout
        self.stderr = sys.stderr
        self.searcher: Patterns | None = None
        self.ignorecase = False
        self.before: Any = None
        self.after: Any = None
        self.match: Any = None
        self.match_index: int | None = None
        self.terminated = True
        self.exitstatus: int | None = None
        self.signalstatus: int | None = None
        self.status: int | None = None
        self.flag_eof = False
        self.child_fd = -1
        self.timeout = timeout
        self.delimiter: Any = EOF
        self.logfile = logfile
        self.logfile_read: Any = None
        self.logfile_send: Any = None
        self.maxread = maxread
        self.searchwindowsize = searchwindowsize
        # pexpect sleeps 50 ms and more here, for children that switch echo off late. Waiting is for facts:
        # waitnoecho() waits for the flag itself (gotcha:TTY8).
        self.delaybeforesend: float | None = None
        self.delayafterclose: float | None = 0.1
        self.delayafterterminate: float | None = 0.1
        self.delayafterread: float | None = None
        self.softspace = False
        self.name = f"<{type(self).__name__}>"
        self.closed = True
        self.encoding = encoding
        self.codec_errors = codec_errors
        self._decoder: Any = None
        self.string_type: type[Any]
        if encoding is None:
            self._empty: Any = b""
            self.crlf: Any = b"\r\n"
            self.linesep: Any = os.linesep.encode()
            self.string_type = bytes
            self.allowed_string_types: tuple[type, ...] = (bytes, str)
        else:
            self._empty = ""
            self.crlf = "\r\n"
            self.linesep = os.linesep
            self.string_type = str
            self.allowed_string_types = (str,)
            self._decoder = codecs.getincrementaldecoder(encoding)(codec_errors)
            self._plain_text = codecs.lookup(encoding).name in PLAIN_TEXT
        self._stream: Stream[Any] = Stream(self._empty, before_limit)
        self._ahead = []
        self._intake = Intake()

    # --- text and bytes ---

    def write_to_stdout(self, text: Any) -> None:
        """Show it to our user, as ``interact`` does."""
        if isinstance(text, str):
            self.stdout.write(text)
        else:
            binary = getattr(self.stdout, "buffer", None)
            if binary is None:
                self.stdout.write(text.decode("utf-8", "replace"))
            else:
                self.stdout.flush()
                binary.write(text)
                binary.flush()

    @property
    def before_limit(self) -> int | None:
        """How many characters of what came before a match are kept; ``None``: all."""
        return self._stream.limit

    @before_limit.setter
    def before_limit(self, limit: int | None) -> None:
        self._stream.limit = limit

    @property
    def buffer(self) -> Any:
        """What has come and has not been matched yet; may be set."""
        return self._stream.rest()

    @buffer.setter
    def buffer(self, text: Any) -> None:
        self._stream.replace(text)

    def isalive(self) -> bool:
        """Whether the other side is there."""
        return not self.closed

    def _runs(self, process: Process) -> bool:
        """Whether our program does, without waiting (gotcha:TTY2); once it does not, its status is noted here."""
        if self.terminated:
            return False
        status = process.poll()
        if status is None:
            return True
        self.status, self.exitstatus = status.raw, status.code
        self.signalstatus = None if status.signal is None else int(status.signal)
        self.terminated = True
        process.release()
        return False

    def close(self, force: bool = True) -> None:
        """Let go of it."""
        raise NotImplementedError

    def _left_alone(self) -> None:
        """The finalizer of those that have a program to end."""
        if getattr(self, "closed", True):
            return
        try:
            self.close()
        except Exception:  # noqa: BLE001  what is collected has nobody to tell
            pass

    # --- receiving ---

    def read_nonblocking(self, size: int = 1, timeout: float | None = _INHERIT) -> Any:
        """At most ``size`` bytes of what the other side says, as soon as there are any; does not look into ``buffer``.

        Raises ``EOF`` or ``TIMEOUT``; -1 is the object's own timeout, ``None`` waits for ever.
        """
        if self._ahead:
            text = self._ahead.pop(0)
            if len(text) > size:
                self._ahead.insert(0, text[size:])
                text = text[:size]
            return text
        text = self._take(size, deadline_of(self.timeout if timeout == _INHERIT else timeout))
        if text is None:
            raise TIMEOUT("Timeout exceeded.")
        return text

    def _reader(self) -> Callable[[int], bool]:
        # Somebody's subclass may read in its own way: what pexpect documents for that is this method.
        if getattr(self.read_nonblocking, "__func__", None) is SpawnBase.read_nonblocking:
            return self._more

        def more(deadline: int) -> bool:
            try:
                self._stream.feed(self.read_nonblocking(self.maxread, deadlines.seconds_left(deadline)))
            except TIMEOUT:
                return False
            return True

        return more

    # --- patterns ---

    def compile_pattern_list(self, patterns: Any) -> list[Any]:
        """What ``expect`` makes of its patterns, for ``expect_list``: strings become regular expressions.

        Compile once what is expected often in a loop.
        """
        return wanted.compiled(patterns, self.encoding is not None, self.ignorecase)

    def _coerce_expect_re(self, pattern: Any) -> Any:
        """What it makes of a regular expression: pexpect's own tests call this by its name there."""
        return self.compile_pattern_list([pattern])[0]

    def expect(
        self,
        pattern: Any,
        timeout: float | None = _INHERIT,
        searchwindowsize: Any = -1,
        async_: bool = False,
        **kw: Any,
    ) -> Any:
        """Wait until one of the patterns comes; its place in the list.

        ``pattern`` is one of these, or a list: a regular expression (a string or compiled), ``EOF``, ``TIMEOUT``.
        The earliest match in what has come wins, then the list's order. Text before it is in ``before``, the match in
        ``after``, re's object in ``match``. ``EOF`` and ``TIMEOUT`` are raised unless they are in the list.
        """
        async_ = _asked_for_async(async_, kw)
        return self.expect_list(self.compile_pattern_list(pattern), timeout, searchwindowsize, async_)

    def expect_list(
        self,
        pattern_list: Iterable[Any],
        timeout: float | None = _INHERIT,
        searchwindowsize: Any = -1,
        async_: bool = False,
        **kw: Any,
    ) -> Any:
        """``expect`` for what ``compile_pattern_list`` has made; a plain string in this list is exact."""
        async_ = _asked_for_async(async_, kw)
        return self.expect_loop(patterns_of(pattern_list), timeout, searchwindowsize, async_)

    def expect_exact(
        self,
        pattern_list: Any,
        timeout: float | None = _INHERIT,
        searchwindowsize: Any = -1,
        async_: bool = False,
        **kw: Any,
    ) -> Any:
        """``expect`` for strings as they are; ``match`` is the string."""
        async_ = _asked_for_async(async_, kw)
        patterns = patterns_of(wanted.exact(pattern_list, self.encoding is not None))
        return self.expect_loop(patterns, timeout, searchwindowsize, async_)

    # --- the loop ---

    def expect_loop(
        self,
        searcher: Patterns,
        timeout: float | None = _INHERIT,
        searchwindowsize: Any = -1,
        async_: bool = False,
    ) -> Any:
        """The loop of all the words above."""
        if timeout == _INHERIT:
            timeout = self.timeout
        if searchwindowsize == -1:
            searchwindowsize = self.searchwindowsize
        self.searcher = searcher
        # A window of 0 means none, as it does for pexpect.
        self._stream.begin(searcher, searchwindowsize or None)
        if async_:
            return self._expect_async(searcher, timeout)
        deadline = deadline_of(timeout)
        stream, more = self._stream, self._reader()
        try:
            index = self._look()
            while index is None:
                # Output without end is always ready, and no excuse: but what is there has one look.
                if not more(deadline):
                    return self._timed_out(searcher, timeout)
                if stream.deferrable:
                    self._gather(more)
                index = self._look()
                if index is None and deadline != NEVER and deadlines.passed(deadline):
                    return self._timed_out(searcher, timeout)
            return index
        except EOF as error:
            index = self._look()  # something may have come between the last look and the end
            return self._at_end(searcher, error) if index is None else index
        except BaseException:
            self.before, self.after, self.match, self.match_index = stream.seen(), None, None, None
            raise

    def _gather(self, more: Callable[[int], bool]) -> None:
        """As long as it keeps coming, more of it before a search that has to look at everything."""
        while self._stream.deferrable and more(0):
            pass

    def _look(self) -> int | None:
        found = self._stream.search()
        if found is None:
            return None
        index, self.before, self.after = found
        self.match, self.match_index = self._stream.match, index
        return index

    def _at_end(self, searcher: Patterns, error: EOF) -> int:
        self.before = self._stream.take_all()
        self.after = EOF
        return self._without_match(searcher.eof_index, EOF, str(error), searcher)

    def _timed_out(self, searcher: Patterns, timeout: float | None) -> int:
        self.before = self._stream.seen()
        self.after = TIMEOUT
        limit = "" if timeout is None else f" after {max(0, timeout):g} s"
        return self._without_match(searcher.timeout_index, TIMEOUT, f"Timeout exceeded{limit}", searcher)

    def _without_match(self, index: int, kind: type[ExceptionPexpect], why: str, searcher: Patterns) -> int:
        if index >= 0:
            self.match, self.match_index = kind, index
            return index
        self.match = self.match_index = None
        raise kind(f"{why}: {self._described(searcher)}") from None

    def _described(self, searcher: Patterns) -> str:
        tail = self.before[-_SHOWN:]
        shown = f"...{tail!r}" if len(self.before) > _SHOWN else repr(tail)
        return f"wanted {searcher.listed()} from {self.name}\nseen: {shown}\n{self}"

    # --- the same for asyncio ---

    def _expect_async(self, searcher: Patterns, timeout: float | None) -> Coroutine[Any, Any, int]:
        async def expecting() -> int:
            deadline = deadline_of(timeout)
            more = self._reader()
            try:
                index = self._look()
                while index is None:
                    if not more(0):
                        if not await self._readable_async(deadline):
                            return self._timed_out(searcher, timeout)
                        continue
                    if self._stream.deferrable:
                        self._gather(more)
                    index = self._look()
                    if index is None and deadlines.passed(deadline):
                        return self._timed_out(searcher, timeout)
                return index
            except EOF as error:
                index = self._look()
                return self._at_end(searcher, error) if index is None else index

        return expecting()

    # --- reading as a file ---

    def read(self, size: int = -1) -> Any:
        """``size`` characters, or all until the end; fewer come only at the end."""
        if size == 0:
            return self._empty
        if size < 0:
            self.expect(self.delimiter)
            return self.before
        index = self.expect([f".{{{size}}}", self.delimiter])
        return self.after if index == 0 else self.before

    def readline(self, size: int = -1) -> Any:
        r"""A line with the ``\r\n`` that terminals end lines with; the last one may lack it; nothing is the end."""
        if size == 0:
            return self._empty
        index = self.expect_exact([self.crlf, self.delimiter])
        return self.before + self.crlf if index == 0 else self.before

    def __iter__(self) -> Iterator[Any]:
        return iter(self.readline, self._empty)

    def readlines(self, sizehint: int = -1) -> list[Any]:
        """All lines until the end."""
        return list(self)

    # --- being a file ---

    def flush(self) -> None:
        """Nothing is held back."""

    def isatty(self) -> bool:
        """Whether it is a terminal."""
        return self.child_fd >= 0 and os.isatty(self.child_fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self.close()

    # --- sending ---

    def send(self, s: Any) -> int:
        """Send it; how many bytes that were.

        Waits for room as long as ``timeout`` allows, and takes in what the other side says meanwhile, so that it never
        hangs (gotcha:TTY7). A line that is too long for a terminal, which would drop the rest of it, is refused
        (gotcha:TTY4): a program that wants such lines has to switch its terminal to raw mode first.
        """
        if self.delaybeforesend is not None and self.delaybeforesend > 0:
            wait.until([], deadlines.after(self.delaybeforesend))
        s = self._coerce_send_string(s)
        data = self._encode(s)
        if self.closed:
            raise ValueError("I/O operation on closed file.")
        self._prepare_to_send(s, data)
        return self._write(data)

    def _prepare_to_send(self, s: Any, data: bytes) -> None:
        self._log(s, "send")

    def sendline(self, s: Any = "") -> int:
        """Send it and a line's end."""
        return self.send(self._coerce_send_string(s) + self.linesep)

    def write(self, s: Any) -> None:
        """``send`` for those who want a file."""
        self.send(s)

    def writelines(self, sequence: Iterable[Any]) -> None:
        """Write each; no line ends are added."""
        for s in sequence:
            self.write(s)


def _asked_for_async(async_: bool, kw: dict[str, Any]) -> bool:
    """``async`` was the parameter's name before it became a word of the language."""
    if "async" in kw:
        async_ = kw.pop("async")
    if kw:
        raise TypeError(f"Unknown keyword arguments: {kw}")
    return async_
