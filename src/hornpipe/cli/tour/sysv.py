"""System V objects: memory, semaphores and messages that unrelated programs share."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

import hornpipe as hp
from hornpipe.cli.tour.judging import PATIENCE, Judge, row
from hornpipe.cli.tour.looking import SLACK

_LIMIT = 0.3
"""Seconds that rows give to what does not come."""
_RACERS = 12
_UNDO = 0o10000
"""Perl's core has no word for SEM_UNDO."""


@row("perl")
def shared_memory(judge: Judge) -> str:
    """The same bytes in a Perl program and here: shmread and shmwrite.

    Breaks with a ``perl`` that writes something else, or nothing.
    """
    program = "shmread($ARGV[0], $got, 0, 16) or die; shmwrite($ARGV[0], scalar reverse($got), 16, 20) or die; print $$"
    with hp.sysv.SharedMemory.create(2000) as shm:
        shm.write(b"Message #1", size=16)
        pid = _perl(program, shm.id)
        judge.same(shm.read(16, 20), b"\0" * 6 + b"1# egasseM" + b"\0" * 4, "what Perl wrote")
        judge.same(str(shm.stat().last_pid), pid, "who had it last")
        return f"we: {shm.read(0, 10).decode()!r}; Perl, pid {pid}: {bytes(shm.buf[22:32]).decode()!r}"


@row("perl")
def semaphores(judge: Judge) -> str:
    """Wait for zero and add one, in one step: the page's take and give.

    Breaks with a ``perl`` that does not wait.
    """
    take = 'print "taking\n"; semop($ARGV[0], pack("s!6", 0, 0, 0, 0, 1, 0)) or die; print "taken\n"'
    with hp.sysv.SemaphoreSet.create([0] * 10) as sems:
        sems.op([(0, 0), (0, +1)], timeout=PATIENCE)
        with hp.cmd("perl", "-e", f"$| = 1; {take}", str(sems.id), timeout=PATIENCE).duplex() as other:
            judge.same(other.readline(), "taking\n", "what Perl says")
            _until(lambda: sems[0].waiting_for_zero == 1)
            judge.same(sems[0].waiting_for_zero, 1, "how many wait")
            sems.op([(0, -1)])
            judge.same(other.readline(), "taken\n", "what Perl says then")
            judge.same(sems[0].pid, other.pid, "who touched it last")
        judge.same(sems.values, [1] + [0] * 9, "the values")
        return f"Perl waited until we gave, then took: {sems.values[:3]}"


@row("perl")
def given_back(judge: Judge) -> str:
    """Who is killed gives back what he had taken: SEM_UNDO.

    Breaks with a ``perl`` that takes nothing.
    """
    hold = f'semop($ARGV[0], pack("s!3", 0, -1, {_UNDO})) or die; print "held\n"; <STDIN>'
    with hp.sysv.SemaphoreSet.create([1]) as sems:
        with hp.cmd("perl", "-e", f"$| = 1; {hold}", str(sems.id), check=False, timeout=PATIENCE).duplex() as holder:
            judge.same(holder.readline(), "held\n", "what the holder says")
            with judge.raised(TimeoutError):
                sems[0].acquire(timeout=0)
            hp.kill("KILL", holder.pid)
            sems[0].acquire(timeout=PATIENCE)
        judge.same(str(holder.status), "killed by KILL", "its end")
        return f"pid {holder.pid} had it, was {holder.status}: we have it"


@row()
def made_once(judge: Judge) -> str:
    """Many race to make one set: one does, and nobody sees it without its values.

    Breaks when it is made, and given its values afterwards.
    """
    key = hp.sysv.key_for(f"hornpipe tour {time.monotonic_ns()}")
    starter = hp.sysv.SemaphoreSet.create([0])
    with starter, _removed_after(key), contextlib.ExitStack() as stack:
        race = hp.fn(_race, starter, key).with_options(timeout=PATIENCE)
        racers = [stack.enter_context(race.start()) for _ in range(_RACERS)]
        starter[0].release(_RACERS)
        judge.same([racer.wait().code for racer in racers], [0] * _RACERS, "how they fared")
        sems = hp.sysv.SemaphoreSet.open(key)
        judge.same(sems.values, [5, 7 + _RACERS], "the values")
        return f"{_RACERS} processes, one set: 7 and one for each make {sems.values[1]}"


