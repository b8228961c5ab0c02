"""Variables that processes share (perlipc:V6): typed places in shared memory or in a mmap, guarded by a semaphore."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Generic, Literal, Self, TypeVar, overload

from hornpipe.sysv.semaphores import Semaphore

if TYPE_CHECKING:
    from typing_extensions import Buffer

T = TypeVar("T", int, float, bool)
Whole = Literal["b", "B", "h", "H", "i", "I", "l", "L", "q", "Q", "n", "N"]
Real = Literal["f", "d"]


class _Places(Generic[T]):
    """``count`` values of one format at an offset of some memory."""

    __slots__ = ("_end", "_format", "_memory", "_start", "guard")

    def __init__(self, memory: Buffer, kind: str, count: int, offset: int, guard: Semaphore | None) -> None:
        if kind not in "bBhHiIlLqQnNfd?" or len(kind) != 1:
            raise ValueError(f"kind is a native format of struct for one number, like 'q' or 'd', not {kind!r}")
        size = struct.calcsize(kind)
        if offset < 0 or offset % size:
            raise ValueError(f"{offset} is no multiple of {size}: a value could be seen half written there")
        with memoryview(memory) as view:
            if view.readonly:
                raise TypeError(f"{memory!r} is read-only, and a number in it could not be set")
            if offset + count * size > view.nbytes:
                raise ValueError(
                    f"{count} of {size} bytes at offset {offset} are not inside the {view.nbytes} there are"
                )
        self._memory, self._format = memory, kind
        self._start, self._end = offset, offset + count * size
        self.guard = guard
        """The semaphore that a ``with`` block holds."""

    def _view(self) -> Any:
        # Made for each access: one that is kept would be in the way of detaching and closing (gotcha:Y13). Values
        # that lie right are read and written in one piece.
        return memoryview(self._memory).cast("B")[self._start : self._end].cast(self._format)  # type: ignore[call-overload]

    def __enter__(self) -> Self:
        if self.guard is None:
            raise ValueError("nothing guards it: give a semaphore as guard")
        self.guard.__enter__()
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if self.guard is not None:
            self.guard.__exit__(kind, error, trace)


class Cell(_Places[T]):
    """One number that processes share.

    ``memory`` is a ``SharedMemory``, a ``mmap`` or anything else that is writable and shared, ``kind`` a native
    format of :mod:`struct` for one number, ``offset`` a multiple of its size. A value is read and written in
    one piece; what reads and then writes does it in a ``with`` block, which holds ``guard``, and gives it back even
    when the process is killed inside.

    >>> import hornpipe as hp
    >>> with hp.sysv.SharedMemory.create(64) as shm, hp.sysv.SemaphoreSet.create([1]) as sems:
    ...     total = hp.sysv.Cell(shm, "q", guard=sems[0])
    ...     def add():
    ...         for _ in range(100):
    ...             with total:
    ...                 total.value += 1
    ...     with hp.fn(add).start(), hp.fn(add).start():
    ...         pass
    ...     total.value
    200
    """

    __slots__ = ()

    @overload
    def __init__(
        self: Cell[int], memory: Buffer, kind: Whole, offset: int = 0, *, guard: Semaphore | None = None
    ) -> None: ...
    @overload
    def __init__(
        self: Cell[float], memory: Buffer, kind: Real, offset: int = 0, *, guard: Semaphore | None = None
    ) -> None: ...
    @overload
    def __init__(
        self: Cell[bool], memory: Buffer, kind: Literal["?"], offset: int = 0, *, guard: Semaphore | None = None
    ) -> None: ...

    def __init__(self, memory: Buffer, kind: str, offset: int = 0, *, guard: Semaphore | None = None) -> None:
        super().__init__(memory, kind, 1, offset, guard)

    @property
    def value(self) -> T:
        """Its value now."""
        return self._view()[0]  # type: ignore[no-any-return]

    @value.setter
    def value(self, value: T) -> None:
        self._view()[0] = value

    def __repr__(self) -> str:
        return f"<Cell {self._format!r} at {self._start}: {self.value!r}>"


class Cells(_Places[T]):
    """An array of numbers that processes share; the rest is as with ``Cell``.

    >>> import hornpipe as hp, mmap
    >>> with mmap.mmap(-1, 4096) as memory:
    ...     squares = hp.sysv.Cells(memory, "d", 4)
    ...     hp.fn(lambda: squares.__setitem__(slice(0, 4), [0, 1, 4, 9])).call()
    ...     squares[2], squares[:]
    (4.0, [0.0, 1.0, 4.0, 9.0])
    """

    __slots__ = ()

    @overload
    def __init__(
        self: Cells[int], memory: Buffer, kind: Whole, count: int, offset: int = 0, *, guard: Semaphore | None = None
    ) -> None: ...
    @overload
    def __init__(
        self: Cells[float], memory: Buffer, kind: Real, count: int, offset: int = 0, *, guard: Semaphore | None = None
    ) -> None: ...
    @overload
    def __init__(
        self: Cells[bool],
        memory: Buffer,
        kind: Literal["?"],
        count: int,
        offset: int = 0,
        *,
        guard: Semaphore | None = None,
    ) -> None: ...

    def __init__(
        self, memory: Buffer, kind: str, count: int, offset: int = 0, *, guard: Semaphore | None = None
    ) -> None:
        if count < 1:
            raise ValueError(f"an array has at least one value, not {count}")
        super().__init__(memory, kind, count, offset, guard)

    def __len__(self) -> int:
        return len(self._view())

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> list[T]: ...

    def __getitem__(self, index: int | slice) -> T | list[T]:
        found = self._view()[index]
        return found.tolist() if isinstance(index, slice) else found  # type: ignore[no-any-return]

    @overload
    def __setitem__(self, index: int, value: T) -> None: ...
    @overload
    def __setitem__(self, index: slice, value: Sequence[T]) -> None: ...

    def __setitem__(self, index: int | slice, value: T | Sequence[T]) -> None:
        if isinstance(index, slice):
            places = range(len(self))[index]
            assert isinstance(value, Sequence)
            if len(value) != len(places):
                raise ValueError(f"{len(value)} values for {len(places)} places")
            view = self._view()
            for place, each in zip(places, value, strict=True):
                view[place] = each
        else:
            self._view()[index] = value

    def __iter__(self) -> Iterator[T]:
        return iter(self[:])

    def __repr__(self) -> str:
        return f"<Cells {self._format!r} at {self._start}: {self[:]!r}>"
