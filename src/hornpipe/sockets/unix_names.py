"""Names of Unix sockets in the file system: made, replaced when dead, removed by their maker (gotcha:SO7, SO8)."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from _socket import AF_UNIX
from _socket import socket as Calls
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from hornpipe import wait
from hornpipe.address import Address
from hornpipe.deadline import after
from hornpipe.fd import owned
from hornpipe.fifo_answers import kind_of
from hornpipe.sockets.descriptor import Socket
from hornpipe.sockets.holders import is_bound

_PATIENCE = 5.0
"""Seconds for which another one that is just being bound in the same folder is waited for."""


def is_socket(path: str | bytes | os.PathLike[Any]) -> bool:
    """Whether the name of a Unix socket stands there: Perl's ``-S`` (perlipc:N20). A symlink to one counts.

    Whether anybody listens is another question, which only ``connect`` answers; nothing there is no socket.

    >>> import hornpipe as hp
    >>> with hp.listen("unix://catsock"):
    ...     is_socket("catsock")
    True
    >>> is_socket("catsock"), is_socket("/dev/null")
    (False, False)
    """
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def check_mode(mode: int) -> None:
    """Refuse what are no permissions of a name."""
    if not 0 <= mode <= 0o777:
        raise ValueError(f"mode must be between 0 and 0o777, not {mode!r}")


class BoundName:
    """A name that this process made, and removes, whatever its directory has become."""

    def __init__(self, path: str) -> None:
        self._path = os.path.abspath(path)
        self._maker = os.getpid()
        made = os.lstat(path)
        # Our socket keeps the inode, so its number is nobody else's for as long as we are open.
        self._made = made.st_dev, made.st_ino

    def remove(self) -> None:
        """Remove it, unless a child of the maker asks, or something else stands there by now."""
        if os.getpid() != self._maker:
            return
        try:
            found = os.lstat(self._path)
            if (found.st_dev, found.st_ino) == self._made:
                os.unlink(self._path)
        except (FileNotFoundError, NotADirectoryError):
            pass


def bind(socket: Socket, address: Address, mode: int, then: Callable[[], object]) -> BoundName | None:
    """Bind to ``address`` and do ``then`` (listen); ``None`` for an abstract name, which needs no removal.

    A dead name is replaced. Two starters at once:

    1. Both find the name dead.  2. One removes it, binds and listens.  3. The other removes what it
    found dead, which is the living one's by now. So finding, removing, binding and listening happen
    under a lock, which is that of the folder: a file for it would be one more thing to be left behind.
    Programs that know nothing of the lock have the moment between our last look and the removal.
    """
    if address.is_abstract:
        socket.calls.bind(address.unix_name)
        then()
        return None
    folder = os.path.dirname(address.path) or "."
    with owned(os.open, folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC) as lock:
        if not wait.lock_file(lock.fileno(), fcntl.LOCK_EX, after(_PATIENCE)):
            raise TimeoutError(
                f"somebody has held the lock on {folder!r} for {_PATIENCE:g} s, where {address} was to be"
            )
        _clear(address)
        # bind(2) takes the mode from here, less the umask: never more than was asked for, at no moment.
        os.fchmod(socket.fileno(), mode)
        socket.calls.bind(address.unix_name)
        made = BoundName(address.path)
        try:
            _widen(address.path, mode)
            then()
        except BaseException:
            made.remove()
            raise
        return made


def _widen(path: str, mode: int) -> None:
    """Give the name what the umask took."""
    with owned(os.open, path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC) as made:
        found = os.fstat(made.fileno()).st_mode
        if stat.S_ISSOCK(found) and stat.S_IMODE(found) != mode:
            os.chmod(f"/proc/self/fd/{made.fileno()}", mode)


def _clear(address: Address) -> None:
    """Remove a dead socket's name; ``OSError`` (EEXIST, EADDRINUSE) for anything that is not one."""
    try:
        found = os.lstat(address.path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise FileExistsError(errno.EEXIST, f"{kind_of(found.st_mode)} is there, not a socket", address.path)
    if _is_alive(address):
        raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
    with suppress(FileNotFoundError):  # its owner, who was just ending, has removed it
        now = os.lstat(address.path)
        if (now.st_dev, now.st_ino) == (found.st_dev, found.st_ino):
            os.unlink(address.path)


def _is_alive(address: Address) -> bool:
    probe = Socket(Calls(AF_UNIX, address.socket_type, 0))
    with probe:
        probe.calls.setblocking(False)
        result = probe.calls.connect_ex(address.unix_name)
        # Refused is also one that has bound and does not listen yet. Any other answer comes from somebody.
        return is_bound(address.unix_name) if result == errno.ECONNREFUSED else result != errno.ENOENT
