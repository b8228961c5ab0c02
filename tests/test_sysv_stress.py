"""Eight processes on one queue, one set and one segment, while some of them are killed at whatever they do."""

from __future__ import annotations

import mmap
import os
import random
import signal
import struct
import time
from collections import defaultdict

import pytest

import hornpipe as hp
from hornpipe.sysv import MessageQueue, SemaphoreSet, SharedMemory
from hornpipe.testing.patience import wait_until

WORKERS = 8
SECONDS = 60 if os.environ.get("HORNPIPE_SOAK") else 2
# Of workers, over the whole run; each has a slot in the journal.
MOST = 20_000
PATIENCE = 30

# The semaphores: a lock, two between which pieces move, a pool.
LOCK, LEFT, RIGHT, POOL = range(4)
PIECES, PLACES = 1000, 3
# Written in pieces, slowly enough for some to be killed in the middle.
PAYLOAD, PIECE = 32768, 256

NAME = struct.Struct("=IQ")
"""A message begins with its name: who has sent it, and which of his it is."""


class Journal:
    """What a worker is about to do and what it has done, where KILL cannot take it away: a page that outlives it."""

    FIELDS = ("sending", "sent", "receiving", "received", "writing", "written", "torn", "moved")
    SLOT = struct.Struct(f"={len(FIELDS)}Q")

    def __init__(self, path):
        self.memory = memoryview(mmap.mmap(-1, MOST * self.SLOT.size)).cast("Q")
        self.names = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND)

    def slot(self, worker):
        begin = worker * len(self.FIELDS)
        return self.memory[begin : begin + len(self.FIELDS)]

    def of(self, worker):
        return dict(zip(self.FIELDS, self.slot(worker), strict=True))

    def received(self):
        """The names of all that was received and written down, in no order that means anything."""
        size = os.fstat(self.names).st_size
        assert size % NAME.size == 0
        return NAME.iter_unpack(os.pread(self.names, size, 0))

    def close(self):
        self.memory.release()
        os.close(self.names)


SENDING, SENT, RECEIVING, RECEIVED, WRITING, WRITTEN, TORN, MOVED = range(len(Journal.FIELDS))


def work(worker, journal, queue, sems, shm):
    """The life of a worker, which only KILL ends. What it finds to be wrong ends it as well, with a traceback."""
    slot, dice = journal.slot(worker), random.Random(worker)
    tasks = (send, receive, write, move, borrow)
    while True:
        dice.choice(tasks)(worker, slot, dice, journal, queue, sems, shm)


def send(worker, slot, dice, journal, queue, sems, shm):
    number = slot[SENT] + 1
    slot[SENDING] = number
    try:
        queue.send(NAME.pack(worker, number) + bytes(dice.randrange(200)), dice.randint(1, 4), timeout=0.02)
    except TimeoutError:
        return  # not sent: the next one has the same number
    slot[SENT] = number


def receive(worker, slot, dice, journal, queue, sems, shm):
    chosen = dice.choice([{}, {"type": dice.randint(1, 4)}, {"type": -2}, {"except_type": 1}])
    slot[RECEIVING] = slot[RECEIVED] + 1
    try:
        message = queue.receive(timeout=0.02, **chosen)
    except TimeoutError:
        slot[RECEIVING] = slot[RECEIVED]
        return
    os.write(journal.names, message.data[: NAME.size])
    slot[RECEIVED] = slot[RECEIVING]


def write(worker, slot, dice, journal, queue, sems, shm):
    """A record that begins and ends with the same number, and is one byte over and over between."""
    with sems[LOCK]:
        begin, pid = struct.unpack("=QI", shm.read(0, 12))
        payload = shm.read(12, PAYLOAD)
        (end,) = struct.unpack("=Q", shm.read(12 + PAYLOAD, 8))
        if begin != end or payload != bytes([begin % 256]) * PAYLOAD:
            # Half a record. Nobody but we is in here, so whoever wrote it was killed in here. The kernel gives back
            # what a process had taken a moment before it lets it be seen to be dead.
            wait_until(
                lambda: not hp.alive(pid), PATIENCE, f"the end of {pid}: its record is torn, or two had the lock"
            )
            slot[TORN] += 1
        number = begin + 1
        slot[WRITING] += 1
        shm.write(struct.pack("=QI", number, os.getpid()))
        for part in range(0, PAYLOAD, PIECE):
            shm.write(bytes([number % 256]) * PIECE, 12 + part)
        shm.write(struct.pack("=Q", number), 12 + PAYLOAD)
        slot[WRITTEN] += 1


