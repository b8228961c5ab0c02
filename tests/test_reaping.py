"""Who reaps which child, and what becomes of a status that somebody else took.

Real processes throughout. Where a test has to know that a process is blocked or over, it waits for
a byte, an end of file or what /proc says; it never sleeps.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import platform
import resource
import select
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

import hornpipe as hp
from hornpipe import reaper, wait
from hornpipe._native import spawn as _spawn
from hornpipe.deadline import after
from hornpipe.fd import Descriptor, pipe
from hornpipe.process import Process
from hornpipe.testing.processes import children, look_at
from hornpipe.testing.stubborn import wait_until

# From 6.15 on, a pidfd keeps the status of a process that somebody else has reaped.
KERNEL_KEEPS_STATUSES = tuple(int(part) for part in platform.release().split(".")[:2]) >= (6, 15)


def sh(script: str) -> hp.Command[str]:
    """A shell that reads its stdin; the test holds the other end and so decides when it ends."""
    return hp.cmd("sh", "-c", script, check=False)


@contextlib.contextmanager
def held(script: str = "read line; exit 7") -> Iterator[tuple[Process, Descriptor]]:
    """A process that runs until the descriptor is closed."""
    reader, writer = pipe()
    with writer:
        with reader:
            process = sh(script).with_options(stdin=reader.fileno()).start()
        yield process, writer
    process.wait(30)


@contextlib.contextmanager
def chld(handler: object) -> Iterator[None]:
    before = signal.signal(signal.SIGCHLD, handler)  # type: ignore[arg-type]
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, before)


def gone(pid: int) -> bool:
    return look_at(pid) is None


def is_zombie(pid: int) -> bool:
    seen = look_at(pid)
    return seen is not None and seen.is_zombie


def assert_recovered_or_unknown(status: hp.ExitStatus, code: int, mechanism: str) -> None:
    """The true status where the kernel keeps it, else unknown; never success, never another's."""
    if mechanism == "pidfd" and KERNEL_KEEPS_STATUSES:
        assert status.known, status
    if status.known:
        assert status.code == code
    else:
        assert not status
        assert status.code is None
        assert "unknown" in str(status)


def start_and_drop(reader: Descriptor) -> int:
    process = sh("read line; exit 7").with_options(stdin=reader.fileno()).start()
    return process.pid


def run_script(
    text: str, tmp_path: Path, *options: str, arguments: tuple[str, ...] = (), ignore_chld: bool = False
) -> str:
    """A fresh interpreter; its stdout is a file, as with ``script > out``."""
    script, out = tmp_path / "script.py", tmp_path / "out"
    script.write_text(text)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with open(out, "wb") as file:
        done = subprocess.run(
            [sys.executable, *options, str(script), *arguments],
            preexec_fn=(lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN)) if ignore_chld else None,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.PIPE,
            env=environment,
            timeout=55,
        )
    assert done.returncode == 0, done.stderr.decode()
    return out.read_text()


@pytest.mark.usefixtures("with_and_without_pidfd")
class TestADroppedHandle:
    """gotcha:R4, S10b, promise 1: nobody has to wait for a child to keep it from becoming a zombie."""

    def test_warns_and_names_what_still_runs(self):
        """gotcha:R4"""
        reader, writer = pipe()
        with reader, writer:
            with pytest.warns(ResourceWarning, match="read line; exit 7") as caught:
                pid = start_and_drop(reader)
                gc.collect()
            assert str(pid) in str(caught[0].message)
        wait_until(lambda: gone(pid), what="the reaping of a dropped child")

    def test_leaves_no_zombie_when_the_child_ends_later(self):
        """gotcha:R4"""
        reader, writer = pipe()
        with reader, writer, pytest.warns(ResourceWarning):
            pids = [start_and_drop(reader) for _ in range(20)]
        for pid in pids:
            wait_until(lambda pid=pid: gone(pid), what="the reaping of a dropped child")

    def test_leaves_no_zombie_when_the_child_has_ended_already(self):
        """gotcha:R4: it is reaped on the spot, and there is nothing to warn of."""
        process = sh("exit 3").start()
        pid = process.pid
        wait_until(lambda: is_zombie(pid), what="its end")
        del process
        assert gone(pid)

    def test_is_reaped_although_warnings_are_errors(self, tmp_path: Path):
        """gotcha:R4: under ``-W error`` the warning raises inside ``__del__``; reaping goes on all the same."""
        out = run_script(
            "import os, hornpipe as hp\n"
            "from hornpipe.testing.stubborn import wait_until\n"
            "r, w = os.pipe()\n"
            "process = hp.cmd('cat', stdin=r, stdout=hp.NULL).start()\n"
            "pid = process.pid\n"
            "import sys; sys.unraisablehook = lambda unraisable: None\n"
            "del process\n"
            "os.close(r); os.close(w)\n"
            "try:\n"
            "    wait_until(lambda: not os.path.exists(f'/proc/{pid}'))\n"
            "    print('reaped')\n"
            "except TimeoutError:\n"
            "    print('zombie', open(f'/proc/{pid}/stat').read().split()[2])\n",
            tmp_path,
            "-W",
            "error",
        )
        assert out == "reaped\n"

    def test_of_a_reader_ends_the_child_and_reaps_it(self):
        """gotcha:R4"""
        handle = hp.cmd("yes").reader()
        assert handle.readline() == "y\n"
        del handle
        gc.collect()
        wait_until(lambda: not children(), what="the end of yes")

    def test_of_a_hundred_needs_one_thread(self):
        """gotcha:R4, promise 11"""
        reader, writer = pipe()
        with reader, writer:
            for _ in range(100):
                sh("read line").with_options(stdin=reader.fileno()).background()
            threads = [thread for thread in threading.enumerate() if thread.name.startswith("hornpipe-")]
            assert len(threads) == 1
            assert len(children()) == 100
        wait_until(lambda: not children(), what="the reaping of a hundred")
        wait_until(lambda: not threads[0].is_alive(), what="the end of the reaper")


