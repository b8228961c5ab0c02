"""What must not crash, mislead or hit somebody else, however it is asked for."""

from __future__ import annotations

import collections
import contextlib
import copy
import errno
import json
import os
import pickle
import random
import resource
import time

import pytest

import hornpipe as hp
from hornpipe._native import sysv as native
from hornpipe.sysv import (
    MessageQueue,
    ObjectRemoved,
    Semaphore,
    SemaphoreSet,
    SharedMemory,
    SystemLimit,
    semaphores,
)
from hornpipe.testing.patience import wait_until

KEY = hp.sysv.key_for(f"hornpipe test of hostility {os.getpid()}")
KINDS = [SharedMemory, SemaphoreSet, MessageQueue]


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def thing(request):
    """One of each kind."""
    made = {
        SharedMemory: lambda: SharedMemory.create(100),
        SemaphoreSet: lambda: SemaphoreSet.create([1, 2]),
        MessageQueue: MessageQueue.create,
    }[request.param]()
    with made:
        yield made


class TestHandles:
    """A handle is on the object that it was made for, or on none."""

    @pytest.mark.parametrize("kind", KINDS)
    def test_there_is_none_without_an_object(self, kind):
        with pytest.raises(TypeError, match=r"comes from create\(\), open\(\)"):
            kind()

    @pytest.mark.parametrize("kind", [*KINDS, native.Segment, native.Semaphores, native.Queue])
    def test_one_that_was_never_given_an_object_is_on_none(self, kind):
        """Its id would be 0 else, which is the first object of the system."""
        bare = kind.__new__(kind)
        assert bare.id == -1
        if kind in KINDS:
            bare.remove()
            with pytest.raises(FileNotFoundError):
                bare.stat()

    def test_a_semaphore_belongs_to_a_set(self):
        with pytest.raises(TypeError):
            Semaphore.__new__(Semaphore)
        with pytest.raises(TypeError):
            Semaphore(None, 0)

    @pytest.mark.parametrize("make", [copy.copy, copy.deepcopy, lambda thing: pickle.loads(pickle.dumps(thing))])
    def test_a_copy_is_another_handle_that_removes_nothing(self, thing, make):
        other = make(thing)
        assert (other.id, other.created, thing.created) == (thing.id, False, True)
        if isinstance(thing, SharedMemory):
            thing.write(b"here")
            assert other.read(0, 4) == b"here"
            assert other.address != thing.address
        if isinstance(thing, SemaphoreSet):
            other[1].acquire(2, timeout=0)
            assert thing.values == [1, 0]
        with other:
            pass
        thing.stat()

    def test_a_copy_of_what_is_attached_read_only_is_so_too(self):
        with SharedMemory.create(1) as shm, SharedMemory.from_id(shm.id, read_only=True) as reader:
            other = pickle.loads(pickle.dumps(reader))
            with pytest.raises(TypeError):
                other.write(b"x")

    def test_a_copy_of_a_semaphore_is_one_of_the_same_set(self):
        with SemaphoreSet.create([1]) as sems:
            other = copy.copy(sems[0])
            assert other.set is sems
            with other:
                assert sems[0].value == 0


class Short(list):
    """Says that it is shorter than it is."""

    def __len__(self):
        return 1


class TestLists:
    """Memory is taken for as many as there are."""

    def test_operations_that_become_more_while_they_are_looked_at(self):
        class Growing:
            def __index__(self):
                operations.extend([(0, 0)] * 5000)
                return 0

        with SemaphoreSet.create([0]) as sems:
            operations = [(Growing(), 0), (0, 0)]
            sems.op(operations, timeout=0)

    def test_more_operations_than_are_said_to_be(self):
        with SemaphoreSet.create([0]) as sems:
            sems.op(Short([(0, 0)] * 100), timeout=0)

    def test_more_values_than_are_said_to_be(self):
        with SemaphoreSet.create([0]) as sems, pytest.raises(ValueError, match="100000 values for a set of 1"):
            sems.values = Short([1] * 100_000)
        with pytest.raises(ValueError, match="100000 values for a set of 1"):
            SemaphoreSet.create(Short([1] * 100_000))

    @pytest.mark.parametrize("operation", [(), (0,), [0], (0, 1, 0, 0), 5, None, "x", "xyz"])
    def test_what_is_no_operation(self, operation):
        with SemaphoreSet.create([0]) as sems:
            with pytest.raises((ValueError, TypeError)):
                sems.op([(0, 1), operation])
            assert sems.values == [0]

    def test_operations_may_come_one_by_one(self):
        with SemaphoreSet.create([5, 5]) as sems:
            sems.op((number, -number - 1) for number in range(2))
            assert sems.values == [4, 3]


