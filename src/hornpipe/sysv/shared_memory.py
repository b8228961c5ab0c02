"""Shared memory: the same bytes in several processes (perlipc:V1)."""

from __future__ import annotations

import contextlib
import errno
import os
from operator import index
from typing import Any, NamedTuple, Self, TypeVar

from hornpipe._native import sysv as _sysv
from hornpipe.errors import system_limit
from hornpipe.sysv.failures import failure
from hornpipe.sysv.lasting import Lasting, Owner, as_a_whole, find, find_or_make, make
from hornpipe.sysv.limits import PAGE, limit, reached

S = TypeVar("S", bound="SharedMemory")


class SegmentStat(NamedTuple):
    """What the kernel knows of a segment; pids and times are 0 for what has not happened."""

    owner: Owner
    size: int
    """Bytes."""
    attaches: int
    """How often it is attached; forked children count (gotcha:Y11)."""
    creator_pid: int
    last_pid: int
    """Who attached or detached it last."""
    attach_time: int
    detach_time: int
    change_time: int
    """Seconds of the wall clock, as the two above: made, or its owner or mode set."""
    locked: bool
    """Whether it is kept out of swap."""
    doomed: bool
    """Whether it is removed, and goes when the last process leaves it."""


class SharedMemory(_sysv.Segment, Lasting):
    """A System V shared memory segment, attached.

    Made by ``create`` (private or under a key), found by ``open`` or ``from_id``. The maker's ``with``
    removes it at the end; every ``with`` detaches it.

    >>> import hornpipe as hp
    >>> with hp.sysv.SharedMemory.create(2000) as shm:
    ...     shm.write(b"Message #1")
    ...     shm.read(0, 10)
    ...     shm.buf[:7].hex()
    b'Message #1'
    '4d657373616765'
    """

    __slots__ = ("__weakref__",)
    _table = "shm"

    @classmethod
    def create(
        cls,
        size: int,
        key: int | None = None,
        *,
        mode: int = 0o600,
        transient: bool = False,
        huge_pages: bool | int = False,
        address: int = 0,
    ) -> Self:
        """Make a segment of ``size`` bytes, filled with NULs: a private one, or under a key that must be free.

        ``transient``: it is removed at once, lives for as long as anybody has it attached, and so goes
        with its last process however that ends. Children that are forked have it; on Linux others find it
        by its id. ``huge_pages``: true, or the size of a page in bytes, as the system must have set aside.
        ``address``: attach it there, a multiple of the page size.
        """
        size, address = index(size), index(address)
        if size < 1:
            raise ValueError(f"a segment has at least 1 byte, not {size}")
        most = limit("SHMMAX")
        if most is not None and size > most:
            raise reached(errno.EINVAL, "SHMMAX", f"{size} bytes are more than a segment may have:")
        pages = huge_flags(huge_pages)

        def attached() -> Any:
            try:
                made = make(
                    "shm",
                    lambda number, flags: _sysv.get_segment(number, size, flags | pages),
                    key,
                    mode,
                    -(-size // PAGE),
                )
            except OSError as error:
                raise _without_memory(error, size, pages) from None
            shm = cls._made(*made, created=True, read_only=False, address=address)
            if transient:
                shm.remove()
            return shm

        whole: Self = as_a_whole(attached)
        return whole

    @classmethod
    def open(cls, key: int, *, read_only: bool = False, address: int = 0) -> Self:
        """Find the segment that has this key and attach it; ``FileNotFoundError`` when there is none."""
        found = find("shm", lambda number, flags: _sysv.get_segment(number, 0, flags), key)
        return cls._made(*found, created=False, read_only=read_only, address=address)

    @classmethod
    def open_or_create(cls, key: int, size: int, *, mode: int = 0o600) -> Self:
        """Find the segment that has this key or make it, whoever else does so at the same moment.

        ``ValueError`` when the one that is there is smaller than ``size`` bytes (shmget(2)).
        """
        size = index(size)
        return find_or_make(lambda: cls._large_enough(key, size), lambda: cls.create(size, key, mode=mode))

    @classmethod
    def _large_enough(cls, key: int, size: int) -> Self:
        shm = cls.open(key)
        if shm.size < size:
            shm.detach()
            raise ValueError(f"{shm!r} is there already and has {shm.size} bytes, not {size}")
        return shm

    @classmethod
    def from_id(cls, id: int, *, read_only: bool = False, address: int = 0) -> Self:
        """Attach the segment that has this id, as another process may have told it."""
        try:
            (key, *_), _facts = _sysv.segment_facts(index(id))
        except OSError as error:
            raise failure("shm", error.errno or 0, "from_id", id=id) from None
        return cls._made(key, id, created=False, read_only=read_only, address=address)

    @classmethod
    def _made(cls, key: int, id: int, *, created: bool, read_only: bool, address: int) -> Self:
        shm = cls.__new__(cls)
        try:
            _owner, (size, *_) = _sysv.segment_facts(id)
            shm._attach(id, key, created, size, read_only, address)
        except OSError as error:
            if created:
                with contextlib.suppress(OSError):  # somebody may have been quicker
                    _sysv.remove_segment(id)
            if error.errno == errno.EINVAL and address:
                raise ValueError(
                    f"a segment cannot be attached at {address:#x}: taken, or no multiple of a page"
                ) from None
            raise failure("shm", error.errno or 0, "attach", id=id, key=key) from None
        shm._maker = os.getpid() if created else 0
        return shm

    @property
    def buf(self) -> memoryview:
        """The memory itself, to be changed in place; read-only when it is attached so.

        While a view of it lives, the segment cannot be detached.
        """
        return memoryview(self)

    @property
    def attached(self) -> bool:
        """Whether it is attached here."""
        return self.address != 0

    def detach(self) -> None:
        """Leave it; nothing happens when it was left already.

        ``BufferError`` while a view of it lives (gotcha:Y13): its memory would be anybody's.
        """
        if not self._told("detach", self._detach):
            raise BufferError(
                f"{self!r} has views that live (buf, memoryview, numpy); release them before it is detached"
            )

    def _leave(self, error: object) -> None:
        super()._leave(error)
        try:
            self.detach()
        except BufferError:
            # An error on its way says more than this; its memory goes with the last view.
            if error is None:
                raise

    def __reduce__(self) -> tuple[Any, ...]:
        return _attach_again, (type(self), self.id, self.read_only)

    def stat(self) -> SegmentStat:
        """What the kernel knows of it."""
        common, facts = self._told("stat", lambda: _sysv.segment_facts(self.id))
        owner = Owner(*common)
        locked, doomed = bool(owner.mode & _sysv.SHM_LOCKED), bool(owner.mode & _sysv.SHM_DEST)
        return SegmentStat(owner._replace(mode=owner.mode & 0o777), *facts, locked, doomed)

    def lock(self) -> None:
        """Keep it out of swap (SHM_LOCK).

        ``SystemLimit`` when that is more than RLIMIT_MEMLOCK allows to those without privileges.
        """
        self._told("lock", lambda: _sysv.control_segment(self.id, _sysv.SHM_LOCK))

    def unlock(self) -> None:
        """Allow it to be swapped again (SHM_UNLOCK)."""
        self._told("unlock", lambda: _sysv.control_segment(self.id, _sysv.SHM_UNLOCK))

    def _rmid(self) -> None:
        _sysv.remove_segment(self.id)

    def _change(self, uid: int, gid: int, mode: int) -> None:
        _sysv.change_segment(self.id, uid, gid, mode)

    def _facts(self) -> tuple[_sysv.Common, tuple[int, ...]]:
        return _sysv.segment_facts(self.id)

    def _failed(self, error: int, doing: str) -> Exception:
        if error == errno.ENOMEM and doing == "lock":
            import resource

            most, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
            return system_limit(
                error,
                f"lock: with the {self.size} bytes of {self!r} more would be kept out of swap than {most} "
                "(RLIMIT_MEMLOCK); ulimit -l raises it",
                name="RLIMIT_MEMLOCK",
                value=most,
                knob="ulimit -l",
            )
        return super()._failed(error, doing)

    # What the native half asks for.

    def _gone(self) -> Exception:
        return ValueError(f"{self!r} is not attached any more")

    def _protected(self) -> Exception:
        return TypeError(f"{self!r} is attached read-only")

    def _outside(self, offset: int, size: int) -> Exception:
        return ValueError(f"{size} bytes at offset {offset} are not inside the {self.size} of {self!r}")


def _attach_again(kind: type[S], id: int, read_only: bool) -> S:
    return kind.from_id(id, read_only=read_only)


def _without_memory(error: OSError, size: int, pages: int) -> OSError:
    if pages and error.errno in (errno.ENOMEM, errno.EPERM, errno.EINVAL, errno.EACCES):
        return OSError(
            error.errno,
            f"create: no {size} bytes of huge pages: root sets them aside in /proc/sys/vm/nr_hugepages and "
            "lets others have them by /proc/sys/vm/hugetlb_shm_group",
        )
    if error.errno == errno.ENOMEM:
        return OSError(error.errno, f"create: no memory for a segment of {size} bytes")
    return error


def huge_flags(huge_pages: bool | int) -> int:
    """SHM_HUGETLB, with the binary logarithm of the page's size where one was asked for."""
    if huge_pages is False:
        return 0
    if huge_pages is True:
        return _sysv.SHM_HUGETLB
    if huge_pages < 1 or huge_pages & (huge_pages - 1):
        raise ValueError(f"huge_pages is a page's size in bytes, which is a power of two, not {huge_pages}")
    return _sysv.SHM_HUGETLB | (huge_pages.bit_length() - 1) << _sysv.HUGE_SHIFT
