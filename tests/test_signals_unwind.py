"""``unwind``: leaving in good order when told to go, as ``use sigtrap`` makes Perl do (perlipc:S22, gotcha:SIG16)."""

from __future__ import annotations

import os
import re
import signal
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

import hornpipe as hp
from hornpipe.deadline import NEVER
from hornpipe.fd import Descriptor
from hornpipe.testing.between_lines import BeforeLine
from hornpipe.testing.patience import wait_until
from hornpipe.testing.processes import look_at

HEAD = """
import hornpipe as hp, atexit, os, signal, sys, threading, time

def say(text):
    os.write(1, (str(text) + chr(10)).encode())

"""


@contextmanager
def program(body: str, **options: object) -> Iterator[hp.Reader[str]]:
    """A program that has begun; what it says is read, and how it ends is looked at by whoever asks."""
    command = hp.cmd(sys.executable, "-W", "error", "-c", HEAD + textwrap.dedent(body), timeout=20, check=False)
    with command.with_options(**options).reader() as child:  # type: ignore[arg-type]
        yield child


def kill_asleep(which: str, child: hp.Reader[str]) -> None:
    """Not between the interpreter's last look and its call, where a call of Python's own is deaf (gotcha:SIG17)."""
    wait_until(lambda: (seen := look_at(child.pid)) is not None and seen.state == "S")
    hp.kill(which, child.pid)


def ended(child: hp.Reader[str]) -> hp.ExitStatus:
    wait_until(lambda: child.status is not None)
    assert child.status is not None
    return child.status


SERVER = """
    hp.signals.unwind("TERM", "HUP", "INT")
    atexit.register(say, "atexit")
    try:
        say("serving")
        {blocked}
    except Exception:
        say("caught, though nobody may")
    finally:
        say("finally")
"""
BLOCKED = {
    "sleep": "time.sleep(60)",
    "run": "hp.cmd('sleep', '60').run()",
    "lines": "next(hp.cmd('sleep', '60').lines())",
    "watch": "hp.watch('USR1').get()",
    "loop": "[None for _ in iter(int, 1)]",
    "pause": "signal.pause()",
    "a thread": "threading.Event().wait()",
}


class TestBeingTold:
    @pytest.mark.parametrize("which", ["TERM", "HUP", "INT"])
    def test_finally_and_atexit_run_and_then_it_dies_of_the_signal(self, which):
        """perlipc:S22, gotcha:SIG16: whoever waits for it sees why."""
        with program(SERVER.format(blocked="time.sleep(60)")) as child:
            assert child.readline() == "serving\n"
            kill_asleep(which, child)
            assert child.read() == "finally\natexit\n"
            status = ended(child)
        assert (status.code, status.signal) == (None, getattr(signal, f"SIG{which}"))

    @pytest.mark.parametrize("what", BLOCKED)
    def test_whatever_it_was_waiting_for(self, what):
        """perlipc:S22, S13"""
        with program(SERVER.format(blocked=BLOCKED[what])) as child:
            assert child.readline() == "serving\n"
            if what == "loop":
                hp.kill("TERM", child.pid)
            else:
                kill_asleep("TERM", child)
            assert child.read() == "finally\natexit\n"
            assert ended(child).signal == signal.SIGTERM

    def test_perl_sees_the_same_as_from_its_own(self):
        """perlipc:S22: $? & 127 of a system()."""
        body = HEAD + textwrap.dedent(SERVER.format(blocked="os.kill(os.getpid(), 15); time.sleep(60)"))
        perl = "system @ARGV; print $? & 127, qq( ), $? >> 8"
        assert hp.cmd("perl", "-e", perl, sys.executable, "-c", body).read().endswith("atexit\n15 0")

    def test_a_second_one_does_not_disturb_the_leaving(self):
        """perlipc:S22: of the same kind or another; the first is what it dies of."""
        body = """
            hp.signals.unwind("TERM", "HUP")
            try:
                say("serving")
                time.sleep(60)
            finally:
                say("cleaning")
                sys.stdin.readline()
                say("cleaned")
        """
        reader, writer = os.pipe()
        with program(body, stdin=reader) as child:
            os.close(reader)
            assert child.readline() == "serving\n"
            kill_asleep("HUP", child)
            assert child.readline() == "cleaning\n"
            for which in ("TERM", "HUP", "TERM"):
                hp.kill(which, child.pid)
            os.write(writer, b"go\n")
            os.close(writer)
            assert child.read() == "cleaned\n"
            assert ended(child).signal == signal.SIGHUP

    def test_kill_is_for_those_who_cannot_wait(self):
        body = """
            hp.signals.unwind("TERM")
            try:
                say("serving")
                time.sleep(60)
            finally:
                say("cleaning")
                time.sleep(60)
        """
        with program(body) as child:
            child.readline()
            kill_asleep("TERM", child)
            child.readline()
            hp.kill("KILL", child.pid)
            assert ended(child).signal == signal.SIGKILL

    def test_output_that_was_buffered_is_written(self):
        body = """
            hp.signals.unwind("TERM")
            print("buffered")
            say("serving")
            time.sleep(60)
        """
        with program(body) as child:
            assert child.readline() == "serving\n"
            kill_asleep("TERM", child)
            assert child.read() == "buffered\n"

    def test_no_traceback_is_printed(self):
        with program(SERVER.format(blocked="time.sleep(60)"), stderr=hp.STDOUT) as child:
            child.readline()
            kill_asleep("TERM", child)
            assert child.read() == "finally\natexit\n"

    def test_it_says_who_it_was(self):
        body = """
            hp.signals.unwind("TERM")
            try:
                say("serving")
                time.sleep(60)
            except SystemExit as told:
                say(f"{told.code} {told.signal} {told}")
                raise
        """
        with program(body) as child:
            child.readline()
            kill_asleep("TERM", child)
            assert child.read() == f"143 TERM told to end by TERM from pid {os.getpid()}\n"

    def test_a_forked_callable_does_the_same(self):
        """perlipc:S22: atexit is its parent's, the rest is its own."""

        def serve() -> None:
            hp.signals.unwind("TERM")
            try:
                os.write(1, b"serving\n")
                signal.pause()
            finally:
                os.write(1, b"finally\n")

        with hp.fn(serve).with_options(check=False).reader() as child:
            child.readline()
            kill_asleep("TERM", child)
            assert child.read() == "finally\n"
            assert ended(child).signal == signal.SIGTERM


