"""What a signal does at once, even while the interpreter is stuck in one long call (perlipc:S21).

Perl had "unsafe" signals and PERL_SIGNALS=unsafe for this, at the price of a core dump now and then. Here it is a
closed list of actions that are safe in C; arbitrary Python is none of them.
"""

from __future__ import annotations

import os
import signal
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import hornpipe as hp
from hornpipe.signals import Immediate
from hornpipe.testing.patience import wait_until
from hornpipe.testing.processes import read_proc

HEAD = """
import hornpipe as hp, os, signal, sys, threading
from hornpipe.signals import Immediate

def stuck():
    os.write(1, b"ready\\n")
    sum(range(10**12))          # one long C call: no handler in Python comes through

"""


@contextmanager
def program(body: str, **options: object) -> Iterator[hp.Reader[str]]:
    """A program that has set its actions and is stuck by now."""
    command = hp.cmd(sys.executable, "-W", "error", "-c", HEAD + textwrap.dedent(body), timeout=20, check=False)
    with command.with_options(**options).reader() as child:  # type: ignore[arg-type]
        assert child.readline() == "ready\n"
        yield child


def ended(child: hp.Reader[str]) -> hp.ExitStatus:
    wait_until(lambda: child.status is not None)
    assert child.status is not None
    return child.status


