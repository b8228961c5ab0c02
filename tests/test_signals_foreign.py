"""Beside others who handle signals: Python's own module, asyncio, faulthandler, a wake-up descriptor.

What they had set is read back and put back exactly; what they set after us is noticed, said, and undone on request.
"""

from __future__ import annotations

import asyncio
import faulthandler
import os
import select
import signal
import socket
import sys
import textwrap
import threading
import warnings
from collections.abc import Iterator

import pytest

import hornpipe as hp
from hornpipe._native import signals as native


def python(program: str) -> str:
    script = "import hornpipe as hp, asyncio, os, select, signal, sys, threading, time\n" + textwrap.dedent(program)
    return hp.cmd(sys.executable, "-W", "error", "-c", script, timeout=20).read()


def kill(which: str) -> None:
    hp.kill(which, os.getpid())


@pytest.fixture
def seen() -> Iterator[list[str]]:
    """What a handler of ours of USR1 has seen; pytest's disposition is back afterwards."""
    found: list[str] = []
    with hp.SIG.local(USR1=lambda sig: found.append(str(sig))):
        yield found
    assert hp.SIG.displaced() == ()


class TestSetBeforeUs:
    """gotcha:SIG5, perlipc:S6"""

    def test_a_handler_is_read_and_put_back_and_works(self):
        """gotcha:SIG5"""
        calls: list[int] = []

        def theirs(number: int, frame: object) -> None:
            calls.append(number)

        before = signal.signal(signal.SIGUSR1, theirs)
        try:
            found = hp.SIG["USR1"]
            assert isinstance(found, hp.Foreign)
            assert found.handler is theirs
            assert repr(found).startswith("<foreign handler of USR1: <function ")
            hp.SIG["USR1"] = "IGNORE"
            kill("USR1")
            hp.SIG["USR1"] = found
            assert signal.getsignal(signal.SIGUSR1) is theirs
            kill("USR1")
            with hp.SIG.local(USR1=print):
                pass
            with hp.watch("USR1"):
                pass
            kill("USR1")
        finally:
            signal.signal(signal.SIGUSR1, before)
        assert calls == [signal.SIGUSR1] * 2

    def test_the_kernels_flags_come_back_with_it(self):
        """gotcha:SIG5: exactly what was there; siginterrupt, for one, is a flag of the kernel's."""
        before = signal.signal(signal.SIGUSR1, lambda *_: None)
        try:
            signal.siginterrupt(signal.SIGUSR1, False)
            raw = native.look(signal.SIGUSR1)
            with hp.SIG.local(USR1="IGNORE"), hp.watch("USR1"):
                assert native.look(signal.SIGUSR1) != raw
            assert native.look(signal.SIGUSR1) == raw
        finally:
            signal.signal(signal.SIGUSR1, before)

    def test_ctrl_c_stays_what_it_was(self):
        before = signal.getsignal(signal.SIGINT)
        with hp.watch("INT") as signals:
            kill("INT")
            assert str(signals.get(timeout=30)) == "INT"
        assert signal.getsignal(signal.SIGINT) is before
        with pytest.raises(KeyboardInterrupt):
            kill("INT")

    def test_of_another_signal_it_is_refused(self):
        before = signal.signal(signal.SIGUSR1, lambda *_: None)
        try:
            found = hp.SIG["USR1"]
            with pytest.raises(ValueError, match="read from another signal than USR2"):
                hp.SIG["USR2"] = found
        finally:
            signal.signal(signal.SIGUSR1, before)

    def test_a_handler_written_in_c_is_put_back(self, tmp_path):
        """faulthandler.register: Python's table knows nothing of it."""
        with open(tmp_path / "trace", "w+") as trace:
            faulthandler.register(signal.SIGUSR1, trace)
            try:
                assert isinstance(hp.SIG["USR1"], hp.Foreign)
                with hp.SIG.local(USR1="IGNORE"):
                    kill("USR1")
                assert trace.read() == ""
                with hp.watch("USR1"):
                    kill("USR1")
                kill("USR1")
                trace.seek(0)
                assert "test_a_handler_written_in_c_is_put_back" in trace.read()
            finally:
                faulthandler.unregister(signal.SIGUSR1)
        assert hp.SIG["USR1"] == "DEFAULT"

    def test_faulthandler_goes_on_watching_faults(self):
        """perlipc:S16: its handlers are read as what they are, and hornpipe has none of its own there."""
        program = """
            import ctypes, faulthandler
            faulthandler.enable()
            print(*(type(hp.SIG[name]).__name__ for name in ("SEGV", "BUS", "ILL", "FPE", "ABRT")))
            hp.SIG["ABRT"] = "DEFAULT"
            faulthandler.disable()
            print(hp.SIG["SEGV"])
        """
        assert python(program) == f"{'Foreign ' * 4}Foreign\nDEFAULT\n"


