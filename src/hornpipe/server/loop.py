"""The parent's loop: descriptors, signals and times, one after the other, in one thread."""

from __future__ import annotations

import os
import select
from collections.abc import Callable

from hornpipe import wait
from hornpipe.deadline import NEVER, after, passed
from hornpipe.fd import nonblocking, owned, pipe

_AT_ONCE = 64
"""Events taken in by one look."""

Call = Callable[[], object]


class Timer:
    """A call at a time, until it is cancelled."""

    __slots__ = ("call",)

    def __init__(self, call: Call) -> None:
        self.call: Call | None = call

    def cancel(self) -> None:
        """Not any more."""
        self.call = None


class Loop:
    """What happens next. epoll(7), since a server may have a thousand children to hear of."""

    def __init__(self) -> None:
        epoll = select.epoll()
        self._epoll = epoll
        # Above 2, where a program that closed its stdin would have it.
        self._ready = owned(os.dup, epoll.fileno())
        self._calls: dict[int, Call] = {}
        self._timers: list[tuple[int, int, Timer]] = []  # a few, the next one last
        self._count = 0
        self._woken, self._waker = pipe()
        nonblocking(self._woken.fileno())
        nonblocking(self._waker.fileno())
        self._asked: list[Call] = []
        self.watch(self._woken.fileno(), self._take_asked)

    def watch(self, fd: int, call: Call) -> None:
        """Call whenever ``fd`` is readable or has ended."""
        self._epoll.register(fd, select.EPOLLIN)
        self._calls[fd] = call

    def forget(self, fd: int) -> None:
        """No more; before the descriptor is closed."""
        if self._calls.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def at(self, deadline: int, call: Call) -> Timer:
        """Call at that time, or soon after."""
        timer = Timer(call)
        if deadline != NEVER:
            self._count += 1
            self._timers.append((deadline, self._count, timer))
            self._timers.sort(key=lambda each: each[:2], reverse=True)
        return timer

    def ask(self, call: Call) -> None:
        """Have it called by the loop's thread: from any thread, and from signal handlers."""
        self._asked.append(call)
        try:
            os.write(self._waker.fileno(), b"\0")
        except (BlockingIOError, ValueError):
            pass  # full of such wishes; or closed, since all is over

    def _take_asked(self) -> None:
        try:
            os.read(self._woken.fileno(), 4096)
        except BlockingIOError:
            pass
        while self._asked:
            self._asked.pop(0)()

    def fileno(self) -> int:
        """Readable when a descriptor has something to say."""
        return self._ready.fileno()

    @property
    def deadline(self) -> int:
        """When the next call is due."""
        while self._timers and self._timers[-1][2].call is None:
            self._timers.pop()
        return self._timers[-1][0] if self._timers else NEVER

    def step(self, *, look_only: bool = False) -> None:
        """Wait for what comes first, and do it; or do what is due already."""
        if wait.one(self._ready.fileno(), wait.READ, 0 if look_only else self.deadline):
            for fd, _ in self._epoll.poll(0, _AT_ONCE):
                call = self._calls.get(fd)
                if call is not None:  # one of those before it may have forgotten it
                    call()
        while self._timers and passed(self._timers[-1][0]):
            timer = self._timers.pop()[2]
            if timer.call is not None:
                timer.call()

    def soon(self, seconds: float, call: Call) -> Timer:
        """Call after so many seconds."""
        return self.at(after(seconds), call)

    def leave(self) -> None:
        """In a forked child, close its copies, and nothing else: what is let go of is written to, and so copied."""
        for fd in (self._epoll.fileno(), *(end.fileno() for end in (self._ready, self._woken, self._waker))):
            os.close(fd)

    def close(self) -> None:
        """Let go of the descriptors."""
        self._calls.clear()
        self._timers.clear()
        self._epoll.close()
        for end in (self._ready, self._woken, self._waker):
            end.close()