@row("perl")
def messages(judge: Judge) -> str:
    """Messages with types, sent by Perl and taken out by type.

    Breaks with a ``perl`` that sends nothing.
    """
    send = 'msgsnd($ARGV[0], pack("l! a*", $_, "type $_"), 0) or die for 9, 3, 2 ** 40; print $$'
    with hp.sysv.MessageQueue.create() as queue:
        pid = _perl(send, queue.id)
        judge.same(str(queue.stat().last_send_pid), pid, "who sent")
        came = [queue.receive(type=wanted, timeout=0) for wanted in (-5, 2**40, 0)]
    judge.same([message.type for message in came], [3, 2**40, 9], "the types")
    judge.same([message.data for message in came], [f"type {message.type}".encode() for message in came], "the texts")
    return f"lowest up to 5: {came[0].type}; exactly 2^40: {came[1].type}; any: {came[2].type}"


@row("perl")
def shared_variable(judge: Judge) -> str:
    """A variable that several processes add to: what perlipc says cannot be had.

    Breaks with a ``perl`` that adds nothing.
    """
    add = 'shmread($ARGV[0], $n, 0, 8) or die; shmwrite($ARGV[0], pack("q", 1000 + unpack("q", $n)), 0, 8) or die'
    with hp.sysv.SharedMemory.create(64) as shm, hp.sysv.SemaphoreSet.create([1]) as sems:
        total = hp.sysv.Cell(shm, "q", guard=sems[0])
        adders = [hp.fn(_add, total).with_options(timeout=PATIENCE).start() for _ in range(4)]
        judge.same([adder.wait().code for adder in adders], [0] * 4, "how they ended")
        judge.same(total.value, 400, "the sum")
        judge.same(_perl(add, shm.id), "", "what Perl says")
        judge.same(total.value, 1400, "the sum with Perl's")
        return f"4 processes added 100 each, and Perl 1000: {total.value}"


@row("ipcrm")
def removed_under_us(judge: Judge) -> str:
    """Receiving has a time limit, and says so when the queue is removed.

    Breaks with an ``ipcrm`` that removes nothing.
    """
    with hp.sysv.MessageQueue.create() as queue:
        started = time.monotonic()
        with judge.raised(TimeoutError):
            queue.receive(timeout=_LIMIT)
        waited = time.monotonic() - started
        judge.same(waited >= _LIMIT, True, "whether it was waited for")
        judge.soon(waited, _LIMIT + SLACK, "giving up")
        with hp.fn(_receive, queue).with_options(timeout=PATIENCE).reader() as waiter:
            judge.same(waiter.readline(), "waiting\n", "what the receiver says")
            judge.same(hp.cmd("ipcrm", "-q", str(queue.id), timeout=PATIENCE).read(), "", "what ipcrm says")
            said = waiter.read().strip()
        judge.same(said, f"message queue {queue.id} was removed", "what it says then")
    return f"nothing for {waited:.2f} s; then: {said}"


@row("ipcmk")
def orphans(judge: Judge) -> str:
    """What nobody uses any more is found, whoever made it.

    Breaks with an ``ipcmk`` that makes nothing.
    """
    said = hp.cmd("ipcmk", "-Q", timeout=PATIENCE).read()
    found = [each for each in hp.sysv.queues() if said.split()[-1:] == [str(each.id)]]
    judge.same(len(found), 1, "how many are found")
    try:
        judge.same(hp.sysv.orphaned_since(found[0]), found[0].change_time, "since when it is an orphan")
    finally:
        hp.sysv.remove(found[0])
    judge.same(found[0] in hp.sysv.queues(), False, "whether it is still there")
    return f"queue {found[0].id} is nobody's any more, and removed"


def _perl(program: str, number: int) -> str:
    return hp.cmd("perl", "-e", program, str(number), timeout=PATIENCE).read()


def _until(fact: Callable[[], bool]) -> None:
    end = time.monotonic() + SLACK
    while not fact() and time.monotonic() < end:
        time.sleep(0.002)


@contextlib.contextmanager
def _removed_after(key: int) -> Iterator[None]:
    try:
        yield
    finally:
        with contextlib.suppress(FileNotFoundError):
            hp.sysv.SemaphoreSet.open(key).remove()


# What the rows' children do.


def _add(total: hp.sysv.Cell[int]) -> None:
    for _ in range(100):
        with total:
            total.value += 1


def _receive(queue: hp.sysv.MessageQueue) -> None:
    print("waiting", flush=True)
    try:
        queue.receive(timeout=PATIENCE / 4)
    except (hp.sysv.ObjectRemoved, TimeoutError) as error:
        print(error)


def _race(starter: hp.sysv.SemaphoreSet, key: int) -> None:
    starter[0].acquire(timeout=PATIENCE)
    sems = hp.sysv.SemaphoreSet.open_or_create(key, [5, 7])
    # Whoever comes before the values are there has his one overwritten.
    sems[1].release()
