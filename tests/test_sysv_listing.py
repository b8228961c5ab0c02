"""What the system lists, and who uses it as far as the kernel knows."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
import time

import pytest

import hornpipe as hp
from hornpipe.sysv import MessageQueue, SemaphoreSet, SharedMemory
from hornpipe.testing.patience import wait_until

PATIENCE = 30


def entry(thing):
    """The thing as it is listed; None if it is not."""
    lists = {SharedMemory: hp.sysv.segments, SemaphoreSet: hp.sysv.semaphore_sets, MessageQueue: hp.sysv.queues}
    return next((each for each in lists[type(thing)]() if each.id == thing.id), None)


def orphan(thing):
    return hp.sysv.orphaned_since(entry(thing)) is not None


def elsewhere(work):
    """Run it in a child, that is gone then."""
    return hp.fn(work).with_options(timeout=PATIENCE).call()


class TestFacts:
    """perlipc:V4"""

    def test_what_is_listed_is_what_each_says_of_itself(self):
        """perlipc:V4"""
        with (
            SharedMemory.create(5000, mode=0o640) as shm,
            SemaphoreSet.create([1, 2, 3], mode=0o606) as sems,
            MessageQueue.create(hp.sysv.key_for(f"hornpipe test of listing {os.getpid()}")) as queue,
        ):
            shm.write(b"x", 4097)
            shm.lock()
            queue.send(b"hello")
            segment, found, line = entry(shm), entry(sems), entry(queue)
            assert segment[1:11] == tuple(shm.stat())
            assert (segment.size, segment.attaches, segment.creator_pid, segment.locked) == (5000, 1, os.getpid(), True)
            assert segment.resident + segment.swapped == mmap.PAGESIZE, "one page of it was touched"
            assert found[1:] == tuple(sems.stat())
            assert found.semaphores == 3
            facts = queue.stat()
            assert line[1:] == (*facts[:3], *facts[4:])
            assert (line.messages, line.bytes, line.last_send_pid, line.owner.key) == (1, 5, os.getpid(), queue.key)

    def test_somebody_elses_are_listed_as_well(self):
        """gotcha:Y13"""
        if os.geteuid():
            pytest.skip("being somebody else needs root")
        with MessageQueue.create(mode=0) as queue:
            made = entry(queue)
            program = "import hornpipe as hp, os, sys; hp.sysv.queues(); os.setuid(65534); print(hp.sysv.queues())"
            seen = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=50)
            assert seen.returncode == 0, seen.stderr
            assert repr(made) in seen.stdout

    def test_a_removed_segment_is_listed_until_it_is_left(self):
        """gotcha:Y11"""
        with SharedMemory.create(1, hp.sysv.key_for(f"hornpipe test of removal {os.getpid()}")) as shm:
            shm.remove()
            assert (entry(shm).doomed, entry(shm).owner.key) == (True, 0)
        assert entry(shm) is None


class TestOrphans:
    """Who uses it."""

    def test_a_segment_is_in_use_while_it_is_attached_or_its_maker_lives(self):
        """gotcha:Y11"""
        with SharedMemory.create(1) as ours:
            ours.detach()
            assert not orphan(ours), "its maker lives"
        number = elsewhere(lambda: SharedMemory.create(1).id)
        shm = SharedMemory.from_id(number)
        try:
            assert not orphan(shm), "it is attached"
            shm.detach()
            assert not orphan(shm), "who had it last lives"
            elsewhere(lambda: SharedMemory.from_id(number).detach())
            wait_until(lambda: orphan(shm), PATIENCE, "the child's end")
        finally:
            shm.remove()

    def test_a_set_is_in_use_while_somebody_lives_who_touched_one_of_it(self):
        number = elsewhere(lambda: SemaphoreSet.create([1] * 5).id)
        sems = SemaphoreSet.from_id(number)
        try:
            assert orphan(sems), "looking is no use"
            sems[3].release()
            assert not orphan(sems)
            elsewhere(lambda: SemaphoreSet.from_id(number)[3].acquire())
            wait_until(lambda: orphan(sems), PATIENCE, "the child's end")
        finally:
            sems.remove()

    @pytest.mark.parametrize("delta", [0, -2])
    def test_a_set_is_in_use_while_somebody_waits_in_it(self, delta):
        """He has touched nothing yet."""
        number = elsewhere(lambda: SemaphoreSet.create([1] * 5).id)
        sems = SemaphoreSet.from_id(number)
        try:
            with hp.fn(lambda: sems.op([(4, delta)])).with_options(check=False).start() as child:
                wait_until(lambda: not orphan(sems), PATIENCE, "the waiter")
                child.kill()
                child.wait()
            assert orphan(sems)
        finally:
            sems.remove()

    def test_a_queue_is_in_use_while_one_of_its_last_users_lives(self):
        number = elsewhere(lambda: MessageQueue.create().id)
        queue = MessageQueue.from_id(number)
        try:
            assert orphan(queue), "nobody has used it, and its maker is not known"
            queue.send(b"x")
            assert not orphan(queue)
            elsewhere(lambda: MessageQueue.from_id(number).send(b"x"))
            assert orphan(queue)
            queue.receive()
            assert not orphan(queue)
            elsewhere(lambda: MessageQueue.from_id(number).receive())
            assert orphan(queue)
        finally:
            queue.remove()

    def test_what_cannot_be_looked_into_is_no_orphan(self):
        """gotcha:Y13"""
        if os.geteuid():
            pytest.skip("being somebody else needs root")
        number = elsewhere(lambda: SemaphoreSet.create([1], mode=0o600).id)
        sems = SemaphoreSet.from_id(number)
        found = entry(sems)
        try:
            assert hp.sysv.orphaned_since(found) == found.change_time

            def look():
                os.setuid(65534)
                return hp.sysv.orphaned_since(found)

            assert elsewhere(look) is None
        finally:
            sems.remove()

    def test_the_time_is_that_of_the_last_use(self):
        number = elsewhere(lambda: MessageQueue.create().id)
        queue = MessageQueue.from_id(number)
        try:
            found = entry(queue)
            assert hp.sysv.orphaned_since(found) == hp.sysv.last_use(found) == found.change_time
            later = found._replace(send_time=found.change_time + 5, last_send_pid=1 << 22)
            assert hp.sysv.orphaned_since(later) == hp.sysv.last_use(later) == found.change_time + 5
            assert time.time() - found.change_time < 60
        finally:
            queue.remove()


class TestRemoval:
    """perlipc:V4"""

    def test_each_kind_is_removed_and_once_more_is_nothing(self):
        """gotcha:Y4"""
        for thing in (SharedMemory.create(1), SemaphoreSet.create([1]), MessageQueue.create()):
            found = entry(thing)
            if isinstance(thing, SharedMemory):
                thing.detach()
            hp.sysv.remove(found)
            assert entry(thing) is None
            hp.sysv.remove(found)

    def test_anothers_is_refused_and_he_is_named(self):
        """gotcha:Y13"""
        if os.geteuid():
            pytest.skip("being somebody else needs root")

        def try_it():
            os.setuid(65534)
            try:
                hp.sysv.remove(found)
            except PermissionError as error:
                return str(error)

        with MessageQueue.create(mode=0o666) as queue:
            found = entry(queue)
            said = elsewhere(try_it)
            assert f"message queue {queue.id}" in said
            assert "belongs to root" in said
            assert entry(queue) is not None


def test_without_proc_it_says_so(tmp_path):
    """gotcha:Y13"""
    program = "import hornpipe as hp\ntry: hp.sysv.queues()\nexcept OSError as error: print(error.errno, error)"
    mount = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /proc && exec "$@"', "sh"]
    done = subprocess.run([*mount, sys.executable, "-c", program], capture_output=True, text=True, timeout=50)
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip("mounting needs root")
    assert done.stdout.startswith("38 "), done.stderr
    assert "/proc is not mounted" in done.stdout