def ticks(pid: int) -> int:
    """Time of the processor that it has used (proc(5), utime)."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11])


class TestWhileTheInterpreterIsStuck:
    def test_a_handler_in_python_does_not_come_through(self):
        """gotcha:SIG1: what these actions are for."""
        with program("hp.SIG['TERM'] = lambda sig: os._exit(1); stuck()") as child:
            # It has said that it is ready just before the long call: some time of the processor later it is inside.
            begun = ticks(child.pid)
            wait_until(lambda: ticks(child.pid) >= begun + 3)
            hp.kill("TERM", child.pid)
            wait_until(lambda: not pending(child.pid, signal.SIGTERM))  # it has been taken down
            assert child.status is None
            hp.kill("KILL", child.pid)
            assert ended(child).signal == signal.SIGKILL

    @pytest.mark.parametrize("code", [0, 3, 255])
    def test_exit(self, code):
        """perlipc:S21"""
        with program(f"hp.SIG['TERM'] = Immediate.exit({code}); stuck()") as child:
            hp.kill("TERM", child.pid)
            assert ended(child).code == code

    def test_write_and_then_exit(self):
        """perlipc:S21: in the order in which they are joined."""
        action = "Immediate.write(1, b'one ') + Immediate.write(1, b'two\\n') + Immediate.exit(3)"
        with program(f"hp.SIG['TERM'] = {action}; stuck()") as child:
            hp.kill("TERM", child.pid)
            assert child.read() == "one two\n"
            assert ended(child).code == 3

    def test_write_and_go_on(self):
        """perlipc:S21: what the stuck call is doing is not disturbed."""
        with program("hp.SIG['USR1'] = Immediate.write(1, b'alive\\n'); stuck()") as child:
            for _ in range(3):
                hp.kill("USR1", child.pid)
                assert child.readline() == "alive\n"
            hp.kill("KILL", child.pid)

    def test_kill_the_group(self):
        """perlipc:S21"""
        body = """
            hp.cmd("sleep", "60").background()
            hp.SIG["HUP"] = Immediate.kill_group("KILL")
            stuck()
        """
        with program(body, new_session=True) as child:
            hp.kill("HUP", child.pid)
            assert child.read() == ""  # the one in the background had it open too
            assert ended(child).signal == signal.SIGKILL

    def test_dump_the_traceback(self):
        """perlipc:S21: of every thread, by faulthandler."""
        body = """
            over = threading.Event()
            threading.Thread(target=over.wait, daemon=True).start()
            hp.SIG["USR1"] = Immediate.dump_traceback(1) + Immediate.exit(4)
            stuck()
        """
        with program(body) as child:
            hp.kill("USR1", child.pid)
            dump = child.read()
            assert ended(child).code == 4
        assert "in stuck" in dump
        assert dump.count("hread 0x") == 2


class TestAsADisposition:
    def test_is_read_back_and_scoped(self):
        """perlipc:S6"""
        reader, writer = os.pipe()
        action = Immediate.write(writer, b"!")
        handled: list[hp.Signal] = []
        with hp.SIG.local(USR1=handled.append):
            with hp.SIG.local(USR1=action):
                assert hp.SIG["USR1"] is action
                hp.kill("USR1", os.getpid())
                with hp.SIG.local(USR1="IGNORE"):
                    hp.kill("USR1", os.getpid())
                hp.kill("USR1", os.getpid())
            hp.kill("USR1", os.getpid())
        os.close(writer)
        assert os.read(reader, 9) == b"!!"
        os.close(reader)
        assert len(handled) == 1

    def test_a_traceback_is_dumped_where_the_scope_says_and_nowhere_else(self, tmp_path):
        with open(tmp_path / "trace", "w+") as trace:
            with hp.SIG.local(USR1=Immediate.dump_traceback(trace.fileno())):
                hp.kill("USR1", os.getpid())
            with hp.SIG.local(USR1="IGNORE"):
                hp.kill("USR1", os.getpid())
            trace.seek(0)
            assert trace.read().count("most recent call first") == 1

    def test_a_watch_gets_the_signal_too(self):
        reader, writer = os.pipe()
        with hp.SIG.local(USR1=Immediate.write(writer, b"!")), hp.watch("USR1") as signals:
            hp.kill("USR1", os.getpid())
            assert str(signals.get(timeout=30)) == "USR1"
        assert os.read(reader, 9) == b"!"
        os.close(reader)
        os.close(writer)

    def test_a_forked_callable_has_none_of_it(self):
        """gotcha:SIG13"""
        reader, writer = os.pipe()

        def child() -> list[str]:
            seen: list[str] = []
            hp.SIG["USR1"] = lambda sig: seen.append(str(sig))
            hp.kill("USR1", os.getpid())
            return seen

        with hp.SIG.local(USR1=Immediate.write(writer, b"!")):
            assert hp.fn(child).with_options(pass_fds=[writer]).call() == ["USR1"]
        os.close(writer)
        assert os.read(reader, 9) == b""
        os.close(reader)

    def test_says_what_it_does(self):
        action = Immediate.write(2, b"x") + Immediate.kill_group("TERM") + Immediate.exit(1)
        assert repr(action) == "<Immediate write(2, b'x') + kill_group('TERM') + exit(1)>"


class TestWhatIsRefused:
    def test_python(self):
        """perlipc:S21: with the reason; a callable is called at the next safe point instead."""
        with pytest.raises(TypeError, match=r"cannot be done at once: .* may hold any lock.* at the next safe point"):
            Immediate.exit(3) + print  # type: ignore[operator]

    def test_more_than_a_few(self):
        action = Immediate.exit(1)
        with pytest.raises(ValueError, match="at most 4 things"):
            action + action + action + action + action

    @pytest.mark.parametrize("code", [-1, 256])
    def test_codes_that_are_none(self, code):
        with pytest.raises(ValueError, match="between 0 and 255"):
            Immediate.exit(code)

    @pytest.mark.parametrize("name", ["KILL", "STOP"])
    def test_signals_that_cannot_be_caught(self, name):
        """perlipc:S5"""
        with pytest.raises(ValueError, match="cannot be caught"):
            hp.SIG[name] = Immediate.exit(1)

    def test_a_descriptor_that_is_not_open(self):
        with pytest.raises(OSError, match="Bad file descriptor"), hp.SIG.local(USR1=Immediate.dump_traceback(999)):
            pass
        assert hp.SIG["USR1"] == "DEFAULT"


def pending(pid: int, number: int) -> bool:
    fields = dict(line.split(b":\t", 1) for line in read_proc(pid, "status").splitlines())
    return bool(int(fields[b"ShdPnd"], 16) >> (number - 1) & 1)
