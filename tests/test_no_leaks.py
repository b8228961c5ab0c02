"""``no_leaks`` finds everything a test can leave behind, clears it away, and keeps quiet otherwise.

The suite's own ``no_leaks`` watches these tests as well: what the inner check promises to undo, it must have undone.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hornpipe.testing import stubborn
from hornpipe.testing.descriptors import open_descriptors
from hornpipe.testing.leaks import LeaksFound, leak_check
from hornpipe.testing.processes import children, find_marked, look_at
from hornpipe.testing.stubborn import READY, new_mark
from hornpipe.testing.sysv_objects import SysVObject, remove, sysv_objects

BRIEFLY = 0.05  # seconds of patience: what these tests leave will not go by waiting


def leaks_of(leave: Callable[[], object]) -> list[str]:
    with pytest.raises(LeaksFound) as caught, leak_check(patience=BRIEFLY):
        leave()
    return caught.value.leaks


def the_leak_of(leave: Callable[[], object]) -> str:
    (leak,) = leaks_of(leave)
    return leak


# Processes


def test_a_running_child_is_found_and_ended() -> None:
    started: list[int] = []

    def leave() -> None:
        started.append(os.posix_spawnp("sleep", ["sleep", "60"], os.environ))

    assert the_leak_of(leave) == f"child {started[0]} is still running: sleep 60"
    assert look_at(started[0]) is None


def test_a_zombie_is_found_and_reaped() -> None:
    def leave() -> None:
        pid = os.posix_spawnp("true", ["true"], os.environ)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)

    assert "has ended and nobody waited for it: [true]" in the_leak_of(leave)
    assert children() == []


def test_a_stopped_child_that_ignores_signals_is_ended_too() -> None:
    def leave() -> None:
        pid = os.posix_spawn(sys.executable, stubborn.stops_itself(), os.environ)
        os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOWAIT)

    leaks = leaks_of(leave)  # with its helper
    assert any(leak.startswith("child") for leak in leaks)
    assert children() == []


def test_a_child_started_by_another_thread_is_found() -> None:
    def start() -> None:
        os.posix_spawnp("sleep", ["sleep", "60"], os.environ)

    def leave() -> None:
        thread = threading.Thread(target=start)
        thread.start()
        thread.join()

    assert the_leak_of(leave).endswith("is still running: sleep 60")


def test_a_daemon_that_cut_every_tie_is_found_and_ended() -> None:
    mark = new_mark()

    def leave() -> None:
        subprocess.run(stubborn.daemonizes_completely(mark=mark), check=True, stdout=subprocess.DEVNULL)
        assert len(find_marked(mark)) == 1

    leak = the_leak_of(leave)
    assert "is still running, under parent" in leak
    assert leak.endswith(mark)
    assert find_marked(mark) == []


def test_an_orphan_that_was_forked_without_exec_is_found() -> None:
    # /proc shows the environment of its parent's own start, so the environment would not give it away.
    r, w = os.pipe()

    def leave() -> None:
        child = os.fork()
        if not child:
            orphan = os.fork()
            if not orphan:
                signal.pause()
            os.write(w, str(orphan).encode())
            os._exit(0)
        os.waitpid(child, 0)

    leak = the_leak_of(leave)
    assert leak.startswith(f"process {os.read(r, 16).decode()} is still running")
    os.close(r)
    os.close(w)


def test_a_grandchild_in_another_session_is_found_beside_the_child() -> None:
    mark = new_mark()

    def leave() -> None:
        program = stubborn.grandchild_in_new_session(mark=mark, lingers=True, keeps_pipes=False)
        with open("/dev/null") as null:
            child = subprocess.Popen(program, stdin=null, stdout=subprocess.PIPE)
        assert child.stdout is not None
        with child.stdout as lines:
            assert lines.readline() == READY
        child.returncode = 0  # keeps Popen from warning that it still runs

    assert len(leaks_of(leave)) == 2
    assert find_marked(mark) == []


def test_a_child_that_ends_within_the_patience_is_no_leak() -> None:
    r, w = os.pipe()
    with leak_check(patience=20):
        pid = os.posix_spawnp("cat", ["cat"], os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, r, 0)])
        os.close(r)

        def reap() -> None:  # what a background reaper does
            os.close(w)
            os.waitpid(pid, 0)

        threading.Timer(0.05, reap).start()


def test_processes_that_were_there_before_are_no_leak() -> None:
    pid = os.posix_spawnp("sleep", ["sleep", "60"], os.environ)
    with leak_check():
        pass
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


# Descriptors


def test_a_descriptor_is_found_with_its_target() -> None:
    opened: list[int] = []
    leak = the_leak_of(lambda: opened.append(os.open("/dev/null", os.O_RDONLY)))
    assert leak == f"descriptor {opened[0]} is open: /dev/null"
    os.close(opened[0])


def test_a_descriptor_that_now_leads_elsewhere_is_found() -> None:
    number = os.open("/dev/null", os.O_RDONLY)

    def leave() -> None:
        other = os.open("/dev/zero", os.O_RDONLY)
        os.dup2(other, number)
        os.close(other)

    assert the_leak_of(leave) == f"descriptor {number} is open: /dev/zero"
    os.close(number)


def test_a_closed_stdin_is_found() -> None:
    saved = os.dup(0)
    try:
        assert the_leak_of(lambda: os.close(0)) == "descriptor 0 is closed"
    finally:
        os.dup2(saved, 0)
        os.close(saved)


class _Handle:
    """Closes its descriptor when it is dropped, but is part of a cycle."""

    def __init__(self) -> None:
        self.number = os.open("/dev/null", os.O_RDONLY)
        self.itself = self

    def __del__(self) -> None:
        os.close(self.number)


def test_a_descriptor_that_only_garbage_holds_is_no_leak() -> None:
    before = open_descriptors()
    with leak_check(patience=BRIEFLY):
        _Handle()
    assert open_descriptors() == before


# System V objects


@pytest.mark.parametrize(
    ("argument", "kind", "words"),
    [
        ("--shmem=4096", "shm", "shared memory segment"),
        ("--semaphore=1", "sem", "semaphore set"),
        ("--queue", "msg", "message queue"),
    ],
)
def test_a_system_v_object_is_found_with_the_command_that_removes_it(argument: str, kind: str, words: str) -> None:
    made: list[SysVObject] = []

    def leave() -> None:
        output = subprocess.run(["ipcmk", argument], check=True, stdout=subprocess.PIPE).stdout
        number = int(output.split()[-1])
        made.extend(found for found in sysv_objects() if (found.kind, found.id) == (kind, number))

    try:
        leak = next(leak for leak in leaks_of(leave) if f" {made[0].id} " in leak)
        assert leak.startswith(words)
        assert leak.endswith(made[0].removal)
    finally:
        remove(made[0])
    assert made[0] not in sysv_objects()


# What a process has one of


def test_a_blocked_signal_is_found_and_unblocked() -> None:
    leak = the_leak_of(lambda: signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1]))
    assert leak == "signal USR1 is blocked, it was not"
    assert signal.SIGUSR1 not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_an_unblocked_signal_is_found_and_blocked_again() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    try:
        leak = the_leak_of(lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1]))
        assert leak == "signal USR1 is not blocked any more"
        assert signal.SIGUSR1 in signal.pthread_sigmask(signal.SIG_BLOCK, [])
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1])


def test_a_changed_handler_is_found_and_restored() -> None:
    leak = the_leak_of(lambda: signal.signal(signal.SIGUSR2, signal.SIG_IGN))
    assert leak == "the handler of USR2 is to ignore it, it was the default"
    assert signal.getsignal(signal.SIGUSR2) is signal.SIG_DFL


def test_a_disposition_changed_behind_pythons_back_is_found() -> None:
    # libc's signal() changes the kernel's table, and Python's still says what it said.
    import ctypes

    libc = ctypes.CDLL(None)
    try:
        leak = the_leak_of(lambda: libc.signal(signal.SIGUSR2, 1))
        assert leak == "signal USR2 is ignored in the kernel, it was default; Python was not told"
    finally:
        signal.signal(signal.SIGUSR2, signal.SIG_DFL)


def test_a_changed_umask_is_found_and_restored() -> None:
    before = os.umask(0o022)
    try:
        assert the_leak_of(lambda: os.umask(0o077)) == "the umask is 0077, it was 0022"
    finally:
        assert os.umask(before) == 0o022


def test_a_changed_directory_is_found_and_restored() -> None:
    before = os.getcwd()
    assert the_leak_of(lambda: os.chdir("/")) == f"the working directory is /, it was {before}"
    assert os.getcwd() == before


def test_a_directory_that_was_removed_is_told_from_the_one_that_was_there(tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()

    def leave() -> None:
        os.chdir(tmp_path / "gone")
        (tmp_path / "gone").rmdir()

    assert "gone (deleted)" in the_leak_of(leave)


def test_a_changed_environment_is_found_without_showing_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HORNPIPE_A", "1")
    monkeypatch.setenv("HORNPIPE_B", "1")

    def leave() -> None:
        os.environ["HORNPIPE_A"] = "secret"
        del os.environ["HORNPIPE_B"]
        os.environ["HORNPIPE_C"] = "secret"

    assert leaks_of(leave) == [
        "the environment variable HORNPIPE_A has another value",
        "the environment variable HORNPIPE_B is gone",
        "the environment variable HORNPIPE_C is new",
    ]
    assert [os.environ.get(f"HORNPIPE_{letter}") for letter in "ABC"] == ["1", "1", None]


def test_a_changed_limit_is_found_and_restored() -> None:
    before = resource.getrlimit(resource.RLIMIT_CORE)
    assert before[0] != 7

    leak = the_leak_of(lambda: resource.setrlimit(resource.RLIMIT_CORE, (7, before[1])))
    assert leak == f"the limit RLIMIT_CORE is (7, {before[1]}), it was {before}"
    assert resource.getrlimit(resource.RLIMIT_CORE) == before


def test_a_running_timer_is_found_and_stopped() -> None:
    assert the_leak_of(lambda: signal.alarm(60)) == "the timer ITIMER_REAL is running"
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


# Threads


@pytest.fixture
def idle() -> Iterator[Callable[..., None]]:
    """Starts threads that do nothing until the test is over."""
    over = threading.Event()
    threads: list[threading.Thread] = []

    def start(name: str, daemon: bool = False) -> None:
        threads.append(threading.Thread(target=over.wait, name=name, daemon=daemon))
        threads[-1].start()

    yield start
    over.set()
    for thread in threads:
        thread.join()


def test_a_thread_is_found_by_name(idle: Callable[..., None]) -> None:
    assert the_leak_of(lambda: idle("forgotten")) == "thread forgotten is still running"


def test_hornpipes_own_and_daemon_threads_are_no_leak(idle: Callable[..., None]) -> None:
    with leak_check(patience=BRIEFLY):
        idle("hornpipe-reaper")
        idle("anything", daemon=True)


# The check itself


def test_a_clean_block_passes_and_leaves_no_mark() -> None:
    variable = os.environ["HORNPIPE_TEST"]  # the suite's own no_leaks has set it
    limit = resource.getrlimit(resource.RLIMIT_RTTIME)
    with leak_check():
        assert os.environ["HORNPIPE_TEST"] != variable
        subprocess.run(["true"], check=True)
    assert os.environ["HORNPIPE_TEST"] == variable
    assert resource.getrlimit(resource.RLIMIT_RTTIME) == limit


def test_every_leak_is_listed() -> None:
    def leave() -> None:
        os.umask(0o070)
        signal.alarm(60)

    with pytest.raises(LeaksFound, match=r"left behind:\n  - the umask is 0070.*\n  - the timer"), leak_check():
        leave()


def test_an_exception_from_the_block_is_kept_and_gets_the_leaks_as_a_note() -> None:
    def leave_and_fail() -> None:
        signal.alarm(60)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught, leak_check():
        leave_and_fail()
    assert caught.value.__notes__ == ["left behind:\n  - the timer ITIMER_REAL is running"]


def test_looking_opens_and_changes_nothing() -> None:
    before = open_descriptors()
    with leak_check():
        assert open_descriptors() == before


# The fixture

OPTED_IN = """
import os, signal, subprocess, sys, pytest
from hornpipe.testing import stubborn
pytestmark = pytest.mark.usefixtures("no_leaks")
"""


def run(
    pytester: pytest.Pytester, *tests: str, options: tuple[str, ...] = (), patience: float = 20
) -> pytest.RunResult:
    pytester.makeini(f"[pytest]\nno_leaks_patience = {patience}\n")
    pytester.makepyfile("\n".join([OPTED_IN, *tests]))
    # In a process of its own: a descriptor that is left there must not be left here.
    return pytester.runpytest_subprocess("-p", "no:cacheprovider", *options)


def test_the_fixture_turns_each_kind_of_leak_into_an_error(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        "def test_child(): os.posix_spawnp('sleep', ['sleep', '61'], os.environ)",
        "def test_orphan(): subprocess.run(stubborn.daemonizes_completely(seconds=62), check=True)",
        "def test_descriptor(): os.open('/dev/null', os.O_RDONLY)",
        "def test_mask(): signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])",
        "def test_handler(): signal.signal(signal.SIGHUP, lambda *_: None)",
        "def test_umask(): os.umask(0o070)",
        "def test_directory(): os.chdir('/')",
        "def test_timer(): signal.alarm(60)",
        "def test_nothing(capfd, tmp_path, monkeypatch): monkeypatch.setenv('A', 'b'); monkeypatch.chdir('/')",
        "def test_clean_after_all_that(): subprocess.run(['echo', 'hello'], check=True)",
        patience=0.05,
    )
    result.assert_outcomes(passed=10, errors=8)
    result.stdout.fnmatch_lines(
        [
            "test_child left behind:",
            "  - child * is still running: sleep 61",
            "test_orphan left behind:",
            "  - process * is still running, under parent * 62*",
            "test_descriptor left behind:",
            "  - descriptor * is open: /dev/null",
            "test_mask left behind:",
            "  - signal USR1 is blocked*",
            "test_handler left behind:",
            "  - the handler of HUP is <function*",
            "test_umask left behind:",
            "  - the umask is 0070*",
            "test_directory left behind:",
            "  - the working directory is /*",
            "test_timer left behind:",
            "  - the timer ITIMER_REAL is running",
        ]
    )


@pytest.mark.parametrize("capture", ["fd", "sys", "no", "tee-sys"])
def test_the_captures_of_pytest_are_no_leak(pytester: pytest.Pytester, capture: str) -> None:
    result = run(
        pytester,
        "def test_printing(): print('out'); subprocess.run(['sh', '-c', 'echo out; echo err >&2'], check=True)",
        "def test_capfd(capfd): os.write(1, b'out'); assert capfd.readouterr().out == 'out'",
        "def test_capsys(capsys): print('out')",
        "def test_disabled(capfd):\n    with capfd.disabled(): print('out')",
        "def test_warning(recwarn, caplog): pass",
        options=(f"--capture={capture}",),
    )
    result.assert_outcomes(passed=5)


def test_the_first_use_of_hornpipe_is_no_leak(pytester: pytest.Pytester) -> None:
    """Rooms are loaded at first use, which may be in any test, and a thread's first wait makes a pipe for the next."""
    result = run(
        pytester,
        "def test_first():\n    import hornpipe as hp\n    assert hp.cmd('echo', 'x').read() == 'x\\n'",
        "def test_signals():\n    import hornpipe as hp\n    with hp.SIG.local(USR1=print), hp.watch('USR2'): pass",
        "def test_alarm():\n    import hornpipe as hp\n    with hp.alarm(60): pass",
    )
    result.assert_outcomes(passed=3)