def test_an_error_is_not_hidden_by_a_view_that_lives():
    """gotcha:Y13"""
    with pytest.raises(KeyError), SharedMemory.create(10) as shm:
        view = shm.buf
        raise KeyError("mine")
    assert view[0] == 0
    with pytest.raises(BufferError, match="views that live"):
        shm.detach()
    view.release()
    shm.detach()


class TestMakers:
    """gotcha:Y1: makers that are dead, slow, or mean zeros."""

    def made_by_semget(self, count):
        return native.get_set(KEY, count, native.IPC_CREAT | native.IPC_EXCL | 0o600)

    def test_zeros_are_there_from_the_beginning(self, monkeypatch):
        """gotcha:Y1: the page's own program makes its set by semget, and means the zeros."""
        monkeypatch.setattr(semaphores, "_MAKER_IS_DEAD", 60)
        made = self.made_by_semget(10)
        with hp.alarm(20):
            sems = SemaphoreSet.open_or_create(KEY, [0] * 10)
        assert (sems.id, sems.created) == (made, False)
        sems.remove()

    def test_a_set_in_which_somebody_waits_is_not_made_anew(self, monkeypatch):
        """gotcha:Y1"""
        monkeypatch.setattr(semaphores, "_MAKER_IS_DEAD", 0.05)
        made = SemaphoreSet.from_id(self.made_by_semget(2))
        try:
            with hp.fn(lambda: made[1].acquire()).with_options(check=False).start() as waiter:
                wait_until(lambda: made[1].waiting, 20, "the waiter")
                with pytest.raises(TimeoutError, match="not given its values"):
                    SemaphoreSet.open_or_create(KEY, [1, 1], timeout=0.2)
                assert waiter.poll() is None
                waiter.kill()
        finally:
            made.remove()

    def test_a_maker_that_was_taken_for_dead_starts_over(self, monkeypatch):
        """gotcha:Y1: it has been asleep between semget and SETALL."""
        give, taken = SemaphoreSet._give, []

        def after_a_sleep(sems, initial):
            if not taken:
                taken.append(sems.id)
                native.remove_set(sems.id)
            give(sems, initial)

        monkeypatch.setattr(SemaphoreSet, "_give", after_a_sleep)
        with SemaphoreSet.open_or_create(KEY, [4, 2]) as sems:
            assert (sems.values, sems.created) == ([4, 2], True)
            assert sems.id not in taken


class TestRemovers:
    """Objects that come and go under everybody's hands."""

    def test_what_is_gone_is_said_to_be_removed(self, thing):
        """perlipc:V5, gotcha:Y4: an old id is EINVAL to the kernel."""
        thing.remove()
        if isinstance(thing, SharedMemory):
            thing.detach()
        calls = {
            SharedMemory: lambda: thing.lock(),
            SemaphoreSet: lambda: thing[0].acquire(),
            MessageQueue: lambda: thing.send(b"x"),
        }
        for call in (thing.stat, calls[type(thing)], lambda: thing.chmod(0o600)):
            with pytest.raises(ObjectRemoved, match=f"{thing.id} was removed") as caught:
                call()
            assert (caught.value.id, caught.value.errno) == (thing.id, errno.EIDRM)

    @staticmethod
    def churn(open_or_create):
        """Make it or find it, and remove it half of the time; what comes of it by name."""
        came = collections.Counter()
        dice, end = random.Random(os.getpid()), time.monotonic() + 0.3
        while time.monotonic() < end:
            try:
                thing = open_or_create()
                if isinstance(thing, SemaphoreSet):
                    assert thing.values == [2, 3]
                if isinstance(thing, SharedMemory):
                    thing.detach()
            except ObjectRemoved:
                came["removed"] += 1
                continue
            came["had"] += 1
            if dice.random() < 0.5:
                thing.remove()
        print(json.dumps(came))

    @pytest.mark.parametrize(
        "open_or_create",
        [
            lambda: SharedMemory.open_or_create(KEY, 100),
            lambda: SemaphoreSet.open_or_create(KEY, [2, 3]),
            lambda: MessageQueue.open_or_create(KEY),
        ],
        ids=["segment", "set", "queue"],
    )
    def test_open_or_create_gives_one_or_says_that_it_is_removed(self, open_or_create):
        """gotcha:Y4, gotcha:Y1"""
        with contextlib.ExitStack() as stack:
            children = [stack.enter_context(hp.fn(self.churn, open_or_create).reader()) for _ in range(4)]
            came = [json.loads(child.read()) for child in children]
        assert all(each["had"] for each in came)
        open_or_create().remove()


class TestNumbers:
    """What would be another number in the kernel is refused."""

    @pytest.mark.parametrize("uid", [-1, -5, 0xFFFF_FFFF, 1 << 32])
    def test_owners(self, thing, uid):
        for words in ({"uid": uid}, {"gid": uid}):
            with pytest.raises(ValueError, match="must be from 0 to 4294967294"):
                thing.chown(**words)
        assert (thing.stat().owner.uid, thing.stat().owner.gid) == (os.geteuid(), os.getegid())