class TestAStatusSomebodyElseTook:
    """gotcha:SIG6, SIG7, perlipc:S10b, promise 7."""

    def test_is_recovered_or_unknown_when_chld_is_ignored(self, with_and_without_pidfd: str):
        """gotcha:SIG6"""
        with chld(signal.SIG_IGN):
            for code in (7, 0, 255):
                status = sh(f"exit {code}").run()
                assert_recovered_or_unknown(status, code, with_and_without_pidfd)
            status = sh("kill -KILL $$").run()
        if status.known:
            assert status.signal == signal.SIGKILL
        else:
            assert not status
            assert "SIGCHLD is ignored" in str(status)

    def test_never_looks_like_success_to_a_verb_that_checks(self, with_and_without_pidfd: str):
        """gotcha:SIG6: ``false`` gives 0 in subprocess."""
        with chld(signal.SIG_IGN):
            for verb in ("run", "read", "capture"):
                with pytest.raises(hp.CommandFailed) as caught:
                    getattr(hp.cmd("false"), verb)()
                assert_recovered_or_unknown(caught.value.status, 1, with_and_without_pidfd)

    def test_is_recovered_or_unknown_when_ignoring_was_inherited_through_exec(self, tmp_path: Path):
        """gotcha:SIG6"""
        out = run_script(
            "import hornpipe as hp\n"
            "from hornpipe.testing.mechanisms import without_pidfd\n"
            "print(hp.cmd('sh', '-c', 'exit 9', check=False).run().code)\n"
            "with without_pidfd():\n"
            "    status = hp.cmd('sh', '-c', 'exit 9', check=False).run()\n"
            "    print(status.known, bool(status))\n",
            tmp_path,
            ignore_chld=True,
        )
        assert out.splitlines()[1] == "False False"
        assert out.splitlines()[0] == ("9" if KERNEL_KEEPS_STATUSES else "None")

    def test_is_recovered_or_unknown_after_a_greedy_waitpid(self, with_and_without_pidfd: str):
        """gotcha:SIG7, perlipc:S10b"""
        with held() as (process, writer):
            writer.close()
            assert os.waitpid(-1, 0) == (process.pid, 7 << 8)
            status = process.wait(30)
            assert_recovered_or_unknown(status, 7, with_and_without_pidfd)
            if not status.known:
                assert str(process.pid) in str(status)
            assert process.poll() is status

    def test_is_recovered_or_unknown_beside_a_greedy_thread(self, with_and_without_pidfd: str):
        """gotcha:SIG7: 17 of 20 were lost in subprocess."""
        over = threading.Event()
        stolen: list[int] = []

        def greedy() -> None:
            while not over.is_set():
                with contextlib.suppress(ChildProcessError):
                    stolen.append(os.waitpid(-1, 0)[0])

        thread = threading.Thread(target=greedy)
        thread.start()
        try:
            statuses = [sh(f"exit {number + 1}").run() for number in range(20)]
        finally:
            over.set()
            thread.join()
        for number, status in enumerate(statuses):
            assert_recovered_or_unknown(status, number + 1, with_and_without_pidfd)

    def test_is_recovered_or_unknown_beside_a_handler_that_reaps_all(self, with_and_without_pidfd: str):
        """gotcha:SIG7: the handler every Perl book shows."""
        stolen: list[int] = []

        def reap_all(_number: int, _frame: object) -> None:
            with contextlib.suppress(ChildProcessError):
                while (pid := os.waitpid(-1, os.WNOHANG)[0]) > 0:
                    stolen.append(pid)

        with chld(reap_all):
            for number in range(20):
                assert_recovered_or_unknown(sh(f"exit {number + 1}").run(), number + 1, with_and_without_pidfd)
            captured = sh("echo out; exit 5").capture()
        assert captured.stdout == "out\n"
        assert_recovered_or_unknown(captured.status, 5, with_and_without_pidfd)

    def test_does_not_make_kill_hit_a_stranger(self, with_and_without_pidfd: str):
        """gotcha:R1: the number may be anybody's by now."""
        with held() as (process, writer):
            writer.close()
            os.waitpid(process.pid, 0)
            assert process.kill() is False
            assert process.kill("TERM") is False