class TestSetAfterUs:
    """gotcha:SIG18"""

    def test_is_noticed_said_once_and_undone_on_request(self, seen):
        """gotcha:SIG18"""
        theirs: list[int] = []
        signal.signal(signal.SIGUSR1, lambda number, _: theirs.append(number))
        assert hp.SIG.displaced() == ("USR1",)
        with pytest.warns(hp.SignalWarning, match=r"handling of USR1 was replaced by <function .*SIG\.rearm\(\)"):
            assert isinstance(hp.SIG["USR1"], hp.Foreign)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert isinstance(hp.SIG["USR1"], hp.Foreign)
        kill("USR1")
        assert (seen, theirs) == ([], [signal.SIGUSR1])
        assert hp.SIG.rearm() == ("USR1",)
        assert hp.SIG.displaced() == ()
        kill("USR1")
        assert (seen, theirs) == (["USR1"], [signal.SIGUSR1])
        assert hp.SIG.rearm() == ()

    def test_a_watch_is_told_too(self):
        """gotcha:SIG18: a get that would wait for ever says why."""
        with hp.watch("USR1") as signals:
            before = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
            with pytest.warns(hp.SignalWarning, match="USR1 was replaced"), pytest.raises(TimeoutError):
                signals.get(timeout=0.01)
            assert hp.SIG.rearm() == ("USR1",)
            kill("USR1")
            assert str(signals.get(timeout=30)) == "USR1"
        assert hp.SIG["USR1"] == "IGNORE"  # what had been put in its place, and not what was before that
        signal.signal(signal.SIGUSR1, before)

    def test_setting_it_anew_is_not_a_displacement(self, seen):
        hp.SIG["USR1"] = "IGNORE"
        hp.SIG["USR1"] = print
        assert hp.SIG.displaced() == ()

    def test_rearming_is_for_the_main_thread(self, seen):
        """gotcha:SIG1"""
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        errors: list[ValueError] = []

        def elsewhere() -> None:
            try:
                hp.SIG.rearm()
            except ValueError as error:
                errors.append(error)

        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        assert "main thread" in str(errors[0])
        hp.SIG.rearm()

    def test_by_asyncio_run_which_wants_ctrl_c(self):
        """gotcha:SIG18: it takes INT only where Python's own handler is, so ours stays."""

        async def main() -> list[str]:
            kill("INT")
            await asyncio.sleep(0)
            return found

        found: list[str] = []
        with hp.SIG.local(INT=lambda sig: found.append(str(sig))):
            assert asyncio.run(main()) == ["INT"]
            assert hp.SIG.displaced() == ()

    def test_by_a_watch_asyncio_run_is_not_stopped_and_the_watch_is_not_deaf(self):
        """gotcha:SIG18: under a watch Python's table still says KeyboardInterrupt, so asyncio takes INT from it."""
        program = """
            async def main():
                print(hp.SIG.displaced())
                hp.SIG.rearm()
                hp.kill("INT", os.getpid())
                return str(signals.get(timeout=30))

            with hp.watch("INT") as signals:
                print(asyncio.run(main()))
        """
        assert python(program) == "('INT',)\nINT\n"

    def test_by_add_signal_handler(self, seen):
        """gotcha:SIG18"""

        async def main() -> tuple[str, ...]:
            theirs = asyncio.Event()
            loop = asyncio.get_running_loop()
            loop.add_signal_handler(signal.SIGUSR1, theirs.set)
            displaced = hp.SIG.displaced()
            kill("USR1")
            await asyncio.wait_for(theirs.wait(), 30)
            hp.SIG.rearm()
            kill("USR1")
            await asyncio.sleep(0)
            loop.remove_signal_handler(signal.SIGUSR1)
            return displaced

        assert asyncio.run(main()) == ("USR1",)
        assert seen == ["USR1"]
        hp.SIG["USR1"] = "DEFAULT"

    def test_ours_work_while_a_loop_runs_and_theirs_beside_them(self, seen):
        """gotcha:SIG12: in the loop's thread, and the loop's own signals come through hornpipe's waits."""

        async def main() -> None:
            loop = asyncio.get_running_loop()
            theirs = asyncio.Event()
            loop.add_signal_handler(signal.SIGUSR2, theirs.set)
            loop.call_later(0.02, kill, "USR1")
            await asyncio.sleep(0.05)
            assert seen == ["USR1"]
            # A call that blocks the loop; its signal comes while CPython's wake-up descriptor is lent to us.
            status = hp.sh(f"sleep 0.1; kill -USR2 {os.getpid()}; sleep 0.1").run()
            assert status
            await asyncio.wait_for(theirs.wait(), 30)

        asyncio.run(main())


