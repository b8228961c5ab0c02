"""Queued signals arrive each once, whoever is busy, raising or slow meanwhile (perlipc:S17, gotcha:SIG2, SIG18).

The page says of signals that come while one is pending: "all other instances discarded". That is true
of the standard ones; real-time signals queue in the kernel, and are not lost on the way from there either.
"""

from __future__ import annotations

import fcntl
import gc
import os
import signal
import sys
import textwrap
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

import hornpipe as hp
from hornpipe._native.signals import counted
from hornpipe.fd import pipe
from hornpipe.testing.patience import wait_until
from hornpipe.testing.processes import read_proc

MANY = 10_000
RING = 4096
QUEUED = "RTMIN+4"
NUMBER = int(signal.SIGRTMIN) + 4


def send(pid: int, count: int, which: str = QUEUED) -> None:
    """As a child: ``count`` distinct values, as fast as the kernel takes them."""
    for value in range(count):
        while True:
            try:
                hp.signals.queue(which, pid, value)
                break
            except BlockingIOError:
                os.sched_yield()


def send_when_told(pid: int, count: int) -> None:
    os.read(0, 1)
    send(pid, count)


def python(program: str) -> str:
    script = "import hornpipe as hp, os, resource, signal, threading\n" + textwrap.dedent(program)
    return hp.cmd(sys.executable, "-W", "error", "-c", script, timeout=30).read()


def masks() -> dict[int, int]:
    """The signals that each thread of this process blocks, as bits."""
    found = {}
    for task in os.listdir("/proc/self/task"):
        # Nothing where the thread has just ended.
        for line in read_proc(os.getpid(), f"task/{task}/status").splitlines():
            if line.startswith(b"SigBlk"):
                found[int(task)] = int(line.split()[1], 16)
    return found


def takes_none(mask: int) -> bool:
    """Whether it is the mask of a thread that keeps out of it, like faulthandler's watchdog."""
    return mask >> (signal.SIGUSR1 - 1) & 1 == 1


def blocked_in(number: int) -> set[int]:
    """The threads in which this signal is blocked, but not every one."""
    return {thread for thread, mask in masks().items() if mask >> (number - 1) & 1 and not takes_none(mask)}


@contextmanager
def threads(count: int) -> Iterator[set[int]]:
    """Threads that do nothing, with every signal open; their numbers."""
    over = threading.Event()
    made = [threading.Thread(target=over.wait) for _ in range(count)]
    for thread in made:
        thread.start()
    try:
        yield {thread.native_id for thread in made if thread.native_id is not None}
    finally:
        over.set()
        for thread in made:
            thread.join()