@pytest.mark.usefixtures("with_and_without_pidfd")
class TestWaiting:
    """gotcha:R1, R3."""

    def test_gives_many_threads_the_same_status(self):
        """gotcha:R3: one reaps, and the others do not guess."""
        told: list[hp.ExitStatus] = []
        barrier = threading.Barrier(17)

        def wait() -> None:
            barrier.wait()
            told.append(process.wait(30))

        with held() as (process, writer):
            threads = [threading.Thread(target=wait) for _ in range(16)]
            for thread in threads:
                thread.start()
            barrier.wait()
            writer.close()
            for thread in threads:
                thread.join()
        assert len(told) == 16
        assert {status.code for status in told} == {7}
        assert len({id(status) for status in told}) == 1

    def test_gives_many_threads_the_same_answer_when_the_status_was_stolen(self):
        """gotcha:R3, SIG7"""
        told: list[hp.ExitStatus] = []
        with held() as (process, writer):
            threads = [threading.Thread(target=lambda: told.append(process.wait(30))) for _ in range(8)]
            writer.close()
            os.waitpid(process.pid, 0)
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert len(told) == 8
        assert len({id(status) for status in told}) == 1
        assert told[0].code in (7, None)
        assert not told[0]

    def test_in_one_thread_does_not_make_poll_in_another_claim_it_runs(self):
        """gotcha:R3"""
        with held() as (process, writer):
            thread = threading.Thread(target=process.wait, args=(30,))
            thread.start()
            assert process.poll() is None
            writer.close()
            wait_until(lambda: gone(process.pid) or is_zombie(process.pid), what="its end")
            status = process.poll()
            thread.join()
            assert status is not None
            assert status.code == 7

    def test_may_look_without_reaping(self):
        """gotcha:R1: the number stays the child's until it is reaped."""
        with held() as (process, writer):
            assert not process.ended
            writer.close()
            wait_until(lambda: process.ended, what="its end")
            assert is_zombie(process.pid)
            assert process.wait().code == 7
            assert gone(process.pid)

    def test_times_out_and_leaves_it_running(self):
        """gotcha:R1"""
        with held() as (process, writer):
            with pytest.raises(TimeoutError, match="still runs"):
                process.wait(0)
            with pytest.raises(TimeoutError):
                process.wait(0.02)
            assert process.poll() is None
            writer.close()
            assert process.wait().code == 7

    def test_of_a_finished_process_leaves_nothing_to_kill(self):
        """gotcha:R1"""
        process = sh("exit 0").start()
        process.wait()
        assert process.kill() is False
        assert process.kill("TERM") is False
        assert process.terminate() == process.wait()

    def test_races_with_kill_from_other_threads_and_nobody_is_surprised(self):
        """gotcha:R1"""
        for _ in range(20):
            with held() as (process, _writer):
                threads = [threading.Thread(target=process.kill) for _ in range(4)]
                threads += [threading.Thread(target=process.wait, args=(30,)) for _ in range(4)]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
                assert process.wait().signal == signal.SIGKILL

    def test_by_a_timed_out_command_leaves_no_zombie(self):
        """perlipc:S11b"""
        for verb in ("run", "read", "capture"):
            for _ in range(3):
                with pytest.raises(hp.CommandTimeout):
                    getattr(hp.cmd("sleep", "60", timeout=0.02, grace=0), verb)()
        assert children() == []

    def test_takes_only_what_is_ours(self):
        """gotcha:SIG7, perlipc:S10b: a child of another library keeps its status for its owner."""
        other = subprocess.Popen(["sh", "-c", "exit 4"])
        with pytest.warns(ResourceWarning):
            reader, writer = pipe()
            with reader, writer:
                pid = start_and_drop(reader)
        sh("exit 1").run()
        wait_until(lambda: gone(pid), what="the reaping of ours")
        assert other.wait() == 4

    def test_as_process_1_reaps_strangers_and_leaves_ours(self):
        """gotcha:SIG7: one CHLD may stand for many deaths, so all of the dead are looked up."""
        process = sh("exit 3").start()
        strangers = []
        for _ in range(5):
            pid = os.posix_spawn("/bin/sh", ["sh", "-c", "exit 1"], {})
            strangers.append(pid)
        for pid in [process.pid, *strangers]:
            wait_until(lambda pid=pid: is_zombie(pid), what="its end")
        assert reaper.reap_strangers() == 5
        assert all(gone(pid) for pid in strangers)
        assert process.wait().code == 3

    @pytest.mark.skipif(os.geteuid() != 0 or shutil.which("unshare") is None, reason="namespaces need root")
    @pytest.mark.parametrize(
        "around",
        [
            pytest.param(["unshare", "--mount", "sh", "-c", 'umount -l /proc; exec "$@"', "sh"], id="no proc"),
            pytest.param(["unshare", "--pid", "--fork"], id="another namespace's proc"),
        ],
    )
    def test_as_process_1_needs_no_proc(self, around: list[str]):
        """gotcha:SIG7: waitid shows the dead one by one, and one of ours hides the rest until it is waited for."""
        source = """
            import os, hornpipe as hp
            from hornpipe import reaper
            def end(number):
                os.waitid(os.P_PID, number, os.WEXITED | os.WNOWAIT)
            assert reaper.reap_strangers() == 0
            for _ in range(3):
                end(os.posix_spawn("/bin/sh", ["sh", "-c", "exit 1"], {}))
            assert reaper.reap_strangers() == 3
            ours = hp.cmd("sh", "-c", "exit 3", check=False).start()
            end(ours.pid)
            assert reaper.reap_strangers() == 0
            assert ours.wait().code == 3
            print("reaped")
        """
        command = [*around, sys.executable, "-c", dedent(source)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
        assert (done.stdout, done.stderr) == ("reaped\n", "")


@pytest.mark.usefixtures("with_and_without_pidfd")
class TestASignalAmidAStart:
    """gotcha:SIG7, promise 1: a handler runs as soon as the call that made the child returns."""

    @pytest.fixture
    def amid_a_start(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
        """Call a function in another thread while the next child is being born, and one as a signal handler, between
        its birth and the next line of Python.
        """
        held, gate = os.pipe()
        launches = []

        class Plan(_spawn.Plan):
            def launch(self, *values: Any) -> tuple[int, int, int]:
                launches.append(self)
                return super().launch(*values)

        # The thread that starts a program stands still until the exec. Before that the child enters its cgroup: a full
        # pipe in that one's place holds it there, and so the starter.
        def held_plan(*values: Any, **keys: Any) -> _spawn.Plan:
            return Plan(*values[:7], gate, *values[8:], **keys) if values[7:] else Plan(*values, cgroup=gate, **keys)

        threads = []
        before = signal.getsignal(signal.SIGUSR1)

        def arrange(*, beside: Callable[[], object] = bool, handler: Callable[[], object] = bool) -> None:
            os.set_blocking(gate, False)
            with contextlib.suppress(BlockingIOError):
                while True:
                    os.write(gate, bytes(4096))
            os.set_blocking(gate, True)
            launches.clear()
            others = children()

            def act() -> None:
                try:
                    wait_until(lambda: len(children()) > len(others), what="a birth")
                    beside()
                    os.kill(os.getpid(), signal.SIGUSR1)
                finally:
                    os.read(held, 1 << 20)

            signal.signal(signal.SIGUSR1, lambda *_: handler())
            monkeypatch.setattr(_spawn, "Plan", held_plan)
            threads.append(threading.Thread(target=act))
            threads[-1].start()

        arrange.was_late = lambda: len(launches) > 1  # type: ignore[attr-defined]
        yield arrange
        for thread in threads:
            thread.join()
        signal.signal(signal.SIGUSR1, before)
        os.close(held)
        os.close(gate)

    @pytest.mark.parametrize("options", [{}, {"timeout": 30}, {"contain": True}], ids=["plain", "timeout", "contain"])
    def test_loses_no_child_when_its_handler_raises(self, amid_a_start: Any, options: hp.Options):
        def raising() -> None:
            raise LookupError

        amid_a_start(handler=raising)
        with pytest.raises(LookupError):
            hp.cmd("sleep", "60", **options).run()
        assert children() == []

    def test_takes_no_child_of_ours_for_a_stranger(self, amid_a_start: Any):
        """As process 1 it reaps strangers, perhaps before Python has seen the number of the child."""
        reaped: list[int] = []

        def reap() -> None:
            if children():
                wait_until(lambda: [child.is_zombie for child in children()] == [True], what="the end of ours")
                reaped.append(reaper.reap_strangers())

        while not reaped:  # between a birth that took longer than 30 ms, and was ended, and the fork after it
            amid_a_start(handler=reap)
            status = sh("exit 7").run()
            assert status.known
            assert status.code == 7
        assert reaped == [0]

    def test_lets_strangers_wait_for_a_birth_and_no_longer(self, amid_a_start: Any):
        """While nobody knows the number of the child, any of the dead could be it."""
        for _ in range(200):
            reaped = []
            stranger = os.posix_spawn("/bin/true", ["true"], {})
            wait_until(lambda stranger=stranger: is_zombie(stranger), what="the stranger's end")
            amid_a_start(beside=lambda reaped=reaped: reaped.append(reaper.reap_strangers()))
            process = sh("exit 7").start()
            assert gone(stranger)
            assert process.wait().code == 7
            if not amid_a_start.was_late():
                break
            # After 30 ms a start is no birth any more but a fork, whose number is known at once.
        assert reaped == [0]


@pytest.mark.usefixtures("with_and_without_pidfd")
class TestTheBackground:
    """perlipc:D4, gotcha:R4."""

    def test_never_holds_a_zombie(self):
        """perlipc:D4, gotcha:R4"""
        processes = [sh("exit 1").background() for _ in range(20)]
        for process in processes:
            wait_until(lambda process=process: gone(process.pid), what="its reaping")
            assert not process.alive()
            assert process.kill() is False

    def test_is_alive_until_it_is_killed(self):
        """perlipc:D4"""
        process = hp.cmd("sleep", "60").background()
        assert process.alive()
        assert process.kill() is True
        wait_until(lambda: not process.alive(), what="its end")
        wait_until(lambda: gone(process.pid), what="its reaping")
        assert process.kill() is False

    def test_may_be_forgotten_altogether_without_a_warning(self):
        """perlipc:D4"""
        reader, writer = pipe()
        with writer:
            with reader:
                pid = sh("read line").with_options(stdin=reader.fileno()).background().pid
            gc.collect()
            assert not is_zombie(pid)
            assert not gone(pid)
        wait_until(lambda: gone(pid), what="its reaping")

    def test_shares_our_stdout_and_stderr(self, capfd: pytest.CaptureFixture[str]):
        """perlipc:D4"""
        process = sh("echo out; echo err >&2").background()
        wait_until(lambda: gone(process.pid), what="its end")
        assert capfd.readouterr() == ("out\n", "err\n")

    def test_outlives_us_without_a_word(self):
        """perlipc:D4"""
        program = """
            import hornpipe as hp
            print(hp.cmd("sleep", "60", stdout=hp.NULL, stderr=hp.NULL).background().pid)
        """
        done = hp.cmd(sys.executable, "-c", textwrap.dedent(program)).capture()
        assert done.stderr == ""
        os.kill(int(done.stdout), signal.SIGKILL)

    def test_leaves_no_zombie_of_a_pipeline(self):
        """perlipc:D4"""
        (hp.cmd("true") | hp.cmd("cat") | hp.cmd("cat")).background()
        wait_until(lambda: not children(), what="the reaping of all stages")


class TestThePidfd:
    """gotcha:R2, R7."""

    def test_is_readable_at_the_end_and_closed_on_exec(self):
        """gotcha:R2, R7"""
        with held() as (process, writer):
            if process.pidfd < 0:
                pytest.skip("this kernel has no pidfds")
            assert not os.get_inheritable(process.fileno())
            poll = select.poll()
            poll.register(process.fileno(), select.POLLIN)
            assert poll.poll(0) == []
            writer.close()
            assert poll.poll(30_000)
            assert process.wait().code == 7

    @pytest.mark.usefixtures("without_pidfd")
    def test_is_missing_and_the_error_says_what_to_use_instead(self):
        """gotcha:R2"""
        with held() as (process, writer):
            assert process.pidfd < 0
            with pytest.raises(OSError, match="wait"):
                process.fileno()
            writer.close()

    @pytest.mark.parametrize("verb", ["read", "start"])
    def test_is_done_without_when_descriptors_run_out_and_nothing_is_left_behind(self, verb: str):
        """gotcha:R2: with any number of descriptors left it works, or says that none is left."""
        outcomes = []
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        for free in range(12):
            fillers: list[int] = []
            resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
            try:
                with contextlib.suppress(OSError):
                    while True:
                        fillers.append(os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC))
                for _ in range(free):
                    os.close(fillers.pop())
                try:
                    if verb == "read":
                        outcomes.append(hp.cmd("echo", "hello").read())
                    else:
                        outcomes.append(str(hp.cmd("true").start().wait(10)))
                except hp.SpawnError as error:
                    outcomes.append("refused")
                    assert "no descriptor is left" in str(error)  # noqa: PT017
            finally:
                for fd in fillers:
                    os.close(fd)
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            assert children() == []
        assert outcomes[-1] in ("hello\n", "exited successfully")
        first = outcomes.index(outcomes[-1])
        assert set(outcomes[first:]) == {outcomes[-1]}, outcomes

    @pytest.mark.usefixtures("with_and_without_pidfd")
    def test_and_all_else_stays_out_of_the_children(self):
        """gotcha:R7: nothing but 0, 1 and 2, whatever else runs."""
        with held() as (_process, writer), hp.cmd("cat").duplex():
            seen = hp.cmd("sh", "-c", "ls /proc/$$/fd").read().split()
            writer.close()
        # A shell keeps its script, if any, on 10 or above; this one has none.
        assert seen == ["0", "1", "2"]


# clone(2) with CLONE_PIDFD; pidfd_send_signal(2) and pidfd_open(2), which have one number on every machine but alpha.
CLONE = {"x86_64": (56, 0x1000), "aarch64": (220, 0x1000)}.get(platform.machine())
SEND, OPEN = (424, 0), (434, 0)
# A filter sees no flags of clone3(2), so one that cares for them has to forbid it as a whole; and with ENOSYS, since
# glibc starts its threads in another way then only.
CLONE3 = (435, 0, errno.ENOSYS)
FORBIDDEN = [(CLONE, CLONE3), (CLONE3, SEND, OPEN), (CLONE, CLONE3, SEND, OPEN)]

_FORBID = """
import ctypes, errno, os, signal, struct, sys
def forbid(calls, error):
    # seccomp(2), for good. Each call: its number, the bit of its first argument that is forbidden (0: all of it), and
    # what is said then, if that is another error.
    load, equal, has_bit, leave = 0x20, 0x15, 0x45, 0x06
    steps = [(load, 0, 0, 0)]
    for number, bit, *own in calls:
        steps += [(equal, 0, 3 if bit else 1, number)]
        steps += [(load, 0, 0, 16), (has_bit, 0, 1, bit)] if bit else []
        steps += [(leave, 0, 0, 0x00050000 | (own or [error])[0])]
        steps += [(load, 0, 0, 0)] if bit else []
    steps += [(leave, 0, 0, 0x7fff0000)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    program = struct.pack("HP", len(steps), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.prctl(38, 1, 0, 0, 0) == 0, ctypes.get_errno()
    assert libc.prctl(22, 2, program, 0, 0) == 0, ctypes.get_errno()
"""

_EVERYTHING = """
import hornpipe as hp
from hornpipe.testing.processes import children
from hornpipe.testing.stubborn import wait_until
calls, error = eval(sys.argv[1]), getattr(errno, sys.argv[2])
forbid(calls, error)
process = hp.cmd("sleep", "60").start()
print("pidfd", process.pidfd >= 0)
print("kill", process.kill("TERM"), process.wait(30), process.kill())
print("terminate", hp.cmd("sleep", "60").start().terminate(5))
print("read", hp.cmd("cat", input="x").read(), hp.sh("exit 3", check=False).capture().status.code)
with hp.cmd("yes").lines() as lines:
    print("lines", next(lines))
with hp.cmd("cat", timeout=20).duplex() as cat:
    print("ask", cat.ask("y"))
print("call", hp.fn(pow, 2, 3).call())
signal.signal(signal.SIGRTMIN, signal.SIG_IGN)
print(*hp.cmd("grep", "SigIgn", "/proc/self/status").read().split())
print("pipeline", (hp.cmd("yes") | hp.cmd("head", "-1")).read())
for options in {}, {"contain": True}:
    print("contain" if options else "alone", hp.cmd("echo", "z", **options).read())
    try:
        hp.cmd("sleep", "60", timeout=0.1, grace=5, **options).read()
    except hp.CommandTimeout as late:
        print("timeout", late.status)
process = hp.cmd("sleep", "60").background()
print("background", process.alive(), process.kill())
wait_until(lambda: not children(), what="the reaping of what runs in the background")
"""

_EXPECTED = """pidfd {}
kill True killed by TERM False
terminate killed by TERM
read x 3
lines y
ask y
call 8
SigIgn: 0000000000000000
pipeline y

alone z

timeout killed by TERM
contain z

timeout killed by TERM
background True True
"""


@pytest.mark.skipif(CLONE is None, reason="the number of clone(2) is known here for two machines only")
class TestASandbox:
    """gotcha:R2: pidfds may be forbidden, all of them or one call of three, and nothing behaves otherwise."""

    @pytest.mark.parametrize(
        ("calls", "error"),
        [((), "EPERM"), *((calls, error) for calls in FORBIDDEN for error in ("EPERM", "ENOSYS", "EINVAL"))],
        ids=lambda value: str(len(value)) if isinstance(value, tuple) else value,
    )
    def test_that_forbids_pidfds_changes_nothing(self, calls: tuple[object, ...], error: str, tmp_path: Path):
        """gotcha:R2: with a real filter of seccomp(2), which answers as a kernel without them would."""
        out = run_script(_FORBID + _EVERYTHING, tmp_path, arguments=(repr(calls), error))
        assert out == _EXPECTED.format(CLONE not in calls)


@pytest.mark.usefixtures("with_and_without_pidfd")
class TestClosingFromAnotherThread:
    """gotcha:R8: closing a descriptor wakes nobody, and its number is soon someone else's."""

    def blocked_reader(self, call: str) -> tuple[hp.Reader[str], threading.Thread, list[object], threading.Event]:
        handle = hp.cmd("sleep", "60").reader()
        told: list[object] = []
        started = threading.Event()

        def read() -> None:
            started.set()
            try:
                told.append(getattr(handle, call)())
            except BaseException as error:  # noqa: BLE001
                told.append(error)

        thread = threading.Thread(target=read, daemon=True)
        thread.start()
        started.wait()
        return handle, thread, told, started

    @pytest.mark.parametrize("several", [False, True])
    def test_after_its_number_was_looked_up_is_noticed_although_the_number_is_anothers_now(self, several: bool):
        """gotcha:R8: that other file may have nothing to say for ever."""
        ours, stranger = pipe(), pipe()
        number = ours[0].fileno()
        looks: list[int] = []

        def fileno() -> int:
            looks.append(number)
            if len(looks) == 2:
                raise ValueError("closed")
            ours[0].close()
            os.dup2(stranger[0].fileno(), number, inheritable=False)
            return number

        with pytest.raises(ValueError, match="closed"):
            if several:
                wait.on_any(lambda: [(fileno(), wait.READ)], after(20))
            else:
                wait.on(fileno, wait.READ, after(20))
        os.close(number)
        for end in (ours[1], *stranger):
            end.close()

    @pytest.mark.parametrize("call", ["readline", "read"])
    def test_wakes_a_blocked_reader_with_value_error(self, call: str):
        """gotcha:R8"""
        handle, thread, told, _ = self.blocked_reader(call)
        state = Path(f"/proc/self/task/{thread.native_id}/stat")
        wait_until(lambda: state.read_text().rpartition(")")[2].split()[0] == "S", what="the thread to block")
        handle.close()
        thread.join(30)
        assert not thread.is_alive()
        assert isinstance(told[0], ValueError), told

    def test_at_any_moment_gives_value_error_although_the_number_is_taken_at_once(self, tmp_path: Path):
        """gotcha:R8: in an interpreter of its own, since a reader that is not woken stays for ever."""
        out = run_script(
            "import os, threading, hornpipe as hp\n"
            "from hornpipe.fd import pipe\n"
            "for _ in range(100):\n"
            "    handle, told, started = hp.cmd('sleep', '60').reader(), [], threading.Event()\n"
            "    number = handle.fileno()\n"
            "    def read():\n"
            "        started.set()\n"
            "        try: told.append(handle.readline())\n"
            "        except BaseException as error: told.append(type(error).__mro__)\n"
            "    thread = threading.Thread(target=read, daemon=True)\n"
            "    thread.start()\n"
            "    started.wait()\n"
            "    handle.close()\n"
            # Whoever opens something now gets the number, and has something to read that is not ours.
            "    reader, writer = pipe()\n"
            "    os.write(writer.fileno(), b'for a stranger\\n')\n"
            "    thread.join(20)\n"
            "    if thread.is_alive():\n"
            "        print('not woken; the number is now', os.readlink(f'/proc/self/fd/{number}'), flush=True)\n"
            "        os._exit(0)\n"
            "    assert told and ValueError in told[0], told\n"
            "    reader.close(); writer.close()\n"
            "print('woken')\n",
            tmp_path,
        )
        assert out == "woken\n"


class TestTheReaperThread:
    """Promise 11, gotcha:R5: a fork beside a living thread may leave a lock locked for ever."""

    def test_stops_before_a_fork_and_goes_on_after_it(self, tmp_path: Path):
        """gotcha:R5"""
        out = run_script(
            "import os\n"
            "at_fork = []\n"
            "tasks = lambda: at_fork.append(len(reapers()))\n"
            # Registered first, so it runs last before the fork and first after it.
            "os.register_at_fork(before=tasks, after_in_parent=tasks)\n"
            "import threading, hornpipe as hp\n"
            "from hornpipe.testing.stubborn import wait_until\n"
            "reapers = lambda: [t for t in threading.enumerate() if t.name == 'hornpipe-reaper']\n"
            "r, w = os.pipe()\n"
            "pid = hp.cmd('cat', stdin=r, stdout=hp.NULL).background().pid\n"
            "old = reapers()\n"
            "for _ in range(10):\n"
            "    at_fork.clear()\n"
            "    child = os.fork()\n"
            "    if not child: os._exit(len(reapers()))\n"
            "    assert os.waitpid(child, 0)[1] == 0\n"
            "    assert at_fork == [0, 0], at_fork\n"
            "    hp.fn(int).run()\n"
            "new = reapers()\n"
            "print(len(old), len(new), old[0] is new[0], old[0].is_alive())\n"
            "os.close(w); os.close(r)\n"
            "wait_until(lambda: not os.path.exists(f'/proc/{pid}'))\n"
            "wait_until(lambda: not reapers())\n"
            "print('reaped')\n",
            tmp_path,
            "-W",
            "error",
        )
        assert out == "1 1 False False\nreaped\n"

    @pytest.mark.usefixtures("with_and_without_pidfd")
    def test_is_no_reason_for_a_fork_warning(self):
        """gotcha:R5: warnings are errors in this suite."""
        reader, writer = pipe()
        with reader, writer:
            process = sh("read line").with_options(stdin=reader.fileno()).background()
            assert hp.fn(pow, 2, 3).call() == 8
            assert process.alive()
        wait_until(lambda: gone(process.pid), what="its reaping")

    @pytest.mark.usefixtures("with_and_without_pidfd")
    def test_does_not_reap_in_a_forked_child_what_is_the_parents(self):
        """gotcha:R6"""
        with held() as (process, writer):
            assert hp.fn(lambda: len(reaper.ours)).call() == 0
            writer.close()
            assert process.wait().code == 7

    def test_lets_the_interpreter_end_while_it_waits(self, tmp_path: Path):
        """gotcha:R4: a daemon thread, nothing printed at exit."""
        out = run_script(
            "import os, hornpipe as hp\n"
            "r, w = os.pipe()\n"
            "hp.cmd('cat', stdin=r, stdout=hp.NULL).background()\n"
            "print('done')\n",
            tmp_path,
        )
        assert out == "done\n"

    def test_does_not_take_a_lock_along_when_the_interpreter_ends(self, tmp_path: Path):
        """gotcha:R4: a daemon thread is stopped wherever it is, and the last handles go after that."""
        out = run_script(
            "import os, threading, hornpipe as hp\n"
            "from hornpipe import reaper\n"
            "inside = threading.Event()\n"
            # With names of its own: what Child refers to lives longest, and the handle must not be among it.
            "exec('''\n"
            "import threading, time\n"
            "poll = reaper.Child.poll\n"
            "def slow(child):\n"
            "    if reaper.is_ours(threading.current_thread()):\n"
            "        inside.set()\n"
            "        time.sleep(0.2)\n"
            "    return poll(child)\n"
            "reaper.Child.poll = slow\n"
            "''', {'reaper': reaper, 'inside': inside})\n"
            "r, w = os.pipe()\n"
            "held = hp.cmd('cat', stdin=r, stdout=hp.NULL).start()\n"
            "hp.cmd('cat', stdin=r, stdout=hp.NULL).background()\n"
            "inside.wait()\n"
            "print('done')\n",
            tmp_path,
        )
        assert out == "done\n"

    def test_is_not_started_when_the_interpreter_ends(self):
        """gotcha:R4: nothing can be imported any more, and nobody is there to whom an error would be of use."""
        program = "import os, hornpipe as hp; r, w = os.pipe(); held = hp.cmd('cat', stdin=r, stdout=hp.NULL).start()"
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.usefixtures("with_and_without_pidfd", "many_descriptors")
def test_a_thousand_children_alive_at_once_are_started_fed_read_and_reaped():
    """gotcha:R2, R7, promise 1"""
    handles = [hp.cmd("cat").duplex() for _ in range(1000)]
    assert len(children()) == 1000
    for number, handle in enumerate(handles):
        handle.send(f"line {number}\n")
    for number, handle in enumerate(handles):
        assert handle.readline() == f"line {number}\n"
    for handle in handles:
        handle.close()
    assert children() == []