def move(worker, slot, dice, journal, queue, sems, shm):
    """Some from one semaphore to the other, in one step: none is ever under way."""
    one, other = dice.sample((LEFT, RIGHT), 2)
    count = dice.randint(1, 5)
    try:
        sems.op([(one, -count), (other, count)], timeout=0.01)
    except TimeoutError:
        return
    slot[MOVED] += 1


def borrow(worker, slot, dice, journal, queue, sems, shm):
    try:
        sems[POOL].acquire(timeout=0.01, undo=True)
    except TimeoutError:
        return
    assert sems[POOL].value < PLACES
    sems[POOL].release(undo=True)


def kill(running, victim):
    process = running.pop(victim)
    process.kill("KILL")
    status = process.wait(timeout=PATIENCE)
    assert status.signal == signal.SIGKILL, f"worker {victim} {status} by itself"


def storm(journal, queue, sems, shm):
    """Keep eight at work and kill one now and then; how many there were."""

    def worker(number):
        child = hp.fn(work, number, journal, queue, sems, shm)
        return child.with_options(check=False, pass_fds=[journal.names])

    dice = random.Random(os.getpid())
    running = {}
    started = 0
    end = time.monotonic() + SECONDS
    try:
        while time.monotonic() < end:
            while len(running) < WORKERS:
                running[started] = worker(started).start()
                started += 1
            time.sleep(dice.uniform(0, 0.03))
            kill(running, dice.choice(list(running)))
    finally:
        while running:
            kill(running, next(iter(running)))
    return started


@pytest.mark.soak
def test_what_is_lost_is_what_the_killed_had_in_their_hands(tmp_path):
    """perlipc:V2, perlipc:V3, perlipc:V4, gotcha:Y2, gotcha:Y3: one message at most for each who was killed."""
    journal = Journal(tmp_path / "journal")
    with (
        MessageQueue.create() as queue,
        SemaphoreSet.create([1, PIECES, 0, PLACES]) as sems,
        SharedMemory.create(PAYLOAD + 20) as shm,
    ):
        ids = queue.id, sems.id, shm.id
        workers = storm(journal, queue, sems, shm)
        took = [journal.of(worker) for worker in range(workers)]

        # Messages: what was received and written down, or is still there.
        seen = defaultdict(lambda: defaultdict(int))
        for worker, number in journal.received():
            seen[worker][number] += 1
        left = queue.stat().messages
        for _ in range(left):
            worker, number = NAME.unpack_from(queue.receive(timeout=0).data)
            seen[worker][number] += 1
        assert queue.stat().messages == 0
        twice = [(worker, number) for worker in seen for number, times in seen[worker].items() if times > 1]
        assert twice == []
        missing = []
        for worker in range(workers):
            sent = took[worker]["sent"]
            missing += [(worker, number) for number in range(1, sent + 1) if number not in seen[worker]]
            # The one it was killed over is there or not; none was never sent.
            assert max(seen[worker], default=0) <= max(sent, took[worker]["sending"])
        hands = [worker for worker in range(workers) if took[worker]["receiving"] != took[worker]["received"]]
        assert len(missing) <= len(hands), f"{len(missing)} are missing, {len(hands)} were killed while they received"

        # Semaphores: given back by the kernel, and moved whole.
        lock, one, other, pool = sems.values
        assert (lock, one + other, pool) == (1, PIECES, PLACES)
        assert [sem.waiting + sem.waiting_for_zero for sem in sems] == [0] * 4

        # Records: each that was begun has a number of its own.
        (begin,) = struct.unpack("=Q", shm.read(0, 8))
        written, writing = sum(each["written"] for each in took), sum(each["writing"] for each in took)
        assert written <= begin <= writing
        torn = sum(each["torn"] for each in took)
        assert torn <= writing - written
    journal.close()
    total = sum(each["sent"] for each in took)
    moved = sum(each["moved"] for each in took)
    assert min(total, written, moved) > 0
    print(
        f"{workers} workers killed in {SECONDS} s; {total} messages, {len(hands)} killed while receiving, "
        f"{len(missing)} lost with them, {left} left; {written} records, {torn} torn; {moved} moves"
    )
    gone = {each.id for each in hp.sysv.queues()}, {each.id for each in hp.sysv.semaphore_sets()}
    assert ids[0] not in gone[0]
    assert ids[1] not in gone[1]
    assert ids[2] not in {each.id for each in hp.sysv.segments()}
