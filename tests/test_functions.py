"""Python callables in a forked child: what they inherit, what they give back, how they end.

The child of a fork is a copy of this very test run; each test would notice if it walked on.
"""

from __future__ import annotations

import fcntl
import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import hornpipe as hp
from hornpipe.fd import pipe
from hornpipe.testing.processes import children, wait_gone
from hornpipe.testing.stubborn import wait_until


class TwoArguments(Exception):
    """Pickles, and cannot be unpickled: a classic."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(f"{one} and {two}")


class OutOfTheBlue(BaseException):
    """Neither an Exception nor one of Python's own."""


def run_script(text: str, tmp_path: Path) -> tuple[int, str, str]:
    """A fresh interpreter whose stdout is a file and therefore block-buffered: ``script > out``."""
    script, out = tmp_path / "script.py", tmp_path / "out"
    script.write_text("import atexit, os, sys\nimport hornpipe as hp\n" + text)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with open(out, "wb") as file:
        done = subprocess.run(
            [sys.executable, str(script)],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.PIPE,
            env=environment,
            timeout=30,
        )
    return done.returncode, out.read_text(), done.stderr.decode()


def recurse() -> None:
    recurse()


def raise_(error: BaseException) -> None:
    raise error


def open_descriptors() -> dict[int, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            pass  # the listing's own
    return found


def pause() -> None:
    while True:
        signal.pause()


class TestWhatTheParentHadPending:
    """perlipc:O9, gotcha:SP6: nothing of it happens a second time in the child."""

    @pytest.mark.parametrize("verb", ["run", "read", "call", "capture", "start().wait"])
    def test_is_printed_once_and_exit_handlers_run_once(self, verb: str, tmp_path: Path):
        """gotcha:SP6, perlipc:O9"""
        code, out, errors = run_script(
            "atexit.register(lambda: os.write(1, b'exit handler\\n'))\n"
            "sys.stdout.write('pending\\n')\n"
            "file = open(sys.argv[0] + '.log', 'w'); file.write('buffered\\n')\n"
            f"command = hp.fn(int)\nvalue = command.{verb}()\n"
            "sys.stdout.write('after\\n')\n",
            tmp_path,
        )
        assert (code, errors) == (0, "")
        assert sorted(out.splitlines()) == ["after", "exit handler", "pending"]
        assert (tmp_path / "script.py.log").read_text() == "buffered\n"

    @pytest.mark.parametrize(
        "ending",
        ["sys.exit(3)", "1 / 0", "raise KeyboardInterrupt", "os._exit(2)", "os.abort()", "raise GeneratorExit"],
    )
    def test_is_left_alone_however_the_child_ends(self, ending: str, tmp_path: Path):
        """gotcha:SP6: no path returns into the caller's frames."""
        code, out, _ = run_script(
            "import resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0))\n"
            "atexit.register(lambda: os.write(1, b'exit handler\\n'))\n"
            "sys.stdout.write('pending\\n')\n"
            f"def work():\n    {ending}\n"
            "try:\n    hp.fn(work).with_options(check=False).run()\n"
            "except BaseException: os.write(1, b'except\\n')\n"
            "finally: os.write(1, b'finally\\n')\n",
            tmp_path,
        )
        assert code == 0
        assert sorted(out.splitlines()) == ["exit handler", "finally", "pending"]

    def test_comes_before_what_the_child_prints(self, tmp_path: Path):
        """perlipc:O9"""
        _, out, _ = run_script("print('one')\nhp.fn(print, 'two').run()\nprint('three')\n", tmp_path)
        assert out == "one\ntwo\nthree\n"


class TestTheEnd:
    """gotcha:SP6"""

    @pytest.mark.parametrize(
        ("value", "code", "said"),
        [(None, 0, ""), (0, 0, ""), (3, 3, ""), (256, 0, ""), ("sorry", 1, "sorry\n"), (True, 1, "")],
    )
    def test_by_sys_exit_has_pythons_meaning(self, value: object, code: int, said: str):
        """gotcha:SP6"""
        captured = hp.fn(sys.exit, value).with_options(check=False).capture()
        assert captured.status.code == code
        assert captured.stderr == said

    @pytest.mark.parametrize(
        "error", [ValueError("oh"), KeyboardInterrupt(), OutOfTheBlue("oh"), GeneratorExit(), MemoryError()]
    )
    def test_by_any_exception_is_a_traceback_and_exit_1(self, error: BaseException):
        """gotcha:SP6"""
        captured = hp.fn(raise_, error).with_options(check=False).capture()
        assert captured.status.code == 1
        assert "Traceback" in captured.stderr
        assert type(error).__name__ in captured.stderr

    def test_by_recursion_is_a_traceback_and_exit_1(self):
        """gotcha:SP6"""
        captured = hp.fn(recurse).with_options(check=False).capture()
        assert captured.status.code == 1
        assert "RecursionError" in captured.stderr
        with pytest.raises(RecursionError):
            hp.fn(recurse).call()

    def test_by_return_is_0_whatever_was_returned(self):
        """gotcha:SP6"""
        assert hp.fn(lambda: 7).run().code == 0

    def test_with_output_that_nobody_could_take_is_a_failure(self):
        """promise 7"""
        with open("/dev/full", "w") as full:
            assert not hp.fn(print, "x").with_options(stdout=full, check=False).run()


class TestCall:
    """perlipc:O11"""

    @pytest.mark.parametrize("value", [None, 1, "text", b"\0", [1, {"a": (2,)}], {3}, Path("/x")])
    def test_returns_the_value(self, value: object):
        """perlipc:O11"""
        assert hp.fn(lambda: value).call() == value

    def test_returns_twenty_megabytes(self):
        """promise 2"""
        assert hp.fn(lambda: b"x" * 20_000_000).call() == b"x" * 20_000_000

    def test_raises_the_exception_with_the_childs_traceback_as_its_cause(self):
        """perlipc:O11"""
        with pytest.raises(KeyError, match="nothing") as caught:
            hp.fn(raise_, KeyError("nothing")).call()
        cause = caught.value.__cause__
        assert isinstance(cause, hp.RemoteError)
        assert cause.type_name == "KeyError"
        assert "in raise_" in cause.traceback

    @pytest.mark.parametrize(
        ("name", "kind"),
        [
            ("no-such-program", FileNotFoundError),
            ("/etc/passwd", PermissionError),
            ("/etc/passwd/x", NotADirectoryError),
        ],
    )
    def test_a_program_that_it_could_not_start_is_the_callers_error_with_all_facts(self, name: str, kind: type):
        with pytest.raises(hp.SpawnError) as here:
            hp.cmd(name).run()
        with pytest.raises(hp.SpawnError) as there:
            hp.fn(lambda: hp.cmd(name).run()).call()
        assert isinstance(there.value, kind)
        facts = [(str(e), e.errno, e.filename, e.stage, e.argv) for e in (here.value, there.value)]
        assert facts[0] == facts[1]

    @pytest.mark.parametrize("error", [KeyboardInterrupt, OutOfTheBlue, GeneratorExit])
    def test_raises_whatever_it_was(self, error: type[BaseException]):
        """gotcha:SP6"""
        with pytest.raises(error):
            hp.fn(raise_, error("x")).call()

    def test_says_which_value_cannot_be_sent_back(self):
        """perlipc:O11"""
        with pytest.raises(TypeError, match="function cannot be sent back"):
            hp.fn(lambda: lambda: 0).call()

    def test_tells_an_exception_that_cannot_be_sent_back_as_text(self):
        """perlipc:O11"""

        class Local(Exception):
            pass

        for error, name in ((TwoArguments("this", "that"), "TwoArguments"), (Local("this and that"), "Local")):
            with pytest.raises(hp.RemoteError, match="this and that") as caught:
                hp.fn(raise_, error).call()
            assert name in caught.value.type_name

    @pytest.mark.parametrize(("end", "code"), [(os._exit, 5), (sys.exit, 5), (os._exit, 0), (sys.exit, 0)])
    def test_that_ends_without_a_value_is_a_failure(self, end: object, code: int):
        """promise 7"""
        with pytest.raises(hp.CommandFailed) as caught:
            hp.fn(end, code).call()
        assert caught.value.status.code == code

    def test_that_is_killed_says_by_which_signal(self):
        """promise 7"""
        with pytest.raises(hp.CommandFailed, match="KILL") as caught:
            hp.fn(lambda: os.kill(os.getpid(), signal.SIGKILL)).call()
        assert caught.value.status.signal == signal.SIGKILL

    def test_does_not_wait_for_a_grandchild_that_holds_the_pipe(self):
        """promise 2"""
        reader, writer = pipe()

        def work() -> int:
            pid = os.fork()
            if pid == 0:
                os.read(reader.fileno(), 1)
                os._exit(0)
            return pid

        with reader, writer:
            pid = hp.fn(work).with_options(pass_fds=(reader.fileno(),), timeout=10).call()
        assert wait_gone([pid]) == []

    def test_keeps_its_deadline_when_a_grandchild_holds_the_pipe_and_no_value_comes(self):
        """promise 3"""
        reader, writer = pipe()

        def work() -> None:
            if os.fork() == 0:
                os.read(reader.fileno(), 1)
            os._exit(5)

        with reader, writer, pytest.raises((hp.CommandTimeout, hp.CommandFailed)):
            hp.fn(work).with_options(pass_fds=(reader.fileno(),), timeout=0.2, grace=0).call()

    def test_that_takes_too_long_is_ended_and_reaped(self):
        """promise 3, perlipc:S11b"""
        with pytest.raises(hp.CommandTimeout):
            hp.fn(pause).with_options(timeout=0.05).call()
        assert children() == []

    def test_refuses_what_has_been_called_already(self):
        """perlipc:O11"""
        with pytest.raises(TypeError, match="not fn\\(work"):
            hp.fn(pow(2, 3))  # type: ignore[arg-type]


class TestTheVerbs:
    """perlipc:O11: the safe pipe opens."""

    def test_read_what_the_child_prints(self):
        """perlipc:O11"""
        with hp.fn(print, "one\ntwo").reader() as file:
            assert file.readlines() == ["one\n", "two\n"]

    def test_write_what_the_child_reads(self, tmp_path: Path):
        """perlipc:O11"""
        with hp.fn(lambda: (tmp_path / "out").write_text(sys.stdin.read().upper())).writer() as file:
            print("hello", file=file)
        assert (tmp_path / "out").read_text() == "HELLO\n"

    def test_converse_with_the_child(self):
        """perlipc:O11"""

        def echo() -> None:
            for line in sys.stdin:
                print(line.strip()[::-1], flush=True)

        with hp.fn(echo).duplex() as child:
            assert child.ask("abc") == "cba"
            assert child.ask("def") == "fed"

    def test_join_programs_in_a_pipeline(self):
        """perlipc:O11"""
        pipeline = hp.cmd("printf", "b\na\n") | hp.fn(lambda: print(sys.stdin.read().upper(), end="")) | hp.cmd("sort")
        assert pipeline.read() == "A\nB\n"


class TestWhatTheChildHas:
    """gotcha:R5, R6, R7."""

    def test_is_stdin_stdout_stderr_and_no_other_descriptor(self, tmp_path: Path):
        """gotcha:R6, R7: listeners, locks, other people's pipes, even inheritable ones."""
        with open(tmp_path / "file", "w") as file, hp.cmd("cat").duplex():
            os.set_inheritable(file.fileno(), True)
            seen = hp.fn(lambda: print(sorted(open_descriptors()))).read()
            assert seen == "[0, 1, 2]\n"
            through_call = hp.fn(open_descriptors).call()
            assert len(through_call) == 4
            passed = hp.fn(open_descriptors).with_options(pass_fds=(file.fileno(),)).call()
            assert passed[file.fileno()] == str(tmp_path / "file")

    def test_is_not_the_parents_flock(self, tmp_path: Path):
        """gotcha:R6: a child keeps the lock after the parent has dropped it."""
        path = tmp_path / "lock"
        with open(path, "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            child = hp.fn(lambda: print(sys.stdin.readline())).duplex()
        with open(path) as other:
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        child.close()

    def test_is_not_the_parents_random_state(self):
        """gotcha:R6"""
        random.seed(1)
        values = {hp.fn(random.random).call() for _ in range(3)} | {random.random()}
        assert len(values) == 4

    def test_is_every_signal_at_its_default_and_none_blocked(self):
        """gotcha:SP6, R6"""

        def look() -> tuple[dict[str, str], set[int]]:
            with open("/proc/self/status") as file:
                lines = dict(line.split(":", 1) for line in file)
            unset = (signal.SIG_DFL, None)
            caught = {number for number in signal.valid_signals() if signal.getsignal(number) not in unset}
            return {name: lines[name].strip() for name in ("SigBlk", "SigIgn")}, caught

        before = signal.signal(signal.SIGUSR1, signal.SIG_IGN), signal.signal(signal.SIGTERM, lambda *_: None)
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})
        try:
            masks, caught = hp.fn(look).call()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            signal.signal(signal.SIGUSR1, before[0])
            signal.signal(signal.SIGTERM, before[1])
        assert {int(value, 16) for value in masks.values()} == {0}
        assert caught == set()

    def test_loses_no_term_right_after_its_start_and_runs_no_handler_of_ours(self):
        """gotcha:SIG7, R1: between fork and reset our handler would run in the child."""
        reader, writer = pipe()
        with reader, writer:
            number = writer.fileno()
            before = signal.signal(signal.SIGTERM, lambda *_: os.write(number, b"ours"))
            try:
                for _ in range(50):
                    process = hp.fn(pause).with_options(pass_fds=(number,)).start()
                    process.kill("TERM")
                    assert process.wait(30).signal == signal.SIGTERM
            finally:
                signal.signal(signal.SIGTERM, before)
            writer.close()
            assert os.read(reader.fileno(), 100) == b""


class TestAForkBesideThreads:
    """gotcha:R5: a lock that another thread holds stays locked in the child for ever."""

    def test_warns_and_names_them(self):
        """gotcha:R5"""
        over = threading.Event()
        thread = threading.Thread(target=over.wait, name="busy-one")
        thread.start()
        try:
            with pytest.warns(hp.ForkWarning, match="busy-one"):
                assert hp.fn(pow, 2, 3).call() == 8
        finally:
            over.set()
            thread.join()

    def test_leaves_nothing_behind_where_warnings_are_errors(self):
        """gotcha:R5: they are in this suite; no_leaks looks."""
        over = threading.Event()
        thread = threading.Thread(target=over.wait)
        thread.start()
        try:
            with pytest.raises(hp.ForkWarning):
                hp.fn(pow, 2, 3).call()
        finally:
            over.set()
            thread.join()
        wait_until(lambda: not children())

    def test_is_no_matter_for_a_program(self):
        """gotcha:R5"""
        over = threading.Event()
        thread = threading.Thread(target=over.wait)
        thread.start()
        try:
            assert hp.cmd("true").run()
        finally:
            over.set()
            thread.join()
