"""kill, kill_group and alive: the signal first, as in Perl, and never at more than is meant (perlipc:S7, S8)."""

from __future__ import annotations

import os
import signal
import sys
import textwrap

import pytest

import hornpipe as hp
from hornpipe.fd import pipe
from hornpipe.testing.patience import wait_until
from hornpipe.testing.processes import look_at

NOBODY = 65534
A_FREE_PID = 2**22 - 1
"""Nearly the last number the kernel gives (PID_MAX_LIMIT); this machine has not got so far."""


def python(program: str, **options: object) -> str:
    script = "import hornpipe as hp, os, signal, sys\n" + textwrap.dedent(program)
    return hp.cmd(sys.executable, "-W", "error", "-c", script, timeout=20).with_options(**options).read()  # type: ignore[arg-type]


@pytest.fixture
def zombie():
    """The number of a child that has ended and is not reaped."""
    process = hp.cmd("true").start()
    assert process.wait_for_end(-1)
    yield process.pid
    process.wait()


class TestKill:
    """perlipc:S7"""

    @pytest.mark.parametrize("which", ["TERM", "SIGTERM", "term", signal.SIGTERM, 15])
    def test_takes_the_signal_first(self, which):
        with hp.cmd("sleep", "60").start() as process:
            hp.kill(which, process.pid)
            assert process.wait(30).signal == signal.SIGTERM

    def test_takes_several_numbers_and_processes(self):
        """kill HUP => @pids"""
        processes = [hp.cmd("sleep", "60").start() for _ in range(4)]
        hp.kill("HUP", processes[0], processes[1].pid, *processes[2:])
        assert {process.wait(30).signal for process in processes} == {signal.SIGHUP}

    def test_tries_all_and_raises_for_the_first_that_could_not_be_signalled(self):
        with hp.cmd("sleep", "60").start() as process:
            with pytest.raises(ProcessLookupError, match=f"cannot send TERM to process {A_FREE_PID}: No such process"):
                hp.kill("TERM", A_FREE_PID, process)
            assert process.wait(30).signal == signal.SIGTERM

    def test_reaches_a_handler_of_perls(self):
        """perlipc:S7, S1"""
        perl = "$SIG{WINCH} = sub { exit 5 }; $| = 1; print qq(ready\\n); sleep 1 while 1"
        with hp.cmd("perl", "-e", perl, ok_codes=(5,)).reader() as child:
            child.readline()
            hp.kill("WINCH", child.pid)
            assert child.read() == ""

    @pytest.mark.parametrize(("pid", "meaning"), [(0, "our own group"), (-1, "every process"), (-77, "the group 77")])
    def test_refuses_what_would_reach_more_than_one_process(self, pid, meaning):
        """gotcha:SIG9, perlipc:S7"""
        with pytest.raises(ValueError, match=meaning):
            hp.kill("TERM", pid)
        with pytest.raises(ValueError, match=meaning):
            hp.signals.queue("TERM", pid)
        with pytest.raises(ValueError, match=meaning):
            hp.alive(pid)
        with pytest.raises(ValueError, match=meaning):
            hp.signals.kill_group("TERM", pid)

    def test_checks_all_before_it_signals_any(self):
        """gotcha:SIG9"""
        with hp.cmd("sleep", "60").start() as process:
            with pytest.raises(ValueError, match="our own group"):
                hp.kill("TERM", process, 0)
            with pytest.raises(ValueError, match="no signal is named"):
                hp.kill("TREM", process)
            assert process.poll() is None
            process.kill()

    @pytest.mark.parametrize("pid", ["1", 1.0, None, True])
    def test_a_pid_is_a_number(self, pid):
        with pytest.raises(TypeError, match="process number"):
            hp.kill("TERM", pid)

    def test_without_anybody_is_a_mistake(self):
        with pytest.raises(TypeError, match="signal comes first"):
            hp.kill("TERM")

    @pytest.mark.skipif(os.getuid() != 0, reason="somebody whom we may not signal is needed")
    def test_says_whom_one_may_not_signal(self):
        with pytest.raises(hp.RemoteError, match="cannot send TERM to process 1: Operation not permitted"):
            hp.fn(hp.kill, "TERM", 1).with_options(user=NOBODY).call()


