"""sigaction with its flags, and block, pending, suspend and wait: the POSIX that the page asks for (perlipc:S14)."""

from __future__ import annotations

import os
import signal
import sys
import textwrap
import threading
import time

import pytest

import hornpipe as hp
from hornpipe.testing.patience import wait_until

signals = hp.signals


def mask() -> set[str]:
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    return {entry.name for entry in hp.SIG.table() if entry.number in blocked}


def python(program: str) -> str:
    script = "import hornpipe as hp, os, signal, sys, threading, time\n" + textwrap.dedent(program)
    return hp.cmd(sys.executable, "-W", "error", "-c", script, timeout=20).read()


def later(seconds: float) -> None:
    """ALRM, from the kernel; the program's own timer, which hornpipe leaves alone."""
    signal.setitimer(signal.ITIMER_REAL, seconds)


class TestSigaction:
    """perlipc:S14"""

    def test_resethand_is_once_and_then_the_default(self):
        """perlipc:S19: SysV's way, as a choice."""
        seen: list[hp.Signal] = []
        with hp.SIG.local(WINCH="DEFAULT"):
            signals.sigaction("WINCH", seen.append, resethand=True)
            assert hp.SIG["WINCH"] == seen.append
            hp.kill("WINCH", os.getpid())
            assert hp.SIG["WINCH"] == "DEFAULT"
            assert signal.getsignal(signal.SIGWINCH) == signal.SIG_DFL
            hp.kill("WINCH", os.getpid())
            assert len(seen) == 1
            assert hp.SIG.displaced() == ()

    def test_resethand_in_its_own_handler(self):
        """The kernel has put it back before the handler runs, so that it may kill itself in earnest."""
        program = """
            def handler(sig):
                os.write(1, b"handled")
                hp.kill(sig.number, os.getpid())
            hp.signals.sigaction("TERM", handler, resethand=True)
            hp.kill("TERM", os.getpid())
        """
        with pytest.raises(hp.CommandFailed) as caught:
            python(program)
        assert (caught.value.stdout, caught.value.status.signal) == ("handled", signal.SIGTERM)

    def test_nodefer_lets_a_handler_interrupt_itself(self):
        order: list[str] = []

        def handler(sig: hp.Signal) -> None:
            order.append("begin")
            if len(order) < 3:
                hp.kill("USR1", os.getpid())
            order.append("end")

        with hp.SIG.local(USR1="DEFAULT"):
            signals.sigaction("USR1", handler, nodefer=True)
            hp.kill("USR1", os.getpid())
        assert order == ["begin"] * 3 + ["end"] * 3

    def test_mask_lets_others_wait_until_the_handler_is_done(self):
        order: list[str] = []

        def handler(sig: hp.Signal) -> None:
            for name in ("USR2", "HUP", "WINCH"):
                hp.kill(name, os.getpid())
            order.append("end")

        def other(sig: hp.Signal) -> None:
            order.append(str(sig))

        with hp.SIG.local(USR1="DEFAULT", USR2=other, HUP=other, WINCH=other):
            signals.sigaction("USR1", handler, mask=["USR2", "SIGHUP"])
            hp.kill("USR1", os.getpid())
            wait_until(lambda: len(order) == 4)
        assert order == ["WINCH", "end", "USR2", "HUP"]

    def test_mask_holds_for_the_handler_alone(self):
        """What it raises ends it, and with it the waiting of the others."""
        seen: list[str] = []

        def die(sig: hp.Signal) -> None:
            hp.kill("USR2", os.getpid())
            raise LookupError

        with hp.SIG.local(USR1="DEFAULT", USR2=lambda sig: seen.append(str(sig))):
            signals.sigaction("USR1", die, mask=["USR2"])
            for count in (1, 2):
                with pytest.raises(LookupError):
                    hp.kill("USR1", os.getpid())
                wait_until(lambda count=count: len(seen) == count)

    def test_nocldstop_is_told_of_deaths_only(self):
        seen: list[hp.Signal] = []
        with hp.SIG.local(CHLD="DEFAULT"):
            signals.sigaction("CHLD", seen.append, nocldstop=True)
            with hp.cmd("sleep", "60").start() as process:
                for which, what in (("STOP", os.WSTOPPED), ("CONT", os.WCONTINUED)):
                    process.kill(which)
                    os.waitid(os.P_PID, process.pid, what)
                process.kill()
                process.wait(30)
                wait_until(lambda: seen)
        assert [sig.code for sig in seen] == ["KILLED"]

    def test_nocldwait_leaves_no_zombie(self):
        with hp.SIG.local(CHLD="DEFAULT"):
            signals.sigaction("CHLD", "DEFAULT", nocldwait=True)
            pid = os.posix_spawnp("true", ["true"], {})
            with pytest.raises(ChildProcessError):
                os.waitpid(pid, 0)

    @pytest.mark.parametrize("restart", [True, False])
    def test_restart_goes_on_with_calls_that_nobody_else_restarts(self, restart):
        """perlipc:S13, S14: of a library that knows nothing of EINTR; Python's own calls go on in any case."""
        program = """
            import ctypes
            from hornpipe._native.signals import counted
            libc = ctypes.CDLL(None, use_errno=True)
            hp.signals.sigaction("ALRM", lambda sig: None, restart=%r)
            reader, writer = os.pipe()
            def arrived():
                return sum(counted(signal.SIGALRM))
            def reading():
                with open(f"/proc/self/task/{os.getpid()}/syscall") as file:
                    return file.read().split()[:2] == [number, hex(reader)]
            def feed():  # once some have come while the main thread was in read(2)
                since = None
                while since is None or arrived() < since + 3:
                    time.sleep(0.001)
                    since = (arrived() if since is None else since) if reading() else None
                os.write(writer, b"data")
            number = {"x86_64": "0", "aarch64": "63"}[os.uname().machine]
            threading.Thread(target=feed, daemon=True).start()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGALRM])
            signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
            buffer = ctypes.create_string_buffer(9)
            print(libc.read(reader, buffer, 9), os.strerror(ctypes.get_errno()))
        """
        expected = "4 Success\n" if restart else "-1 Interrupted system call\n"
        # The other thread must not be the one that takes the signal.
        before = "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])\n"
        assert python(before + textwrap.dedent(program % restart)) == expected

    def test_flags_are_put_back_by_a_scope(self):
        """gotcha:SIG5: exactly what was there, flags included."""
        seen: list[hp.Signal] = []
        with hp.SIG.local(USR1="DEFAULT"):
            signals.sigaction("USR1", seen.append, resethand=True)
            with hp.SIG.local(USR1="IGNORE"):
                hp.kill("USR1", os.getpid())
            hp.kill("USR1", os.getpid())
            assert hp.SIG["USR1"] == "DEFAULT"
        assert len(seen) == 1

    def test_a_bad_mask_changes_nothing(self):
        for bad in (["KILL"], ["NOPE"], [99]):
            with pytest.raises(ValueError, match="KILL cannot be|no signal"):
                signals.sigaction("USR1", print, mask=bad)
        assert hp.SIG["USR1"] == "DEFAULT"


