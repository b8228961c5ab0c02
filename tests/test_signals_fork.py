"""Signals over a fork: what a child inherits, what it must not, and what it must never do to its parent.

``os.fork`` keeps handlers and watches, and so they have to work on both sides, each for its own
signals; a callable started by ``fn`` begins with defaults, like a program (gotcha:SIG13). Whatever
forks by hand runs in an interpreter of its own.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import socket
import sys
import textwrap

import pytest

import hornpipe as hp


def python(program: str, *arguments: str) -> str:
    """What a strict interpreter of its own prints; it has to end well, and soon."""
    script = "import hornpipe as hp, os, select, signal, sys, threading\n" + textwrap.dedent(program)
    return hp.cmd(sys.executable, "-W", "error", "-c", script, *arguments, timeout=20).read()


class TestForkByHand:
    """gotcha:SIG12"""

    def test_a_signal_that_the_child_has_not_looked_at_does_not_wake_the_parent(self):
        """gotcha:SIG12: the pipe behind a watch would be shared."""
        program = """
            with hp.watch("USR1") as signals:
                pid = os.fork()
                if not pid:
                    hp.kill("USR1", os.getpid())
                    os._exit(len(select.select([signals], [], [], 30)[0]))
                print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), select.select([signals], [], [], 0)[0])
        """
        assert python(program) == "1 []\n"

    def test_parent_and_child_each_watch_their_own_signals(self):
        """gotcha:SIG12: the child's signal is not the parent's, nor is the parent even woken by it."""
        assert (
            python(
                """
                with hp.watch("USR1", "RTMIN+1") as signals:
                    pid = os.fork()
                    if not pid:
                        hp.kill("USR1", os.getpid())
                        mine = signals.get(timeout=30)
                        os._exit(0 if mine.pid == os.getpid() else 1)
                    print(os.waitpid(pid, 0)[1], select.select([signals], [], [], 0)[0])
                    hp.signals.queue("RTMIN+1", os.getpid(), 9)
                    print(signals.get(timeout=30).value)
                """
            )
            == "0 []\n9\n"
        )

    def test_what_the_parent_has_not_read_stays_the_parents_alone(self):
        """gotcha:SIG12"""
        assert (
            python(
                """
                with hp.watch("RTMIN+1") as signals:
                    for value in range(5):
                        hp.signals.queue("RTMIN+1", os.getpid(), value)
                    pid = os.fork()
                    if not pid:
                        try:
                            signals.get(timeout=0)
                        except TimeoutError:
                            os._exit(0 if not select.select([signals], [], [], 0)[0] else 1)
                        os._exit(2)
                    print(os.waitpid(pid, 0)[1], *(signals.get(timeout=30).value for _ in range(5)))
                """
            )
            == "0 0 1 2 3 4\n"
        )

    def test_handlers_go_on_in_both(self):
        """perlipc:S1: as with Perl's fork, %SIG is inherited."""
        assert (
            python(
                """
                seen = []
                hp.SIG["USR1"] = seen.append
                pid = os.fork()
                hp.kill("USR1", os.getpid())
                if not pid:
                    os._exit(0 if [sig.pid for sig in seen] == [os.getpid()] else 1)
                print(os.waitpid(pid, 0)[1], [sig.pid for sig in seen] == [os.getpid()])
                """
            )
            == "0 True\n"
        )

    def test_a_child_forked_in_a_handler_goes_on_with_the_wait_that_was_interrupted(self):
        """gotcha:SIG12: its wake-ups are its own from then on, and so are its parent's."""
        assert (
            python(
                """
                forked = []

                def fork(sig):
                    forked.append(os.fork())

                hp.SIG["ALRM"] = fork
                hp.SIG["USR2"] = lambda sig: None
                signal.setitimer(signal.ITIMER_REAL, 0.1)
                with hp.watch("HUP") as signals:
                    try:
                        signals.get(timeout=0.5)
                    except TimeoutError:
                        pass
                # The child's pipe must not be the parent's, or this would end a suspend() of the parent.
                if not forked[0]:
                    hp.kill("USR2", os.getpid())
                    os._exit(7)
                os.waitpid(forked[0], 0)
                try:
                    hp.signals.suspend("USR2", timeout=0.1)
                except TimeoutError:
                    print("undisturbed")
                """
            )
            == "undisturbed\n"
        )

    def test_a_child_forked_by_another_thread_does_not_wake_the_waiting_main_thread(self):
        """gotcha:SIG12: while it waits, its pipe is CPython's wake-up descriptor, and a fork inherits that."""
        assert (
            python(
                """
                over = threading.Event()

                def fork_and_signal():
                    while not over.is_set():
                        pid = os.fork()
                        if not pid:
                            hp.kill("USR2", os.getpid())
                            os._exit(0)
                        os.waitpid(pid, 0)

                hp.SIG["USR2"] = lambda sig: None
                thread = threading.Thread(target=fork_and_signal)
                thread.start()
                try:
                    hp.signals.suspend("USR1", timeout=0.5)
                except TimeoutError:
                    print("undisturbed")
                over.set()
                thread.join()
                """
            )
            == "undisturbed\n"
        )

    def test_an_alarm_around_a_fork_is_the_parents(self):
        """perlipc:S11, gotcha:SIG10: fork clears alarms, and the child leaves the block in peace."""
        assert (
            python(
                """
                try:
                    with hp.alarm(0.2):
                        pid = os.fork()
                        if pid:
                            signal.pause()
                except TimeoutError:
                    print(os.waitpid(pid, 0)[1])
                else:
                    with hp.alarm(5):
                        os._exit(3)
                """
            )
            == f"{3 << 8}\n"
        )


