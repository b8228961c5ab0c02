"""The gap between Python's last look for signals and a call that waits, in programs with one thread and with more.

Each test is a program of its own: in this one other tests have started threads, and what is done for signals in a
program that has none is not done any more (``_native/guard.h``).
"""

from __future__ import annotations

import os
import sys

import pytest

import hornpipe as hp

FULL = os.environ.get("HORNPIPE_SOAK") == "1"
SHOTS = 100_000 if FULL else 2_500

BEGINNING = """if True:
    import _thread, os, random, signal, sys, threading, time
    import hornpipe as hp
    from hornpipe import deadline, fd, handle, lines, wait
    from hornpipe._native import timed_call
    timed_call.use_guard(sys.argv[1] == "guarded")
    sems, queue = hp.sysv.SemaphoreSet.create([0]), hp.sysv.MessageQueue.create()
    reader, writer = fd.pipe()
    answers = handle.Handle(reader, None, lines.BYTES)
    def poll(by):
        ready = wait.until([(reader.fileno(), wait.READ)], by)
        assert ready and answers.readline() == b"1\\n"
    calls = {
        "receive": (queue.receive, lambda: queue.send(b"1")),
        "receive in time": (lambda: queue.receive(timeout=20), lambda: queue.send(b"1")),
        "acquire": (sems[0].acquire, sems[0].release),
        "acquire in time": (lambda: sems[0].acquire(timeout=20), sems[0].release),
        "read": (answers.readline, lambda: os.write(writer.fileno(), b"1\\n")),
        "poll": (lambda: poll(deadline.NEVER), lambda: os.write(writer.fileno(), b"1\\n")),
        "poll in time": (lambda: poll(deadline.after(20)), lambda: os.write(writer.fileno(), b"1\\n")),
        "wait": (lambda: hp.signals.wait("USR2"), lambda: os.kill(os.getpid(), signal.SIGUSR2)),
    }
"""


def program(body: str, *words: str) -> str:
    indented = "".join(f"    {line}\n" for line in body.splitlines())
    return hp.cmd(sys.executable, "-c", BEGINNING + indented, *words, timeout=600 if FULL else 60).read()


MECHANISMS = ["guarded", "told"]
CALLS = ["receive", "receive in time", "acquire", "acquire in time", "read", "poll", "poll in time", "wait"]


@pytest.mark.soak
@pytest.mark.parametrize("installed", ["by us", "by Python"])
@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_a_signal_that_falls_between_the_last_look_and_the_call_is_not_lost(mechanism, installed):
    """gotcha:SIG17, SIG11: within microseconds of the call, and no second one comes for a second."""
    body = """
def handler(*_):
    signal.setitimer(signal.ITIMER_REAL, 0)
    handled.append(time.monotonic())
    release()
if sys.argv[2] == "by us":
    hp.SIG["ALRM"] = handler
else:
    signal.signal(signal.SIGALRM, handler)
with sems, queue, hp.signals.block("USR2"):
    for name, (call, release) in calls.items():
        slowest, spread = 0, 25e-6 if "in time" in name else 12e-6
        for _ in range(int(sys.argv[3]) // len(calls)):
            handled = []
            begun = time.monotonic()
            signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-6, spread), 1)
            call()
            while not handled:
                time.sleep(0.001)
            slowest = max(slowest, handled[0] - begun)
        print(name, slowest, slowest < 0.9)
"""
    said = program(body, mechanism, installed, str(SHOTS))
    assert said.count("True") == len(CALLS), said


@pytest.mark.parametrize("mechanism", MECHANISMS)
@pytest.mark.parametrize("call", CALLS)
def test_a_handler_may_start_a_thread_whose_signals_count_as_well(mechanism, call):
    """gotcha:SIG12: the wait that it interrupted goes on, in a program that has two threads now."""
    body = """
def start(sig):
    threading.Thread(target=get_one).start()
def get_one():
    time.sleep(0.05)  # the main thread is to be in its call again, which nothing tells; if not, the test proves less
    signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)
    seen.wait(20)
def end(*_):
    seen.set()
    release()
seen = threading.Event()
hp.SIG["ALRM"] = start
signal.signal(signal.SIGUSR1, end)
with sems, queue, hp.signals.block("USR2"):
    call, release = calls[sys.argv[2]]
    signal.setitimer(signal.ITIMER_REAL, 0.02)
    begun = time.monotonic()
    call()
    print(time.monotonic() - begun < 15)
"""
    assert program(body, mechanism, call) == "True\n"


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_what_a_handler_asks_for_at_its_end_is_done_before_the_call(mechanism):
    """gotcha:SIG17: interrupt_main() sends nothing, so nothing would end the call."""
    body = """
hp.SIG["USR1"] = lambda sig: _thread.interrupt_main(signal.SIGALRM)
signal.signal(signal.SIGALRM, lambda *_: queue.send(b"1"))
with sems, queue:
    signal.setitimer(signal.ITIMER_REAL, 20)
    with hp.signals.block("USR1"):
        os.kill(os.getpid(), signal.SIGUSR1)
        signal.pthread_sigmask(signal.SIG_BLOCK, [])
    begun = time.monotonic()
    queue.receive()
    print(time.monotonic() - begun < 15)
"""
    assert program(body, mechanism) == "True\n"


def test_one_thread_is_guarded_and_two_are_told():
    """That the tests above test what they say, where the machine can do it at all."""
    body = """
print(timed_call.guards())
threading.Thread(target=int).start()
print(timed_call.guards())
with sems, queue: pass
"""
    assert program(body, "told") == "False\nFalse\n"
    if sys.platform == "linux" and os.uname().machine == "x86_64" and os.confstr("CS_GNU_LIBC_VERSION") >= "glibc 2.35":
        assert program(body, "guarded") == "True\nFalse\n"


def test_a_wait_goes_on_without_the_guard_when_a_handler_has_started_a_thread_just_before():
    """gotcha:SIG11: whatever error the handler has met is none of the wait's."""
    body = """
import ctypes, fcntl
from hornpipe._native.buffers import ReadBuffer
# Handlers that are no code of Python's, in which others would be run at once: each sends the next signal, of a lower
# number, which is looked for no sooner than at the next look.
def takes_anything_for(value):
    return type("Argument", (), {"from_param": staticmethod(lambda given: value)})
def sends(number):
    kill = ctypes.CDLL(None)["kill"]
    kill.argtypes = [takes_anything_for(os.getpid()), takes_anything_for(number)]
    return kill
def start(*_):
    threading.Thread(target=os.write, args=(writer.fileno(), b"1\\n")).start()
    try:
        os.stat("/no/such/file")
    except OSError:
        pass
for number, handler in {29: sends(23), 23: sends(12), 12: sends(10), 10: start}.items():
    signal.signal(number, handler)
questions, asking = os.pipe()
fcntl.fcntl(questions, fcntl.F_SETOWN, os.getpid())
fcntl.fcntl(questions, fcntl.F_SETFL, os.O_ASYNC)  # 29 comes with the question
with sems, queue:
    print(ReadBuffer(0).exchange(b"?", asking, reader.fileno(), 64, deadline.after(20)))
"""
    assert program(body, "guarded") == "b'1'\n"
