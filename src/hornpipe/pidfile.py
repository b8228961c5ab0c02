"""A file that says who the running daemon is, and cannot lie (gotcha:DM4, DM5).

Its lock says whether somebody runs, for as long as the process lives and not a moment longer; its
content only says who. A file left by a dead daemon is unlocked, and so is nobody's.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from typing import Any

from hornpipe import image, wait
from hornpipe.deadline import after
from hornpipe.fd import Descriptor, owned

_A_LOOK = 0.2
"""Seconds for which one that is just ending, and lets go of its lock, is waited for."""


class AlreadyRunning(FileExistsError):
    """Somebody holds the pidfile."""

    pid: int | None
    """Who, as far as the file says."""

    def __init__(self, path: str, pid: int | None) -> None:
        who = f"process {pid}" if pid is not None else "a process that has not said its number yet"
        super().__init__(errno.EEXIST, f"{who} is running already", path)
        self.pid = pid


class PidFile:
    """A pidfile, locked while its process lives.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     ours = PidFile(os.path.join(folder, "demo.pid"))
    ...     ours.hold()
    ...     ours.write()
    ...     running(ours.path) == os.getpid()
    ...     ours.remove()
    ...     running(ours.path)
    True
    """

    def __init__(self, path: str | os.PathLike[Any]) -> None:
        self.path = os.path.abspath(os.fspath(path))
        """Where it is, whatever the directory becomes."""
        self._lock: Descriptor | None = None

    def hold(self) -> None:
        """Take the lock, or raise ``AlreadyRunning``. It is inherited by fork, and held until all copies are closed.

        A restart (``restart_on_hup``) keeps it: the next image finds it held, and there is no moment in between.
        """
        name = f"hornpipe: pidfile {self.path}"
        image.keep(name, self)
        left = image.claim(name)
        if left is not None:
            self._lock = Descriptor(left)
            if _same(left, self.path):
                return
            self.close()  # somebody has removed the file: whoever looks for us looks at another one
        while True:
            opened = owned(os.open, self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
            try:
                if not stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
                    raise FileExistsError(errno.EEXIST, "is there and is no file", self.path)
                while not wait.lock_file(opened.fileno(), fcntl.LOCK_EX, after(_A_LOOK)):
                    # Who only asks shares it, for an instant; but there may be many, and they may have to wait for the
                    # processor while they have it. A daemon shares it with nobody.
                    if not wait.lock_file(opened.fileno(), fcntl.LOCK_SH, after(0)):
                        raise AlreadyRunning(self.path, _content(opened.fileno()))
            except BaseException:
                opened.close()
                raise
            # Whoever held it may have removed it between our open and our lock: then it is nobody's name any more.
            if _same(opened.fileno(), self.path):
                # What a dead one has left must not pass for the number of whoever holds the lock now.
                os.ftruncate(opened.fileno(), 0)
                self._lock = opened
                return
            opened.close()

    def write(self) -> None:
        """Say who we are: after the last fork."""
        assert self._lock is not None
        os.pwrite(self._lock.fileno(), b"%d\n" % os.getpid(), 0)

    def remove(self) -> None:
        """Remove it, if it still is ours, and let go of the lock."""
        if self._lock is None:
            return
        try:
            if _same(self._lock.fileno(), self.path) and _content(self._lock.fileno()) in (os.getpid(), None):
                os.unlink(self.path)
        except PermissionError:
            os.ftruncate(self._lock.fileno(), 0)  # the folder is root's, and we are not root any more
        self.close()

    def close(self) -> None:
        """Let go of this copy of the lock: a worker must not hold it when the daemon has gone."""
        lock, self._lock = self._lock, None
        if lock is not None:
            lock.close()

    def fileno(self) -> int:
        """The descriptor that holds the lock."""
        if self._lock is None:
            raise ValueError(f"{self.path!r} is not held; hold() comes first")
        return self._lock.fileno()


def running(path: str | os.PathLike[Any]) -> int | None:
    """The daemon that holds this pidfile; ``None`` when nobody does, whatever the file says.

    One that is just starting, and has not written its number yet, is not there yet.
    """
    try:
        # Not to be held up by a FIFO, which is nobody's pidfile.
        opened = owned(os.open, path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    with opened:
        try:
            # Shared, so that two who ask do not take each other for the daemon.
            fcntl.flock(opened.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _content(opened.fileno())
    return None


def _content(fd: int) -> int | None:
    text = os.pread(fd, 32, 0).strip()
    return int(text) if text.isdigit() else None


def _same(fd: int, path: str) -> bool:
    ours = os.fstat(fd)
    try:
        there = os.stat(path, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return (ours.st_dev, ours.st_ino) == (there.st_dev, there.st_ino)
