"""``watch``: signals as a stream, in any thread, where the page has only the main program (perlipc:S18)."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import select
import signal
import sys
import textwrap
import threading
import time

import pytest

import hornpipe as hp
from hornpipe.testing.patience import wait_until


def python(program: str) -> str:
    script = "import hornpipe as hp, os, select, signal, sys, threading\n" + textwrap.dedent(program)
    return hp.cmd(sys.executable, "-W", "error", "-c", script, timeout=20).read()


def kill(which: str, count: int = 1) -> None:
    for _ in range(count):
        hp.kill(which, os.getpid())


def taken(watch: hp.Watch) -> list[str]:
    """What is there now."""
    found = []
    with contextlib.suppress(TimeoutError):
        while True:
            found.append(str(watch.get(timeout=0)))
    return found


class TestAWatch:
    def test_takes_signals_down_in_the_order_of_their_arrival(self):
        with hp.watch("HUP", "TERM", "USR1") as signals:
            for which in ("TERM", "HUP", "USR1", "HUP"):
                kill(which)
            assert [str(signals.get(timeout=30)) for _ in range(4)] == ["TERM", "HUP", "USR1", "HUP"]

    def test_is_an_iterator_that_blocks(self):
        """perlipc:S18"""
        perl = "for (qw(USR1 USR2 TERM)) { kill $_ => getppid; select undef, undef, undef, 0.05 }"
        with hp.watch("USR1", "USR2", "TERM") as signals, hp.cmd("perl", "-e", perl).start() as child:
            seen = []
            for sig in signals:
                assert sig.pid == child.pid
                seen.append(str(sig))
                if seen[-1] == "TERM":
                    break
        assert seen == ["USR1", "USR2", "TERM"]

    @pytest.mark.parametrize("where", ["main thread", "another thread"])
    def test_works_in_any_thread(self, where):
        """perlipc:S18, gotcha:SIG1"""
        seen: list[str] = []
        ready = threading.Event()

        def work() -> None:
            with hp.watch("RTMIN+1") as signals:
                ready.set()
                seen.extend(str(signals.get(timeout=30)) for _ in range(3))

        def send() -> None:
            ready.wait()
            kill("RTMIN+1", 3)

        tasks = [work, send] if where == "main thread" else [send, work]
        thread = threading.Thread(target=tasks[1])
        with hp.SIG.local({"RTMIN+1": "IGNORE"}):  # what a watch that has failed leaves is nobody's end
            thread.start()
            try:
                tasks[0]()
            finally:
                thread.join()
        assert seen == ["RTMIN+1"] * 3

    def test_does_not_depend_on_which_threads_existed_before(self):
        """gotcha:SIG14: sigwait and signalfd need the signal blocked in every one of them."""
        over = threading.Event()
        earlier = [threading.Thread(target=over.wait) for _ in range(3)]
        for thread in earlier:
            thread.start()
        with hp.watch("USR1") as signals:
            for thread in (*earlier, threading.main_thread()):
                assert thread.ident is not None
                signal.pthread_kill(thread.ident, signal.SIGUSR1)
                assert signals.get(timeout=30).code == "TKILL"
        over.set()
        for thread in earlier:
            thread.join()

    def test_comes_through_while_the_main_thread_is_in_a_long_call(self):
        """gotcha:SIG1: no Python of the main thread's is needed."""
        program = """
            import ctypes
            watch = hp.watch("USR1")
            def tell():
                os.write(1, str(watch.get()).encode())
            threading.Thread(target=tell, daemon=True).start()
            signal.setitimer(signal.ITIMER_REAL, 0.3)
            hp.signals.queue("USR1", os.getpid())
            ctypes.CDLL(None).sigsuspend(bytes(128))  # never comes back to Python: ALRM ends us
        """
        with pytest.raises(hp.CommandFailed) as caught:
            python(program)
        assert (caught.value.stdout, caught.value.status.signal) == ("USR1", signal.SIGALRM)

    def test_get_is_bounded(self):
        with hp.watch("USR1", "TERM") as signals:
            begin = time.monotonic()
            with pytest.raises(TimeoutError, match=r"none of USR1, TERM came within 0\.1 s"):
                signals.get(timeout=0.1)
            assert 0.1 <= time.monotonic() - begin < 0.1 + 5
            with pytest.raises(TimeoutError):
                signals.get(timeout=0)
            for bad in (-1, float("nan")):
                with pytest.raises(ValueError, match="timeout"):
                    signals.get(timeout=bad)

    def test_of_nothing_is_a_mistake(self):
        with pytest.raises(TypeError, match="signals to watch"):
            hp.watch()

    def test_says_what_it_is(self):
        with hp.watch("CLD", "RTMIN+1") as signals:
            assert repr(signals) == "<Watch of CHLD, RTMIN+1>"
        assert repr(signals) == "<Watch of CHLD, RTMIN+1, closed>"


