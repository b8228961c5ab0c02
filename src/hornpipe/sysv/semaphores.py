"""Sets of semaphores: counters that processes wait for, several at once and all or nothing (perlipc:V2)."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator, Sequence
from operator import index
from typing import Any, NamedTuple, Self

from hornpipe import wait
from hornpipe._native import sysv as _sysv
from hornpipe.deadline import after, passed, sooner
from hornpipe.sysv.failures import failure, row_of
from hornpipe.sysv.lasting import Lasting, Owner, as_a_whole, find, make
from hornpipe.sysv.limits import SEMVMX, limit, reached

_LOOK_AGAIN = 1_000_000
_MAKER_IS_DEAD = 2.0
"""Seconds after which whoever made a set and did nothing with it is taken for dead: it needed microseconds."""


class SetStat(NamedTuple):
    """What the kernel knows of a set; times are seconds of the wall clock."""

    owner: Owner
    semaphores: int
    """How many it has."""
    operation_time: int
    """Of the last ``op``; 0 when there was none. Setting values does not count (gotcha:Y1)."""
    change_time: int
    """Made, or its owner or mode or all its values set."""


class Semaphore(_sysv.OneSemaphore):
    """One semaphore of a set, ``sems[3]``: a lock in a ``with`` block, or a counter.

    In a ``with`` block it is taken with SEM_UNDO: a process that dies inside gives it back, even when it
    is killed.

    >>> import hornpipe as hp
    >>> with hp.sysv.SemaphoreSet.create([1, 5]) as sems:
    ...     with sems[0]:
    ...         sems[0].value
    ...     sems[1].acquire(2, timeout=1)
    ...     sems.values
    0
    [1, 3]
    """

    __slots__ = ()
    set: SemaphoreSet

    @property
    def value(self) -> int:
        """Its value now. Setting it (SETVAL) forgets what any process was to give back at its end."""
        return self.set._ask("value", self.index)

    @value.setter
    def value(self, value: int) -> None:
        self.set._told("value", lambda: self.set._set_value(self.index, value))

    @property
    def pid(self) -> int:
        """The process that touched it last; 0 for none."""
        return self.set._told("pid", lambda: self.set._pid(self.index))

    @property
    def waiting(self) -> int:
        """How many wait for it to grow."""
        return self.set._told("waiting", lambda: self.set._waiting(self.index, False))

    @property
    def waiting_for_zero(self) -> int:
        """How many wait for it to be 0."""
        return self.set._told("waiting_for_zero", lambda: self.set._waiting(self.index, True))

    def __reduce__(self) -> tuple[type[Self], tuple[SemaphoreSet, int]]:
        return type(self), (self.set, self.index)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.index} of {self.set!r}>"


class SemaphoreSet(_sysv.Semaphores, Lasting):
    """A System V semaphore set.

    >>> import hornpipe as hp
    >>> with hp.sysv.SemaphoreSet.create([0] * 10) as sems:
    ...     sems.op([(0, 0), (0, +1)])       # the page's take: wait for 0, then add 1, in one step
    ...     sems[0].value
    ...     sems.op([(0, -1)])               # and its give
    1
    """

    __slots__ = ("__weakref__",)
    _table = "sem"

    @classmethod
    def create(cls, initial: Sequence[int], key: int | None = None, *, mode: int = 0o600) -> Self:
        """Make a set with these values: a private one, or under a key that must be free (else ``FileExistsError``)."""
        count = len(initial)
        if not count:
            raise ValueError("a set has at least one semaphore")
        for value in initial:
            if not 0 <= index(value) <= SEMVMX:
                raise reached(errno.ERANGE, "SEMVMX", f"a semaphore's value is from 0 on, and {value} is not up to")
        most = limit("SEMMSL")
        if most is not None and count > most:
            raise reached(errno.EINVAL, "SEMMSL", f"{count} semaphores are more than the set may have:")

        def given() -> Any:
            made = make("sem", lambda number, flags: _sysv.get_set(number, count, flags), key, mode, count)
            sems = cls._made(*made, count, created=True)
            sems._give(initial)
            return sems

        whole: Self = as_a_whole(given)
        return whole

    def _give(self, initial: Sequence[int]) -> None:
        # 1. semget makes it with zeros.  2. SETALL.  3. An operation that changes nothing but the time of the last
        # one: openers wait for that, as other programs do that know the trick (gotcha:Y1). Who finds us between is
        # never fooled, and who finds us dead between makes the set anew.
        try:
            if any(initial):
                self._told("create", lambda: self._set_values(initial))
            step = -1 if initial[0] == SEMVMX else 1
            self.op([(0, step), (0, -step)], 0)
        except BaseException:
            self._remove_quietly()
            raise

    @classmethod
    def open(cls, key: int) -> Self:
        """Find the set that has this key; ``FileNotFoundError`` when there is none.

        It may be one that its maker has not given its values yet: ``open_or_create`` waits for them.
        """
        number, found = find("sem", lambda number, flags: _sysv.get_set(number, 0, flags), key)
        return cls._found(found, "open", number)

    @classmethod
    def open_or_create(cls, key: int, initial: Sequence[int], *, mode: int = 0o600, timeout: float | None = 10) -> Self:
        """Find the set that has this key, or make it with these values, whoever else does so at the same moment.

        What is found has its values: one that is just being made is waited for, ``timeout`` seconds at most
        (``TimeoutError``). When its maker has died on the way, two seconds after it, the set is made anew, unless
        somebody waits in it. All zeros are there from the beginning: such a set is never waited for, nor made anew.
        ``ValueError`` when the set that is there has another number of semaphores.
        """
        deadline = after(timeout)
        while True:
            try:
                sems = cls.open(key)
                if sems._ready(initial, deadline):
                    return sems
            except FileNotFoundError:
                try:
                    return cls.create(initial, key, mode=mode)
                except (FileExistsError, FileNotFoundError):
                    continue  # another one was quicker, or took us for dead

    @classmethod
    def from_id(cls, id: int) -> Self:
        """The set that has this id, as another process may have told it."""
        return cls._found(index(id), "from_id")

    @classmethod
    def _found(cls, id: int, doing: str, key: int = 0) -> Self:
        try:
            (key, *_), (count, *_) = _sysv.set_facts(id)
        except OSError as error:
            row = row_of("sem", id) if isinstance(error, PermissionError) else None
            if row is None:
                raise failure("sem", error.errno or 0, doing, id=id, key=key) from None
            key, count = row["key"], row["nsems"]  # we may be allowed to operate, and not to look
        return cls._made(key, id, count, created=False)

    @classmethod
    def _made(cls, key: int, id: int, count: int, *, created: bool) -> Self:
        sems = cls.__new__(cls)
        sems._use(id, key, created, count)
        sems._maker = os.getpid() if created else 0
        return sems

    def _ready(self, initial: Sequence[int], deadline: int) -> bool:
        """Wait until it has its values; false when it was removed, by us if its maker is dead."""
        count = len(initial)
        dead = time.monotonic_ns() + int(_MAKER_IS_DEAD * 1e9)
        while True:
            found = self.stat()
            if found.semaphores != count:
                raise ValueError(f"{self!r} has {found.semaphores} semaphores, not {count}")
            # SETALL leaves its process's number: without an operation the values are there all the same.
            if found.operation_time or not any(initial) or all(sem.pid for sem in self):
                return True
            awaited = any(sem.waiting or sem.waiting_for_zero for sem in self)
            if time.monotonic_ns() >= dead and found.owner.creator_uid == os.geteuid() and not awaited:
                # Nobody has touched it. If its maker only slept, it finds its id removed, and starts over.
                self._remove_quietly()
                return False
            if passed(deadline):
                raise TimeoutError(f"{self!r} was made and not given its values in time; if its maker died, remove it")
            wait.until([], sooner(deadline, time.monotonic_ns() + _LOOK_AGAIN))

    def __getitem__(self, index: int) -> Semaphore:
        return Semaphore(self, index)

    def __iter__(self) -> Iterator[Semaphore]:
        return (Semaphore(self, index) for index in range(len(self)))

    @property
    def values(self) -> list[int]:
        """All values at one instant. Setting them (SETALL) forgets what any process was to give back at its end."""
        return self._told("values", self._values)

    @values.setter
    def values(self, values: Sequence[int]) -> None:
        self._told("values", lambda: self._set_values(values))

    def stat(self) -> SetStat:
        """What the kernel knows of it."""
        owner, facts = self._told("stat", lambda: _sysv.set_facts(self.id))
        return SetStat(Owner(*owner), *facts)

    def _ask(self, doing: str, index: int) -> int:
        return self._told(doing, lambda: self._value(index))

    def _rmid(self) -> None:
        _sysv.remove_set(self.id)

    def _change(self, uid: int, gid: int, mode: int) -> None:
        _sysv.change_set(self.id, uid, gid, mode)

    def _facts(self) -> tuple[_sysv.Common, tuple[int, ...]]:
        return _sysv.set_facts(self.id)

    def _state(self) -> str:
        try:
            values = self._values()
        except OSError:
            return super()._state()
        shown = ", ".join(map(str, values[:20])) + (", ..." if len(values) > 20 else "")
        return f"{super()._state()} has the values {shown}"

    # What the native half asks for.

    def _failed(self, error: int, doing: str) -> Exception:
        if error == errno.ERANGE:
            return reached(error, "SEMVMX", f"{doing}: {super()._state()}: a value would be higher than")
        if error == errno.E2BIG:
            return reached(error, "SEMOPM", f"{doing}: more operations at once than")
        if error == errno.EAGAIN:
            return BlockingIOError(error, f"{doing}: would have to wait: {self._state()}")
        return super()._failed(error, doing)

    def _too_high(self, value: int) -> Exception:
        if value < 0:
            return ValueError(f"a semaphore's value is 0 or more, not {value}")
        return reached(errno.ERANGE, "SEMVMX", f"a semaphore's value cannot be {value}; it is at most")

    def _mixed(self, index: int, delta: int) -> Exception:
        return ValueError(
            f"semaphore {index} of {self!r} is to move by {delta:+d}: with undo if it was moved the other way with it, "
            "without if not; else the kernel moves it once more when this process ends"
        )
