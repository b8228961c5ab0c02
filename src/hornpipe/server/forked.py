"""A process for each client (perlipc:N5)."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

from hornpipe import spawn
from hornpipe._native.wait import now
from hornpipe.deadline import after
from hornpipe.errors import SpawnError
from hornpipe.reaper import Child
from hornpipe.server import counts
from hornpipe.server.loop import Loop, Timer
from hornpipe.server.model import Door, Model
from hornpipe.server.service import Service, address_key
from hornpipe.sockets import Connection, Listener
from hornpipe.spawn.recipe import Recipe
from hornpipe.status import ExitStatus

LATE = 1.0
"""Seconds after its time was over at which a client's process is ended that has not seen to it by itself."""
AFTER_TERM = 0.5
"""Seconds between TERM and KILL for a program whose end has come."""
LOOK_WITHOUT_PIDFD = 0.05


class Client:
    """One client and the process that serves it."""

    __slots__ = ("begun", "child", "expired", "key", "name", "timer")

    def __init__(self, child: Child, name: str, key: int) -> None:
        self.child = child
        self.name = name
        self.key = key
        self.begun = now()
        self.timer: Timer | None = None
        self.expired = False


class Forked(Model):
    """The parent takes clients in, a child serves each, and is reaped by its own number (perlipc:S10)."""

    def __init__(self, loop: Loop, listener: Listener, service: Service, leave: Callable[[], object]) -> None:
        super().__init__(loop, listener, service)
        self._leave = leave
        self._door = Door(self, self._admit)
        self._clients: dict[int, Client] = {}
        self._per_address: dict[int, int] = {}
        self._recipe = Recipe("a client's process", ())
        self._mask: set[int] = set()
        self._looking = False

    def begin(self) -> None:
        """Serve from now on."""
        self._mask = {int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, ())}
        self._door.open()

    def stop(self) -> None:
        """Take in who has been waiting, and nobody else."""
        self._door.close()

    def over(self) -> bool:
        """Whether nobody is served any more."""
        return self._door.closed and not self._clients

    def end(self) -> None:
        """End those who are still being served."""
        self.listener.close()
        for client in list(self._clients.values()):
            self._end(client)

    def _end(self, client: Client) -> None:
        _signal(client.child, signal.SIGKILL)

    @property
    def workers(self) -> list[int]:
        """The processes that serve now."""
        return list(self._clients)

    def _admit(self, connection: Connection[str]) -> None:
        key = 0
        limit = self.service.limits.max_per_address
        if limit is not None:
            key = address_key(connection)
            if self._per_address.get(key, 0) >= limit:
                self.numbers.add(counts.REFUSED, 1)
                self.log.info("%s: refused, it has %d connections already", connection.name, limit)
                connection.close()
                return
        self._start(connection, key)

    def _start(self, connection: Connection[str], key: int) -> None:
        child = Child()
        try:
            self._launch(connection, child)
        except SpawnError as error:
            # The client has been taken in; it waits here for its process until there is room.
            self._door.wait_for_room(error, lambda: self._again(connection, key))
            return
        self.numbers.add(counts.BEGUN, 1)
        client = Client(child, connection.name, key)
        connection.leave()
        self._clients[child.pid] = client
        if key:
            self._per_address[key] = self._per_address.get(key, 0) + 1
        if child.pidfd >= 0:
            self.loop.watch(child.pidfd, lambda: self._ended(client))
        elif not self._looking:
            self._looking = True
            self.loop.soon(LOOK_WITHOUT_PIDFD, self._look)
        self._bound(client)
        if len(self._clients) >= self.service.limits.max_clients:
            self._door.shut()

    def _again(self, connection: Connection[str], key: int) -> None:
        self._start(connection, key)
        if len(self._clients) < self.service.limits.max_clients:
            self._door.open()

    def _bound(self, client: Client) -> None:
        limit = self.service.limits.per_client_timeout
        if limit is not None:
            # Its own calls end at the limit; this is for one that is not in any of them.
            client.timer = self.loop.soon(limit + LATE, lambda: self._expire(client))

    def _expire(self, client: Client) -> None:
        client.expired = True
        self._end(client)

    def _look(self) -> None:
        """Without pidfds: look at each."""
        for client in list(self._clients.values()):
            if client.child.pidfd < 0 and client.child.ended():
                self._ended(client)
        self._looking = bool(self._clients)
        if self._looking:
            self.loop.soon(LOOK_WITHOUT_PIDFD, self._look)

    def _ended(self, client: Client) -> None:
        child = client.child
        status = child.poll()
        if status is None:
            return
        if child.pidfd >= 0:
            self.loop.forget(child.pidfd)
            child.close()
        del self._clients[child.pid]
        if client.timer is not None:
            client.timer.cancel()
        if client.key:
            left = self._per_address.pop(client.key) - 1
            if left:
                self._per_address[client.key] = left
        self.numbers.add(counts.ENDED, 1)
        self._judge(client, status)
        if len(self._clients) < self.service.limits.max_clients:
            self._door.open()

    def _judge(self, client: Client, status: ExitStatus) -> None:
        """What the child could not say itself."""
        if client.expired:
            self.numbers.add(counts.TIMED_OUT, 1)
            self.log.warning("%s: its time was over, and its process was killed", client.name)
        elif status.signal is not None:
            self.numbers.add(counts.FAILED, 1)
            self.log.error("%s: the process that served it %s", client.name, status)

    def _launch(self, connection: Connection[str], child: Child) -> None:
        flush()
        spawn.fork_child(self._recipe, lambda: self._serve(connection), after(0), child)

    def _serve(self, connection: Connection[str]) -> NoReturn:
        """The child's life."""
        status = 70
        try:
            begin_child(self._leave, self._mask)
            status = 0 if self.service.attend(connection) else 1
            flush()
        except SystemExit as error:
            flush()
            status = error.code if isinstance(error.code, int) else int(error.code is not None)
        except BaseException:  # noqa: BLE001 (it must not walk on into the parent's frames)
            sys.excepthook(*sys.exc_info())
            status = 1
        finally:
            os._exit(status)


def begin_child(leave: Callable[[], object], mask: set[int]) -> None:
    """A child's first steps: a group of its own, nothing of the parent's, signals open again."""
    os.setpgid(0, 0)
    leave()
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def flush() -> None:
    """What was printed before the fork is the parent's to write, and what the child printed is its own."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()


def _signal(child: Child, number: int) -> None:
    if not child.signal(number, group=True):
        child.signal(number)  # it has not made its group yet