class TestSeveral:
    def test_watches_of_one_signal_each_get_it(self):
        with hp.watch("USR1") as one, hp.watch("USR1", "USR2") as other, hp.watch("USR1") as third:
            kill("USR1", 2)
            kill("USR2")
            third.close()
            kill("USR1")
            assert taken(one) == ["USR1"] * 3
            assert taken(other) == ["USR1", "USR1", "USR2", "USR1"]

    def test_watches_and_a_handler_each_get_it(self):
        """Set before the watch or after it, and still there when the watch is gone."""
        handled: list[str] = []
        with hp.SIG.local(USR1=lambda sig: handled.append(str(sig))):
            with hp.watch("USR1", "USR2") as signals:
                kill("USR1")
                with hp.SIG.local(USR2=lambda sig: handled.append(str(sig))):
                    kill("USR2")
                kill("USR2")
                assert taken(signals) == ["USR1", "USR2", "USR2"]
            kill("USR1")
        assert handled == ["USR1", "USR2", "USR1"]

    def test_readers_of_one_watch_share_what_comes(self):
        seen: list[int] = []
        with hp.watch("RTMIN+1") as signals:

            def read() -> None:
                seen.extend(sig.value for sig in signals)

            threads = [threading.Thread(target=read) for _ in range(4)]
            for thread in threads:
                thread.start()
            for value in range(1000):
                hp.signals.queue("RTMIN+1", os.getpid(), value)
            wait_until(lambda: len(seen) == 1000)
            signals.close()  # ends the iterators
            for thread in threads:
                thread.join()
        assert sorted(seen) == list(range(1000))

    def test_too_many_are_refused_and_the_others_go_on(self):
        watches = []
        with pytest.raises(OSError, match="no more than 64 watches"):
            for _ in range(100):
                watches.append(hp.watch("USR1"))  # noqa: PERF401
        gc.collect()
        kill("USR1")
        assert [taken(each) for each in watches] == [["USR1"]] * len(watches)
        for each in watches:
            each.close()
        assert hp.SIG["USR1"] == "DEFAULT"
        with hp.watch("USR1"):
            pass


class TestPolling:
    """fileno(): readable while there is something to get."""

    def test_readable_says_the_truth(self):
        with hp.watch("RTMIN+1") as signals:
            for _ in range(3):
                assert select.select([signals], [], [], 0)[0] == []
                for value in range(5):
                    hp.signals.queue("RTMIN+1", os.getpid(), value)
                for _ in range(5):
                    assert select.select([signals], [], [], 30)[0] == [signals]
                    signals.get(timeout=0)

    def test_it_is_never_read_empty_while_a_signal_is_there(self):
        """1. The reader finds nothing more.  2. A signal comes.  3. The reader empties the pipe."""
        with hp.watch("ALRM") as signals:
            for n in range(3000):
                signal.setitimer(signal.ITIMER_REAL, 1e-6 + n % 50 * 1e-6)
                got = False
                while not got:
                    with contextlib.suppress(TimeoutError):
                        signals.get(timeout=0)
                        got = True
                    if not got and n % 2:
                        assert select.select([signals], [], [], 30)[0]

    def test_asyncio_can_drive_it(self):
        """perlipc:S18, gotcha:SIG18: beside asyncio's own handlers."""

        async def main() -> list[str]:
            loop = asyncio.get_running_loop()
            seen: list[str] = []
            done = asyncio.Event()
            with hp.watch("USR1", "TERM") as signals:

                def ready() -> None:
                    seen.extend(taken(signals))
                    if "TERM" in seen:
                        done.set()

                loop.add_reader(signals, ready)
                for which in ("USR1", "TERM"):
                    loop.call_later(0.05, kill, which)
                await asyncio.wait_for(done.wait(), 30)
                loop.remove_reader(signals)
            return seen

        assert asyncio.run(main()) == ["USR1", "TERM"]

    def test_trio_can_drive_it(self):
        import trio

        async def main() -> str:
            with hp.watch("USR1") as signals:
                kill("USR1")
                with trio.fail_after(5):
                    await trio.lowlevel.wait_readable(signals)
                return str(signals.get(timeout=0))

        assert trio.run(main) == "USR1"