class TestTheWakeUpDescriptor:
    """gotcha:SIG12: one per process; lent to our waits, told what comes meanwhile, and given back."""

    @pytest.fixture
    def theirs(self) -> Iterator[socket.socket]:
        ours, theirs = socket.socketpair()
        theirs.setblocking(False)
        with ours, theirs:
            before = signal.set_wakeup_fd(theirs.fileno())
            try:
                yield ours
                assert signal.set_wakeup_fd(theirs.fileno()) == theirs.fileno()
            finally:
                signal.set_wakeup_fd(before)

    def test_is_told_of_signals_that_come_while_we_wait(self, theirs, seen):
        """gotcha:SIG12, SIG17"""
        assert hp.sh(f"sleep 0.1; kill -USR1 {os.getpid()}; sleep 0.1").run()
        assert select.select([theirs], [], [], 30)[0]
        assert theirs.recv(9) == bytes([signal.SIGUSR1])
        assert seen == ["USR1"]

    def test_is_told_also_where_a_handler_waits_within_a_wait(self, theirs):
        """gotcha:SIG12: the inner wait finds our own pipe in its place."""
        inner: list[str] = []

        def handler(sig: hp.Signal) -> None:
            assert hp.sh(f"sleep 0.1; kill -USR2 {os.getpid()}; sleep 0.1").run()

        with hp.SIG.local(USR1=handler, USR2=lambda sig: inner.append(str(sig))):
            assert hp.sh(f"sleep 0.1; kill -USR1 {os.getpid()}; sleep 0.5").run()
        assert inner == ["USR2"]
        assert select.select([theirs], [], [], 30)[0]
        assert theirs.recv(9) == bytes([signal.SIGUSR1, signal.SIGUSR2])

    def test_that_was_closed_meanwhile_is_no_error(self, seen):
        ours, theirs = os.pipe()
        os.set_blocking(theirs, False)
        before = signal.set_wakeup_fd(theirs)
        with hp.SIG.local(USR2=lambda sig: os.close(theirs)):
            assert hp.sh(f"sleep 0.1; kill -USR2 {os.getpid()}; sleep 0.1").run()
        os.close(ours)
        assert signal.set_wakeup_fd(before) == -1


class TestWhereItIsImported:
    def test_in_a_thread(self):
        """The wait's own pipe is then made by another thread than the one that handles signals."""
        program = """
            import subprocess
            script = '''
            import os, threading
            def work():
                import hornpipe as hp
                with hp.watch("USR1") as signals:
                    hp.kill("USR1", os.getpid())
                    print(signals.get(timeout=30))
                    print(hp.cmd("echo", "read").read(), end="")
            thread = threading.Thread(target=work)
            thread.start()
            thread.join()
            import hornpipe as hp
            seen = []
            hp.SIG["USR1"] = seen.append
            assert hp.sh(f"sleep 0.1; kill -USR1 {os.getpid()}; sleep 0.1").run()
            print(*seen)
            '''
            import textwrap
            print(hp.cmd(sys.executable, "-W", "error", "-c", textwrap.dedent(script)).read(), end="")
        """
        assert python(program) == "USR1\nread\nUSR1\n"

    def test_in_a_running_loop(self):
        program = """
            async def main():
                import hornpipe as hp
                with hp.watch("USR1") as signals:
                    hp.kill("USR1", os.getpid())
                    print(await asyncio.to_thread(signals.get, 5))
            asyncio.run(main())
        """
        script = "import asyncio, os\n" + textwrap.dedent(program)
        assert hp.cmd(sys.executable, "-W", "error", "-c", script).read() == "USR1\n"

    def test_a_program_ignoring_signals_goes_on_ignoring_them(self):
        """gotcha:SIG16: nohup and & start us so; only a handler of the user's changes it."""
        program = (
            "import hornpipe as hp; print(hp.SIG['HUP'], hp.SIG['INT']); hp.cmd('true').run();"
            "print(hp.SIG['HUP']); hp.SIG['HUP'] = print; print(hp.SIG['HUP'] is print)"
        )
        started = hp.sh('trap "" HUP INT; exec "$@"')
        said = hp.cmd(*started.argv, "sh", sys.executable, "-c", program).read()
        assert said == "IGNORE IGNORE\nIGNORE\nTrue\n"
