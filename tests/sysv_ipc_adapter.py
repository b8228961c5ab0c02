"""sysv_ipc 1.2's words on top of hornpipe.sysv, so that its own tests can be run against ours.

Where the two differ, and what the adapter does about it:

- A semaphore is one of a set here; there it is a set of one, and ``undo`` and ``block`` are switches on the object
  instead of arguments of a call.
- A time-out is the built-in ``TimeoutError`` here, theirs is ``BusyError``. What is there, or is not, is
  ``FileExistsError``, ``FileNotFoundError`` or ``ObjectRemoved`` here, theirs is ``ExistentialError``; what is not
  allowed is ``PermissionError``, theirs is ``PermissionsError``. Theirs are no built-in classes, and have no errno.
- A value out of bounds names the limit and its value here; their tests want their own sentence.
- A set is made with one operation that changes nothing here, so that others see that it has its values; so the time of
  the last operation is not 0 at first, and the adapter hides that one.
- A timed-out or failed ``with`` is the same in both, but ours gives the semaphore back when the holder is killed.
- New memory is NULs here, as the kernel makes it; theirs is written over, with blanks unless one asks for other bytes.
- ``read`` is exact here; theirs cuts what lies beyond the end, and takes a count of 0 for everything.
- Writing to what is attached read-only is a ``TypeError`` here, as with all memory that is read-only.
- Bytes are bytes here; theirs takes text as well, and calls that unsupported.
- An object here is attached once; theirs is attached again in place.
- Keys are the caller's here, and private objects have none; theirs draws one, from 1 to 32767, with ``None``.
- A message is an object with ``data`` and ``type`` here, of whatever length; theirs is a pair, and fails when it is
  longer than ``max_message_size``, which is 2048.
- ``ftok`` explains its collisions in its documentation here; theirs warns whenever it is called.
- Facts that the kernel keeps are one ``stat()`` here, at one instant; theirs are attributes that each ask again.
- Their ``AttributeError`` for read-only attributes has C's text.
"""

from __future__ import annotations

import functools
import random
import warnings
from collections.abc import Callable
from resource import getpagesize
from typing import Any

import hornpipe as hp

VERSION = __version__ = "1.2.0"
__author__ = __license__ = __copyright__ = "see hornpipe"

IPC_PRIVATE, IPC_CREAT, IPC_EXCL = 0, 0o1000, 0o2000
IPC_CREX = IPC_CREAT | IPC_EXCL
SHM_RDONLY, SHM_RND = 0o10000, 0o20000
KEY_MIN, KEY_MAX = -0x8000_0000, 0x7FFF_FFFF
PAGE_SIZE = getpagesize()
SEMAPHORE_VALUE_MAX = hp.sysv.limits().SEMVMX
SEMAPHORE_TIMEOUT_SUPPORTED = True


class Error(Exception):
    """Theirs."""


class InternalError(Error):
    """Never raised here."""


class PermissionsError(Error):
    """``PermissionError``."""


class ExistentialError(Error):
    """``FileExistsError``, ``FileNotFoundError`` and ``ObjectRemoved``."""


class BusyError(Error):
    """``TimeoutError``."""


class NotAttachedError(Error):
    """``ValueError``."""


_THEIRS: dict[type[Exception], type[Exception]] = {
    FileExistsError: ExistentialError,
    FileNotFoundError: ExistentialError,
    hp.sysv.ObjectRemoved: ExistentialError,
    PermissionError: PermissionsError,
    TimeoutError: BusyError,
    TypeError: OSError,
}


def translated(call: Callable[..., Any]) -> Callable[..., Any]:
    """The call, with their errors for ours."""

    @functools.wraps(call)
    def translating(*arguments: Any, **named: Any) -> Any:
        try:
            return call(*arguments, **named)
        except tuple(_THEIRS) as error:
            kind = next(theirs for ours, theirs in _THEIRS.items() if isinstance(error, ours))
            raise kind(str(error)) from error

    return translating


class Fact:
    """An attribute that asks the kernel; it can be written if there is a ``write``."""

    def __init__(self, read: Callable[[Any], Any], write: Callable[[Any, Any], None] | None = None) -> None:
        self.read, self.write = translated(read), write and translated(write)

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, owner: Any, kind: type) -> Any:
        return self.read(owner)

    def __set__(self, owner: Any, value: Any) -> None:
        if self.write is not None:
            self.write(owner, value)
        elif self.name == "id":
            raise AttributeError("readonly attribute")
        else:
            raise AttributeError(f"attribute '{self.name}' of '{str(type(owner))[8:-2]}' objects is not writable")