@pytest.mark.skipif(os.geteuid() != 0, reason="being somebody else needs root")
class TestSomebodyElse:
    """gotcha:Y13"""

    @staticmethod
    def as_nobody(work):
        def there():
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            return work()

        return hp.fn(there).with_options(timeout=30).call()

    def test_who_may_only_send_sends(self):
        """gotcha:Y13"""

        def send():
            queue = MessageQueue.from_id(ours.id)
            queue.send(b"please")
            assert queue.key == MessageQueue.open(KEY).key == KEY
            with pytest.raises(PermissionError, match="belongs to root .* with mode 0622, and we are nobody"):
                queue.receive(timeout=0)

        with MessageQueue.create(KEY, mode=0o622) as ours:
            self.as_nobody(send)
            assert ours.receive(timeout=0).data == b"please"

    def test_memory_that_may_not_be_locked_names_the_limit(self):
        """gotcha:Y5"""

        def lock():
            resource.setrlimit(resource.RLIMIT_MEMLOCK, (4096, 4096))
            with SharedMemory.create(1 << 20) as shm, pytest.raises(SystemLimit, match="RLIMIT_MEMLOCK") as caught:
                shm.lock()
            assert (caught.value.name, caught.value.value, caught.value.errno) == ("RLIMIT_MEMLOCK", 4096, errno.ENOMEM)

        self.as_nobody(lock)

    def test_who_may_only_operate_operates(self):
        """gotcha:Y13"""

        def operate():
            for sems in (SemaphoreSet.from_id(ours.id), SemaphoreSet.open(KEY)):
                assert (len(sems), sems.key) == (2, KEY)
                sems.op([(0, -1), (1, +1)], timeout=0)
                with pytest.raises(TimeoutError):
                    sems[0].acquire(5, timeout=0)
                with pytest.raises(PermissionError, match="with mode 0622"):
                    sems[0].value  # noqa: B018

        with SemaphoreSet.create([2, 0], KEY, mode=0o622) as ours:
            self.as_nobody(operate)
            assert ours.values == [0, 2]


class TestFloats:
    """1.5 is no count, no type and no size: it is refused, and not cut to 1 in silence."""

    @pytest.mark.parametrize(
        "wrong",
        [
            lambda shm, sems, queue: queue.send(b"x", type=1.5),
            lambda shm, sems, queue: queue.receive(1.5, timeout=0),
            lambda shm, sems, queue: queue.receive(except_type=1.5, timeout=0),
            lambda shm, sems, queue: queue.receive(max_size=1.5, timeout=0),
            lambda shm, sems, queue: queue.peek(0.5),
            lambda shm, sems, queue: queue.set_max_bytes(1.5),
            lambda shm, sems, queue: queue.chown(1.5),
            lambda shm, sems, queue: queue.chmod(384.0),
            lambda shm, sems, queue: queue.from_id(queue.id + 0.5),
            lambda shm, sems, queue: sems.from_id(sems.id + 0.5),
            lambda shm, sems, queue: sems[1].acquire(1.5),
            lambda shm, sems, queue: sems[1].release(1.5),
            lambda shm, sems, queue: sems.op([(1, 1), (1, 1.5)]),
            lambda shm, sems, queue: sems.op([(1, 1, 0.5)]),
            lambda shm, sems, queue: setattr(sems, "values", [0, 1.5]),
            lambda shm, sems, queue: setattr(sems[1], "value", 1.5),
            lambda shm, sems, queue: SemaphoreSet.create([1, 1.5]),
            lambda shm, sems, queue: shm.read(0.5, 2),
            lambda shm, sems, queue: shm.write(b"x", 0, 1.5),
            lambda shm, sems, queue: shm.from_id(shm.id + 0.5),
            lambda shm, sems, queue: SharedMemory.create(1.5),
            lambda shm, sems, queue: SharedMemory.create(1, address=4096.0),
            lambda shm, sems, queue: SharedMemory.open_or_create(KEY, 1.5),
        ],
    )
    def test_they_are_refused_before_anything_happens(self, wrong):
        with SharedMemory.create(10) as shm, SemaphoreSet.create([1, 2]) as sems, MessageQueue.create() as queue:
            queue.send(b"kept")
            with pytest.raises(TypeError):
                wrong(shm, sems, queue)
            assert (shm.read(), sems.values, queue.stat().messages) == (bytes(10), [1, 2], 1)

    def test_a_place_without_a_message_is_said_once(self):
        with (
            MessageQueue.create() as queue,
            pytest.raises(IndexError, match=r"^no message 3: message queue \d+ has 0 m"),
        ):
            queue.peek(3)
