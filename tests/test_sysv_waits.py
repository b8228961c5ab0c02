"""Waiting in a set or a queue: how long, how cheaply, in every thread, with signals of all kinds (perlipc:V4)."""

from __future__ import annotations

import os
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import hornpipe as hp
from hornpipe.sysv import MessageQueue, SemaphoreSet
from hornpipe.testing.patience import wait_until

FULL = os.environ.get("HORNPIPE_SOAK") == "1"


class Place:
    """A set at 0, an empty queue and a full one; each call has to wait in its own."""

    def __init__(self) -> None:
        self.sems = SemaphoreSet.create([0])
        self.empty = MessageQueue.create()
        self.full = MessageQueue.create()
        self.full.set_max_bytes(1)
        self.full.send(b"1")
        self.calls = {
            "acquire": lambda timeout: self.sems[0].acquire(timeout=timeout),
            "op": lambda timeout: self.sems.op([(0, -1)], timeout=timeout),
            "receive": lambda timeout: self.empty.receive(timeout=timeout),
            "send": lambda timeout: self.full.send(b"2", timeout=timeout),
        }

    def let_go(self) -> None:
        """End one wait of each kind."""
        self.sems[0].release()
        self.empty.send(b"1")
        self.full.receive(timeout=1)


@pytest.fixture
def place():
    made = Place()
    with made.sems, made.empty, made.full:
        yield made


def lasted(call, timeout: float | None) -> float:
    """Seconds until it was over its time, and never before; without those in which the machine did other things."""
    begun, idle = time.monotonic(), without_processor()
    with pytest.raises(TimeoutError):
        call(timeout)
    spent = time.monotonic() - begun
    assert spent >= timeout
    return spent - max(0.0, without_processor() - idle)


def in_time(attempt: Callable[[], float], limit: float) -> bool:
    """Whether it can be done within the limit. A machine with much to do takes more of our time than it tells."""
    return any(attempt() < limit for _ in range(20))


def without_processor() -> float:
    with open("/proc/thread-self/schedstat") as file:
        return int(file.read().split()[1]) / 1e9


CALLS = ["acquire", "op", "receive", "send"]


