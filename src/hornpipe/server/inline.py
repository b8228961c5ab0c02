"""One client after the other, in the program's own thread: the page's iterative server (perlipc:N4)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

from hornpipe.alarms import alarm
from hornpipe.server import counts
from hornpipe.server.journal import WARNING
from hornpipe.server.loop import Loop
from hornpipe.server.model import Model, Pauses, queued
from hornpipe.server.service import Service
from hornpipe.sockets import Connection, Listener

LATE = 1.0
"""Seconds after its time was over at which a handler is interrupted that has not seen to it by itself."""
_AT_ONCE = 16
"""Clients taken in before anything else has its turn."""


class Inline(Model):
    """The others wait in the queue."""

    def __init__(self, loop: Loop, listener: Listener, service: Service) -> None:
        super().__init__(loop, listener, service)
        self._door = Door(self, self._admit)
        self._bounds: ExitStack | None = None

    def begin(self) -> None:
        """Serve from now on."""
        self._door.open()

    def stop(self) -> None:
        """Take in who has been waiting, and nobody else."""
        self._door.close()

    def over(self) -> bool:
        """Whether nobody is served any more."""
        return self._door.closed or self.listener.closed

    def end(self) -> None:
        """End those who are still being served."""
        self.listener.close()

    in_this_thread = True

    def hurry(self, seconds: float) -> None:
        """From a signal handler, while a client is served: interrupt its handler after so many seconds."""
        if self._bounds is not None:
            self._bounds.enter_context(alarm(seconds))

    def _admit(self, connection: Connection[str]) -> None:
        self.numbers.add(counts.BEGUN, 1)
        limit = self.service.limits.per_client_timeout
        try:
            with ExitStack() as self._bounds:
                if limit is not None:
                    self._bounds.enter_context(alarm(limit + LATE))
                self.service.attend(connection)
        except TimeoutError:
            self.numbers.add(counts.TIMED_OUT, 1)
            self.log.say(WARNING, "%s: its time was over, and its handler was interrupted", connection.name)
        finally:
            self._bounds = None
            self.numbers.add(counts.ENDED, 1)


class Door:
    """Where clients come in one by one, as long as there is room (gotcha:SRV1).

    With no descriptor left the listener stays readable, so it is not looked at for a while.
    """

    def __init__(self, model: Model, admit: Callable[[Connection[str]], object]) -> None:
        self._model = model
        self._admit = admit
        self._pauses = Pauses(model.log)
        self._open = False
        self._left: dict[int, int] | None = None
        """How many are still to be taken in at each descriptor, before the end."""

    def open(self) -> None:
        """Take clients in."""
        if not self._open and not self._model.listener.closed:
            self._open = True
            for fd in self._fds():
                self._model.loop.watch(fd, lambda fd=fd: self._ready(fd))  # type: ignore[misc]

    def _fds(self) -> list[int]:
        return list(self._left) if self._left is not None else self._model.listener.descriptors

    def shut(self) -> None:
        """Let them wait outside."""
        if self._open:
            self._open = False
            for fd in self._fds():
                self._model.loop.forget(fd)

    def close(self) -> None:
        """Take in those who are waiting already, then nobody (gotcha:SRV3: closing would reset them)."""
        self._left = {fd: queued(self._model.listener, fd) for fd in self._model.listener.descriptors}
        for fd in list(self._left):
            self._ready(fd)

    @property
    def closed(self) -> bool:
        """Whether nobody will come in any more."""
        return self._left is not None and not self._left

    def _ready(self, fd: int) -> None:
        for _ in range(_AT_ONCE):
            if self._left is not None and not self._left.get(fd):
                self._finish(fd)
                return
            try:
                connection = self._model.listener.take(fd)
            except OSError as error:
                self.shut()
                self._model.loop.soon(self._pauses.next(error.strerror or str(error)), self.open)
                return
            if connection is None:
                if self._left is not None:
                    self._finish(fd)
                return
            if self._left is not None:
                self._left[fd] -= 1
            self._pauses.over()
            self._admit(connection)
            if not self._open:
                return

    def _finish(self, fd: int) -> None:
        assert self._left is not None
        if self._open:
            self._model.loop.forget(fd)
        self._left.pop(fd, None)
        if not self._left:
            self._model.listener.close()
