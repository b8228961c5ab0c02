"""Advisory locks on files, with a deadline (flock(2); perlipc:S11 does it with ``alarm``)."""

from __future__ import annotations

import fcntl
import os
from typing import Any, Protocol, Self

from hornpipe import wait
from hornpipe.deadline import after, check_timeout
from hornpipe.fd import Descriptor, owned


class HasFileno(Protocol):
    """An open file."""

    def fileno(self) -> int:
        """Its descriptor."""


class lock:
    """Hold a lock on a file inside a ``with`` block: one holder at a time, or many that are ``shared``.

    ``file`` is a path (made if it is not there), a descriptor or an open file. ``TimeoutError``, naming
    who holds it where the system tells, after ``timeout`` seconds; 0 only tries. The lock belongs to the
    open file (gotcha:DM5): processes forked inside the block share it, and it goes when the last of
    them closes the file; it does not go when another descriptor of the same file is closed.

    >>> import hornpipe as hp, tempfile
    >>> with tempfile.NamedTemporaryFile() as file:
    ...     with hp.lock(file.name, timeout=10):
    ...         try:
    ...             with hp.lock(file.name, timeout=0):
    ...                 pass
    ...         except TimeoutError as error:
    ...             print(str(error).endswith(f"held by process {os.getpid()}"))
    True
    """

    def __init__(
        self,
        file: str | bytes | os.PathLike[Any] | int | HasFileno,
        timeout: float | None = None,
        *,
        shared: bool = False,
    ) -> None:
        check_timeout(timeout)
        self._file = file
        self._timeout = timeout
        self._operation = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        self._ours: Descriptor | None = None

    def __enter__(self) -> Self:
        deadline = after(self._timeout)
        if isinstance(self._file, int):
            fd = self._file
        elif isinstance(self._file, str | bytes | os.PathLike):
            self._ours = owned(os.open, self._file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            fd = self._ours.fileno()
        else:
            fd = self._file.fileno()
        try:
            # Tried first: a lock that is free costs no timer.
            try:
                fcntl.flock(fd, self._operation | fcntl.LOCK_NB)
            except BlockingIOError:
                if not wait.lock_file(fd, self._operation, deadline):
                    raise TimeoutError(
                        f"no lock on {self._file!r} within {self._timeout:g} s; it is {_held(fd)}"
                    ) from None
        except BaseException:
            if self._ours is not None:
                self._ours.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._ours is not None:
            self._ours.close()
            return
        fd = self._file if isinstance(self._file, int) else self._file.fileno()  # type: ignore[union-attr]
        fcntl.flock(fd, fcntl.LOCK_UN)


def _held(fd: int) -> str:
    """Who holds it, from /proc/locks (proc_locks(5)); the number is as good as /proc."""
    found = os.fstat(fd)
    name = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
    try:
        with open("/proc/locks") as file:
            holders = [fields[4] for line in file if name in (fields := line.split()) and fields[1] == "FLOCK"]
    except OSError:
        holders = []
    return f"held by process {holders[0]}" if holders else "held by another process"
