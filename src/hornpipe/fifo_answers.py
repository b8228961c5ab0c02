"""A fresh answer for each reader of a FIFO, without the page's ``sleep 2`` (perlipc:F2, gotcha:FI3).

Once somebody reads, a fresh FIFO takes the name at once, before the answer is made: the next reader
meets that one. Only readers that open it between its first reader and that moment share a FIFO, and
the kernel gives the answer to one of them. So fresh ones lie ready, and all readers that are there
are taken in before any is answered.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections import deque
from collections.abc import Callable
from typing import Generic, Protocol, Self

from hornpipe.deadline import NEVER, after, passed, sooner
from hornpipe.errors import ReaderGone
from hornpipe.fd import Descriptor, nonblocking, open_renewed, owned
from hornpipe.handle import Handle
from hornpipe.lines import Codec, Str

_LOOK_AGAIN = 0.5
"""Seconds between looks whether the name still is ours, while nobody reads."""
_LATE = 2.0
"""Seconds for which a used-up FIFO is kept in mind, for a reader that had looked the name up before it went."""
_LOOK_FOR_LATE = 0.05
"""Seconds between looks for such readers."""
_MOST_LATE = 256
"""How many of them: when readers come by the thousand, a late one is late by less."""
_READY = 16
"""Fresh FIFOs that lie ready."""


class Named(Protocol):
    """The name that is served."""

    path: str | bytes
    mode: int

    def create(self) -> bool:
        """Put a FIFO there, if there is none."""

    def own(self, made: Descriptor) -> None:
        """What is made stands there now, and is ours to remove."""

    def take_the_place(self) -> None:
        """Put a FIFO of ours where something else stands."""


def name_beside(path: str | bytes | os.PathLike[str] | os.PathLike[bytes]) -> bytes:
    """A new name in the same folder, since link and rename stay within a file system."""
    folder, name = os.path.split(os.fsencode(path))
    return os.path.join(folder, b"." + name + b"." + os.urandom(8).hex().encode())


class Answers(Generic[Str]):
    """The readers of a FIFO that are there, and the FIFOs for those to come."""

    def __init__(self, fifo: Named, codec: Codec[Str], replace: bool) -> None:
        self._fifo = fifo
        self._codec = codec
        self._replace = replace
        self._taken: list[Descriptor] = []
        self._used: deque[tuple[Descriptor, int]] = deque()
        self._look_at_used = NEVER
        self._ready: list[tuple[bytes, Descriptor]] = []
        self._number = 0
        # A folder, to be one name and nobody else's.
        self._folder = name_beside(fifo.path)

    def __enter__(self) -> Self:
        try:
            os.mkdir(self._folder, 0o700)
        except BaseException:
            self._tidy()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            for sink in self._taken:
                sink.close()
            for used, _until in self._used:
                _let_go(used)
                used.close()
        finally:
            self._tidy()

    def _tidy(self) -> None:
        """Leave no name; a signal handler may have raised between any two steps."""
        for fresh, made in self._ready:
            try:
                os.unlink(fresh)
            except FileNotFoundError:
                self._fifo.own(made)  # it had just taken the place
            else:
                made.close()
        with contextlib.suppress(OSError):
            for name in os.listdir(self._folder):
                os.unlink(os.path.join(self._folder, name))
            os.rmdir(self._folder)

    def await_readers(self, deadline: int, most: int | None) -> bool:
        """Wait for a reader and take in all that are there (``most`` of them); false when the deadline passed."""
        self._take_in_all(most)
        while not self._taken:
            self._get_ready()
            if passed(self._look_at_used):
                self._let_late_ones_go()
            limit = sooner(deadline, after(_LOOK_FOR_LATE if self._used else _LOOK_AGAIN))
            try:
                opened = open_renewed(self._fifo.path, self._ready[-1][0], limit)
            except FileNotFoundError:
                self._fifo.create()
            except OSError as error:
                self._not_a_fifo(error)
            else:
                if opened is not None:
                    self._take_in(*opened)
                    self._take_in_all(most)
                elif limit == deadline:
                    return False
        return True

    def _take_in_all(self, most: int | None) -> None:
        while self._ready and (most is None or len(self._taken) < most):
            try:
                opened = open_renewed(self._fifo.path, self._ready[-1][0], 0)
            except OSError:
                return  # nobody is there; whatever else it is comes up again when we wait
            if opened is not None:
                self._take_in(*opened)

    def _take_in(self, sink: Descriptor, renewed: bool) -> None:
        if renewed:
            self._fifo.own(self._ready[-1][1])
            self._ready.pop()
        elif not stat.S_ISFIFO(os.fstat(sink.fileno()).st_mode):
            sink.close()
            self._not_a_fifo(OSError(errno.EEXIST, ""))
            return
        held = owned(os.open, f"/proc/self/fd/{sink.fileno()}", os.O_PATH | os.O_CLOEXEC)
        if not self._used:
            self._look_at_used = after(_LOOK_FOR_LATE)
        elif len(self._used) == _MOST_LATE:
            self._forget_first()
        self._used.append((held, after(_LATE)))
        self._taken.append(sink)

    def _not_a_fifo(self, error: OSError) -> None:
        try:
            mode = os.lstat(self._fifo.path).st_mode
        except FileNotFoundError:
            return  # gone again
        if stat.S_ISFIFO(mode):
            if error.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.EEXIST):
                return  # one has come meanwhile
            raise error
        if not self._replace:
            raise FileExistsError(errno.EEXIST, f"{kind_of(mode)} has come in its place", self._fifo.path) from None
        self._fifo.take_the_place()

    def _get_ready(self) -> None:
        while len(self._ready) < _READY:
            self._number += 1
            fresh = os.path.join(self._folder, b"%d" % self._number)
            os.mkfifo(fresh, 0o600)
            os.chmod(fresh, self._fifo.mode)  # mkfifo obeys the umask
            self._ready.append((fresh, named(fresh)))

    def _let_late_ones_go(self) -> None:
        for used, _until in self._used:
            _let_go(used)
        while self._used and passed(self._used[0][1]):
            self._forget_first()
        self._look_at_used = after(_LOOK_FOR_LATE) if self._used else NEVER

    def _forget_first(self) -> None:
        used, _until = self._used.popleft()
        _let_go(used)
        used.close()

    def give(self, make: Callable[[], Str], deadline: int) -> int:
        """Answer all that were taken in; how many."""
        count = 0
        while self._taken:
            with self._taken.pop(0) as sink:
                nonblocking(sink.fileno())
                name = os.fsdecode(self._fifo.path)
                writer: Handle[Str] = Handle(None, sink, self._codec, deadline=deadline, name=name)
                data = make()
                # One that has seen enough, or has died, is no failure: the next gets an answer of its own.
                # Nor is one that opened it and does not read: it must not hold us beyond our time.
                with contextlib.suppress(ReaderGone, TimeoutError):
                    writer.write(data)
                    writer.close()
            count += 1
        return count


def _let_go(used: Descriptor) -> None:
    """Give whoever waits at a used-up FIFO its end of file.

    It had looked the name up just before the fresh one came, and would wait for ever. An answer
    would be right for it, but a reader that has had its own and is still there looks the same.
    """
    try:
        os.close(os.open(f"/proc/self/fd/{used.fileno()}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC))
    except OSError as error:
        if error.errno != errno.ENXIO:  # nobody there
            raise


def named(path: bytes) -> Descriptor:
    """What has this name now, to be known again; it is neither read nor written."""
    return owned(os.open, path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)


def kind_of(mode: int) -> str:
    """What it is, in words."""
    for test, name in (
        (stat.S_ISLNK, "a symlink"),
        (stat.S_ISDIR, "a directory"),
        (stat.S_ISREG, "a file"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISFIFO, "a FIFO"),
    ):
        if test(mode):
            return name
    return "a device"