class Facts:
    """What the three have in common; ``_ours`` is the object here."""

    _ours: Any
    id = Fact(lambda self: self._ours.id)
    key = Fact(lambda self: self._ours.key)
    uid = Fact(lambda self: self._ours.stat().owner.uid, lambda self, uid: self._ours.chown(uid=uid))
    gid = Fact(lambda self: self._ours.stat().owner.gid, lambda self, gid: self._ours.chown(gid=gid))
    mode = Fact(lambda self: self._ours.stat().owner.mode, lambda self, mode: self._ours.chmod(mode))
    cuid = Fact(lambda self: self._ours.stat().owner.creator_uid)
    cgid = Fact(lambda self: self._ours.stat().owner.creator_gid)

    @translated
    def remove(self) -> None:
        self._ours.remove()


@translated
def found(
    key: int | None,
    flags: int,
    create: Callable[[int | None], Any],
    open: Callable[[int], Any],  # noqa: A002
    both: Callable[[int], Any],
) -> Any:
    """What their constructors' flags mean."""
    if key is None:
        while True:
            try:
                return create(random.randint(1, 0x7FFF))
            except FileExistsError:
                pass
    if key == IPC_PRIVATE:
        return create(None)
    if flags & IPC_CREX == IPC_CREX:
        return create(key)
    return both(key) if flags & IPC_CREAT else open(key)


def encoded(text: Any) -> Any:
    return text.encode() if isinstance(text, str) else text


class Semaphore(Facts):
    """Theirs: the only one of a set."""

    def __init__(self, key: int | None, flags: int = 0, mode: int = 0o600, initial_value: int = 0) -> None:
        self._ours = found(
            key,
            flags,
            lambda key: hp.sysv.SemaphoreSet.create([initial_value], key, mode=mode),
            hp.sysv.SemaphoreSet.open,
            lambda key: hp.sysv.SemaphoreSet.open_or_create(key, [0], mode=mode),
        )
        self._only = self._ours[0]
        self.block, self.undo = True, False
        self._used = not self._ours.created

    @translated
    def acquire(self, timeout: float | None = None, delta: int = 1) -> None:
        self._used = True
        self._only.acquire(abs(delta), timeout=timeout if self.block else 0, undo=self.undo)

    @translated
    def release(self, delta: int = 1) -> None:
        self._used = True
        self._only.release(abs(delta), undo=self.undo)

    @translated
    def Z(self, timeout: float | None = None) -> None:
        self._used = True
        self._only.wait_for_zero(timeout=timeout if self.block else 0)

    P, V = acquire, release

    def __enter__(self) -> Semaphore:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def _set_value(self, value: int) -> None:
        try:
            self._only.value = value
        except (ValueError, hp.sysv.SystemLimit) as error:
            raise ValueError("The semaphore's value must remain between 0 and SEMVMX") from error

    value = Fact(lambda self: self._only.value, _set_value)
    last_pid = Fact(lambda self: self._only.pid)
    waiting_for_nonzero = Fact(lambda self: self._only.waiting)
    waiting_for_zero = Fact(lambda self: self._only.waiting_for_zero)
    o_time = Fact(lambda self: self._ours.stat().operation_time if self._used else 0)