@pytest.mark.parametrize("call", CALLS)
class TestTheTimeout:
    """gotcha:Y6: msgrcv and msgsnd have none, and semtimedop says EAGAIN to two things."""

    @pytest.mark.parametrize("seconds", [0.001, 0.02, 0.25])
    def test_it_is_exact(self, place, call, seconds):
        """gotcha:Y6"""
        assert in_time(lambda: lasted(place.calls[call], seconds), seconds + 0.01)

    def test_zero_tries_once(self, place, call):
        assert in_time(lambda: lasted(place.calls[call], 0), 0.01)
        place.let_go()
        place.calls[call](0)

    @pytest.mark.parametrize("wrong", [-1, float("nan"), "1", True])
    def test_what_is_no_time_is_refused_before_anything_happens(self, place, call, wrong):
        place.let_go()
        with pytest.raises((ValueError, TypeError), match="timeout must be"):
            place.calls[call](wrong)
        place.calls[call](0)

    def test_with_every_signal_blocked(self, place, call):
        """gotcha:Y6: the mask is afterwards what it was."""
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [])
            assert in_time(lambda: lasted(place.calls[call], 0.1), 0.11)
            assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == blocked
            timer = threading.Timer(0.05, place.let_go)
            timer.start()
            place.calls[call](20)
            timer.join()
            assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == blocked
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def test_in_fifty_threads_at_once(self, place, call):
        """gotcha:Y6: and none of them holds up the interpreter."""
        found: list[float] = []
        threads = [threading.Thread(target=lambda: found.append(lasted(place.calls[call], 0.3))) for _ in range(50)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 50
        # One after the other they would need 15 seconds.
        assert max(found) < 5

    def test_beside_the_programs_own_alarms_and_timers(self, place, call):
        """gotcha:Y6: SIGALRM and the interval timers are the program's."""
        rings = []
        before = signal.signal(signal.SIGALRM, lambda *_: rings.append(time.monotonic()))
        signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
        try:
            lasted(place.calls[call], 0.3)
            # They ran while it waited, and not when the wait was over.
            assert len([ring for ring in rings if ring < time.monotonic() - 0.05]) >= 2
            assert in_time(lambda: lasted(place.calls[call], 0.1), 0.11)
            rings.clear()

            def let_go() -> None:
                wait_until(lambda: len(rings) >= 3)
                place.let_go()

            thread = threading.Thread(target=let_go)
            thread.start()
            place.calls[call](None)
            thread.join()
            assert signal.getitimer(signal.ITIMER_REAL)[1] == 0.05
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("call", CALLS)
class TestHandlers:
    """gotcha:SIG11, SIG12, SIG17: every wait runs them, and goes on with the time left."""

    def test_one_that_raises_ends_the_wait(self, place, call):
        def give_up(sig: hp.Signal) -> None:
            raise LookupError(sig.name)

        with hp.SIG.local(ALRM=give_up), pytest.raises(LookupError, match="ALRM"):
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            place.calls[call](20)
        place.let_go()
        place.calls[call](0)

    @pytest.mark.parametrize("installed", ["by us", "by Python"])
    def test_a_signal_that_another_thread_gets_is_handled_at_once(self, place, call, installed):
        """gotcha:SIG12: the call of the main thread is not interrupted by it, and Python runs handlers there."""
        late = []

        def handler(*_: object) -> None:
            late.append(time.monotonic() - sent[0])
            place.let_go()

        sent: list[float] = []
        ready = threading.Event()

        def other() -> None:
            ready.wait()
            wait_until(lambda: asleep(threading.main_thread().native_id))
            sent.append(time.monotonic())
            signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)

        thread = threading.Thread(target=other)
        thread.start()
        before = signal.getsignal(signal.SIGUSR1)
        try:
            if installed == "by us":
                with hp.SIG.local(USR1=handler):
                    ready.set()
                    place.calls[call](20)
            else:
                signal.signal(signal.SIGUSR1, handler)
                ready.set()
                place.calls[call](20)
        finally:
            signal.signal(signal.SIGUSR1, before)
            thread.join()
        assert late[0] < 10

    def test_a_handler_may_wait_itself(self, place, call):
        waited = []

        def handler(sig: hp.Signal) -> None:
            waited.append(lasted(place.calls[call], 0.1))

        def wait() -> float:
            """By how much both together are late."""
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            outer = lasted(place.calls[call], 0.3)
            return outer - 0.3 + waited[-1] - 0.1

        with hp.SIG.local(ALRM=handler):
            assert in_time(wait, 0.02)

    def test_a_handler_that_outlasts_the_deadline(self, place, call):
        def wait() -> float:
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            return lasted(place.calls[call], 0.1)

        with hp.SIG.local(ALRM=lambda sig: lasted(place.calls[call], 0.3)):
            assert in_time(wait, 0.4)

    def test_a_handler_that_forks_leaves_two_waits_with_their_time(self, place, call):
        children = []

        def handler(sig: hp.Signal) -> None:
            children.append(os.fork())

        with hp.SIG.local(ALRM=handler):
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            spent = lasted(place.calls[call], 0.2)
        if children[0] == 0:
            # The second one, by what is the child's own: signals come here, and the time is kept.
            rings = []
            with hp.SIG.local(ALRM=rings.append):
                signal.setitimer(signal.ITIMER_REAL, 0.05)
                again = lasted(place.calls[call], 0.2)
            os._exit(0 if spent < 10 and again < 10 and len(rings) == 1 else 1)
        assert os.waitpid(children[0], 0)[1] == 0

    def test_somebody_elses_wake_up_descriptor_is_told_and_has_its_place_again(self, place, call):
        """gotcha:SIG17: asyncio's, say."""
        reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(writer)
        try:
            with hp.SIG.local(ALRM=lambda sig: None):
                signal.setitimer(signal.ITIMER_REAL, 0.05)
                lasted(place.calls[call], 0.1)
            assert os.read(reader, 100) == bytes([signal.SIGALRM])
        finally:
            assert signal.set_wakeup_fd(-1) == writer
            os.close(reader)
            os.close(writer)

    def test_an_alarm_ends_it(self, place, call):
        with pytest.raises(TimeoutError, match="the block was not left"), hp.alarm(0.1):
            place.calls[call](None)


