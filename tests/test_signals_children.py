"""CHLD and its handlers beside hornpipe's own reaping, and what bounds a call that cannot be interrupted.

A Perl programmer writes a REAPER first, and so do frameworks: whatever it does, no status of ours is lost,
none is made up, and nothing hangs.
"""

from __future__ import annotations

import os
import platform
import signal
import sys
import textwrap
import threading
import time

import pytest

import hornpipe as hp
from hornpipe.fd import pipe
from hornpipe.testing.patience import wait_until
from hornpipe.testing.processes import children, look_at

# From 6.15 on, a pidfd keeps the status of a process that somebody else has reaped.
KERNEL_KEEPS_STATUSES = tuple(int(part) for part in platform.release().split(".")[:2]) >= (6, 15)
CROWD = 1000


def crowd(size: int, watched: list[hp.Process] | None = None) -> list[hp.Process]:
    """So many children that all end at the same moment, each with a status of its own; put in ``watched`` before."""
    reader, writer = pipe()
    with reader, writer:
        script = ("sh", "-c", "read line; exit $0")
        started = [hp.cmd(*script, str(n % 200), stdin=reader.fileno()).start() for n in range(size)]
        if watched is not None:
            watched.extend(started)
        # The write end is closed last: from then on they all read the end of file.
        return started


def greedy(sig: hp.Signal) -> None:
    """The page's first REAPER: it takes every status there is."""
    while True:
        try:
            if os.waitpid(-1, os.WNOHANG) == (0, 0):
                return
        except ChildProcessError:
            return


@pytest.mark.usefixtures("many_descriptors")
class TestAThousandDeathsAtOnce:
    """perlipc:S10, gotcha:SIG7: one CHLD may stand for many of them."""

    def test_with_a_handler_that_looks_at_each(self):
        """perlipc:S10, gotcha:SIG15: it interrupts us just when we look ourselves."""
        ended: dict[int, int | None] = {}
        running: list[hp.Process] = []

        def reaper(sig: hp.Signal) -> None:
            for process in list(running):
                status = process.poll()
                if status is not None and process in running:
                    running.remove(process)
                    ended[process.pid] = status.code

        with hp.SIG.local(CHLD=reaper):
            processes = crowd(CROWD, running)
            assert [process.wait(20).code for process in processes] == [n % 200 for n in range(CROWD)]
            wait_until(lambda: not running)
        assert [ended[process.pid] for process in processes] == [n % 200 for n in range(CROWD)]
        assert children() == []

    def test_with_a_watch_in_another_thread(self):
        """perlipc:S10, S18"""
        told: list[hp.Signal] = []
        with hp.watch("CHLD") as signals:
            thread = threading.Thread(target=lambda: told.extend(signals))
            thread.start()
            processes = crowd(CROWD)
            assert [process.wait(20).code for process in processes] == [n % 200 for n in range(CROWD)]
            signals.close()
            thread.join()
        numbers = {process.pid: n % 200 for n, process in enumerate(processes)}
        # One whose exec took long has been started anew, and the first try has died as well.
        of_ours = [sig for sig in told if sig.pid in numbers]
        assert of_ours
        for sig in of_ours:  # fewer than there were deaths, but what each says is true
            assert sig.status is not None
            assert sig.status.code == numbers[sig.pid]
        assert children() == []

    @pytest.mark.usefixtures("with_and_without_pidfd")
    def test_in_the_background_nobody_looks(self):
        """perlipc:S10, D4: the dropped ones are reaped too, beside a handler of CHLD."""
        seen: list[hp.Signal] = []
        with hp.SIG.local(CHLD=seen.append):
            pids = [hp.cmd("true").background().pid for _ in range(100)]
            wait_until(lambda: all(look_at(pid) is None for pid in pids), 10)
        assert seen

    def test_the_thread_that_reaps_takes_no_signals(self):
        """gotcha:SIG14: a signal that is blocked in all of the program's threads would be handled because of ours."""
        background = hp.cmd("sleep", "60").background()
        seen: list[hp.Signal] = []
        with hp.SIG.local(USR1=seen.append):
            with hp.signals.block("USR1"):
                hp.kill("USR1", os.getpid())
                assert hp.signals.pending() == ("USR1",)
                assert seen == []
            assert len(seen) == 1
        background.kill("KILL")
        wait_until(lambda: look_at(background.pid) is None)


