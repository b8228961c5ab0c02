"""A process for each client (perlipc:N5)."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable
from functools import partial

from hornpipe import wait
from hornpipe._native import brood as _brood
from hornpipe._native import spawn as _spawn
from hornpipe.deadline import NEVER, after, passed, sooner
from hornpipe.fd import Descriptor, above_stdio, flush_printed
from hornpipe.server import counts
from hornpipe.server.journal import ERROR, WARNING
from hornpipe.server.loop import Loop
from hornpipe.server.model import Model, Pauses, lived, queued
from hornpipe.server.service import Service
from hornpipe.sockets import Connection, Listener
from hornpipe.status import ExitStatus

LATE = 1.0
"""Seconds after its time was over at which a client's process is ended that has not seen to it by itself."""
DOORS = 64
"""Sockets that a brood can listen at."""
_BLIND = 0.05
"""Seconds between looks at children that have no pidfd."""
AFTER_TERM = 0.5
"""Seconds between TERM and KILL for a program whose end has come."""


class Forked(Model):
    """The parent takes clients in, a child serves each, and is reaped by its own number (perlipc:S10).

    The native brood does all of it for as long as nothing is out of the ordinary; Python hears of the rest.
    """

    def __init__(self, loop: Loop, listener: Listener, service: Service) -> None:
        super().__init__(loop, listener, service)
        limits = service.limits
        pidfds = _spawn.use_pidfd(True)
        _spawn.use_pidfd(pidfds)
        self._brood = _brood.Brood(
            listener.descriptors,
            limits.max_clients,
            limits.max_per_address or 0,
            service.numbers,
            counts.BEGUN,
            counts.ENDED,
            pidfds,
        )
        self._brood.beside(loop.fileno())
        self._pauses = Pauses(service.log)
        self._stopping = self._ending = False
        self._places: list[Descriptor | Connection[str]] = []

    def begin(self) -> None:
        """Serve from now on."""
        self.make_ahead()
        self.prepare_to_fork()
        self._brood.open()

    def make_ahead(self) -> None:
        """What each child would have to make first: its client is always at the same number, so all is known.

        Made in the child, a connection cost it thirty page faults, of some two hundred.
        """
        lives: list[Callable[[], int]] = []
        numbers = []
        for fd in self.listener.descriptors:
            number = above_stdio(os.dup(self._brood.fileno()))  # of no other use here than to be taken
            numbers.append(number)
            if self.listener.encrypts:  # keys are made by those whose they are
                self._places.append(Descriptor(number))
                lives.append(partial(lived, self.attend_taken, fd, number, self._brood.name))
            else:
                connection = self.listener.connection(fd, number, self._brood.name)
                self._places.append(connection)
                lives.append(partial(lived, self.service.attend, connection))
        self._brood.fork_for_each(lives, numbers)

    def stop(self) -> None:
        """Take in who has been waiting, and nobody else."""
        self._stopping = True
        self._brood.drain([queued(self.listener, fd) for fd in self.listener.descriptors])

    def over(self) -> bool:
        """Whether nobody is served any more."""
        return self._brood.drained and not len(self._brood)

    def end(self) -> None:
        """End those who are still being served."""
        self._stopping = self._ending = True
        self._brood.drain([0] * DOORS)
        for place, pid in self._brood.everyone():
            self._end(place, pid)

    def _end(self, place: int, pid: int) -> None:
        self._brood.kill(place, pid, signal.SIGKILL)

    def close(self) -> None:
        """Let go of what it holds."""
        super().close()
        for place in self._places:
            place.leave() if isinstance(place, Connection) else place.close()
        self._brood.close()

    @property
    def workers(self) -> list[int]:
        """The processes that serve now."""
        return [pid for _, pid in self._brood.everyone()]

    def step(self) -> None:
        """Wait for what comes first, and do it."""
        flush_printed()
        if self._stopping and self._brood.drained:
            self.listener.close()
        deadline = sooner(self.loop.deadline, self._first_to_expire())
        what = self._brood.run(deadline)
        if what == _brood.TIME:
            wait.one(
                self._brood.fileno(), wait.READ, sooner(deadline, after(_BLIND)) if self._brood.blind else deadline
            )
        elif what == _brood.TAKEN:
            self._taken_in()
        elif what == _brood.NO_ROOM:
            self._no_room()
        elif what == _brood.REFUSED:
            self.refused(str(self._brood.client_name()()))
        elif what == _brood.ENDED:
            self._judge(self._brood.pid, self._brood.status, self._brood.killed)
        self._expire()
        if what == _brood.OTHER or passed(self.loop.deadline):
            self.loop.step(look_only=True)

    def _no_room(self) -> None:
        error = self._brood.error
        self._brood.shut()
        # One that fork(2) has failed for has been taken in already, and waits here for its process.
        pause = self._pauses.next(os.strerror(error))
        self.loop.soon(pause, self._again if error == errno.EAGAIN else self._brood.open)

    def _again(self) -> None:
        if self._brood.again() == _brood.NO_ROOM:
            self._no_room()
        else:
            self._brood.open()

    def _first_to_expire(self) -> int:
        limit = self.service.limits.per_client_timeout
        oldest = self._brood.oldest() if limit is not None else None
        return NEVER if oldest is None or limit is None else oldest[1] + int((limit + LATE) * 1e9)

    def _expire(self) -> None:
        """End whose time is over: its own calls have ended at its limit, so it is not in any of them."""
        while passed(self._first_to_expire()):
            oldest = self._brood.oldest()
            assert oldest is not None
            self._end(oldest[0], dict(self._brood.everyone())[oldest[0]])

    def _judge(self, pid: int, raw: int, killed: bool) -> None:
        """What the child could not say itself."""
        status = ExitStatus(raw if raw >= 0 else None, "" if raw >= 0 else "somebody else has taken its status")
        if killed and self._ending:
            self.log.say(WARNING, "process %d was ended while it served a client", pid)
        elif killed:
            self.numbers.add(counts.TIMED_OUT, 1)
            self.log.say(WARNING, "process %d did not end its client in time, and was killed", pid)
        elif raw > 0:
            self._failed(pid, status)
        self._pauses.over()

    def _failed(self, pid: int, status: ExitStatus) -> None:
        if status.signal is not None:
            self.numbers.add(counts.FAILED, 1)
            self.log.say(ERROR, "process %d, which served a client, %s", pid, status)

    def _taken_in(self) -> None:
        raise NotImplementedError