class TestItsChildren:
    """perlipc:S22: the end of a process is the end of what it has started, unless it said otherwise."""

    BODY = """
        hp.signals.unwind("TERM")
        started = hp.cmd("sleep", "60").start()
        stubborn = hp.sh('trap "" TERM; exec sleep 60').start()
        background = hp.cmd("sleep", "60").background()
        stopped = hp.cmd("sleep", "60").start()
        say(f"{started.pid} {stubborn.pid} {stopped.pid} {background.pid}")
        AFTER
    """

    def test_started_ones_are_ended_and_those_in_the_background_stay(self):
        with program(self.BODY.replace("AFTER", "stopped.kill('STOP'); time.sleep(60)"), stderr=hp.NULL) as child:
            *started, background = map(int, child.readline().split())
            kill_asleep("TERM", child)
            assert ended(child).signal == signal.SIGTERM
            for pid in started:
                wait_until(lambda pid=pid: look_at(pid) is None, what=f"the end of {pid}")
            assert hp.alive(background)
            hp.kill("KILL", background)

    def test_when_nobody_told_it_to_end_they_are_nobodys_business(self):
        """Only the warning that somebody forgot them."""
        with program(self.BODY.replace("AFTER", "sys.exit(3)"), stderr=hp.NULL) as child:
            pids = [int(pid) for pid in child.readline().split()]
            assert ended(child).code == 3
            assert all(hp.alive(pid) for pid in pids)
            hp.kill("KILL", *pids)


class TestOtherwise:
    @pytest.mark.parametrize(
        ("leave", "code"),
        [
            ("sys.exit(0)", 0),
            ("sys.exit(7)", 7),
            ("sys.exit('why')", 1),
            ("pass", 0),
            ("raise LookupError", 1),
            ("os._exit(9)", 9),
        ],
    )
    def test_exit_codes_are_what_they_were(self, leave, code):
        """perlipc:S22"""
        body = f"""
            hp.signals.unwind("TERM")
            {leave}
        """
        with program(body, stderr=hp.NULL) as child:
            child.read()
            assert ended(child).code == code

    def test_other_handlers_go_on(self):
        body = """
            hp.signals.unwind("TERM")
            hp.SIG["USR1"] = lambda sig: say("USR1")
            say("serving")
            while True:
                signal.pause()
        """
        with program(body) as child:
            child.readline()
            kill_asleep("USR1", child)
            assert child.readline() == "USR1\n"
            kill_asleep("TERM", child)
            assert ended(child).signal == signal.SIGTERM

    def test_it_is_a_handler_like_any_other_and_can_be_put_away(self):
        program_ = """
            hp.signals.unwind("TERM")
            with hp.SIG.local(TERM="IGNORE"):
                hp.kill("TERM", os.getpid())
            hp.SIG["TERM"] = "DEFAULT"
            hp.kill("TERM", os.getpid())
        """
        with program(program_) as child:
            assert child.read() == ""
            assert ended(child).signal == signal.SIGTERM

    def test_an_unknown_name_changes_nothing(self):
        for bad, why in (("TREM", "did you mean"), ("KILL", "cannot be caught"), ("SEGV", re.escape("faulthandler"))):
            with pytest.raises(ValueError, match=why):
                hp.signals.unwind(bad)
        assert hp.SIG["TERM"] == "DEFAULT"


def test_no_handler_runs_in_the_finalizer_of_a_descriptor():
    """gotcha:SIG17: what it raised there, be it KeyboardInterrupt, would be lost; a server missed its INT that way."""
    places: list[str] = []
    before = signal.signal(signal.SIGALRM, lambda _, frame: places.append(frame.f_code.co_name))
    signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)
    try:
        while len(places) < 300:
            Descriptor(-1)
            Descriptor(os.dup(0)).close()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert "__del__" not in places


def ended_process() -> hp.Process:
    process = hp.cmd("true").start()
    process.wait_for_end(NEVER)
    return process


FORGOTTEN = {
    "a descriptor": lambda: Descriptor(os.open(os.devnull, os.O_RDONLY)),
    "a watch": lambda: hp.watch("USR1"),
    "a process": ended_process,
    "lines": lambda: hp.cmd("yes").lines(),
    "a writer": lambda: hp.cmd("cat").writer(),
    "pexpect.spawn": lambda: hp.expect.spawn("cat"),
}


@pytest.mark.parametrize("kind", FORGOTTEN)
def test_what_a_handler_raises_in_a_finalizer_is_not_lost(kind):
    """gotcha:SIG17: the interpreter prints it and goes on. It comes where the object was forgotten, which is ended."""

    def interrupt() -> None:
        raise KeyboardInterrupt

    forgotten = [FORGOTTEN[kind]()]
    with pytest.raises(KeyboardInterrupt), BeforeLine(1, interrupt):
        forgotten.clear()
        for _ in range(1000):
            pass