@pytest.mark.usefixtures("with_and_without_pidfd")
class TestAHandlerOfChld:
    def test_may_wait_for_the_very_process_that_is_being_waited_for(self):
        """gotcha:SIG15, R3: 1. The main program waits.  2. The child ends.  3. The handler does the same."""
        found: list[hp.ExitStatus] = []
        running: list[hp.Process] = []
        with hp.SIG.local(CHLD=lambda sig: found.extend(process.wait(30) for process in running)):
            for n in range(50):
                process = hp.cmd("sh", "-c", f"read line; exit {n}", check=False, input="go\n").start()
                running[:] = [process]
                assert process.wait(30).code == n
        assert {status.code for status in found} <= set(range(50))
        assert len(found) > 25  # the others ended before we were ready

    def test_may_signal_the_process_that_is_being_signalled(self):
        """gotcha:R1, SIG15"""
        for _ in range(50):
            process = hp.cmd("sleep", "60").start()
            with hp.SIG.local(CHLD=lambda sig, process=process: process.kill("TERM")):
                for _ in range(20):
                    process.kill("KILL")
                assert process.wait(30).signal == signal.SIGKILL

    def test_that_raises_ends_what_was_run_and_reaps_it(self):
        """perlipc:S9"""

        def die(sig: hp.Signal) -> None:
            raise LookupError

        with pytest.raises(LookupError), hp.SIG.local(CHLD=die):
            hp.sh("sleep 0.1; sleep 0.1").run()
            pytest.fail("the handler comes before the end of the block")
        assert children() == []

    def test_runs_children_of_its_own(self):
        """perlipc:S10b: system inside a REAPER, with its own status."""
        codes: list[int | None] = []

        def handler(sig: hp.Signal) -> None:
            if len(codes) < 3:
                codes.append(None)
                codes[-1] = hp.sh("exit 4", check=False).run().code

        with hp.SIG.local(CHLD=handler):
            assert hp.sh("exit 5", check=False).run().code == 5
            wait_until(lambda: codes and None not in codes)
        assert set(codes) == {4}


@pytest.mark.usefixtures("with_and_without_pidfd")
class TestAStatusThatSomebodyElseTook:
    """perlipc:S4, S10b, gotcha:SIG6, SIG7"""

    def check(self, status: hp.ExitStatus, code: int, mechanism: str) -> None:
        if KERNEL_KEEPS_STATUSES and mechanism == "pidfd":
            assert status.known
        if status.known:
            assert status.code == code
        else:
            assert not status
            assert "unknown" in str(status)

    def test_by_a_greedy_reaper(self, with_and_without_pidfd):
        """perlipc:S10b"""
        with hp.SIG.local(CHLD=greedy):
            for _ in range(30):
                self.check(hp.sh("exit 7", check=False).run(), 7, with_and_without_pidfd)
                self.check(hp.sh("exit 7", check=False).capture().status, 7, with_and_without_pidfd)

    def test_by_the_kernel_as_chld_is_ignored(self, with_and_without_pidfd):
        """perlipc:S4"""
        with hp.SIG.local(CHLD="IGNORE"):
            assert hp.SIG["CHLD"] == "IGNORE"
            self.check(hp.sh("exit 7", check=False).run(), 7, with_and_without_pidfd)
            with hp.sh("exit 7", check=False).start() as process:
                self.check(process.wait(30), 7, with_and_without_pidfd)
            for _ in range(20):  # a callable that has ended before its supervisor looks at it
                assert hp.fn(pow, 2, 3).with_options(contain=True).call() == 8
            assert children() == []
            with pytest.raises(ChildProcessError):  # what the page says of wait()
                os.wait()

    def test_by_the_kernel_as_no_zombies_are_wanted(self, with_and_without_pidfd):
        """perlipc:S14: SA_NOCLDWAIT, with a handler that is still told."""
        seen: list[hp.Signal] = []
        with hp.SIG.local(CHLD="DEFAULT"):
            hp.signals.sigaction("CHLD", seen.append, nocldwait=True)
            self.check(hp.sh("exit 7", check=False).run(), 7, with_and_without_pidfd)
            wait_until(lambda: seen)
        assert children() == []