class TestToAHandler:
    def test_each_arrives_once_and_in_order(self):
        """perlipc:S17: from another process, with what it carries."""
        seen: list[hp.Signal] = []
        before = counted(NUMBER)
        with hp.SIG.local({QUEUED: seen.append}):
            with hp.fn(send, os.getpid(), MANY).start() as sender:
                wait_until(lambda: len(seen) >= MANY)
            assert [sig.value for sig in seen] == list(range(MANY))
            assert {(sig.pid, sig.uid, sig.code) for sig in seen} == {(sender.pid, os.getuid(), "QUEUE")}
        assert counted(NUMBER) == (before[0] + MANY, before[1])

    def test_also_when_it_raises_midway(self):
        """perlipc:S9, S17: the rest must not wait for another signal to come."""
        seen: list[int] = []
        raised = 0
        caught_here = False

        def handler(sig: hp.Signal) -> None:
            nonlocal caught_here
            seen.append(sig.value)
            if caught_here:
                caught_here = False
                raise LookupError(sig.value)

        reader, writer = pipe()
        sender = hp.fn(send_when_told, os.getpid(), MANY).with_options(stdin=reader.fileno())
        with reader, writer, hp.SIG.local({QUEUED: handler}), sender.start():
            os.write(writer.fileno(), b"!")
            while len(seen) < MANY:
                try:
                    caught_here = True
                    wait_until(lambda: len(seen) >= MANY)
                    caught_here = False
                except LookupError:
                    raised += 1
        assert seen == list(range(MANY))
        assert raised

    def test_one_that_raises_leaves_the_rest_to_be_handled_at_once(self):
        """perlipc:S9: whatever is there by then, without another signal."""
        seen: list[int] = []

        def handler(sig: hp.Signal) -> None:
            seen.append(sig.value)
            if len(seen) == 1:
                raise LookupError(sig.value)

        with hp.SIG.local({QUEUED: handler}):
            with pytest.raises(LookupError), hp.signals.block(QUEUED):
                send(os.getpid(), 3)
            assert seen == [0, 1, 2]

    def test_also_when_more_come_at_once_than_the_ring_holds(self):
        """gotcha:SIG18: the rest waits in the kernel, in its place; the mask is as it was afterwards."""
        seen: list[int] = []
        with hp.SIG.local({QUEUED: lambda sig: seen.append(sig.value)}):
            with hp.signals.block(QUEUED):
                send(os.getpid(), MANY)
                assert seen == []
            wait_until(lambda: len(seen) >= MANY)
            assert seen == list(range(MANY))
            assert blocked_in(NUMBER) == set()

    def test_also_when_garbage_is_collected_in_between(self):
        """perlipc:S12: a collection may run any code, and with it handlers, while one signal is in our hands."""
        seen: list[int] = []

        def callback(phase: str, _: dict[str, int]) -> None:
            len(phase * 3)

        gc.callbacks.append(callback)
        before = gc.get_threshold()
        try:
            with hp.SIG.local({QUEUED: lambda sig: seen.append(sig.value)}), hp.fn(send, os.getpid(), MANY).start():
                gc.set_threshold(1)
                wait_until(lambda: len(seen) >= MANY)
        finally:
            gc.set_threshold(*before)
            gc.callbacks.remove(callback)
        assert seen == list(range(MANY))

    def test_also_while_it_is_still_at_the_first_one(self):
        """gotcha:SIG18: a handler is not interrupted by its own signal, and what waits for it is bounded."""
        seen: list[int] = []
        depth = [0]

        def handler(sig: hp.Signal) -> None:
            depth[0] += 1
            assert depth[0] == 1
            if not seen:
                send(os.getpid(), MANY)
            seen.append(sig.value)
            depth[0] -= 1

        with hp.SIG.local({QUEUED: handler}):
            hp.signals.queue(QUEUED, os.getpid(), -1)
            wait_until(lambda: len(seen) > MANY)
            assert seen == [-1, *range(MANY)]
            assert blocked_in(NUMBER) == set()

    def test_another_signals_handler_is_not_kept_waiting_by_them(self):
        order: list[str] = []

        def slow(sig: hp.Signal) -> None:
            if sig.value < 0:
                send(os.getpid(), 100)
                hp.kill("USR1", os.getpid())
                order.append("first done")
            order.append("queued")

        with hp.SIG.local({QUEUED: slow, "USR1": lambda sig: order.append(str(sig))}):
            hp.signals.queue(QUEUED, os.getpid(), -1)
            wait_until(lambda: order.count("queued") >= 101)
        assert order[:2] == ["USR1", "first done"]

    def test_what_was_late_is_handled_when_the_handler_ends_by_an_exception(self):
        """gotcha:SIG18: it has put away its own disposition, so the interpreter would not call for that number."""
        seen: list[str] = []

        def handler(sig: hp.Signal) -> None:
            hp.kill("USR2", os.getpid())
            hp.SIG["USR1"] = "DEFAULT"
            raise LookupError

        with hp.SIG.local(USR2=lambda sig: seen.append(str(sig))):
            hp.signals.sigaction("USR1", handler, mask=["USR2"])
            with pytest.raises(LookupError):
                hp.kill("USR1", os.getpid())
            wait_until(lambda: seen == ["USR2"])

    def test_one_that_comes_while_a_call_of_pythons_looks_is_handled_without_another(self):
        """gotcha:SIG17: read(2) lets Python look once when a signal has ended it, and waits again at once."""
        reader, writer = pipe()
        seen: list[hp.Signal] = []

        def handler(sig: hp.Signal) -> None:
            seen.append(sig)
            if len(seen) == 1:
                hp.kill("USR1", os.getpid())  # waits until this one is done; and then nothing else comes
            else:
                os.write(writer.fileno(), b"!")

        asleep = 'until read -r line </proc/$PPID/stat && [ -z "${line##*) S *}" ]; do :; done'
        with reader, writer, hp.SIG.local(USR1=handler), hp.sh(f"{asleep}; kill -USR1 $PPID").start():
            assert os.read(reader.fileno(), 1) == b"!"
        assert len(seen) == 2

    def test_what_somebody_sent_is_not_merged_into_events_of_the_kernel(self):
        """gotcha:SIG2: a crowd of news of a descriptor does not swallow what a person has to say."""
        late: list[int] = []
        reader, writer = pipe()

        def crowd(_: hp.Signal) -> None:
            for _ in range(100):
                os.write(writer.fileno(), b"!")
            hp.kill("HUP", os.getpid())

        handlers = hp.SIG.local(HUP=lambda sig: late.append(sig.raw_code), USR2="IGNORE")
        with handlers, hp.watch("HUP") as signals, reader, writer:
            fcntl.fcntl(reader.fileno(), fcntl.F_SETOWN, os.getpid())
            fcntl.fcntl(reader.fileno(), fcntl.F_SETSIG, signal.SIGHUP)
            fcntl.fcntl(reader.fileno(), fcntl.F_SETFL, os.O_ASYNC)
            hp.signals.sigaction("USR2", crowd, mask=["HUP"])
            hp.kill("USR2", os.getpid())
            wait_until(lambda: 0 in late)
            unread = [signals.get(timeout=0).raw_code for _ in late]
            assert unread == late == [1] * 32 + [0]

    def test_the_lowest_number_comes_first(self):
        """perlipc:S17: as POSIX has it for real-time signals."""
        seen: list[tuple[str, int]] = []
        names = ["RTMIN+7", "RTMIN+2", "RTMIN+5"]
        with hp.SIG.local(dict.fromkeys(names, lambda sig: seen.append((str(sig), sig.value)))):
            with hp.signals.block(*names):
                for value in range(3):
                    for name in names:
                        hp.signals.queue(name, os.getpid(), value)
            wait_until(lambda: len(seen) == 9)
        assert seen == [(name, value) for name in sorted(names) for value in range(3)]

    def test_standard_signals_coalesce_as_in_the_kernel(self):
        """gotcha:SIG2: five while it is blocked are one."""
        seen: list[hp.Signal] = []
        with hp.SIG.local(USR1=seen.append):
            with hp.signals.block("USR1"):
                for _ in range(5):
                    hp.kill("USR1", os.getpid())
            wait_until(lambda: seen)
        assert len(seen) == 1


