"""Workers that live for many clients, and share the listener (gotcha:SRV3, SRV4, SRV5, SRV8)."""

from __future__ import annotations

import errno
import os
import signal

# Those of signal make enums, in each worker.
from _signal import SIG_BLOCK, SIG_SETMASK, pthread_sigmask  # type: ignore[import-not-found]
from collections.abc import Callable
from functools import partial
from typing import NoReturn

from hornpipe import spawn, wait
from hornpipe._native import brood as _brood
from hornpipe._native.shared import Numbers
from hornpipe._native.wait import now
from hornpipe.deadline import NEVER, after
from hornpipe.errors import SpawnError
from hornpipe.fd import Descriptor, flush_printed, nonblocking, pipe
from hornpipe.reaper import Child
from hornpipe.server import counts
from hornpipe.server.forked import LATE
from hornpipe.server.journal import ERROR, WARNING
from hornpipe.server.loop import Loop
from hornpipe.server.model import Model, Pauses, lived
from hornpipe.server.service import Service, address_key
from hornpipe.sockets import Connection, Listener
from hornpipe.spawn.recipe import Recipe

_SLOTS = 1024
"""Workers at once, those of former generations included, which finish with their clients."""
_FIELDS = 4
_SINCE, _KEY, _LEFT, _SERVED = range(_FIELDS)
"""Of each slot: since when it serves a client (0: it does not), whom, how many of the queue it takes in at the end,
how many it has served."""
_KEEPER = _SLOTS * _FIELDS
"""Behind them: which worker sleeps at the door."""
_LIVED = 0.5
"""Seconds after which a worker that dies has not died of its start."""
_FIRST_DELAY, _LONGEST_DELAY = 0.1, 30.0
"""Seconds between tries to replace workers that die at their start."""
_LOOK = 0.25
_BLIND = 0.05
"""Seconds between looks at workers that have no pidfd."""


class Generation:
    """Workers that were started together, and finish together: when their pipe ends."""

    def __init__(self) -> None:
        self.finishing, self.life = pipe()
        self.workers: set[Worker] = set()

    def close(self) -> None:
        """They finish; in a child, let go of the copies."""
        self.finishing.close()
        self.life.close()


class Worker:
    """One of them, as its parent sees it."""

    __slots__ = ("born", "child", "generation", "killed", "ready", "slot")

    def __init__(self, generation: Generation, slot: int) -> None:
        self.child = Child()
        self.generation = generation
        self.slot = slot
        self.born = now()
        self.ready = False
        self.killed = False