class TestKillGroup:
    """perlipc:S7, gotcha:SIG9"""

    def test_reaches_every_member_of_a_group(self):
        script = "sleep 60 & sleep 60 & echo ready; wait"
        with hp.sh(script, new_session=True, check=False).reader() as child:
            child.readline()
            hp.signals.kill_group("KILL", child.pid)
            assert child.read() == ""  # all of them had it open
        assert child.status is not None
        assert child.status.signal == signal.SIGKILL

    def test_of_our_own_spares_us_and_keeps_our_handler(self):
        """perlipc:S7: the page's `local $SIG{HUP} = 'IGNORE'; kill HUP => -$$`, in a group that we do not lead."""
        program = """
            seen = []
            hp.SIG["HUP"] = seen.append
            before = [hp.cmd("sleep", "60").start() for _ in range(3)]
            hp.signals.kill_group("HUP")
            print([str(process.wait(30)) for process in before], seen, hp.SIG["HUP"] == seen.append)
            hp.kill("HUP", os.getpid())
            print(len(seen))
        """
        script = "import hornpipe as hp, os\n" + textwrap.dedent(program)
        # env leads the group, and does not care for HUP.
        leader = hp.sh('trap "" HUP; "$@"; exit $?', new_session=True, timeout=20)
        found = hp.cmd(
            *leader.argv, "sh", "env", "--default-signal=HUP", sys.executable, "-c", script, new_session=True
        )
        assert found.read() == f"{['killed by HUP'] * 3} [] True\n1\n"

    def test_of_our_own_spares_us_also_where_the_signal_is_blocked(self):
        """A signal that is blocked is not discarded by being ignored when it is sent."""
        program = """
            seen = []
            hp.SIG["HUP"] = seen.append
            with hp.signals.block("HUP"):
                hp.signals.kill_group("HUP")
                print(hp.signals.pending())
            print(seen)
        """
        assert python(program, new_session=True) == "()\n[]\n"

    @pytest.mark.parametrize("name", ["KILL", "STOP"])
    def test_refuses_for_our_own_what_cannot_be_ignored(self, name):
        with pytest.raises(ValueError, match=f"kill_group\\('{name}', os.getpgrp\\(\\)\\) says that this is meant"):
            hp.signals.kill_group(name)

    def test_named_our_own_group_may_be_killed(self):
        with pytest.raises(hp.CommandFailed, match="KILL"):
            python("hp.signals.kill_group('KILL', os.getpgrp())", new_session=True)

    def test_that_does_not_exist_is_no_success(self):
        with pytest.raises(ProcessLookupError):
            hp.signals.kill_group("TERM", A_FREE_PID)


class TestAlive:
    """perlipc:S8, gotcha:SIG8"""

    def test_asks_and_touches_nobody(self):
        with hp.watch("USR1") as signals:
            assert hp.alive(os.getpid())
            with pytest.raises(TimeoutError):
                signals.get(timeout=0)
        assert not hp.alive(A_FREE_PID)

    @pytest.mark.usefixtures("with_and_without_pidfd")
    def test_a_zombie_is_not(self, zombie):
        """gotcha:SIG8: kill 0 would succeed."""
        os.kill(zombie, 0)
        assert not hp.alive(zombie)

    @pytest.mark.usefixtures("with_and_without_pidfd")
    def test_a_stopped_one_is(self):
        with hp.cmd("sleep", "60").start() as process:
            process.kill("STOP")
            wait_until(lambda: (seen := look_at(process.pid)) is not None and seen.state == "T")
            assert hp.alive(process.pid)
            process.kill("KILL")

    @pytest.mark.skipif(os.getuid() != 0, reason="somebody whom we may not signal is needed")
    def test_one_that_we_may_not_signal_is(self):
        """gotcha:SIG8: EPERM means that somebody is there."""
        assert hp.fn(hp.alive, 1).with_options(user=NOBODY).call()

    @pytest.mark.usefixtures("with_and_without_pidfd")
    def test_and_then_not_any_more(self):
        reader, writer = pipe()
        with reader, writer:
            process = hp.cmd("cat", stdin=reader.fileno()).start()
        assert process.wait(30)
        assert not hp.alive(process.pid)

    def test_agrees_with_perl(self):
        """perlipc:S8: kill 0 => $pid"""
        for pid in (os.getpid(), os.getppid(), A_FREE_PID):
            said = hp.cmd("perl", "-e", "use Errno; print((kill 0 => shift) || $!{EPERM} ? 1 : 0)", str(pid)).read()
            assert hp.alive(pid) == (said == "1")
