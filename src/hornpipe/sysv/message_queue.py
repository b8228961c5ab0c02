"""Message queues: whole messages with a type, taken out by type (perlipc:V3)."""

from __future__ import annotations

import errno
import os
from operator import index
from typing import NamedTuple, Self

from hornpipe._native import sysv as _sysv
from hornpipe._native.sysv import Message
from hornpipe.errors import LimitExceeded
from hornpipe.sysv.failures import failure, row_of
from hornpipe.sysv.lasting import Lasting, Owner, as_a_whole, find, find_or_make, make
from hornpipe.sysv.limits import limit, reached


class QueueStat(NamedTuple):
    """What the kernel knows of a queue; pids and times are 0 for what has not happened."""

    owner: Owner
    bytes: int
    """In the queue now."""
    messages: int
    """In the queue now."""
    max_bytes: int
    """What the queue holds at most; also the most messages it holds, which matters for empty ones."""
    last_send_pid: int
    last_receive_pid: int
    send_time: int
    receive_time: int
    change_time: int
    """Seconds of the wall clock, as the two above: made, or its owner, mode or size set."""


class MessageQueue(_sysv.Queue, Lasting):
    """A System V message queue.

    Made by ``create`` (private or under a key), found by ``open`` or ``from_id``. The maker's ``with``
    removes it at the end.

    >>> import hornpipe as hp
    >>> with hp.sysv.MessageQueue.create() as queue:
    ...     queue.send(b"urgent", type=1)
    ...     queue.send(b"later", type=9)
    ...     queue.receive(type=9, timeout=1).data, queue.receive(timeout=1)
    (b'later', Message(b'urgent', type=1))
    """

    __slots__ = ("__weakref__",)
    _table = "msg"

    @classmethod
    def create(cls, key: int | None = None, *, mode: int = 0o600) -> Self:
        """Make a queue: a private one, or under a key that must be free (else ``FileExistsError``)."""
        return as_a_whole(lambda: cls._made(*make("msg", _sysv.get_queue, key, mode, 1), created=True))

    @classmethod
    def open(cls, key: int) -> Self:
        """Find the queue that has this key; ``FileNotFoundError`` when there is none."""
        return cls._made(*find("msg", _sysv.get_queue, key), created=False)

    @classmethod
    def open_or_create(cls, key: int, *, mode: int = 0o600) -> Self:
        """Find the queue that has this key or make it, whoever else does so at the same moment."""
        return find_or_make(lambda: cls.open(key), lambda: cls.create(key, mode=mode))

    @classmethod
    def from_id(cls, id: int) -> Self:
        """The queue that has this id, as another process may have told it."""
        try:
            (key, *_), _facts = _sysv.queue_facts(index(id))
        except OSError as error:
            row = row_of("msg", id) if isinstance(error, PermissionError) else None
            if row is None:
                raise failure("msg", error.errno or 0, "from_id", id=id) from None
            key = row["key"]  # we may be allowed to send, and not to look
        return cls._made(key, id, created=False)

    @classmethod
    def _made(cls, key: int, id: int, *, created: bool) -> Self:
        queue = cls.__new__(cls)
        queue._use(id, key, created)
        queue._maker = os.getpid() if created else 0
        return queue

    def peek(self, index: int = 0) -> Message:
        """The message at a place in the queue, which stays there (MSG_COPY; the kernel may lack it: ``OSError``).

        ``IndexError`` when there are not so many.
        """
        if index < 0:
            raise IndexError(f"index must be 0 or more, not {index}")
        found = self._peek(index)
        if found is None:
            raise IndexError(f"no message {index}: {self._state()}")
        return found

    def stat(self) -> QueueStat:
        """What the kernel knows of it."""
        owner, facts = self._told("stat", lambda: _sysv.queue_facts(self.id))
        return QueueStat(Owner(*owner), *facts)

    def set_max_bytes(self, size: int) -> None:
        """Set what the queue holds at most, in bytes; more than ``limits().MSGMNB`` takes privileges."""
        if size < 1:
            raise ValueError(f"a queue holds at least 1 byte, not {size}")
        self._forget()
        try:
            _sysv.change_queue(self.id, -1, -1, -1, size)
        except OSError as error:
            most = limit("MSGMNB")
            if isinstance(error, PermissionError) and most is not None and size > most:
                raise PermissionError(
                    error.errno, f"{size} bytes are more than the {most} of /proc/sys/kernel/msgmnb, which takes root"
                ) from None
            raise self._failed(error.errno or 0, "set_max_bytes") from None

    def _rmid(self) -> None:
        _sysv.remove_queue(self.id)

    def _change(self, uid: int, gid: int, mode: int) -> None:
        _sysv.change_queue(self.id, uid, gid, mode, -1)

    def _facts(self) -> tuple[_sysv.Common, tuple[int, ...]]:
        return _sysv.queue_facts(self.id)

    def _state(self) -> str:
        try:
            _owner, (size, count, most, *_) = _sysv.queue_facts(self.id)
        except OSError:
            return super()._state()
        return f"{super()._state()} has {count} messages, {size} of {most} bytes"

    # What the native half asks for.

    def _must_fit(self, size: int) -> int:
        """What an empty queue holds; a message that has more is refused: it would wait for ever (gotcha:Y8)."""
        try:
            _owner, (_size, _count, most, *_) = _sysv.queue_facts(self.id)
        except OSError:
            return size  # we may write and not look
        if size > most:
            raise reached(
                errno.EINVAL, "MSGMNB", f"a message of {size} bytes is more than this queue's {most}; a new queue has"
            )
        return most

    def _not_sent(self, error: int, size: int) -> Exception:
        most = limit("MSGMAX")
        if error == errno.EINVAL and most is not None and size > most:
            return reached(error, "MSGMAX", f"a message of {size} bytes is more than")
        return self._failed(error, "send")

    def _largest(self) -> int:
        # Raised meanwhile perhaps, or lowered since the message was sent.
        return limit("MSGMAX") or 0

    def _longer(self, most: int) -> Exception:
        return LimitExceeded(
            f"receive: the message is longer than {most} bytes and has stayed in {super()._state()}; "
            "truncate=True takes its beginning and drops the rest",
            limit=most,
            data=b"",
        )