class TestItsEnd:
    """gotcha:SIG15"""

    def test_what_nobody_has_taken_is_delivered_again(self):
        """gotcha:SIG15: with its sender and value, to whatever is in force then."""
        seen: list[tuple[str, int, int]] = []
        before = signal.signal(signal.SIGUSR1, lambda number, frame: seen.append(("foreign", number, 0)))
        try:
            with hp.SIG.local({"RTMIN+1": "IGNORE"}), hp.watch("RTMIN+1", "USR1") as signals:
                for value in range(3):
                    hp.signals.queue("RTMIN+1", os.getpid(), value)
                kill("USR1")
                signals.get(timeout=30)
                # Read by nobody, so the handler that is set meanwhile has not seen them either.
                hp.SIG["RTMIN+1"] = "DEFAULT"
                with hp.signals.block("RTMIN+1"):
                    signals.close()
                    again = [signals_wait(value) for value in (1, 2)]
            assert again == [(1, "QUEUE", os.getpid()), (2, "QUEUE", os.getpid())]
            wait_until(lambda: seen)
        finally:
            signal.signal(signal.SIGUSR1, before)
        assert seen == [("foreign", signal.SIGUSR1, 0)]

    def test_it_is_the_default_that_ends_us(self):
        """gotcha:SIG15: TERM while it was watched, and the watch closed: as if it came now."""
        program = """
            with hp.watch("TERM"):
                hp.kill("TERM", os.getpid())
                os.write(1, b"inside")
        """
        with pytest.raises(hp.CommandFailed) as caught:
            python(program)
        assert (caught.value.stdout, caught.value.status.signal) == ("inside", signal.SIGTERM)

    def test_what_another_watch_or_a_handler_has_got_is_not_delivered_twice(self):
        handled: list[str] = []
        with hp.SIG.local(USR1=lambda sig: handled.append(str(sig))), hp.watch("USR2") as other:
            with hp.watch("USR1", "USR2"):
                kill("USR1")
                kill("USR2")
            assert taken(other) == ["USR2"]
        assert handled == ["USR1"]

    def test_closing_it_ends_a_get_in_another_thread(self):
        errors: list[Exception] = []

        def work() -> None:
            try:
                signals.get()
            except ValueError as error:
                errors.append(error)

        signals = hp.watch("USR1")
        thread = threading.Thread(target=work)
        thread.start()
        signals.close()
        thread.join()
        assert len(errors) == 1
        with pytest.raises(ValueError, match="closed"):
            signals.get(timeout=0)
        assert list(signals) == []
        signals.close()

    def test_a_forgotten_one_is_closed(self):
        signals = hp.watch("USR1")
        assert hp.SIG["USR1"] == "DEFAULT"
        del signals
        gc.collect()
        assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL
        with hp.SIG.local(USR1="IGNORE"):
            kill("USR1")

    def test_a_handler_may_use_the_watch_that_it_interrupts(self):
        """gotcha:SIG15: no lock that it could wait for is its own thread's."""
        seen: list[str] = []
        with hp.watch("USR1") as signals:
            with hp.SIG.local(ALRM=lambda sig: seen.extend(taken(signals))):
                signal.setitimer(signal.ITIMER_REAL, 0.0001, 0.0001)
                for _ in range(2000):
                    kill("USR1")
                    with contextlib.suppress(TimeoutError):
                        seen.append(str(signals.get(timeout=0)))
                signal.setitimer(signal.ITIMER_REAL, 0)
            seen.extend(taken(signals))
        assert seen == ["USR1"] * 2000

    def test_the_disposition_is_what_it_was(self):
        """gotcha:SIG5: also a handler that is not ours, and one that is changed meanwhile."""
        before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        try:
            with hp.watch("USR1"):
                assert hp.SIG["USR1"] == "IGNORE"
            assert hp.SIG["USR1"] == "IGNORE"
            with hp.watch("USR1") as signals:
                hp.SIG["USR1"] = "DEFAULT"
                kill("USR1")
                assert taken(signals) == ["USR1"]
            assert hp.SIG["USR1"] == "DEFAULT"
        finally:
            signal.signal(signal.SIGUSR1, before)


def signals_wait(value: int) -> tuple[int, str, int]:
    sig = hp.signals.wait("RTMIN+1", timeout=30)
    return sig.value, sig.code, sig.pid