def disposition(which: str) -> str:
    return str(hp.SIG[which])


def own_watch(which: str) -> tuple[str, bool]:
    with hp.watch(which) as signals:
        hp.kill(which, os.getpid())
        sig = signals.get(timeout=30)
        return str(sig), sig.pid == os.getpid()


def own_handler(which: str) -> list[str]:
    seen: list[str] = []
    hp.SIG[which] = lambda sig: seen.append(str(sig))
    hp.kill(which, os.getpid())
    return seen


class TestACallableInAForkedChild:
    """gotcha:SIG13: a fresh start, whatever the parent had installed."""

    @pytest.mark.parametrize("handled", [print, "IGNORE"])
    def test_begins_with_defaults_and_an_empty_mask(self, handled):
        """gotcha:SIG13, SIG5"""
        with hp.SIG.local(USR1=handled), hp.watch("USR2"), hp.signals.block("HUP", "RTMIN+1"):
            for which in ("USR1", "USR2", "HUP"):
                assert hp.fn(disposition, which).call() == "DEFAULT"
            assert hp.fn(signal.pthread_sigmask, signal.SIG_BLOCK, []).call() == set()
            assert hp.fn(hp.SIG.displaced).call() == ()

    def test_handles_what_its_parent_handles_or_watches(self):
        with hp.SIG.local(USR1=print), hp.watch("USR1", "USR2"):
            for which in ("USR1", "USR2"):
                assert hp.fn(own_watch, which).call() == (which, True)
                assert hp.fn(own_handler, which).call() == [which]

    def test_handles_a_signal_whose_handler_has_started_it(self):
        """Its parent holds the signal back until the handler is done; the child never returns there."""
        answers = []
        with hp.SIG.local(USR1=lambda sig: answers.append(hp.fn(own_handler, "USR1").call())):
            hp.kill("USR1", os.getpid())
        assert answers == [["USR1"]]

    def test_writes_nothing_into_files_that_got_the_numbers_of_its_parents_watch(self, tmp_path):
        """gotcha:SIG12: a watch has descriptors; in the child they are closed, and others have their numbers."""

        def child() -> bytes:
            files = [os.open(tmp_path / str(n), os.O_RDWR | os.O_CREAT) for n in range(40)]
            own_handler("USR1")
            hp.fn(own_handler, "USR1").call()
            return b"".join(os.pread(file, 100, 0) for file in files)

        with hp.watch("USR1"), hp.watch("USR1"):
            assert hp.fn(child).call() == b""
        assert {path.read_bytes() for path in tmp_path.iterdir()} == {b""}

    def test_can_call_another_one(self):
        with hp.watch("USR1"), hp.watch("USR2"):
            assert hp.fn(lambda: hp.fn(own_watch, "USR1").call()).call() == ("USR1", True)

    def test_waits_without_pidfds_after_its_parent_needed_the_clock_signal(self):
        """A queued signal makes the parent hold RTMAX; in the child nobody does, until something needs it."""

        def child() -> tuple[int | None, list[str]]:
            from hornpipe.testing.mechanisms import without_pidfd

            with without_pidfd():
                code = hp.cmd("sh", "-c", "sleep 0.1; exit 3", check=False).run().code
            return code, own_handler("RTMIN+2")

        with hp.watch("RTMIN+1"):
            assert hp.fn(child).call() == (3, ["RTMIN+2"])

    def test_has_alarms_of_its_own(self):
        """perlipc:S11, gotcha:SIG10"""

        def child() -> str:
            try:
                with hp.alarm(0.1):
                    signal.pause()
            except TimeoutError as error:
                return str(error)
            return "not bounded"

        with hp.alarm(20):
            assert hp.fn(child).call() == "the block was not left within 0.1 s"

    def test_does_not_wake_a_foreign_loop_of_its_parent(self):
        """gotcha:SIG12: the wake-up descriptor is detached before anything of the child's own runs."""
        ours, theirs = socket.socketpair()
        with ours, theirs:
            theirs.setblocking(False)
            before = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
            try:
                assert hp.fn(own_handler, "USR1").call() == ["USR1"]
                assert select.select([ours], [], [], 0)[0] == []
            finally:
                signal.set_wakeup_fd(before)

    def test_a_signal_sent_at_once_ends_it_and_is_not_handled_here(self):
        """gotcha:SIG13, SRV5: between fork and its own start it is neither lost nor run by the parent's handler."""
        seen: list[hp.Signal] = []
        with hp.SIG.local(TERM=seen.append):
            for _ in range(50):
                process = hp.fn(signal.pause).start()
                process.kill("TERM")
                assert process.wait(30).signal == signal.SIGTERM
        assert seen == []