class Preforked(Model):
    """The parent watches over its workers, and never touches a client."""

    def __init__(
        self,
        loop: Loop,
        listener: Listener,
        service: Service,
        leave: Callable[[], object],
        count: int,
        max_requests: int | None,
    ) -> None:
        super().__init__(loop, listener, service)
        self._leave = leave
        self._count = count
        self._max_requests = max_requests
        self._slots = Numbers(_SLOTS * _FIELDS + 1)
        self._free = list(range(_SLOTS - 1, -1, -1))
        self._workers: dict[int, Worker] = {}
        self._generations: list[Generation] = []
        self._recipe = Recipe("a worker", ())
        self._mask: set[int] = set()
        self._told, self._telling = pipe()
        nonblocking(self._told.fileno())
        self._stopping = False
        self._again = False
        self._delay = 0.0
        self._waiting = False

    # --- the parent ---

    def begin(self) -> None:
        """Serve from now on."""
        self._mask = pthread_sigmask(SIG_BLOCK, ())
        self.loop.watch(self._told.fileno(), self._hear)
        self.prepare_to_fork()
        self._generations.append(Generation())
        self._fill()
        if self.service.limits.per_client_timeout is not None or self._blind():
            self.loop.soon(_LOOK, self._look)

    @property
    def _newest(self) -> Generation:
        return self._generations[-1]

    @property
    def workers(self) -> list[int]:
        """The processes that serve now."""
        return list(self._workers)

    def _fill(self) -> None:
        """As many workers of the newest generation as there should be."""
        self._waiting = False
        missing = min(self._count - len(self._newest.workers), len(self._free))
        if self._stopping or missing < 1:
            return
        made = [Worker(self._newest, slot) for slot in self._free[-missing:]]
        for worker in made:
            for field in range(_FIELDS):
                self._slots[worker.slot * _FIELDS + field] = 0
        flush_printed()
        try:
            spawn.fork_children(self._recipe, [(partial(self._work, worker), worker.child) for worker in made])
        except SpawnError as error:
            self._slow_down(str(error))
        for worker in made:
            if worker.child.pid:
                self._started(worker)

    def _started(self, worker: Worker) -> None:
        self._free.remove(worker.slot)
        self._workers[worker.child.pid] = worker
        worker.generation.workers.add(worker)
        if worker.child.pidfd >= 0:
            self.loop.watch(worker.child.pidfd, lambda: self._ended(worker))

    def _hear(self) -> None:
        """Workers say that they are ready."""
        try:
            data = os.read(self._told.fileno(), 4096)
        except BlockingIOError:
            return
        ready = {int.from_bytes(data[at : at + 2], "little") for at in range(0, len(data), 2)}
        for worker in self._workers.values():
            if worker.slot in ready:
                worker.ready = True
        if len(self._generations) > 1 and self._all_ready():
            # The new ones are there before the old ones go: at no moment are there fewer (gotcha:SRV8).
            for old in self._generations[:-1]:
                old.close()
            del self._generations[:-1]
            if self._again:
                self._again = False
                self.restart()
            else:
                self.renewed()

    def _all_ready(self) -> bool:
        workers = self._newest.workers
        return len(workers) >= self._count and all(worker.ready for worker in workers)

    def ready(self) -> bool:
        """Whether all are up."""
        return self._all_ready()

    def restart(self) -> bool:
        """Renew what lives longer than a client."""
        if self._stopping:
            return False
        if len(self._generations) > 1 or len(self._free) < self._count:
            self._again = True
            return False
        self._generations.append(Generation())
        self._fill()
        return False

    def _ended(self, worker: Worker) -> None:
        child = worker.child
        status = child.poll()
        if status is None:
            return
        if child.pidfd >= 0:
            self.loop.forget(child.pidfd)
            child.close()
        del self._workers[child.pid]
        worker.generation.workers.discard(worker)
        busy = self._slots[worker.slot * _FIELDS + _SINCE]
        self._slots[worker.slot * _FIELDS + _SINCE] = self._slots[worker.slot * _FIELDS + _KEY] = 0
        self._free.append(worker.slot)
        self._slots[_KEEPER] = 0  # it may have been this one
        if busy:
            self.numbers.add(counts.ENDED, 1)
            self.numbers.add(counts.TIMED_OUT if worker.killed else counts.FAILED, 1)
        if status:
            self._delay = 0.0
        else:
            self.log.say(ERROR, "worker %d %s%s", child.pid, status, " while it served a client" if busy else "")
        if worker.generation is not self._newest or self._stopping:
            if self._again and len(self._generations) == 1:
                self._again = False
                self.restart()
            return
        if status:
            self._fill()
            return
        self.numbers.add(counts.REPLACED, 1)
        served = self._slots[worker.slot * _FIELDS + _SERVED]
        if worker.ready and (served or busy or now() - worker.born > _LIVED * 1e9):
            self._delay = 0.0
            self._fill()
        else:
            self._slow_down(f"the last one {status}")

    def _slow_down(self, reason: str) -> None:
        """Workers die as they start, or cannot be started: try again ever less often, and say so."""
        if self._waiting:
            return
        self._waiting = True
        delay, self._delay = self._delay, min(_LONGEST_DELAY, 2 * self._delay or _FIRST_DELAY)
        if delay:
            self.log.say(ERROR, "workers do not come up (%s); the next try is in %g s", reason, delay)
        self.loop.soon(delay, self._fill)

    def _look(self) -> None:
        """End those whose client's time is over; without pidfds, see who has died."""
        limit = self.service.limits.per_client_timeout
        time = now()
        for worker in list(self._workers.values()):
            since = self._slots[worker.slot * _FIELDS + _SINCE]
            if limit is not None and since and time - since > (limit + LATE) * 1e9 and not worker.killed:
                worker.killed = True
                self.log.say(WARNING, "worker %d has not ended its client in time, and is killed", worker.child.pid)
                worker.child.signal(signal.SIGKILL, group=True)
            if worker.child.pidfd < 0 and worker.child.ended():
                self._ended(worker)
        self.loop.soon(_BLIND if self._blind() else _LOOK, self._look)

    def _blind(self) -> bool:
        return any(worker.child.pidfd < 0 for worker in self._workers.values())

    def stop(self) -> None:
        """Take in who has been waiting, and nobody else."""
        self._stopping = True
        # They take in who waits already: once the last of them has closed the listener, those would be reset.
        left = sum(self.last_queue().values())
        for worker in self._workers.values():
            self._slots[worker.slot * _FIELDS + _LEFT] = left
        for generation in self._generations:
            generation.close()

    def over(self) -> bool:
        """Whether nobody is served any more."""
        return self._stopping and not self._workers

    def end(self) -> None:
        """End those who are still being served."""
        self._stopping = True
        self.listener.close()
        for worker in self._workers.values():
            worker.child.signal(signal.SIGKILL, group=True)

    def close(self) -> None:
        """Let go of what it holds."""
        super().close()
        for generation in self._generations:
            generation.close()
        self._told.close()
        self._telling.close()

    # --- a worker ---

    def _work(self, worker: Worker) -> NoReturn:
        os._exit(lived(self._live, worker))

    def _live(self, worker: Worker) -> None:
        for generation in self._generations:
            generation.life.close()
            if generation is not worker.generation:
                generation.close()
        self._told.close()
        os.setpgid(0, 0)
        self._leave()
        pthread_sigmask(SIG_SETMASK, self._mask)
        os.write(self._telling.fileno(), worker.slot.to_bytes(2, "little"))
        self._serve(worker.slot * _FIELDS, worker.generation.finishing)

    def _serve(self, slot: int, finishing: Descriptor) -> None:
        left = self._max_requests
        door = _brood.Brood(self.listener.descriptors, 1, 0, self.numbers, counts.BEGUN, counts.ENDED, False)
        door.beside(finishing.fileno())
        door.share(self._slots, _KEEPER)
        door.open()
        pauses = Pauses(self.log)
        while left is None or left > 0:
            try:
                what = door.run(NEVER)
            except OSError as error:
                if error.errno == errno.EINVAL:
                    return  # the parent listens no more
                raise
            if what == _brood.TAKEN:
                pauses.over()
                self._attend(slot, self.listener.connection(door.listener, door.taken, door.client_name()))
                if left is not None:
                    left -= 1
            elif what == _brood.TIME:
                wait.one(door.fileno(), wait.READ, NEVER)
            elif what == _brood.NO_ROOM:
                wait.one(finishing.fileno(), wait.READ, after(pauses.next(os.strerror(door.error))))
            else:
                # Told to end, or the parent has gone (gotcha:SRV5).
                self._serve_queue(slot, self._slots[slot + _LEFT])
                return

    def _serve_queue(self, slot: int, left: int) -> None:
        for fd in self.listener.descriptors:
            try:
                while left > 0 and (connection := self.listener.take(fd)) is not None:
                    left -= 1
                    self._attend(slot, connection)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise

    def _attend(self, slot: int, connection: Connection[str]) -> None:
        limit = self.service.limits.max_per_address
        if limit is not None:
            key = self._slots[slot + _KEY] = address_key(connection)
            if sum(self._slots[each + _KEY] == key for each in range(0, _SLOTS * _FIELDS, _FIELDS)) > limit:
                self._slots[slot + _KEY] = 0
                self.refused(connection.name)
                connection.close()
                return
        self.numbers.add(counts.BEGUN, 1)
        self._slots[slot + _SINCE] = now()
        try:
            self.service.attend(connection)
        finally:
            self._slots[slot + _SINCE] = 0
            self._slots[slot + _KEY] = 0
            self._slots.add(slot + _SERVED, 1)
            self.numbers.add(counts.ENDED, 1)
