"""What the four models have in common: how they start, stop and end."""

from __future__ import annotations

import gc
import signal
import sys
from _socket import AF_UNIX, IPPROTO_TCP, TCP_INFO, socketpair
from abc import ABC, abstractmethod
from collections.abc import Callable

from hornpipe import wait
from hornpipe._native.brood import Name
from hornpipe._native.shared import Numbers
from hornpipe.fd import flush_printed
from hornpipe.server import counts
from hornpipe.server.counts import BEGUN, REFUSED
from hornpipe.server.journal import INFO, WARNING, Journal
from hornpipe.server.loop import Loop
from hornpipe.server.service import Service
from hornpipe.sockets import Listener

_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.01, 1.0
"""Seconds for which nobody is taken in when the system has no room."""
_LOOK = 0.01
"""Seconds between looks whether somebody still waits to be taken in, before the end."""
_WARM = 20
"""More often than it takes until the interpreter has adapted its code."""
_MOST_QUEUED = 4096
"""The longest queue of clients that is served before an end."""


class Model(ABC):
    """How clients are served."""

    def __init__(self, loop: Loop, listener: Listener, service: Service) -> None:
        self.loop = loop
        self.listener = listener
        listener.bound(service.limits.idle_timeout)
        self.service = service
        self.log = service.log
        self.numbers = service.numbers
        self._frozen = False

    in_this_thread = False
    """Whether handlers run in the thread that the loop has."""

    def hurry(self, seconds: float) -> None:
        """From a signal handler, while a client is served in this thread: give it so many seconds."""
        return

    @abstractmethod
    def begin(self) -> None:
        """Serve from now on."""

    def restart(self) -> bool:
        """Renew what lives longer than a client, if there is anything of the kind; false while that is under way."""
        return True

    renewed: Callable[[], object]
    """To be called when a renewal that was under way is over."""

    @abstractmethod
    def stop(self) -> None:
        """Take in who has been waiting, and nobody else."""

    @abstractmethod
    def end(self) -> None:
        """End those who are still being served."""

    @abstractmethod
    def over(self) -> bool:
        """Whether nobody is served any more."""

    def close(self) -> None:
        """Let go of what it holds."""
        self.listener.close()
        if self._frozen:
            gc.unfreeze()

    def prepare_to_fork(self) -> None:
        """So that children copy little of what they share with us."""
        self._warm_up()
        # Else each child's collector would look at all of it, and so copy it. What is garbage already is frozen as
        # well: to collect it first takes 0.1 s in a large process, in which no signal would be handled.
        gc.freeze()
        self._frozen = True

    def _warm_up(self) -> None:
        """Go the way of a client a few times, before there are any.

        The first time the loader looks symbols up, and the interpreter fills its caches and rewrites its
        code: in each child anew, with a page copied for each, this took longer than all the rest.
        """
        speaks = not self.listener.encrypts  # else it would wait for a handshake
        served = self.service
        self.service = Service(
            lambda client: speaks and client.write("\n"),
            served.limits,
            Numbers(counts.FIELDS),
            Journal(None, mute=True),
        )
        # What a signal's handler raises is not for lived() to deal with, nor a child's end.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            for _ in range(_WARM):
                one, other = socketpair()
                lived(self.attend_taken, self.listener.descriptors[0], one.detach(), Name())
                other.close()
        finally:
            self.service = served
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def attend_taken(self, fd: int, taken: int, name: Name) -> bool:
        """Serve a client that was taken in natively at one of the listener's descriptors."""
        return self.service.attend(self.listener.connection(fd, taken, name))

    def step(self) -> None:
        """Wait for what comes first, and do it."""
        self.loop.step()

    def refused(self, who: str) -> None:
        """A client has been turned away."""
        self.numbers.add(REFUSED, 1)
        self.log.say(INFO, "%s: turned away, there are %s from there", who, self.service.limits.max_per_address)

    def refuse_from(self, taken_in: int) -> None:
        """Listen no more once so many have been taken in, or nobody waits (gotcha:SRV3).

        Those who serve until the end hold the sockets as well: whoever connected to them would wait for nothing.
        """
        if self.listener.closed:
            return
        enough = self.numbers[BEGUN] + self.numbers[REFUSED] >= taken_in
        if not enough and any(wait.one(fd, wait.READ, 0) for fd in self.listener.descriptors):
            self.loop.soon(_LOOK, lambda: self.refuse_from(taken_in))
        else:
            self.listener.refuse()

    def last_queue(self) -> dict[int, int]:
        """How many wait at each socket, which is closed to all others once they have been taken in."""
        left = {fd: queued(self.listener, fd) for fd in self.listener.descriptors}
        self.refuse_from(self.numbers[BEGUN] + self.numbers[REFUSED] + sum(left.values()))
        return left

    def ready(self) -> bool:
        """Whether it serves."""
        return True

    @property
    def workers(self) -> list[int]:
        """The processes that serve now."""
        return []


class Pauses:
    """How long nobody is taken in when the system has no room: ever longer, and the log says so once (gotcha:SRV1)."""

    def __init__(self, log: Journal) -> None:
        self._log = log
        self._pause = _SHORTEST_PAUSE

    def next(self, reason: str) -> float:
        """Seconds until the next try."""
        if self._pause == _SHORTEST_PAUSE:
            self._log.say(WARNING, "no room for more clients, who wait meanwhile: %s", reason)
        pause, self._pause = self._pause, min(2 * self._pause, _LONGEST_PAUSE)
        return pause

    def over(self) -> None:
        """There is room again."""
        self._pause = _SHORTEST_PAUSE


def queued(listener: Listener, fd: int) -> int:
    """How many wait to be taken in: what the kernel tells for TCP, a bound for Unix names."""
    calls = listener.calls(fd)
    if calls.family == AF_UNIX:
        return _MOST_QUEUED
    # struct tcp_info (linux/tcp.h): 8 bytes, then rto, ato, snd_mss, rcv_mss, unacked, which is the queue's
    # length for a socket that listens.
    info = calls.getsockopt(IPPROTO_TCP, TCP_INFO, 104)
    return int.from_bytes(info[24:28], sys.byteorder)


def lived(life: Callable[..., object], *facts: object) -> int:
    """A forked child's life: the status that it ends with. It never walks on into the parent's frames."""
    try:
        status = int(life(*facts) is False)
        try:
            sys.stdout.flush()
            sys.stderr.flush()
        except (OSError, ValueError, AttributeError):
            pass  # as flush_printed(), in whose frames it would cost a child four pages
        return status
    except SystemExit as error:
        flush_printed()
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:  # noqa: BLE001 (see above)
        sys.excepthook(*sys.exc_info())
        return 1
