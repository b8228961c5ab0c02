"""Semaphore sets: several at once and all or nothing, undo, and making one without a race (perlipc:V2)."""

from __future__ import annotations

import os
import random
import sys

import pytest

import hornpipe as hp
from hornpipe._native import sysv as native
from hornpipe.sysv import IPC_NOWAIT, SEM_UNDO, ObjectRemoved, SemaphoreSet, semaphores
from hornpipe.testing.patience import wait_until

FULL = os.environ.get("HORNPIPE_SOAK") == "1"
KEY = hp.sysv.key_for(f"hornpipe test of sets {os.getpid()}")


@pytest.fixture
def sems():
    with SemaphoreSet.create([0, 1, 5]) as made:
        yield made


def killed(work) -> None:
    """Do it in a child that is killed when it is done."""

    def child():
        work()
        os.kill(os.getpid(), 9)

    assert hp.fn(child).with_options(check=False).run().signal == 9


SAME_ID = """if True:
    import sys, hornpipe as hp
    from hornpipe.sysv import ObjectRemoved, SemaphoreSet
    def made():
        with open("/proc/sys/kernel/sem_next_id", "w") as file:
            file.write("777")
        return int(hp.cmd("ipcmk", "-S", "1").read().split()[-1])
    assert made() == 777
    first = SemaphoreSet.from_id(777)
    first[0].value = 1
    first[0].acquire(undo=True)
    if sys.argv[1] == "by us":
        first.remove()
    else:
        hp.cmd("ipcrm", "-s", "777").run()
        try:
            first[0].release(undo=True)
        except ObjectRemoved:
            pass
    assert made() == 777
    second = SemaphoreSet.from_id(777)
    second[0].release()
    assert second.values == [1]
    second.remove()
"""


class TestOperations:
    def test_a_list_is_done_at_once_or_not_at_all(self, sems):
        """perlipc:V2, gotcha:Y3"""
        sems.op([(1, -1), (2, -5), (0, 3)])
        assert sems.values == [3, 0, 0]
        with pytest.raises(TimeoutError, match=r"has the values 3, 0, 0"):
            sems.op([(0, -3), (2, -1)], timeout=0)
        assert sems.values == [3, 0, 0]

    def test_the_pages_take_waits_for_zero_and_adds_in_one_step(self, sems):
        """perlipc:V2, gotcha:Y3"""
        sems.op([(0, 0), (0, +1)], timeout=0)
        with pytest.raises(TimeoutError):
            sems.op([(0, 0), (0, +1)], timeout=0)
        with hp.fn(lambda: sems.op([(0, 0), (0, +1)])).start() as taker:
            wait_until(lambda: sems[0].waiting_for_zero == 1)
            sems.op([(0, -1)])
            taker.wait(20)
        assert sems[0].value == 1

    def test_not_waiting_is_a_flag_of_one_operation(self, sems):
        """gotcha:Y6: the kernel says EAGAIN to both."""
        with pytest.raises(BlockingIOError, match="would have to wait"):
            sems.op([(0, -1, IPC_NOWAIT)], timeout=60)
        with pytest.raises(TimeoutError):
            sems.op([(0, -1)], timeout=0.01)

    @pytest.mark.parametrize("count", [1, 8, 9, 500])
    def test_many_operations(self, count):
        """gotcha:Y5"""
        with SemaphoreSet.create([1] * count) as many:
            many.op([(index, -1) for index in range(count)], undo=True)
            assert many.values == [0] * count
            many.op([(index, 1, SEM_UNDO) for index in range(count)])
            assert many.values == [1] * count

    @pytest.mark.parametrize("operations", [[(3, 1)], [(-1, 1)], [(0, 1), (70000, 1)]])
    def test_a_semaphore_that_is_none_is_an_index_error(self, sems, operations):
        """gotcha:Y5: the kernel calls it EFBIG."""
        with pytest.raises(IndexError, match="of a set of 3"):
            sems.op(operations)
        with pytest.raises(IndexError):
            sems[3]
        assert sems.values == [0, 1, 5]

    def test_facts_of_one(self, sems):
        assert [each.value for each in sems] == [0, 1, 5]
        assert (sems[0].pid, sems[0].waiting, sems[0].waiting_for_zero) == (os.getpid(), 0, 0)
        with hp.fn(lambda: sems[0].acquire()).start() as waiter:
            wait_until(lambda: sems[0].waiting == 1)
            sems[0].release()
            waiter.wait(20)
        assert sems[0].pid == waiter.pid

    def test_values_are_set_one_or_all(self, sems):
        sems[0].value = 7
        assert sems.values == [7, 1, 5]
        sems.values = [3, 2, 1]
        assert [sems[index].value for index in range(3)] == [3, 2, 1]
        with pytest.raises(ValueError, match="2 values for a set of 3"):
            sems.values = [1, 2]


