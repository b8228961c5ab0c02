"""``SIG``: handlers by name, put in place, read back, put away, and what cannot be handled at all.

Tests here run in pytest's main thread, and ``no_leaks`` holds each of them to putting everything back.
"""

from __future__ import annotations

import os
import signal
import sys
import textwrap
import threading

import pytest

import hornpipe as hp
from hornpipe.testing.patience import wait_until

FAULTS = ["SEGV", "BUS", "ILL", "FPE"]
CATCHABLE = [entry.name for entry in hp.SIG.table() if entry.name not in ("KILL", "STOP", "RTMAX", "STKFLT", *FAULTS)]


def python(program: str, **options: object) -> str:
    script = "import hornpipe as hp, os, signal, sys, time\n" + textwrap.dedent(program)
    return hp.cmd(sys.executable, "-W", "error", "-c", script, timeout=20).with_options(**options).read()  # type: ignore[arg-type]


class TestAHandler:
    """perlipc:S1"""

    @pytest.mark.parametrize("name", CATCHABLE)
    def test_is_called_for_every_signal_that_can_be_caught(self, name):
        """perlipc:S1, S19: trappable is also what stops, resumes or merely informs."""
        seen: list[hp.Signal] = []
        with hp.SIG.local({name: seen.append}):
            hp.kill(name, os.getpid())
            wait_until(lambda: seen)
        (sig,) = seen
        assert (str(sig), sig.name, sig.number) == (name, name, signal_number(name))
        assert sig.pid == os.getpid()

    @pytest.mark.parametrize("key", ["USR1", "SIGUSR1", "usr1", "sigusr1", signal.SIGUSR1, 10])
    def test_has_many_names_for_one_place(self, key):
        """perlipc:S1"""

        def handler(sig: hp.Signal) -> None: ...

        with hp.SIG.local({key: handler}):
            assert hp.SIG["USR1"] is hp.SIG[10] is hp.SIG[key] is handler

    def test_may_be_anonymous_and_unwind_the_program(self):
        """perlipc:S9: what it raises comes out of the code that was interrupted."""

        def interrupted() -> None:
            hp.signals.suspend(timeout=30)

        def die(sig: hp.Signal) -> None:
            raise LookupError(str(sig))

        with hp.SIG.local(ALRM=die), pytest.raises(LookupError, match="ALRM") as caught:
            signal.setitimer(signal.ITIMER_REAL, 0.02)
            interrupted()
        assert "interrupted" in {entry.name for entry in caught.traceback}

    def test_stays_installed(self):
        """perlipc:S19: where SysV had it re-installed by hand."""
        seen: list[hp.Signal] = []
        with hp.SIG.local(USR1=seen.append):
            for count in range(1, 4):
                hp.kill("USR1", os.getpid())
                assert len(seen) == count

    def test_may_replace_itself(self):
        order: list[str] = []

        def second(sig: hp.Signal) -> None:
            order.append("second")

        def first(sig: hp.Signal) -> None:
            hp.SIG[sig.number] = second
            order.append("first")

        with hp.SIG.local(USR1=first):
            hp.kill("USR1", os.getpid())
            hp.kill("USR1", os.getpid())
        assert order == ["first", "second"]

    def test_is_not_interrupted_by_its_own_signal_but_by_others(self):
        """perlipc:S12"""
        order: list[str] = []

        def outer(sig: hp.Signal) -> None:
            order.append("begin")
            if len(order) == 1:
                hp.kill("USR1", os.getpid())
                hp.kill("USR2", os.getpid())
            order.append("end")

        with hp.SIG.local(USR1=outer, USR2=lambda sig: order.append("other")):
            hp.kill("USR1", os.getpid())
            wait_until(lambda: len(order) == 5)
        assert order == ["begin", "other", "end", "begin", "end"]

    def test_is_set_in_the_main_thread_only_and_the_error_says_what_else_there_is(self):
        """gotcha:SIG1"""
        errors: list[ValueError] = []

        def elsewhere() -> None:
            for change in (
                lambda: hp.SIG.__setitem__("USR1", print),
                lambda: hp.signals.sigaction("USR1", "IGNORE"),
                lambda: hp.SIG.local(USR1="DEFAULT").__enter__(),
                lambda: hp.signals.unwind("USR1"),
                lambda: hp.signals.suspend("USR1", timeout=0),
            ):
                try:
                    change()
                except ValueError as error:
                    errors.append(error)
            assert hp.SIG["USR1"] == "DEFAULT"  # reading is for everybody

        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        assert len(errors) == 5
        assert all("main thread" in str(error) and "watch()" in str(error) for error in errors)
        assert hp.SIG["USR1"] == "DEFAULT"

    def test_of_perls_gets_ours_and_ours_gets_perls(self):
        """perlipc:S1: the same signal, there and back."""
        perl = "$SIG{USR1} = sub { kill USR2 => getppid; exit 3 }; $| = 1; print qq(ready\\n); sleep 60 while 1"
        seen: list[hp.Signal] = []
        with hp.SIG.local(USR2=seen.append), hp.cmd("perl", "-e", perl, ok_codes=(3,)).reader() as child:
            child.readline()
            hp.kill("USR1", child.pid)
            child.read()
            wait_until(lambda: seen)
        assert [(str(sig), sig.pid) for sig in seen] == [("USR2", child.pid)]