class SharedMemory(hp.sysv.SharedMemory):
    """Theirs. It is ours with more words, since before Python 3.12 only what is made in C has memory to view."""

    def __new__(
        cls,
        key: int | None = None,
        flags: int | None = None,
        mode: int = 0o600,
        size: int = 0,
        init_character: bytes = b" ",
    ) -> SharedMemory:
        if key is flags is None:  # as ours are made
            return super().__new__(cls)
        flags = flags or 0
        fresh = flags & IPC_CREX == IPC_CREX
        shm: SharedMemory = found(
            key,
            flags,
            lambda key: cls.create(size or PAGE_SIZE, key, mode=mode),
            cls.open,
            lambda key: cls.open_or_create(key, size, mode=mode) if size else cls.open(key),
        )
        if fresh:
            shm.write(init_character * shm.size)
        return shm

    def __init__(self, *_: Any, **__: Any) -> None:
        """Done by ``__new__``."""

    id = Fact(lambda self: super().id)
    key = Fact(lambda self: super().key)
    size = Fact(lambda self: super().size)
    address = Fact(lambda self: super().address)
    attached = Fact(lambda self: super().attached)
    uid = Fact(lambda self: self.stat().owner.uid, lambda self, uid: self.chown(uid=uid))
    gid = Fact(lambda self: self.stat().owner.gid, lambda self, gid: self.chown(gid=gid))
    mode = Fact(lambda self: self.stat().owner.mode, lambda self, mode: self.chmod(mode))
    cuid = Fact(lambda self: self.stat().owner.creator_uid)
    cgid = Fact(lambda self: self.stat().owner.creator_gid)
    creator_pid = Fact(lambda self: self.stat().creator_pid)
    last_pid = Fact(lambda self: self.stat().last_pid)
    number_attached = Fact(lambda self: self.stat().attaches)
    last_attach_time = Fact(lambda self: self.stat().attach_time)
    last_detach_time = Fact(lambda self: self.stat().detach_time)
    last_change_time = Fact(lambda self: self.stat().change_time)

    @translated
    def attach(self, address: int | None = None, flags: int = 0) -> None:
        self._attach(self.id, self.key, self.created, self.size, bool(flags & SHM_RDONLY), address or 0)

    @translated
    def read(self, byte_count: int = 0, offset: int = 0) -> bytes:
        if not self.attached:
            raise NotAttachedError("not attached")
        if not 0 <= offset < self.size:
            raise ValueError("the offset is outside of the segment")
        return super().read(offset, min(byte_count or self.size, self.size - offset))

    @translated
    def write(self, some_bytes: Any, offset: int = 0) -> None:
        if not self.attached:
            raise NotAttachedError("not attached")
        super().write(encoded(some_bytes), offset)

    remove = translated(hp.sysv.SharedMemory.remove)


class MessageQueue(Facts):
    """Theirs."""

    def __init__(self, key: int | None, flags: int = 0, mode: int = 0o600, max_message_size: int = 2048) -> None:
        self._ours = found(
            key,
            flags,
            lambda key: hp.sysv.MessageQueue.create(key, mode=mode),
            hp.sysv.MessageQueue.open,
            lambda key: hp.sysv.MessageQueue.open_or_create(key, mode=mode),
        )
        self._longest = max_message_size

    @translated
    def send(self, message: Any, block: bool = True, type: int = 1) -> None:  # noqa: A002
        if len(encoded(message)) > self._longest:
            raise ValueError(f"The message must be no longer than {self._longest} bytes")
        self._ours.send(encoded(message), type=type, timeout=None if block else 0)

    @translated
    def receive(self, block: bool = True, type: int = 0) -> tuple[bytes, int]:  # noqa: A002
        message = self._ours.receive(type=type, timeout=None if block else 0, max_size=self._longest)
        return message.data, message.type

    max_size = Fact(lambda self: self._ours.stat().max_bytes, lambda self, size: self._ours.set_max_bytes(size))
    current_messages = Fact(lambda self: self._ours.stat().messages)
    last_send_time = Fact(lambda self: self._ours.stat().send_time)
    last_receive_time = Fact(lambda self: self._ours.stat().receive_time)
    last_change_time = Fact(lambda self: self._ours.stat().change_time)
    last_send_pid = Fact(lambda self: self._ours.stat().last_send_pid)
    last_receive_pid = Fact(lambda self: self._ours.stat().last_receive_pid)


def attach(id: int, address: int | None = None, flags: int = 0) -> SharedMemory:  # noqa: A002
    return SharedMemory.from_id(id, read_only=bool(flags & SHM_RDONLY), address=address or 0)


def ftok(path: str, id: int, silence_warning: bool = False) -> int:  # noqa: A002
    if not silence_warning:
        warnings.warn("Use of ftok() is not recommended; see sysv_ipc documentation", stacklevel=2)
    return hp.sysv.ftok(path, id)


def remove_semaphore(id: int) -> None:  # noqa: A002
    hp.sysv.SemaphoreSet.from_id(id).remove()


def remove_shared_memory(id: int) -> None:  # noqa: A002
    hp.sysv.SharedMemory.from_id(id).remove()


def remove_message_queue(id: int) -> None:  # noqa: A002
    hp.sysv.MessageQueue.from_id(id).remove()