class TestUndo:
    def test_a_killed_holder_gives_back(self, sems):
        """perlipc:V4, gotcha:Y2"""
        killed(lambda: sems[1].__enter__())
        killed(lambda: sems.op([(2, -3), (0, 2)], undo=True))
        assert sems.values == [0, 1, 5]
        killed(lambda: sems[2].acquire(2))
        assert sems.values == [0, 1, 3]

    def test_the_block_gives_back_whatever_happens_in_it(self, sems):
        with pytest.raises(LookupError), sems[1]:
            assert sems[1].value == 0
            raise LookupError
        assert sems[1].value == 1

    def test_a_forked_child_owes_nothing(self, sems):
        """gotcha:Y2: undo is not inherited over fork."""
        with sems[1]:
            hp.fn(lambda: None).call()
            assert sems[1].value == 0
            # It may give back without undo: there is nothing that the kernel would give back for it.
            hp.fn(lambda: sems[1].release()).call()
            assert sems[1].value == 1
            sems[1].acquire()

    def test_it_is_kept_over_exec(self, sems):
        """gotcha:Y2"""

        def child():
            sems[1].acquire(undo=True)
            hp.cmd("cat").exec()

        with hp.fn(child).duplex() as holder:
            holder.send("on\n")
            assert holder.readline() == "on\n"  # it is cat by now
            assert sems[1].value == 0
        assert sems[1].value == 1

    def test_it_belongs_to_the_process_and_not_to_its_threads(self, sems):
        """gotcha:Y2"""
        import threading

        thread = threading.Thread(target=lambda: sems[1].acquire(undo=True))
        thread.start()
        thread.join()
        assert sems[1].value == 0
        sems[1].release(undo=True)

    def test_it_belongs_to_the_process_and_not_to_a_handle(self, sems):
        """gotcha:Y2: what one handle took, another one gives back."""
        other = SemaphoreSet.from_id(sems.id)
        sems[1].acquire(undo=True)
        with pytest.raises(ValueError, match=r"is to move by \+1: with undo if"):
            other[1].release()
        other[1].release(undo=True)
        assert sems[1].value == 1
        del other
        SemaphoreSet.from_id(sems.id)[1].acquire(undo=True)  # and its handle is gone
        with pytest.raises(ValueError, match=r"is to move by \+1: with undo if"):
            SemaphoreSet.from_id(sems.id)[1].release()
        SemaphoreSet.from_id(sems.id)[1].release(undo=True)
        sems[1].acquire()
        sems[1].release()
        assert sems.values == [0, 1, 5]

    def test_a_forked_child_owes_nothing_by_any_handle(self, sems):
        """gotcha:Y2"""

        def child() -> None:
            for handle in (sems, SemaphoreSet.from_id(sems.id)):
                with pytest.raises(ValueError, match="is to move by"):
                    handle[1].release(undo=True)
                handle[1].release()
                handle[1].acquire()

        with sems[1]:
            hp.fn(child).call()
        assert sems[1].value == 1

    @pytest.mark.parametrize("gone", ["by us", "by another"])
    def test_what_was_owed_to_a_set_that_is_gone_is_not_owed_to_one_with_its_id(self, gone):
        """gotcha:Y4: ids are used again. In a namespace of the test's own the next one may be chosen."""
        unshare = ["unshare", "--ipc"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--ipc"]
        hp.cmd(*unshare, sys.executable, "-c", SAME_ID, gone).run()

    @pytest.mark.parametrize("undo", [True, False])
    def test_what_would_be_given_back_twice_is_refused(self, sems, undo):
        """gotcha:Y2: else a lock is at 2 in the end, or at 0 for ever."""
        sems[1].acquire(undo=undo)
        with pytest.raises(ValueError, match=r"is to move by \+1: with undo if"):
            sems[1].release(undo=not undo)
        assert sems[1].value == 0
        sems[1].release(undo=undo)
        sems.op([(0, 0), (0, 1)], undo=True)
        with pytest.raises(ValueError, match="is to move by -1"):
            sems.op([(0, -1)])
        sems.op([(0, -1)], undo=True)

    def test_setting_a_value_forgets_it(self, sems):
        """gotcha:Y2"""
        sems[1].acquire(undo=True)
        sems[1].value = 1
        sems[1].acquire()
        sems[1].release()
        sems[2].acquire(5, undo=True)
        sems.values = [0, 0, 0]
        sems[2].release()
        assert sems.values == [0, 0, 1]


class TestBeingRemoved:
    """gotcha:Y4: waiters get EIDRM, later calls EINVAL, and a bad argument is EINVAL as well."""

    def test_a_waiter_and_every_later_call_say_removed(self):
        sems = SemaphoreSet.create([0])
        remover = hp.fn(lambda: (wait_until(lambda: sems[0].waiting), sems.remove()))
        with remover.start(), pytest.raises(ObjectRemoved, match=f"semaphore set {sems.id} was removed") as caught:
            sems[0].acquire(timeout=20)
        assert caught.value.id == sems.id
        assert isinstance(caught.value, FileNotFoundError)
        for call in (lambda: sems.op([(0, 1)]), lambda: sems.values, lambda: sems[0].value, sems.stat):
            with pytest.raises(ObjectRemoved):
                call()
        sems.remove()


class TestMakingOne:
    """gotcha:Y1: making and initialising are two steps."""

    def test_an_operation_time_says_that_it_is_ready(self):
        """gotcha:Y1: as other programs look for it."""
        with SemaphoreSet.create([32767, 0]) as sems:
            assert sems.stat().operation_time > 0
            assert sems.values == [32767, 0]

    def test_who_finds_it_half_made_waits(self, monkeypatch):
        """gotcha:Y1"""
        made = native.get_set(KEY, 1, native.IPC_CREAT | native.IPC_EXCL | 0o600)
        with pytest.raises(TimeoutError, match="not given its values in time"):
            SemaphoreSet.open_or_create(KEY, [3], timeout=0)

        def give() -> None:
            SemaphoreSet.from_id(made).values = [3]

        with hp.fn(give).start(), SemaphoreSet.open_or_create(KEY, [3], timeout=20) as sems:
            assert (sems.id, sems.values) == (made, [3])
        sems.remove()

    def test_a_maker_that_died_half_way_is_replaced(self, monkeypatch):
        """gotcha:Y1"""
        monkeypatch.setattr(semaphores, "_MAKER_IS_DEAD", 0.05)
        killed(lambda: native.get_set(KEY, 2, native.IPC_CREAT | native.IPC_EXCL | 0o600))
        with SemaphoreSet.open_or_create(KEY, [1, 4], timeout=20) as sems:
            assert (sems.created, sems.values) == (True, [1, 4])

    def test_one_of_another_size_is_refused(self):
        with SemaphoreSet.create([1], KEY):
            with pytest.raises(ValueError, match="has 1 semaphores, not 2"):
                SemaphoreSet.open_or_create(KEY, [1, 1])
            with pytest.raises(FileExistsError, match=r"open\(\) or open_or_create\(\) takes it"):
                SemaphoreSet.create([1], KEY)

    @pytest.mark.soak
    def test_racing_to_make_it_all_find_one_with_its_values(self):
        """perlipc:V4, gotcha:Y1: nobody sees a set without its values, and nobody's are set twice."""
        processes, rounds = 200, 1000 if FULL else 5
        keys = [hp.sysv.key_for(f"hornpipe race {os.getpid()} {index}") for index in range(rounds)]
        start = SemaphoreSet.create([0])

        def racer() -> None:
            start[0].wait_for_zero()
            for key in keys:
                sems = SemaphoreSet.open_or_create(key, [processes, 7])
                sems.op([(0, -1)], timeout=0)  # impossible before the values are there

        with start:
            start[0].value = 1
            running = [hp.fn(racer).start() for _ in range(processes)]
            wait_until(lambda: start[0].waiting_for_zero == processes, 60)
            start[0].acquire()
            statuses = [process.wait() for process in running]
        try:
            assert all(statuses)
            for key in keys:
                # Each has taken one, of the values that were given once.
                assert SemaphoreSet.open(key).values == [0, 7]
        finally:
            for key in keys:
                SemaphoreSet.open(key).remove()


class TestClassics:
    def test_a_counter_of_tickets_bounds_how_many_are_inside(self):
        """perlipc:V2"""
        with SemaphoreSet.create([3, 0, 0]) as sems:

            def visitor() -> None:
                for _ in range(20):
                    with sems[0]:
                        sems[1].release()
                        assert sems[1].value <= 3
                        sems[1].acquire()
                        sems[2].release()

            visitors = [hp.fn(visitor).start() for _ in range(6)]
            assert all(each.wait(60) for each in visitors)
            assert sems.values == [3, 0, 120]

    def test_a_barrier_lets_all_pass_when_the_last_has_come(self):
        """perlipc:V2"""
        with SemaphoreSet.create([4, 0]) as sems:

            def runner() -> None:
                sems[0].acquire()
                sems[0].wait_for_zero()
                sems[1].release()

            runners = [hp.fn(runner).start() for _ in range(3)]
            wait_until(lambda: sems[0].waiting_for_zero == 3)
            assert sems[1].value == 0
            runners.append(hp.fn(runner).start())
            assert all(each.wait(20) for each in runners)
            assert sems.values == [0, 4]

    def test_readers_together_and_a_writer_alone(self):
        """perlipc:V2: a semaphore of many, of which a writer takes all at once."""
        many = 100
        with SemaphoreSet.create([many]) as sems, hp.sysv.SharedMemory.create(16) as shm:
            pair = hp.sysv.Cells(shm, "q", 2)

            def writer(seed: int) -> None:
                for value in range(seed, seed + 50):
                    sems.op([(0, -many)], undo=True)
                    pair[0] = value
                    pair[1] = value
                    sems.op([(0, many)], undo=True)

            def reader() -> None:
                for _ in range(200):
                    with sems[0]:
                        assert pair[0] == pair[1]

            workers = [hp.fn(writer, random.randrange(1000)).start(), *[hp.fn(reader).start() for _ in range(3)]]
            assert all(each.wait(60) for each in workers)
