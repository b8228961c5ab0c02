"""One client after the other, in the program's own thread: the page's iterative server (perlipc:N4)."""

from __future__ import annotations

from contextlib import ExitStack

from hornpipe.alarms import alarm
from hornpipe.server import counts
from hornpipe.server.journal import WARNING
from hornpipe.server.loop import Loop
from hornpipe.server.model import Door, Model
from hornpipe.server.service import Service
from hornpipe.sockets import Connection, Listener

LATE = 1.0
"""Seconds after its time was over at which a handler is interrupted that has not seen to it by itself."""


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