def sigign_of_a_child() -> int:
    """The signals that a program started here ignores, as bits."""
    return int(hp.cmd("grep", "SigIgn", "/proc/self/status").read().split()[1], 16)


class TestAProgram:
    """gotcha:SIG5, SIG13"""

    def test_starts_with_defaults_and_an_empty_mask(self):
        """gotcha:SIG5, SIG13: a child started in the scope of an IGNORE would be deaf too."""
        with hp.SIG.local(HUP="IGNORE", TERM=print), hp.signals.block("USR1", "TERM"), hp.watch("USR2"):
            status = hp.cmd("cat", "/proc/self/status").read()
        fields = dict(line.split(":\t", 1) for line in status.splitlines())
        assert [int(fields[name], 16) for name in ("SigBlk", "SigIgn", "SigCgt")] == [0, 0, 0]

    @pytest.mark.parametrize("name", ["RTMIN+3", "RTMAX-1", "PROF", "IO"])
    def test_does_not_inherit_what_python_ignores(self, name: str):
        """gotcha:SIG5: whichever signal it is."""
        with hp.SIG.local({name: "IGNORE"}):
            assert sigign_of_a_child() == 0

    def test_does_not_inherit_what_a_c_library_ignores_behind_pythons_back(self):
        """gotcha:SIG5: in Python's table of handlers nothing is to be seen of it."""
        libc = ctypes.CDLL(None)
        libc.signal.restype, libc.signal.argtypes = ctypes.c_void_p, [ctypes.c_int, ctypes.c_void_p]
        before = libc.signal(signal.SIGTSTP, 1)
        try:
            assert signal.getsignal(signal.SIGTSTP) == signal.SIG_DFL
            assert sigign_of_a_child() == 0
        finally:
            libc.signal(signal.SIGTSTP, before)

    def test_that_perl_starts_with_a_signal_ignored_keeps_it_ignored(self):
        """gotcha:SIG16, perlipc:S3: so does Perl's own exec, and nohup; only a handler of the user's changes it."""
        script = "import hornpipe as hp; print(hp.SIG['HUP'], hp.SIG['USR1'])"
        perl = "$SIG{HUP} = 'IGNORE'; exec @ARGV"
        assert hp.cmd("perl", "-e", perl, sys.executable, "-c", script).read() == "IGNORE DEFAULT\n"