class TestToAWatch:
    @pytest.mark.parametrize("reader", ["this thread", "another thread"])
    def test_each_arrives_once_and_in_order(self, reader):
        """perlipc:S17, S18: in order, since only this thread has it open; the sender is soon ahead of the ring."""
        seen: list[int] = []
        with hp.watch(QUEUED) as signals:

            def read() -> None:
                seen.extend(signals.get(timeout=20).value for _ in range(MANY))

            thread = threading.Thread(target=read)
            before = signal.pthread_sigmask(signal.SIG_BLOCK, [NUMBER])
            if reader == "another thread":
                thread.start()  # it inherits the mask
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            with hp.cmd(sys.executable, "-c", _SENDER, str(os.getpid()), str(MANY)).start():
                if reader == "this thread":
                    read()
                else:
                    thread.join()
        assert seen == list(range(MANY))

    def test_nobody_reads_for_a_while(self):
        """gotcha:SIG18: what the ring cannot hold stays in the kernel, and comes when there is room."""
        with hp.watch(QUEUED) as signals:
            send(os.getpid(), MANY)
            assert blocked_in(NUMBER) == {os.getpid()}
            assert [signals.get(timeout=30).value for _ in range(MANY)] == list(range(MANY))
            assert blocked_in(NUMBER) == set()

    def test_every_watch_and_the_handler_get_each(self):
        """perlipc:S18: the slowest of them holds up the kernel's queue, and loses nothing."""
        handled: list[int] = []
        with (
            hp.SIG.local({QUEUED: lambda sig: handled.append(sig.value)}),
            hp.watch(QUEUED) as one,
            hp.watch(QUEUED) as other,
        ):
            send(os.getpid(), MANY)
            quick = [one.get(timeout=30).value for _ in range(1000)]
            slow = []
            while len(slow) < MANY:
                quick.extend(one.get(timeout=30).value for _ in range(min(500, MANY - len(quick))))
                slow.extend(other.get(timeout=30).value for _ in range(500))
            wait_until(lambda: len(handled) >= MANY)
        assert quick == slow == handled == list(range(MANY))

    def test_other_threads_are_relieved_when_they_were_throttled(self):
        """gotcha:SIG18, SIG14: each thread that the kernel chooses is blocked in turn, and opened again."""
        with threads(4) as numbers, hp.watch(QUEUED) as signals:
            sender = hp.cmd(sys.executable, "-c", _SENDER, str(os.getpid()), str(MANY)).start()
            wait_until(lambda: blocked_in(NUMBER) >= numbers | {os.getpid()}, what="the throttling of every thread")
            seen = [signals.get(timeout=30).value for _ in range(MANY)]
            assert sender.wait(30)
            wait_until(lambda: not blocked_in(NUMBER), what="open masks in every thread")
        # Several threads took them out of the kernel's queue side by side: each once, but in no order.
        assert sorted(seen) == list(range(MANY))

    def test_a_throttled_thread_may_end(self):
        """Its number may go to a stranger, who must neither stay blocked nor keep others so."""
        with hp.watch(QUEUED) as signals:
            for _ in range(5):
                with threads(3) as numbers:
                    send(os.getpid(), RING)
                    wait_until(lambda numbers=numbers: blocked_in(NUMBER) >= numbers)
                seen = [signals.get(timeout=30).value for _ in range(RING)]
                assert sorted(seen) == list(range(RING))
                wait_until(lambda: not blocked_in(NUMBER))

    def test_closing_a_full_watch_opens_the_threads_again(self):
        """gotcha:SIG15, SIG18: what it held is delivered again, and the mask is not left behind."""
        seen: list[int] = []
        with hp.SIG.local({QUEUED: lambda sig: seen.append(sig.value)}):
            with hp.watch(QUEUED):
                send(os.getpid(), MANY)
            wait_until(lambda: len(seen) >= MANY)
        assert seen == list(range(MANY))
        assert blocked_in(NUMBER) == set()


class TestTheKernelsOwnLimit:
    def test_queue_says_so(self):
        """RLIMIT_SIGPENDING: refused at the sender, and what was taken arrives."""
        assert (
            python(
                f"""
                resource.setrlimit(resource.RLIMIT_SIGPENDING, (50, 50))
                seen = []
                hp.SIG["{QUEUED}"] = lambda sig: seen.append(sig.value)
                with hp.signals.block("{QUEUED}"):
                    for value in range(1000):
                        try:
                            hp.signals.queue("{QUEUED}", os.getpid(), value)
                        except BlockingIOError as error:
                            print(value <= 50, error.strerror.replace(str(os.getpid()), "N"))
                            break
                print(seen == list(range(value)))
                hp.signals.queue("{QUEUED}", os.getpid(), 7)
                print(seen[-1])
                """
            )
            == f"True {QUEUED} for process N: the kernel holds no more queued signals (RLIMIT_SIGPENDING); "
            "try again when some have been handled\nTrue\n7\n"
        )


_SENDER = """
import hornpipe as hp, os, sys
for value in range(int(sys.argv[2])):
    while True:
        try:
            hp.signals.queue("RTMIN+4", int(sys.argv[1]), value)
            break
        except BlockingIOError:
            os.sched_yield()
"""