class TestBlockAndPending:
    """perlipc:S14"""

    def test_hold_back_until_the_end_of_the_block(self):
        seen: list[str] = []
        with hp.SIG.local(dict.fromkeys(["USR1", "RTMIN+3"], lambda sig: seen.append(str(sig)))):
            with signals.block("SIGUSR1", signal.SIGRTMIN + 3):
                hp.kill("USR1", os.getpid())
                hp.signals.queue("RTMIN+3", os.getpid())
                assert signals.pending() == ("USR1", "RTMIN+3")
                assert seen == []
            assert sorted(seen) == ["RTMIN+3", "USR1"]
            assert signals.pending() == ()

    def test_nest_and_open_only_what_they_closed(self):
        with signals.block("USR1"):
            with signals.block("USR1", "USR2"):
                assert mask() == {"USR1", "USR2"}
            assert mask() == {"USR1"}
        assert mask() == set()

    def test_one_block_may_be_entered_twice(self):
        block = signals.block("USR1")
        with block, block:
            assert mask() == {"USR1"}
        assert mask() == set()

    def test_a_handler_may_raise_at_the_end_and_the_mask_is_open(self):
        def die(sig: hp.Signal) -> None:
            raise LookupError

        with hp.SIG.local(USR1=die):
            with pytest.raises(LookupError), signals.block("USR1"):
                hp.kill("USR1", os.getpid())
            assert mask() == set()

    def test_a_handler_that_raises_at_any_moment_leaves_no_mask_behind(self):
        """gotcha:SIG13: also between the blocking and the first line of the block."""
        raised = 0

        def die(sig: hp.Signal) -> None:
            raise LookupError

        with hp.SIG.local(ALRM=die):
            for n in range(500):
                try:
                    later(1e-6 + n % 100 * 1e-6)
                    with signals.block("USR1"):
                        pass
                    signals.suspend(timeout=30)
                except LookupError:
                    raised += 1
                assert mask() == set()
        assert raised == 500

    def test_are_the_threads_own(self):
        """gotcha:SIG14: while another thread has it open, that one gets it."""
        seen: list[str] = []
        over = threading.Event()
        thread = threading.Thread(target=over.wait)
        thread.start()
        with hp.SIG.local(USR1=lambda sig: seen.append(str(sig))), signals.block("USR1"):
            hp.kill("USR1", os.getpid())
            wait_until(lambda: seen)
        over.set()
        thread.join()


