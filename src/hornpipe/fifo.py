"""Named pipes, and files whose content is made for each reader (perlipc:F1, F2, F3)."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable
from typing import Any, Generic, Self, cast, overload

from hornpipe.deadline import NEVER, after
from hornpipe.errors import NoAnswer
from hornpipe.fd import Descriptor, nonblocking, open_path
from hornpipe.fifo_answers import Answers, kind_of, name_beside, named
from hornpipe.handle import Handle
from hornpipe.lines import BYTES, TEXT, Codec, Str

PIPE_BUF = 4096
"""Bytes that one write(2) to a pipe keeps together, whoever else writes (pipe(7))."""
_ANSWER = 4096
"""Bytes of a read for an answer."""


def is_fifo(path: str | bytes | os.PathLike[Any]) -> bool:
    """Whether a named pipe stands there: Perl's ``-p``. A symlink to one counts; nothing there does not.

    >>> is_fifo("/dev/null"), is_fifo("/no/such/path")
    (False, False)
    """
    try:
        return stat.S_ISFIFO(os.stat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


class RecordWriter(Handle[Str]):
    """The writing end of a FIFO. A reader that has gone is ``BrokenPipeError`` with the bytes taken."""

    def record(self, data: Str) -> None:
        """Write ``data`` in one piece, which no other writer's comes between (gotcha:FI5).

        ``ValueError`` when it is longer than the 4096 bytes (PIPE_BUF) for which the kernel promises that.
        """
        encoded = self._codec.encode(data)
        if len(encoded) > PIPE_BUF:
            raise ValueError(
                f"a record of {len(encoded)} bytes is more than the {PIPE_BUF} that stay together in a pipe; "
                "send it in pieces with a number each, or through a socket"
            )
        if self._pending:
            self.flush()
        self._send(encoded)

    def ask(self, line: Str, answers: Handle[Str], timeout: float | None = None) -> Str:
        """Write one line as a record, and return the next line of ``answers``, another FIFO; both without a newline.

        ``TimeoutError`` after ``timeout`` seconds (the conversation can go on), ``EOFError`` when nobody writes there
        any more, ``ValueError`` when the line is longer than what stays together.

        >>> import hornpipe as hp, tempfile
        >>> with tempfile.TemporaryDirectory() as d, hp.Fifo(f"{d}/to") as to, hp.Fifo(f"{d}/back") as back:
        ...     with hp.sh("bc < to > back", cwd=d).start(), to.writer() as bc, back.reader() as answers:
        ...         bc.ask("6 * 7", answers)
        '42'
        """
        deadline = NEVER if timeout is None else after(timeout)
        taken = 0
        sink, source, buffer = self._sink, answers._source, answers._buffer
        if sink is not None and source is not None and not self._pending:
            # Nearly always the whole of it; what has not been done then is done below. (The number of what is closed
            # is -1, and it is said below which of them that is.)
            answer: Str | None = buffer.exchange(line, sink._fd, source._fd, _ANSWER, deadline)
            taken = buffer.asked
            self._taken += taken
            if answer is not None:
                return answer
        newline: Any = self._codec.newline
        answers._reading_from()
        with self._until(deadline), answers._until(deadline):
            if not taken:  # and if so, all of it: a record is written whole or not at all
                self.record(line if line[-1:] == newline else cast(Any, line) + newline)
            whole: Any = answers.readline()
        if whole[-1:] != newline:
            raise NoAnswer(
                f"nobody writes to {answers.name or 'the other pipe'} any more, and {line!r} has no answer",
                read=whole,
                status=None,
            )
        return cast(Str, whole[:-1].removesuffix("\r" if isinstance(whole, str) else b"\r"))


class Fifo(Generic[Str]):
    r"""A named pipe. As a context manager it makes the FIFO and removes it again.

    An existing FIFO is used as it is, and is not removed; anything else in its place is
    ``FileExistsError``. ``mode`` are its permissions, whatever the umask.

    >>> import hornpipe as hp, os, tempfile
    >>> with tempfile.TemporaryDirectory() as folder, hp.Fifo(os.path.join(folder, "pipe")) as fifo:
    ...     reader = hp.cmd("sort", fifo.path).reader()
    ...     with fifo.writer(timeout=5) as out:
    ...         print("b\na", file=out)
    ...     with reader:
    ...         reader.read()
    'a\nb\n'
    """

    @overload
    def __init__(self: Fifo[str], path: str | bytes | os.PathLike[Any], mode: int = 0o600) -> None: ...

    @overload
    def __init__(self, path: str | bytes | os.PathLike[Any], mode: int = 0o600, *, codec: Codec[Str]) -> None: ...

    def __init__(
        self, path: str | bytes | os.PathLike[Any], mode: int = 0o600, *, codec: Codec[Any] | None = None
    ) -> None:
        if not 0 <= mode <= 0o777:
            raise ValueError(f"mode must be between 0 and 0o777, not {mode!r}")
        self.path: str | bytes = os.fspath(path)
        """Where it stands."""
        self.mode = mode
        self._codec = cast("Codec[Str]", TEXT if codec is None else codec)
        # Held open, so that its number cannot pass to another file while we go by it.
        self._made: Descriptor | None = None
        self._made_at: str | bytes = ""
        self._maker = 0

    def as_bytes(self) -> Fifo[bytes]:
        """The same, speaking bytes."""
        return Fifo(self.path, self.mode, codec=BYTES)

    # --- the name ---

    def create(self) -> bool:
        """Make it; whether that was needed. ``FileExistsError`` when something else is there (a symlink too)."""
        try:
            found = os.lstat(self.path)
        except FileNotFoundError:
            if not self.path:
                raise  # it could be made beside it, but has no name to be linked to
        else:
            if stat.S_ISFIFO(found.st_mode):
                return False
            raise FileExistsError(errno.EEXIST, f"{kind_of(found.st_mode)} is there already, not a FIFO", self.path)
        beside = name_beside(self.path)
        try:
            # Ours before it has the name: a signal handler may raise at any line (remove() looks what is there).
            self.own(self._make(beside))
            os.link(beside, self.path)  # and not rename, which would replace what has come meanwhile
        except FileExistsError:
            pass
        else:
            return True
        finally:
            try:  # and not suppress(), at the entry of which a handler could raise once more
                os.unlink(beside)
            except FileNotFoundError:
                pass
        return self.create()

    def _make(self, beside: bytes) -> Descriptor:
        try:
            os.mkfifo(beside, 0o600)
        except OSError as error:  # which names no file
            raise OSError(error.errno, os.strerror(error.errno or 0), self.path) from None
        os.chmod(beside, self.mode)  # mkfifo obeys the umask
        return named(beside)

    def remove(self) -> bool:
        """Remove it if it is the one that was made here; whether it was. Who waits for its other end waits no more."""
        made = self._what_was_made()
        if made is None:
            return False
        with made:
            try:
                found = os.lstat(self._made_at)
            except (FileNotFoundError, NotADirectoryError):
                return False
            if not os.path.samestat(found, os.fstat(made.fileno())):
                return False
            os.unlink(self._made_at)
            # Who waits in open(2) for the other end would wait for ever, now that nobody finds it any more.
            with contextlib.suppress(OSError):
                os.close(os.open(f"/proc/self/fd/{made.fileno()}", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC))
        return True

    def __enter__(self) -> Self:
        try:
            self.create()
        except BaseException:
            self.remove()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()

    # --- its ends ---

    def reader(self, timeout: float | None = None, *, persistent: bool = False) -> Handle[Str]:
        """Open it for reading: waits for a writer, ``TimeoutError`` after ``timeout`` seconds (perlipc:F3).

        The end of the file comes when the last writer has left. ``persistent`` waits for no writer and sees
        no end: writers come and go, and reading waits for the next one.
        """
        deadline = after(timeout)
        if persistent:
            # A writer of our own, on the same descriptor, keeps the end from coming (gotcha:FI2).
            fd = self._open(os.O_RDWR, NEVER)
        else:
            fd = self._open(os.O_RDONLY, deadline)
        if fd is None:
            raise TimeoutError(f"nobody opened {os.fsdecode(self.path)} for writing within {timeout:g} s")
        return Handle(fd, None, self._codec, name=os.fsdecode(self.path))

    def writer(self, timeout: float | None = None) -> RecordWriter[Str]:
        """Open it for writing: waits for a reader, ``TimeoutError`` after ``timeout`` seconds (perlipc:F3)."""
        fd = self._open(os.O_WRONLY, after(timeout))
        if fd is None:
            raise TimeoutError(f"nobody opened {os.fsdecode(self.path)} for reading within {timeout:g} s")
        nonblocking(fd.fileno())
        return RecordWriter(None, fd, self._codec, name=os.fsdecode(self.path))

    def _open(self, flags: int, deadline: int) -> Descriptor | None:
        try:
            fd = open_path(self.path, flags | os.O_NOFOLLOW, 0, deadline)
        except OSError:
            self._check(os.lstat(self.path))
            raise
        if fd is None:
            return None
        try:
            self._check(os.fstat(fd.fileno()))
        except FileExistsError:
            fd.close()
            raise
        return fd

    def _check(self, found: os.stat_result) -> None:
        if not stat.S_ISFIFO(found.st_mode):
            raise FileExistsError(errno.EEXIST, f"{kind_of(found.st_mode)} is there, not a FIFO", self.path)

    # --- a file that is a program ---

    def serve(
        self,
        make: Callable[[], Str],
        *,
        readers: int | None = None,
        timeout: float | None = None,
        replace: bool = False,
    ) -> int:
        """Give each reader of the name a fresh answer: the page's ``.signature`` program (perlipc:F2).

        ``make()`` is called for each reader; its result is what that one reads. Goes on for ever, or for
        so many ``readers``, or for ``timeout`` seconds; how many there were. A FIFO that somebody removes
        is put back; anything else in its place is left alone and is ``FileExistsError``, unless
        ``replace=True``. What ``make`` raises comes out of here.

        Readers one after another each get one whole answer. Readers that open it at the very same
        instant get whole answers or nothing, never two: a pipe cannot tell them apart (gotcha:FI4); who
        needs that listens on a socket.
        """
        deadline = after(timeout)
        if replace:
            self.take_the_place()
        else:
            self.create()
        served = 0
        with Answers(self, self._codec, replace) as answers:
            while readers is None or served < readers:
                if not answers.await_readers(deadline, None if readers is None else readers - served):
                    break
                served += answers.give(make, deadline)
        return served

    def own(self, made: Descriptor) -> None:
        """What is made stands there now, and is ours to remove."""
        if made is not self._made:
            before = self._what_was_made()
            # Whatever our directory becomes until it is removed.
            self._made_at = self.path if os.path.isabs(self.path) else os.path.abspath(self.path)
            self._made, self._maker = made, os.getpid()
            if before is not None:
                before.close()

    def _what_was_made(self) -> Descriptor | None:
        """What this process has made, which is forgotten.

        What its parent has made is the parent's, and the descriptor may have been closed when we were forked: its
        number is somebody else's then.
        """
        made, self._made = self._made, None
        if made is not None and self._maker != os.getpid():
            made.detach()
            return None
        return made

    def take_the_place(self) -> None:
        """Put a FIFO of ours where something else stands."""
        try:
            found = os.lstat(self.path)
        except FileNotFoundError:
            self.create()
            return
        if stat.S_ISDIR(found.st_mode):
            raise FileExistsError(errno.EISDIR, "a directory is there, which is not replaced", self.path)
        if not stat.S_ISFIFO(found.st_mode):
            beside = name_beside(self.path)
            try:
                self.own(self._make(beside))
                os.rename(beside, self.path)
            except BaseException:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(beside)
                raise

    def __repr__(self) -> str:
        return f"<Fifo {os.fsdecode(self.path)}>"