def test_what_other_fixtures_close_is_no_leak(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
@pytest.fixture
def sleeper():
    child = subprocess.Popen(["sleep", "60"], stdout=subprocess.PIPE)
    yield child
    child.kill()
    child.communicate()

def test_with_fixture(sleeper): pass
def test_with_fixture_first(sleeper, no_leaks): pass
""",
    )
    result.assert_outcomes(passed=2)


def test_a_test_that_fails_by_itself_keeps_its_message_and_lists_its_leaks(pytester: pytest.Pytester) -> None:
    result = run(pytester, "def test_failing(): signal.alarm(60); assert 'one' == 'two'")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*assert 'one' == 'two'*", "*leaks*", "*the timer ITIMER_REAL is running*"])


def test_a_forked_child_that_walks_on_is_stopped_and_fails_the_test(pytester: pytest.Pytester) -> None:
    # {pexpect} an exception between fork and exec came back into the caller, and the program ran twice.
    result = run(
        pytester,
        "def test_forking():\n    pid = os.fork()\n    if pid: os.waitpid(pid, 0)\n    else: raise OSError('no cwd')",
        "def test_next(): os.write(2, b'the next test ran\\n')",
        options=("-s",),
    )
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*a forked child returned into the code of its parent"])
    assert result.stderr.str().count("the next test ran") == 1


def test_the_plugin_does_nothing_for_those_who_do_not_ask(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import os, sys

        def test_leaking():
            os.umask(0o077)
            assert not [name for name in sys.modules if name.startswith("hornpipe.testing.leaks")]
        """
    )
    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=1)