def asleep(thread: int | None) -> bool:
    return Path(f"/proc/self/task/{thread}/wchan").read_text() in (
        "do_msgrcv",
        "do_msgsnd",
        "__do_semtimedop",
        "do_semtimedop",
    ) or Path(f"/proc/self/task/{thread}/syscall").read_text().split()[0] in ("69", "70", "220", "65")


SECONDS = 10 if FULL else 0.25
TRACED = """if True:
    import hornpipe as hp, os, signal, sys, threading
    from hornpipe._native import timed_call
    call, where = sys.argv[1:3]
    timed_call.use_guard(where != "unguarded")
    sems, empty, full = hp.sysv.SemaphoreSet.create([0]), hp.sysv.MessageQueue.create(), hp.sysv.MessageQueue.create()
    full.set_max_bytes(1)
    full.send(b"1")
    calls = {
        "acquire": lambda timeout: sems[0].acquire(timeout=timeout),
        "op": lambda timeout: sems.op([(0, -1)], timeout=timeout),
        "receive": lambda timeout: empty.receive(timeout=timeout),
        "send": lambda timeout: full.send(b"2", timeout=timeout),
    }
    def work():
        if where == "blocked":
            signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        for seconds in (0.01, float(sys.argv[3])):
            os.write(2, b"begin")
            try:
                calls[call](seconds)
            except TimeoutError:
                pass
            os.write(2, b"end")
    with sems, empty, full:
        if where in ("main", "unguarded"):
            print(timed_call.guards())
            work()
        else:
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
"""


@pytest.mark.parametrize("where", ["main", "unguarded", "thread", "blocked"])
@pytest.mark.parametrize("call", CALLS)
def test_a_wait_is_a_handful_of_system_calls(tmp_path, call, where):
    """gotcha:Y6: nothing is polled; the whole list, from the first try to the end of the last."""
    trace = tmp_path / "trace"
    guards = hp.cmd(
        "strace", "-f", "-o", str(trace), sys.executable, "-c", TRACED, call, where, str(SECONDS), stderr=hp.NULL
    ).read()
    lines = trace.read_text().splitlines()
    starts = [index for index, line in enumerate(lines) if '"begin"' in line]
    thread = lines[starts[-1]].split()[0]
    calls = []
    for line in lines[starts[-1] + 1 :]:
        if line.startswith(thread) and '"end"' in line:
            break
        if line.startswith(thread) and "---" not in line and "resumed" not in line:
            calls.append(line.split()[1].split("(")[0])
    # The last one looks at the object, for the message of the error.
    assert calls.pop() in ("semctl", "msgctl")
    lent = where in ("main", "unguarded") and guards != "True\n"
    expected = {
        ("acquire", True): ["semop", "rt_sigprocmask", *LENT, "semtimedop"],
        ("acquire", False): ["semop", "semtimedop"],
        ("receive", True): ["msgrcv", "rt_sigprocmask", *LENT, "timer_settime", "msgrcv", "rt_sigreturn"],
        ("receive", False): ["msgrcv", "rt_sigprocmask", "timer_settime", "msgrcv", "rt_sigreturn"],
    }[{"op": "acquire", "send": "receive"}.get(call, call), lent]
    assert calls == [name.replace("msgrcv", {"send": "msgsnd"}.get(call, "msgrcv")) for name in expected]


# Beside other threads the main one has to be told. Until 3.13 Python's own function is the only way to the wake-up
# descriptor, and it looks at it first.
LENT = [] if sys.version_info >= (3, 13) else ["newfstatat", "fcntl"]


@pytest.mark.parametrize("call", CALLS)
def test_waiting_takes_no_time_of_the_processor(place, call):
    """gotcha:Y6"""
    before = resource.getrusage(resource.RUSAGE_THREAD)
    lasted(place.calls[call], 0.25)
    after = resource.getrusage(resource.RUSAGE_THREAD)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.05
    assert after.ru_nvcsw - before.ru_nvcsw < 5


def test_a_timer_stays_with_its_thread_and_goes_with_it(place):
    def timers() -> int:
        return Path("/proc/self/timers").read_text().count("ClockID:")

    before = timers()
    during = []

    def work() -> None:
        for _ in range(3):
            lasted(place.calls["receive"], 0.01)
        during.append(timers())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert during == [before + 1]
    wait_until(lambda: timers() == before)