class TestIgnoreAndDefault:
    """perlipc:S3"""

    @pytest.mark.parametrize("name", CATCHABLE)
    def test_are_read_back_as_they_were_set(self, name):
        with hp.SIG.local({name: "IGNORE"}):
            assert hp.SIG[name] == "IGNORE"
            hp.kill(name, os.getpid())
            hp.SIG[name] = "DEFAULT"
            assert hp.SIG[name] == "DEFAULT"
            assert signal.getsignal(signal_number(name)) == signal.SIG_DFL

    def test_default_ends_the_program_as_the_kernel_does(self):
        program = "hp.SIG['USR1'] = print; hp.SIG['USR1'] = 'DEFAULT'; hp.kill('USR1', os.getpid())"
        with pytest.raises(hp.CommandFailed, match="USR1"):
            python(program)

    @pytest.mark.parametrize("word", ["ignore", "Default", "", "handler", "SIG_IGN"])
    def test_other_words_are_refused(self, word):
        with pytest.raises(ValueError, match="a callable, 'DEFAULT' or 'IGNORE'"):
            hp.SIG["USR1"] = word  # type: ignore[assignment]

    @pytest.mark.parametrize("thing", [None, 7, signal.SIG_IGN, b"IGNORE"])
    def test_other_things_are_refused(self, thing):
        with pytest.raises(TypeError, match="a callable, 'DEFAULT' or 'IGNORE'"):
            hp.SIG["USR1"] = thing


class TestWhatCannotBeHandled:
    @pytest.mark.parametrize("name", ["KILL", "STOP"])
    @pytest.mark.parametrize("disposition", [print, "IGNORE", "DEFAULT"])
    def test_kill_and_stop_and_the_error_says_why(self, name, disposition):
        """perlipc:S5, gotcha:SIG4: refused before anything is touched."""
        with pytest.raises(ValueError, match=f"{name} cannot be caught, blocked or ignored: the kernel keeps it"):
            hp.SIG[name] = disposition
        for refused in (hp.SIG.local, hp.signals.unwind, hp.watch, hp.signals.block, hp.signals.wait):
            with pytest.raises(ValueError, match="cannot be caught"):
                refused({name: disposition} if refused == hp.SIG.local else name)  # type: ignore[operator]
        assert hp.SIG[name] == "DEFAULT"

    @pytest.mark.parametrize("name", FAULTS)
    @pytest.mark.parametrize("disposition", [print, "IGNORE"])
    def test_faults_and_the_error_says_what_to_use_instead(self, name, disposition):
        """perlipc:S16, gotcha:SIG4: the handler would return into the failing instruction, for ever."""
        before = hp.SIG[name]
        with pytest.raises(ValueError, match=r"would fail again, for ever; faulthandler\.enable\(\)"):
            hp.SIG[name] = disposition
        with pytest.raises(ValueError, match="for ever"):
            hp.watch(name)
        with pytest.raises(ValueError, match="for ever"):
            hp.SIG.local({"USR1": print, name: disposition})
        assert type(hp.SIG[name]) is type(before)
        assert hp.SIG["USR1"] == "DEFAULT"

    def test_a_fault_may_have_its_default(self):
        """gotcha:SIG4"""
        with hp.SIG.local(SEGV="DEFAULT"):
            assert hp.SIG["SEGV"] == "DEFAULT"

    def test_a_real_fault_ends_the_program_with_faulthandlers_words(self):
        """perlipc:S16: not with a loop, and beside handlers of ours."""
        program = """
            import ctypes, faulthandler
            faulthandler.enable()
            hp.SIG["USR1"] = lambda sig: ctypes.string_at(0)
            hp.kill("USR1", os.getpid())
        """
        with pytest.raises(hp.CommandFailed) as caught:
            python(program, stderr=hp.TAIL)
        assert caught.value.status.signal == signal.SIGSEGV
        assert "Segmentation fault" in caught.value.stderr