class TestSuspend:
    """perlipc:S14"""

    def test_opens_and_waits_in_one_step(self):
        """A signal that came before is handled in it, and not missed."""
        seen: list[str] = []
        with hp.SIG.local(USR1=lambda sig: seen.append(str(sig))), signals.block("USR1"):
            for count in (1, 2, 3):
                hp.kill("USR1", os.getpid())
                assert len(seen) == count - 1
                signals.suspend("USR1", timeout=30)
                assert len(seen) == count
                assert mask() == {"USR1"}

    def test_of_one_leaves_the_others_blocked(self):
        seen: list[str] = []
        with hp.SIG.local(dict.fromkeys(["USR1", "USR2"], lambda sig: seen.append(str(sig)))):
            with signals.block("USR1", "USR2"):
                hp.kill("USR1", os.getpid())
                hp.kill("USR2", os.getpid())
                signals.suspend("USR2", timeout=30)
                assert seen == ["USR2"]
            assert seen == ["USR2", "USR1"]

    def test_is_over_in_time_and_blocks_again(self):
        begin = time.monotonic()
        with signals.block("USR1"):
            with pytest.raises(TimeoutError, match=r"no signal was handled within 0\.1 s"):
                signals.suspend("USR1", timeout=0.1)
            assert mask() == {"USR1"}
        assert 0.1 <= time.monotonic() - begin < 0.1 + 5

    def test_raises_what_the_handler_raises_and_blocks_again(self):
        def die(sig: hp.Signal) -> None:
            raise LookupError

        with hp.SIG.local(ALRM=die), signals.block("ALRM"):
            later(0.02)
            with pytest.raises(LookupError):
                signals.suspend("ALRM", timeout=30)
            assert mask() == {"ALRM"}

    def test_does_not_take_an_old_wake_up_for_a_new_signal(self):
        """1. A wait is in a handler that is told of a second signal, and raises.  2. Nobody waits any more."""
        seen: list[str] = []

        def first(sig: hp.Signal) -> None:
            hp.kill("USR2", os.getpid())
            raise LookupError

        with hp.SIG.local(ALRM=first, USR2=lambda sig: seen.append(str(sig))), hp.watch("HUP") as watch:
            later(0.1)  # by then the wait stands on CPython's wake-up descriptor
            with pytest.raises(LookupError):
                watch.get(timeout=30)
            assert seen == ["USR2"]
            with pytest.raises(TimeoutError):
                signals.suspend("USR1", timeout=0.1)


class TestWait:
    """perlipc:S14: sigwaitinfo(2), in any thread"""

    @pytest.mark.parametrize("blocked", [True, False])
    @pytest.mark.parametrize("which", ["USR1", "RTMIN+3"])
    def test_takes_one_signal_and_nobody_handles_it(self, blocked, which):
        def wait() -> hp.Signal:
            later = threading.Timer(0.05, hp.signals.queue, (which, os.getpid(), 5))
            later.start()
            try:
                return signals.wait(which, timeout=30)
            finally:
                later.join()

        if blocked:
            with signals.block(which):
                sig = wait()
        else:
            sig = wait()
        assert (str(sig), sig.value, sig.pid) == (which, 5, os.getpid())

    def test_takes_queued_ones_one_at_a_time(self):
        with signals.block("RTMIN+3"):
            for value in range(5):
                hp.signals.queue("RTMIN+3", os.getpid(), value)
            assert [signals.wait("RTMIN+3", timeout=0).value for _ in range(5)] == list(range(5))
            with pytest.raises(TimeoutError, match=r"RTMIN\+3 did not come within 0 s"):
                signals.wait("RTMIN+3", timeout=0)

    @pytest.mark.parametrize("blocked", [True, False])
    def test_is_over_in_time(self, blocked):
        begin = time.monotonic()
        with signals.block(*(["USR1"] if blocked else [])), pytest.raises(TimeoutError):
            signals.wait("USR1", timeout=0.1)
        assert 0.1 <= time.monotonic() - begin < 0.1 + 5

    def test_works_in_any_thread(self):
        """perlipc:S18"""
        found: list[hp.Signal] = []
        with hp.SIG.local(USR1="IGNORE"):  # were nobody to wait for it, it would not end us
            thread = threading.Thread(target=lambda: found.append(signals.wait("USR1", timeout=30)))
            thread.start()
            while thread.is_alive():
                hp.kill("USR1", os.getpid())
                thread.join(0.01)
        assert str(found[0]) == "USR1"

    def test_lets_other_handlers_run_meanwhile(self):
        """perlipc:S13"""
        seen: list[str] = []

        def answer(sig: hp.Signal) -> None:
            seen.append(str(sig))
            hp.kill("USR1", os.getpid())

        with hp.SIG.local(ALRM=answer), signals.block("USR1"):
            later(0.1)
            assert str(signals.wait("USR1", timeout=30)) == "USR1"
        assert seen == ["ALRM"]
