"""A thread for each client, out of a pool that grows with them."""

from __future__ import annotations

import errno
import threading

from hornpipe import wait
from hornpipe._native.wait import now
from hornpipe.deadline import NEVER, after
from hornpipe.fd import pipe
from hornpipe.server import counts
from hornpipe.server.journal import WARNING
from hornpipe.server.loop import Loop
from hornpipe.server.model import Model, Pauses
from hornpipe.server.service import Service, address_key
from hornpipe.sockets import Connection, Listener

_SPARE = 8
"""Threads that stay when they have nothing to do."""
_LATE = 1.0
"""Seconds after its time was over at which a client is cut off whose handler has not seen to it."""
_AFTER_CUT = 0.2
"""Seconds given to a handler whose connection was cut to notice."""


class Threaded(Model):
    """One thread waits for clients, and serves the next one itself, while another takes its place.

    So a client is never handed from thread to thread. A thread cannot be killed: a handler whose time is
    over finds its connection cut.
    """

    def __init__(self, loop: Loop, listener: Listener, service: Service) -> None:
        super().__init__(loop, listener, service)
        self._leading = threading.Lock()
        self._changing = threading.Lock()
        self._idle = 0
        self._threads: set[threading.Thread] = set()
        self._serving: dict[Connection[str], tuple[int, int]] = {}
        self._per_address: dict[int, int] = {}
        self._stopping, self._stop = pipe()
        self._left: dict[int, int] | None = None
        self._over = False
        self._pauses = Pauses(service.log)

    def begin(self) -> None:
        """Serve from now on."""
        self._hire()
        if self.service.limits.per_client_timeout is not None:
            self.loop.soon(_LATE, self._look)

    def stop(self) -> None:
        """Take in who has been waiting, and nobody else."""
        self._left = self.last_queue()
        self._stop.close()

    def over(self) -> bool:
        """Whether nobody is served any more."""
        return self._over and not self._threads

    def end(self) -> None:
        """End those who are still being served."""
        self._left = {}
        self._stop.close()
        for connection in list(self._serving):
            connection.latest.cut()
        self.loop.soon(_AFTER_CUT, self._abandon)

    def close(self) -> None:
        """Let go of what it holds."""
        super().close()
        self._stop.close()
        if not self._threads:
            self._stopping.close()

    def _abandon(self) -> None:
        if self._serving:
            names = ", ".join(sorted(connection.name for connection in list(self._serving)))
            self.log.say(WARNING, "handlers that cannot be ended are left to themselves: %s", names)
        self._threads.clear()
        self._over = True
        self.listener.close()

    def _hire(self) -> None:
        """One more thread; the lock that guards them is held, or they have not begun."""
        thread = threading.Thread(target=self._work, name="hornpipe-server", daemon=True)
        self._threads.add(thread)
        self._idle += 1
        try:
            thread.start()
        except BaseException:
            # Counted as idle it would be taken for somebody who takes over.
            self._threads.discard(thread)
            self._idle -= 1
            raise

    def _work(self) -> None:
        try:
            while True:
                with self._leading:
                    connection = self._next()
                    if connection is None:
                        return
                    if not self._begin(connection):
                        continue
                self.service.attend(connection)
                if not self._go_on(connection):
                    return
        finally:
            with self._changing:
                self._threads.discard(threading.current_thread())
                if not self._threads:
                    self._finish()

    def _finish(self) -> None:
        def finish() -> None:
            self._over = True
            self.listener.close()

        self.loop.ask(finish)

    def _next(self) -> Connection[str] | None:
        """Wait for a client; ``None`` when there will not be any."""
        while True:
            if self._left is not None:
                return self._next_left()
            fds = self.listener.descriptors
            ready = wait.until([(fd, wait.READ) for fd in (*fds, self._stopping.fileno())], NEVER)
            for fd, _ in ready:
                if fd == self._stopping.fileno():
                    break
                try:
                    connection = self.listener.take(fd)
                except OSError as error:
                    if error.errno == errno.EINVAL:
                        return None
                    self._wait_for_room(error)
                    break
                if connection is not None:
                    self._pauses.over()
                    return connection

    def _next_left(self) -> Connection[str] | None:
        left = self._left
        assert left is not None
        for fd in list(left):
            if left[fd] > 0:
                left[fd] -= 1
                try:
                    connection = self.listener.take(fd)
                except OSError as error:
                    if error.errno != errno.EINVAL:  # it listens no more
                        raise
                    connection = None
                if connection is not None:
                    return connection
            left.pop(fd, None)
        return None

    def _wait_for_room(self, error: OSError) -> None:
        pause = self._pauses.next(error.strerror or str(error))
        wait.one(self._stopping.fileno(), wait.READ, after(pause))

    def _begin(self, connection: Connection[str]) -> bool:
        """Count it, and see that somebody takes our place; false when it is turned away."""
        limits = self.service.limits
        key = 0
        with self._changing:
            if limits.max_per_address is not None:
                key = address_key(connection)
                if self._per_address.get(key, 0) >= limits.max_per_address:
                    self.refused(connection.name)
                    connection.close()
                    return False
                self._per_address[key] = self._per_address.get(key, 0) + 1
            self.numbers.add(counts.BEGUN, 1)
            limit = limits.per_client_timeout
            self._serving[connection] = key, NEVER if limit is None else after(limit + _LATE)
            self._idle -= 1
            if not self._idle and len(self._threads) < limits.max_clients:
                try:
                    self._hire()
                except RuntimeError as error:  # can't start new thread: whoever is free next takes over
                    self.log.say(WARNING, "no room for more threads: %s", error)
        return True

    def _go_on(self, connection: Connection[str]) -> bool:
        """It is over; whether this thread is still wanted."""
        self.numbers.add(counts.ENDED, 1)
        with self._changing:
            key, _ = self._serving.pop(connection)
            if key:
                left = self._per_address.pop(key) - 1
                if left:
                    self._per_address[key] = left
            if self._idle >= _SPARE:
                return False
            self._idle += 1
            return True

    def _look(self) -> None:
        """Cut off those whose time is over."""
        time = now()
        for connection, (_, deadline) in list(self._serving.items()):
            if deadline != NEVER and time > deadline:
                connection.latest.cut()
        self.loop.soon(_LATE, self._look)
