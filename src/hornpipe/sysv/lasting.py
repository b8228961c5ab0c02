"""What segments, sets and queues have in common: they last until somebody removes them (gotcha:Y11)."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from operator import index
from typing import Any, ClassVar, NamedTuple, Self, TypeVar

from hornpipe._native import sysv as _sysv
from hornpipe._native.signals import Held
from hornpipe.deadline import after
from hornpipe.sysv.failures import failure, named, not_created, removed
from hornpipe.sysv.keys import check_key

T = TypeVar("T")
L = TypeVar("L", bound="Lasting")


class Owner(NamedTuple):
    """To whom an object belongs, and what others may do with it."""

    key: int
    uid: int
    gid: int
    creator_uid: int
    creator_gid: int
    mode: int
    """The nine permission bits."""


class Lasting(_sysv.Identified):
    """An object with an id, which every process can use that may.

    As a context manager it is removed at the end by the process that made it, and by no other: not by
    one that opened it, nor by a forked child.
    """

    __slots__ = ()
    _table: ClassVar[str]

    def __init__(self) -> None:
        raise TypeError(f"a {type(self).__name__} comes from create(), open(), open_or_create() or from_id()")

    def __reduce__(self) -> tuple[Any, ...]:
        # Copied or sent somewhere else, it is another handle on the same object, and not its maker's.
        return type(self).from_id, (self.id,)

    @classmethod
    def from_id(cls, id: int) -> Self:
        """The object that has this id."""
        raise NotImplementedError

    def _leave(self, error: object) -> None:
        """At the end of the ``with`` block."""
        if self._maker == os.getpid():
            self._remove_quietly()

    def __repr__(self) -> str:
        key = f" with key {self.key & 0xFFFFFFFF:#x}" if self.key else ""
        return f"<{type(self).__name__} {self.id}{key}>"

    def remove(self) -> None:
        """Remove it now, for everybody; nothing happens when it is gone already.

        ``PermissionError``, naming the owner, when it is neither ours nor made by us.
        """
        self._told("remove", self._remove_quietly)

    def _remove_quietly(self) -> None:
        self._maker = 0
        try:
            self._rmid()
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.EIDRM):
                raise

    def chown(self, uid: int | None = None, gid: int | None = None) -> None:
        """Give it to another user or group; ``None`` leaves that one as it is."""
        self._told("chown", lambda: self._change(_check_owner(uid, "uid"), _check_owner(gid, "gid"), -1))

    def chmod(self, mode: int) -> None:
        """Set its permissions: nine bits, of which those for executing mean nothing."""
        self._told("chmod", lambda: self._change(-1, -1, check_mode(mode)))

    def _rmid(self) -> None:
        raise NotImplementedError

    def _change(self, uid: int, gid: int, mode: int) -> None:
        raise NotImplementedError

    def _facts(self) -> tuple[_sysv.Common, tuple[int, ...]]:
        raise NotImplementedError

    def _told(self, doing: str, call: Callable[[], T]) -> T:
        """The call's result; its bare OSError becomes one that says what happened."""
        try:
            return call()
        except OSError as error:
            raise self._failed(error.errno or 0, doing) from None

    # What the native half asks for.

    def _deadline(self, timeout: float | None) -> int:
        return after(timeout)

    def _expired(self, timeout: float | None, doing: str) -> TimeoutError:
        within = "at once" if timeout == 0 else f"within {timeout:g} s"
        return TimeoutError(f"{doing}: not possible {within}: {self._state()}")

    def _failed(self, error: int, doing: str) -> Exception:
        if error in (errno.EINVAL, errno.EIDRM) and self._is_gone():
            return removed(self._table, self.id, self.key)
        return failure(self._table, error, doing, id=self.id, key=self.key)

    def _state(self) -> str:
        """What stands in the way, for the message of an expired wait."""
        return named(self._table, self.id, self.key)

    def _is_gone(self) -> bool:
        # A bad argument is EINVAL too, but the object then still answers (gotcha:Y4).
        try:
            self._facts()
        except OSError as error:
            return error.errno in (errno.EINVAL, errno.EIDRM)
        return False


def _check_owner(number: int | None, what: str) -> int:
    if number is None:
        return -1
    # The kernel would take the lower 32 bits; all of them set is nobody.
    if not 0 <= index(number) < 0xFFFF_FFFF:
        raise ValueError(f"{what} must be from 0 to 4294967294, not {number}")
    return number


def check_mode(mode: int) -> int:
    """Refuse what is no set of permission bits."""
    if not 0 <= index(mode) <= 0o777:
        raise ValueError(f"mode must be from 0 to 0o777, not {mode:#o}")
    return mode


def make(table: str, get: Callable[[int, int], int], key: int | None, mode: int, wanted: int) -> tuple[int, int]:
    """A new object: its key and id. ``get`` takes the key and the flags; ``wanted`` is for the error."""
    number = _sysv.IPC_PRIVATE if key is None else check_key(key)
    try:
        return number, get(number, check_mode(mode) | _sysv.IPC_CREAT | _sysv.IPC_EXCL)
    except OSError as error:
        raise not_created(table, error.errno or 0, number, wanted) from None


def find(table: str, get: Callable[[int, int], int], key: int) -> tuple[int, int]:
    """The object that has this key: key and id."""
    number = check_key(key)
    try:
        return number, get(number, 0)
    except OSError as error:
        raise failure(table, error.errno or 0, "open", key=number) from None


def as_a_whole(make: Callable[[], L]) -> L:
    """What ``make`` makes, or nothing: what the handler of a signal raises that comes meanwhile removes it again."""
    made = None
    try:
        with Held():
            made = make()
    except BaseException:
        if made is not None:
            made.remove()
        raise
    return made


def find_or_make(find: Callable[[], T], make: Callable[[], T]) -> T:
    """What ``find`` gives, or ``make``.

    1. It is not there.  2. Somebody else makes it: so do we, exclusively, and fail.  3. Somebody removes it
    again.  4. So we look again.
    """
    while True:
        try:
            return find()
        except FileNotFoundError:
            pass
        try:
            return make()
        except (FileExistsError, FileNotFoundError):  # the second: removed again before it was ours to use
            pass