def test_chld_ignored_by_whoever_started_us_costs_no_status():
    """perlipc:S4, gotcha:SIG6: `$SIG{CHLD} = 'IGNORE'` in Perl goes over exec."""
    script = """
        import hornpipe as hp
        status = hp.sh("exit 7", check=False).run()
        print(hp.SIG["CHLD"], status.code if status.known else status)
        print(hp.fn(pow, 2, 10).call() if status.known else 1024, hp.cmd("echo", "read", check=False).read(), end="")
    """
    perl = "$SIG{CHLD} = 'IGNORE'; exec @ARGV"
    said = hp.cmd("perl", "-e", perl, sys.executable, "-c", textwrap.dedent(script), timeout=20).read().splitlines()
    code = "7" if KERNEL_KEEPS_STATUSES else "status unknown: SIGCHLD is ignored, so the kernel reaped the process"
    assert said == [f"IGNORE {code}", "1024 read"]


def test_timing_out_leaves_no_zombie():
    """perlipc:S11b: the page's way around system and backticks does; here they are counted."""
    for command in (hp.cmd("sleep", "60"), hp.sh("sleep 60 | cat"), hp.fn(signal.pause)):
        for verb in ("run", "read", "capture"):
            with pytest.raises(TimeoutError):
                getattr(command.with_options(timeout=0.02, grace=0), verb)()
            assert children() == []


class TestACallThatNobodyCanInterrupt:
    """perlipc:S15, S20"""

    def test_is_bounded_in_a_child(self):
        """perlipc:S20: one long opcode, in which no handler of Python's would ever run (gotcha:SIG1)."""
        limited = hp.fn(sum, range(10**12)).with_options(timeout=0.3, grace=0)
        begin = time.monotonic()
        with pytest.raises(TimeoutError, match="did not finish within 0.3 s"):
            limited.call()
        assert time.monotonic() - begin < 0.3 + 5
        assert children() == []

    def test_name_look_up_that_gets_no_answer_is_bounded(self, tmp_path):
        """perlipc:S15: gethostbyname retries by itself; its server here takes questions and never answers."""
        (tmp_path / "resolv.conf").write_text("nameserver 127.0.0.1\noptions timeout:20 attempts:3\n")
        script = """
            import fcntl, socket, struct, sys, time
            import hornpipe as hp
            with socket.socket(type=socket.SOCK_DGRAM) as server:
                fcntl.ioctl(server, 0x8914, struct.pack("16sh", b"lo", 1))  # SIOCSIFFLAGS: up
                server.bind(("127.0.0.1", 53))
                begin = time.monotonic()
                try:
                    hp.fn(socket.gethostbyname, "example.test").with_options(timeout=0.5, grace=0).call()
                except TimeoutError as error:
                    print(server.recv(100, socket.MSG_DONTWAIT) != b"", time.monotonic() - begin, error)
        """
        inside = f'mount --bind {tmp_path}/resolv.conf /etc/resolv.conf && exec "$@"'
        private = hp.cmd("unshare", "-rmn", "sh", "-c", inside, "sh", check=False)
        if not private.with_options(stderr=hp.NULL).run():
            pytest.skip("no private namespaces here")
        found = hp.cmd(*private.argv, sys.executable, "-c", textwrap.dedent(script), timeout=20).read()
        asked, seconds, error = found.split(maxsplit=2)
        assert asked == "True"
        assert "did not finish within 0.5 s" in error
        assert 0.5 <= float(seconds) < 0.5 + 5

    def test_delays_a_handler_and_the_signal_says_by_how_much(self):
        """perlipc:S20, gotcha:SIG1: the time of arrival is taken down in C, whatever the interpreter does."""
        script = """
            import hornpipe as hp, signal, time
            hp.SIG["ALRM"] = lambda sig: print(sig.time - begin, time.monotonic() - begin)
            begin = time.monotonic()
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            sum(range(4 * 10**7))
        """
        arrived, handled = map(float, hp.cmd(sys.executable, "-c", textwrap.dedent(script)).read().split())
        assert arrived >= 0.05
        assert handled > arrived + 0.1
        assert arrived < (0.05 + handled) / 2  # it came when it was due, and was handled when the call was over