IGNORED = """
import hornpipe as hp, os, signal, sys
LOOK = ("grep", "SigIgn", "/proc/self/status")

def of(line):
    ignored = int(line.split()[1], 16)
    return [name for name in ("HUP", "INT", "USR1", "CHLD", "PIPE") if ignored >> getattr(signal, f"SIG{name}") - 1 & 1]

def ours():
    with open("/proc/self/status") as file:
        return of(next(line for line in file if line.startswith("SigIgn")))
"""
WAYS = {
    "run": "of(hp.cmd(*LOOK).read())",
    "with a limit": "of(hp.cmd(*LOOK, timeout=20).read())",
    "in a pipeline": "of((hp.cmd(*LOOK) | hp.cmd('cat')).read())",
    "on a terminal": "of(hp.cmd(*LOOK, pty=True).read())",
    "contained": "of(hp.cmd(*LOOK, contain=True).read())",
    "as another user": "of(hp.cmd(*LOOK, user=os.geteuid()).read())",
    "fn": "hp.fn(ours).call()",
    "fn, contained": "hp.fn(ours).with_options(contain=True).call()",
    "exec": "of(hp.fn(hp.cmd(*LOOK).exec).reader().read())",
    "fn in fn": "hp.fn(lambda: hp.fn(ours).call()).call()",
}


class TestWhatWeWereStartedWith:
    """gotcha:SIG16: nohup and a shell's & make us deaf, and mean whatever we start as well."""

    @pytest.mark.parametrize("way", WAYS)
    def test_stays_ignored_in_what_we_start(self, way):
        """gotcha:SIG16, SIG5: what we ignore ourselves does not, nor what Python ignores; CHLD never does (SIG6)."""
        body = f"""
            with hp.SIG.local(USR1="IGNORE"):
                print(*{WAYS[way]})
            hp.SIG["HUP"] = lambda sig: None
            print(*{WAYS[way]})
        """
        perl = "@SIG{qw(HUP INT CHLD PIPE)} = ('IGNORE') x 4; exec @ARGV"
        script = IGNORED + textwrap.dedent(body)
        assert hp.cmd("perl", "-e", perl, sys.executable, "-c", script, timeout=20).read() == "HUP INT\nINT\n"

    def test_is_python_to_know_too(self):
        """gotcha:SIG16: in a callable, whose table of handlers is Python's own."""
        body = "print(hp.fn(lambda: (hp.SIG['HUP'], signal.getsignal(1) == signal.SIG_IGN, hp.SIG['TERM'])).call())"
        started = hp.sh('trap "" HUP; exec "$@"')
        script = "import hornpipe as hp, signal\n" + body
        said = hp.cmd(*started.argv, "sh", sys.executable, "-c", script, timeout=20).read()
        assert said == "('IGNORE', True, 'DEFAULT')\n"