class TestLocal:
    """perlipc:S6, gotcha:SIG5: a dynamic scope"""

    def test_is_undone_on_every_exit(self):
        """gotcha:SIG5"""

        def scope(way: str) -> None:
            for _ in range(1):
                with hp.SIG.local(USR1="IGNORE", USR2=print):
                    assert hp.SIG["USR1"] == "IGNORE"
                    if way == "return":
                        return
                    if way == "break":
                        break
                    if way == "raise":
                        raise LookupError

        with hp.SIG.local(USR1=repr):
            for way in ("end", "return", "break"):
                scope(way)
                assert (hp.SIG["USR1"], hp.SIG["USR2"]) == (repr, "DEFAULT")
            with pytest.raises(LookupError):
                scope("raise")
            assert (hp.SIG["USR1"], hp.SIG["USR2"]) == (repr, "DEFAULT")

    def test_nests_in_the_order_of_a_stack(self):
        """gotcha:SIG5"""
        with hp.SIG.local(USR1=print):
            with hp.SIG.local(USR1="IGNORE"):
                with hp.SIG.local(USR1=repr):
                    assert hp.SIG["USR1"] is repr
                assert hp.SIG["USR1"] == "IGNORE"
            assert hp.SIG["USR1"] is print

    def test_a_signal_under_two_names_is_put_back_to_what_it_was(self):
        """gotcha:SIG5: each name remembers what it found, so the last one goes first."""
        with hp.SIG.local({"CHLD": print, "CLD": "IGNORE"}):
            assert hp.SIG["CHLD"] == "IGNORE"
        assert hp.SIG["CHLD"] == "DEFAULT"

    def test_one_bad_name_changes_nothing(self):
        with pytest.raises(ValueError, match="USRR"):
            hp.SIG.local(USR1="IGNORE", USRR="IGNORE")
        assert hp.SIG["USR1"] == "DEFAULT"

    def test_can_be_entered_again(self):
        scope = hp.SIG.local(USR1="IGNORE")
        for _ in range(2):
            with scope, scope:
                assert hp.SIG["USR1"] == "IGNORE"
            assert hp.SIG["USR1"] == "DEFAULT"

    def test_is_undone_also_when_another_handler_raises_meanwhile(self):
        """gotcha:SIG5: at any moment, that of the undoing included."""
        raised = 0

        def die(sig: hp.Signal) -> None:
            raise LookupError

        with hp.SIG.local(HUP="IGNORE"):
            for n in range(300):
                with hp.SIG.local(ALRM=die):
                    try:
                        signal.setitimer(signal.ITIMER_REAL, 1e-6 + n * 1e-6)
                        with hp.SIG.local(USR1=print, USR2=print, HUP=print):
                            pass
                        hp.signals.suspend(timeout=30)
                    except LookupError:
                        raised += 1
                assert [hp.SIG[name] for name in ("USR1", "USR2", "HUP")] == ["DEFAULT", "DEFAULT", "IGNORE"]
        assert raised == 300

    def test_what_comes_at_the_end_of_the_scope_is_handled_by_one_of_both(self):
        """gotcha:SIG5, SIG15: never by the default in between, which would end us."""
        inner: list[hp.Signal] = []
        outer: list[hp.Signal] = []
        rounds = 2000
        with hp.SIG.local(ALRM=outer.append):
            for n in range(rounds):
                signal.setitimer(signal.ITIMER_REAL, 1e-6 + (n % 100) * 1e-6)
                with hp.SIG.local(ALRM=inner.append):
                    pass
                wait_until(lambda n=n: len(inner) + len(outer) == n + 1)
        assert inner
        assert outer


def test_stopping_from_the_terminal_is_handled_and_then_done():
    """perlipc:S19: clean up, stop for real, and resume."""
    program = r"""
        def stop(sig):
            os.write(1, b"cleaning up\n")
            with hp.SIG.local(TSTP="DEFAULT"):
                os.kill(os.getpid(), signal.SIGTSTP)
            os.write(1, b"resumed\n")

        hp.SIG["TSTP"] = stop
        print("ready", flush=True)
        while True:
            hp.signals.suspend()
    """
    script = "import hornpipe as hp, os, signal\n" + textwrap.dedent(program)
    # With a time limit it leads a group of its own, which is not orphaned: only such a one can be stopped.
    with hp.cmd(sys.executable, "-c", script, timeout=20).reader() as child:
        assert child.readline() == "ready\n"
        for _ in range(2):
            hp.kill("TSTP", child.pid)
            assert child.readline() == "cleaning up\n"
            stopped = os.waitid(os.P_PID, child.pid, os.WSTOPPED)
            assert stopped is not None
            assert stopped.si_status == signal.SIGTSTP
            hp.kill("CONT", child.pid)
            assert child.readline() == "resumed\n"


def signal_number(name: str) -> int:
    return next(entry.number for entry in hp.SIG.table() if entry.name == name)
