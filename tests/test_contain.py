"""With ``contain=True`` a child's whole tree ends with it, with us, or with its deadline, on either rung."""

from __future__ import annotations

import contextlib
import gc
import os
import random
import select
import signal
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import hornpipe as hp
from hornpipe import contain
from hornpipe.testing import stubborn
from hornpipe.testing.processes import children, look_at, pids
from hornpipe.testing.stubborn import find_marked, new_mark, wait_gone, wait_until

SLACK = 10.0  # of the thirty seconds that a survivor would live
HAS_CGROUP = contain.delegated_cgroup() is not None
INSTANTS = 200 if os.environ.get("HORNPIPE_SOAK") == "1" else 25


@pytest.fixture(
    params=[
        pytest.param("cgroup", marks=pytest.mark.skipif(not HAS_CGROUP, reason="no cgroup is delegated to us")),
        "subreaper",
    ]
)
def rung(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each rung of the ladder in turn."""
    name: str = request.param
    if name == "subreaper":
        monkeypatch.setattr("hornpipe.contain.delegated_cgroup", lambda: None)
    return name


@contextlib.contextmanager
def nothing_survives() -> Iterator[str]:
    """A mark that nobody carries after the block; who does is ended, and the test fails."""
    mark = new_mark()
    try:
        yield mark
        left = wait_gone(find_marked(mark), SLACK)
        assert left == []
        assert find_marked(mark) == []
    finally:
        for pid in find_marked(mark):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def contained(*argv: str, **options: Any) -> hp.Command[str]:
    return hp.cmd(*argv, contain=True, **options)


def cgroups() -> list[Path]:
    base = contain.delegated_cgroup()
    return [] if base is None else list(Path(base).glob("hornpipe-*"))


# The end of the program


def test_a_daemon_does_not_survive_the_end_of_its_program(rung: str) -> None:
    """gotcha:T5: it called setsid, forked twice, closed everything and cleared its environment."""
    with nothing_survives() as mark:
        assert contained(*stubborn.daemonizes_completely(mark=mark)).read() == "ready\n"


def test_a_process_that_keeps_forking_does_not_survive_the_end_of_its_program(rung: str) -> None:
    """gotcha:T5: whoever lists processes first is always too late for one."""
    with nothing_survives() as mark:
        contained(*stubborn.keeps_moving(mark=mark), timeout=30).read()


def test_a_grandchild_cannot_hold_the_pipes_of_a_contained_command(rung: str) -> None:
    """gotcha:T1, gotcha:T5: no timeout is needed, the tree ends with its program."""
    with nothing_survives() as mark:
        began = time.monotonic()
        assert contained(*stubborn.grandchild_in_new_session(mark=mark)).read() == "ready\n"
        assert time.monotonic() - began < 20


def test_every_verb_ends_the_whole_tree(rung: str) -> None:
    """gotcha:T5."""
    with nothing_survives() as mark:
        command = contained(*stubborn.daemonizes_completely(mark=mark))
        assert command.capture().stdout == "ready\n"
        assert list(command.lines()) == ["ready"]
        with command.reader() as file:
            assert file.read() == "ready\n"
        with command.duplex() as both:
            assert both.readline() == "ready\n"
        assert command.with_options(stdout=hp.NULL).run()
        with command.with_options(stdout=hp.NULL).writer():
            pass
        assert command.with_options(stdout=hp.NULL).start().wait()


def test_each_stage_of_a_contained_pipeline_is_contained(rung: str) -> None:
    """gotcha:T5."""
    with nothing_survives() as mark:
        daemon = hp.cmd(*stubborn.daemonizes_completely(mark=mark))
        assert (daemon | hp.cmd("cat")).with_options(contain=True).read() == "ready\n"


def test_the_status_is_the_programs_own(rung: str) -> None:
    assert contained("sh", "-c", "exit 7", check=False).run().code == 7
    assert contained(*stubborn.dies_by("TERM"), check=False).run().signal == signal.SIGTERM
    with pytest.raises(hp.CommandFailed) as caught:
        contained("sh", "-c", "echo why >&2; exit 3").capture()
    assert caught.value.status.code == 3
    assert caught.value.stderr == "why\n"


def test_input_environment_and_directory_reach_a_contained_program(rung: str, tmp_path: Path) -> None:
    program = contained("sh", "-c", 'cat; echo "$X"; pwd', input="in\n", env={"X": "x"}, cwd=tmp_path)
    assert program.read() == f"in\nx\n{tmp_path}\n"


def test_the_rung_is_an_attribute(rung: str) -> None:
    with contained("sleep", "30").start() as process:
        assert process.rung == rung
        process.terminate(0)
    with contained("true").start() as process:
        assert process.rung == rung


def test_without_containment_the_rung_says_how_far_a_kill_reaches() -> None:
    with hp.cmd("true").start() as process:
        assert process.rung == "process"
    with hp.cmd("true", timeout=10).start() as process:
        assert process.rung == "group"
    with hp.cmd("true", new_session=True).start() as process:
        assert process.rung == "session"


def test_the_pid_is_the_programs_and_not_its_supervisors(rung: str) -> None:
    with contained("sh", "-c", "echo $$; read end; exit 0").duplex() as both:
        assert both.readline() == f"{both.pid}\n"


@pytest.mark.skipif(not HAS_CGROUP, reason="no cgroup is delegated to us")
def test_no_cgroup_is_left() -> None:
    before = cgroups()
    contained(*stubborn.daemonizes_completely()).read()
    with pytest.raises(hp.CommandTimeout):
        contained("sleep", "30", timeout=0.1, grace=0).run()
    assert wait_until(lambda: set(cgroups()) <= set(before), what="the removal of the cgroup")


# Time-out, terminate, dropping


@pytest.mark.parametrize("grace", [0, 0.2])
def test_a_daemon_does_not_survive_a_time_out(rung: str, grace: float) -> None:
    """perlipc:S11b, gotcha:T5."""
    with nothing_survives() as mark:
        began = time.monotonic()
        with pytest.raises(hp.CommandTimeout) as caught:
            contained(*stubborn.daemonizes_completely(mark=mark, lingers=True), timeout=1, grace=grace).read()
        assert time.monotonic() - began < 1 + grace + SLACK
        assert caught.value.stdout == "ready\n"
        assert children() == []


def test_a_deaf_program_is_killed_after_its_grace(rung: str) -> None:
    """perlipc:S11b."""
    began = time.monotonic()
    with pytest.raises(hp.CommandTimeout) as caught:
        contained(*stubborn.ignores_term(), timeout=0.5, grace=0.2).read()
    assert 0.7 <= time.monotonic() - began < 0.7 + SLACK
    assert caught.value.status is not None
    assert caught.value.status.signal == signal.SIGKILL
    assert children() == []


def test_a_stopped_program_is_ended_in_time(rung: str) -> None:
    """gotcha:T4."""
    began = time.monotonic()
    with pytest.raises(hp.CommandTimeout):
        contained("sh", "-c", "kill -STOP $$; exec sleep 30", timeout=0.3, grace=20).read()
    assert time.monotonic() - began < 15


def test_the_deadline_holds_while_nobody_is_in_a_call(rung: str) -> None:
    """T5: the supervisor enforces it; poll alone would not."""
    with nothing_survives() as mark:
        process = contained(
            *stubborn.daemonizes_completely(mark=mark, lingers=True), stdout=hp.NULL, timeout=0.3, grace=0.1
        ).start()
        assert select.select([process], [], [], 0.4 + SLACK)[0]
        assert find_marked(mark) == []
        with pytest.raises(hp.CommandTimeout):
            process.wait()


def test_terminate_reaches_the_whole_tree(rung: str) -> None:
    """gotcha:T5."""
    with nothing_survives() as mark:
        reader, writer = os.pipe()
        try:
            process = contained(*stubborn.daemonizes_completely(mark=mark, lingers=True), stdout=writer).start()
            assert os.read(reader, 6) == stubborn.READY
            assert len(find_marked(mark)) == 3  # the program, its daemon, and the supervisor
            status = process.terminate(5)
        finally:
            os.close(reader)
            os.close(writer)
        assert status is not None
        assert status.signal == signal.SIGTERM


def test_kill_reaches_the_whole_tree(rung: str) -> None:
    """gotcha:T5."""
    with nothing_survives() as mark:
        lines = contained(*stubborn.daemonizes_completely(mark=mark, lingers=True)).duplex()
        assert lines.readline() == "ready\n"
        with contextlib.suppress(hp.CommandFailed), lines:
            os.kill(lines.pid, signal.SIGKILL)


def test_leaving_a_stream_early_ends_the_whole_tree(rung: str) -> None:
    """gotcha:T5: and is no error."""
    with nothing_survives() as mark:
        with contained(*stubborn.daemonizes_completely(mark=mark, lingers=True), grace=0.2).lines() as lines:
            assert next(lines) == "ready"
        assert find_marked(mark) == []


def test_dropping_the_process_ends_the_whole_tree(rung: str) -> None:
    """gotcha:T5: with a warning, for it was forgotten."""
    with nothing_survives() as mark:
        process = contained(*stubborn.daemonizes_completely(mark=mark, lingers=True), stdout=hp.NULL).start()
        wait_until(lambda: len(find_marked(mark)) == 3, what="the daemon")
        with pytest.warns(ResourceWarning, match="still runs"):
            del process
            gc.collect()
        wait_until(lambda: not find_marked(mark), what="the end of the tree")
        wait_until(lambda: not children(), what="the reaping of the supervisor")


def test_an_exception_in_the_block_ends_the_whole_tree(rung: str) -> None:
    with (
        nothing_survives() as mark,
        pytest.raises(ZeroDivisionError),
        contained(*stubborn.daemonizes_completely(mark=mark, lingers=True), stdout=hp.NULL).start(),
    ):
        wait_until(lambda: len(find_marked(mark)) == 3, what="the daemon")
        raise ZeroDivisionError


# Starting


def test_a_program_that_is_not_there_is_named(rung: str) -> None:
    with pytest.raises(FileNotFoundError, match="no-such-program"):
        contained("no-such-program").run()
    with pytest.raises(FileNotFoundError, match="/no/such/program"):
        contained("/no/such/program").read()
    assert children() == []


def test_a_program_that_cannot_be_executed_is_named(rung: str, tmp_path: Path) -> None:
    program = tmp_path / "no-executable"
    program.write_text("no format that the kernel knows")
    with pytest.raises(PermissionError, match="no-executable"):
        contained(str(program)).run()


def test_a_directory_that_is_not_there_is_named(rung: str) -> None:
    with pytest.raises(FileNotFoundError, match="/no/such/directory"):
        contained("true", cwd="/no/such/directory").run()


def test_a_pipeline_whose_second_stage_cannot_start_leaves_nothing_of_the_first(rung: str) -> None:
    with nothing_survives() as mark:
        daemon = hp.cmd(*stubborn.daemonizes_completely(mark=mark, lingers=True))
        with pytest.raises(FileNotFoundError, match="no-such-program"):
            (daemon | hp.cmd("no-such-program")).with_options(contain=True).read()


def test_the_child_outlives_the_thread_that_started_it(rung: str) -> None:
    """gotcha:SP9: PDEATHSIG would kill it when that thread ends."""
    started: list[Any] = []
    thread = threading.Thread(target=lambda: started.append(contained("cat").duplex()))
    thread.start()
    thread.join()
    # The kernel sends PDEATHSIG as the thread goes; an answer after that shows that it has not.
    wait_until(lambda: len(os.listdir("/proc/self/task")) == 1 or not thread.is_alive())
    with started[0] as both:
        assert both.ask("still there?") == "still there?"


# Callables


def _leave_a_daemon(mark: str, lingers: bool = False) -> str:
    with subprocess.Popen(stubborn.daemonizes_completely(mark=mark), stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        said = child.stdout.read()
    if lingers:
        time.sleep(30)
    return said.decode()


def test_a_callable_is_contained(rung: str) -> None:
    """gotcha:T5."""
    with nothing_survives() as mark:
        assert hp.fn(_leave_a_daemon, mark).with_options(contain=True).call() == "ready\n"


def test_a_callable_is_contained_on_a_time_out(rung: str) -> None:
    """perlipc:S11b, gotcha:T5."""
    with nothing_survives() as mark:
        with pytest.raises(hp.CommandTimeout):
            hp.fn(_leave_a_daemon, mark, lingers=True).with_options(contain=True, timeout=0.4, grace=0.1).call()
        assert children() == []


def test_a_contained_callables_exception_comes_back(rung: str) -> None:
    with pytest.raises(ValueError, match="seven"):
        hp.fn(int, "seven").with_options(contain=True).call()


def test_a_contained_callable_has_its_rung(rung: str) -> None:
    with hp.fn(time.sleep, 30).with_options(contain=True).start() as process:
        assert process.rung == rung
        process.terminate(0)


# The end of the caller

_CALLER = """
import os, sys, time
import hornpipe as hp
from hornpipe import contain
from hornpipe.testing import stubborn
mark, rung, kind = sys.argv[1:]
if rung == "subreaper":
    contain.delegated_cgroup = lambda: None
daemon = stubborn.daemonizes_completely(mark=mark, lingers=True)
def work():
    os.execv(daemon[0], daemon)
os.write(1, b"go\\n")
kept = []
while len(kept) < 4:
    command = hp.cmd(*daemon, stdout=hp.NULL) if kind == "program" else hp.fn(work)
    kept.append(command.with_options(contain=True, stdout=hp.NULL).start())
os.write(1, b"started\\n")
time.sleep(60)
"""


def _kill_the_caller(mark: str, rung: str, kind: str, delay: float | None) -> None:
    """KILL it ``delay`` seconds after its first start began; with ``None`` when all have started."""
    argv = [sys.executable, "-W", "ignore", "-c", _CALLER, mark, rung, kind]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, bufsize=0) as caller:
        try:
            assert caller.stdout is not None
            assert caller.stdout.read(3) == b"go\n"
            if delay is None:
                assert caller.stdout.read(8) == b"started\n"
            else:
                select.select([caller.stdout], [], [], delay)
        finally:
            caller.kill()
        # Who is on its way from a fork of the caller to program, callable or supervisor has its output still.
        while select.select([caller.stdout], [], [], 20)[0]:
            if not caller.stdout.read(4096):
                break
        else:
            pytest.fail("twenty seconds after its death the caller's output is still held")


def _tree_is_gone(mark: str) -> None:
    # Between the caller's death and the supervisor's kill nothing is announced to us. And one look may miss who was
    # forked after /proc had been listed, or has no arguments in the middle of an exec: a survivor, which lingers, is
    # there at the next.
    def nobody() -> bool:
        for moment in (0.0, 0.01, 0.02):
            time.sleep(moment)
            if find_marked(mark):
                return False
        return True

    wait_until(nobody, what="the end of the tree")


@pytest.mark.parametrize("kind", ["program", "callable"])
def test_nothing_survives_the_kill_of_the_caller(rung: str, kind: str) -> None:
    """gotcha:T5."""
    with nothing_survives() as mark:
        _kill_the_caller(mark, rung, kind, None)
        _tree_is_gone(mark)


@pytest.mark.soak
@pytest.mark.parametrize("kind", ["program", "callable"])
def test_nothing_survives_the_kill_of_the_caller_at_any_instant(rung: str, kind: str) -> None:
    """gotcha:T5: also amid starting."""
    seed = random.randrange(2**32)
    instants = random.Random(seed)
    for _ in range(max(INSTANTS // 4, 1)):
        delay = instants.uniform(0, 0.04)
        with nothing_survives() as mark:
            _kill_the_caller(mark, rung, kind, delay)
            try:
                _tree_is_gone(mark)
            except TimeoutError:
                pytest.fail(f"survived a kill after {delay:.6f} s (seed {seed}): {find_marked(mark)}")


_KEEPER = """
import os, sys
import hornpipe as hp
from hornpipe import contain
from hornpipe.testing import stubborn
mark, rung, how = sys.argv[1:]
if rung == "subreaper":
    contain.delegated_cgroup = lambda: None
held, hold = os.pipe()
daemon = stubborn.daemonizes_completely(mark=mark, lingers=True)
arguments = contain._arguments
def work():
    os.write(1, b"worked\\n")
    os.execv(daemon[0], daemon)
def held_up(keys):
    # In the child that becomes the supervisor, after it has forked the callable's process.
    os.write(2, b"forked %d\\n" % os.getpid())
    os.read(0, 1)
    if how == "exec fails":
        contain._PROGRAM += " that is not there"
    return arguments(keys)
contain._arguments = held_up
hp.fn(work).with_options(contain=True, stdin=hp.NULL).start()
"""


def _waits_in_its_group(parent: int) -> bool:
    found = [process for process in map(look_at, pids()) if process is not None and process.parent == parent]
    with contextlib.suppress(ProcessLookupError):
        return any(os.getpgid(process.pid) == process.pid and process.state == "S" for process in found)
    return False


@pytest.mark.parametrize("how", ["exec fails", "killed", "caller killed"])
def test_a_callable_does_nothing_before_its_supervisor_holds_the_tree(rung: str, how: str) -> None:
    """gotcha:T5: an orphan that it made before would have nobody to end it."""
    with nothing_survives() as mark:
        argv = [sys.executable, "-W", "ignore", "-c", _KEEPER, mark, rung, how]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        with subprocess.Popen(argv, bufsize=0, **pipes) as caller:
            assert caller.stdin is not None
            assert caller.stdout is not None
            assert caller.stderr is not None
            keeper = int(caller.stderr.readline().split()[1])
            # The callable's process has all it needs but for the supervisor: it must wait, and not work.
            wait_until(
                lambda: select.select([caller.stdout], [], [], 0)[0] or _waits_in_its_group(keeper),
                what="the callable's process to wait",
            )
            if how == "caller killed":
                caller.kill()
                caller.wait()
            if how == "killed":
                os.kill(keeper, signal.SIGKILL)
            else:
                caller.stdin.write(b"x")
            assert caller.stdout.read() == b""
        _tree_is_gone(mark)


def test_a_copy_of_the_lifeline_in_another_child_keeps_nothing_alive(rung: str) -> None:
    """gotcha:T5: a forked child of the caller holds every descriptor, and lives on."""
    program = _CALLER.replace('os.write(1, b"started', 'os.fork() or time.sleep(3)\nos.write(1, b"started')
    program = program.replace("while len(kept) < 4", "while len(kept) < 1")
    with nothing_survives() as mark:
        argv = [sys.executable, "-W", "ignore", "-c", program, "MARK", rung, "program"]
        argv[-3] = mark
        with (
            warnings.catch_warnings(),
            subprocess.Popen(argv, stdout=subprocess.PIPE, start_new_session=True) as caller,
        ):
            try:
                assert caller.stdout is not None
                assert caller.stdout.read(11) == b"go\nstarted\n"
                caller.kill()
                caller.wait()
                # The fork has our mark among its arguments too, and leads no tree of its own.
                wait_until(lambda: len(find_marked(mark)) <= 1, what="the end of the tree beside the copy")
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(caller.pid, signal.SIGKILL)


def test_a_program_does_not_start_without_its_parent() -> None:
    """T5: a parent that dies between the fork and the prctl of its child is not announced by PR_SET_PDEATHSIG."""
    held, gate = os.pipe()
    said, say = os.pipe()
    # The child enters its cgroup before it asks for the signal: a full pipe in that one's place holds it there.
    os.set_blocking(gate, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(gate, bytes(4096))
    os.set_blocking(gate, True)
    program = """
import os, signal, sys
from hornpipe._native import spawn
gate, say = map(int, sys.argv[1:])
from hornpipe.fd import Descriptor
from hornpipe.reaper import Child, ours
plan = spawn.Plan(((say, 1),), cgroup=gate, death_signal=signal.SIGKILL)
child, report = Child(), Descriptor()
plan.launch([b"/bin/echo"], [b"echo", b"started"], None, False, child, ours, report)
assert child.pid
os.write(say, b"forked\\n")
signal.pause()
"""
    with open(said, "rb") as output, open(held, "rb") as full:
        argv = [sys.executable, "-c", program, str(gate), str(say)]
        with subprocess.Popen(argv, pass_fds=(gate, say)) as parent:
            os.close(say)
            os.close(gate)
            try:
                assert output.readline() == b"forked\n"
            finally:
                parent.kill()
        full.read1(4096)
        assert output.read() == b""
