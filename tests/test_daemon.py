"""``hp.daemonize``: real daemons, what their starters say, and kills at bad moments.

Each daemon here is a program of its own whose starter is a child of the test. It ends when the test lets go of a
lock, so that none outlives a failing test.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pwd
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

import hornpipe as hp
from hornpipe.pidfile import AlreadyRunning, PidFile, running
from hornpipe.testing.patience import wait_until
from hornpipe.testing.processes import find_marked, look_at, read_proc, wait_gone
from hornpipe.testing.stubborn import new_mark

PRELUDE = """
import atexit, fcntl, json, logging, os, signal, sys, threading, time
import hornpipe as hp
from hornpipe import supervision
FOLDER = sys.argv[1]
def live():
    # Until the test lets go of its lock.
    with open(FOLDER + "/life") as life:
        fcntl.flock(life, fcntl.LOCK_SH)
def say(**facts):
    with open(FOLDER + "/facts.new", "w") as file:
        json.dump(facts, file)
    os.rename(FOLDER + "/facts.new", FOLDER + "/facts")
def status():
    with open("/proc/self/status") as file:
        return {name: value.strip() for name, _, value in (line.partition(":") for line in file)}
"""


class Yard:
    """A folder with daemons in it."""

    def __init__(self, folder):
        self.folder = folder
        self.mark = new_mark()
        self.pidfile = folder / "daemon.pid"
        self._life = os.open(folder / "life", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        fcntl.flock(self._life, fcntl.LOCK_EX)

    def argv(self, program):
        return [sys.executable, "-c", PRELUDE + program, str(self.folder), self.mark]

    def start(self, program, **options):
        """Run a program that daemonizes itself; returns when its starter has ended."""
        options = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True, "timeout": 50, **options}
        return subprocess.run(self.argv(program), check=False, **options)

    def begin(self, program, **options):
        options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        return subprocess.Popen(self.argv(program), text=True, **options)

    @property
    def facts(self):
        path = self.folder / "facts"
        wait_until(path.exists, what="the daemon's facts")
        return json.loads(path.read_text())

    def processes(self):
        return find_marked(self.mark)

    def end_daemons(self):
        """Let them end by themselves."""
        os.close(self._life)
        self._life = -1
        wait_until(lambda: not self.processes(), what="the daemons' end")

    def close(self):
        if self._life >= 0:
            os.close(self._life)
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not self.processes(), what="the daemons' end")


@contextlib.contextmanager
def yard_in(folder):
    folder.mkdir()
    made = Yard(folder)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def yard(tmp_path):
    with yard_in(tmp_path / "yard") as made:
        yield made


@pytest.fixture
def public_yard():
    """One that other users can reach, as pytest's folders are not."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        with yard_in(Path(folder, "yard")) as made:
            yield made


def test_the_starter_returns_when_the_daemon_is_ready_and_not_before(yard):
    """perlipc:D3, gotcha:DM2"""
    done = yard.start("""
daemon = hp.daemonize()
with open(FOLDER + "/done", "w"):
    pass
daemon.ready()
live()
""")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (yard.folder / "done").exists()
    assert len(yard.processes()) >= 1
    yard.end_daemons()


def test_nothing_of_the_page_is_missing(yard):
    """perlipc:D3, gotcha:DM1, gotcha:DM3: directory, streams, session, terminal, umask, signals, descriptors."""
    os.mkdir(yard.folder / "work")
    done = yard.start(
        """
os.umask(0)
signal.signal(signal.SIGHUP, signal.SIG_IGN)
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1, signal.SIGTERM])
extra = os.open(FOLDER, os.O_RDONLY)
os.set_inheritable(extra, True)
daemon = hp.daemonize()
seen = status()
said = os.readlink("/proc/self/fd/2")
daemon.ready()
cwd = os.getcwd()
os.chdir("/proc/self/fd")
say(
    pid=os.getpid(), sid=os.getsid(0), group=os.getpgrp(), cwd=cwd, umask=seen["Umask"],
    blocked=seen["SigBlk"], ignored=seen["SigIgn"], said=said,
    descriptors={n: os.readlink(n) for n in os.listdir() if os.path.exists(n)},
    terminal=open("/proc/self/stat").read().rpartition(")")[2].split()[4],
)
live()
""",
        # As a shell starts its background jobs.
        preexec_fn=lambda: [signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGQUIT)],
    )
    assert (done.returncode, done.stderr) == (0, "")
    facts = yard.facts
    assert facts["sid"] == facts["group"] != facts["pid"]
    assert facts["cwd"] == "/"
    assert facts["umask"] == "0022"
    assert facts["terminal"] == "0"
    assert int(facts["blocked"], 16) == 0
    python_ignores = 1 << signal.SIGPIPE - 1 | 1 << signal.SIGXFSZ - 1
    libc_keeps = 1 << 31 | 1 << 32  # 32 and 33, which no signal call reaches: as whoever started us left them
    assert int(facts["ignored"], 16) & ~(python_ignores | libc_keeps) == 0
    assert {n: facts["descriptors"][n] for n in "012"} == dict.fromkeys("012", "/dev/null")
    # The only other one is the folder of the list itself, which was gone by the time it was looked at.
    assert set(facts["descriptors"]) <= {"0", "1", "2"}
    assert facts["said"].startswith("pipe:")
    yard.end_daemons()


def test_it_cannot_get_a_terminal_again(yard):
    """gotcha:DM1: as the leader of a session could."""
    done = yard.start("""
import pty
daemon = hp.daemonize()
daemon.ready()
leader, follower = pty.openpty()
name = os.ttyname(follower)
os.close(follower)
os.open(name, os.O_RDWR)
say(terminal=open("/proc/self/stat").read().rpartition(")")[2].split()[4])
live()
""")
    assert done.returncode == 0
    assert yard.facts["terminal"] == "0"
    yard.end_daemons()


def test_it_works_for_the_leader_of_a_group(yard):
    """perlipc:D3, gotcha:DM1: setsid alone would fail."""
    done = yard.start("hp.daemonize().ready(); live()", process_group=0)
    assert (done.returncode, done.stderr) == (0, "")
    yard.end_daemons()


def test_directory_umask_and_files_are_ours_to_choose(yard):
    """gotcha:DM3: relative names mean the caller's directory."""
    (yard.folder / "work").mkdir()
    done = yard.start(
        """
from pathlib import Path
daemon = hp.daemonize("daemon.pid", chdir="work", umask=0o027, stdout=Path("out.log"), stderr=Path("err.log"))
print("to the starter", file=sys.stderr)
daemon.ready()
print("out")
print("err", file=sys.stderr)
sys.stdout.flush()
say(cwd=os.getcwd(), umask=status()["Umask"])
live()
""",
        cwd=yard.folder,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "to the starter\n")
    assert yard.facts == {"cwd": str(yard.folder / "work"), "umask": "0027"}
    assert (yard.folder / "out.log").read_text() == "out\n"
    assert (yard.folder / "err.log").read_text() == "err\n"
    assert running(yard.pidfile) is not None
    yard.end_daemons()


def test_logs_are_appended_to(yard):
    log = yard.folder / "log"
    log.write_text("before\n")
    yard.start('from pathlib import Path\nd = hp.daemonize(stdout=Path(FOLDER + "/log")); d.ready(); print("now")')
    wait_until(lambda: not yard.processes())
    assert log.read_text() == "before\nnow\n"


@pytest.mark.parametrize(("out", "err"), [(1, 2), (2, 1), (2, None), (None, 1)])
def test_a_stream_may_go_where_one_of_the_callers_streams_went(yard, out, err):
    """The three are exchanged at once, not one after another."""
    with open(yard.folder / "one", "w") as one, open(yard.folder / "two", "w") as two:
        done = yard.start(
            f"""
daemon = hp.daemonize(stdout={out}, stderr={err})
daemon.ready()
os.write(1, b"out")
os.write(2, b"err")
say()
live()
""",
            capture_output=False,
            stdout=one,
            stderr=two,
        )
    assert done.returncode == 0
    assert yard.facts == {}
    names = {1: "one", 2: "two", None: None}
    expected = {"one": "", "two": "", names[out]: "out", names[err]: "err"}
    expected.pop(None, None)
    assert {name: (yard.folder / name).read_text() for name in ("one", "two")} == expected
    yard.end_daemons()


def test_one_started_with_its_streams_closed_has_all_three(yard):
    """gotcha:SP7: what is opened meanwhile must not get the numbers 0 to 2."""
    program = """
from pathlib import Path
daemon = hp.daemonize(FOLDER + "/daemon.pid", chdir=FOLDER, stdout=Path(FOLDER + "/log"))
daemon.ready()
say(streams=[os.readlink(f"/proc/self/fd/{n}") for n in range(3)], cwd=os.getcwd(),
    kept=[os.get_inheritable(n) for n in range(3)])
live()
"""
    closed = ["sh", "-c", 'exec <&- >&- 2>&-; exec "$@"', "sh", *yard.argv(program)]
    assert subprocess.run(closed, check=False, timeout=50).returncode == 0
    folder = str(yard.folder)
    assert yard.facts == {"streams": ["/dev/null", folder + "/log", "/dev/null"], "cwd": folder, "kept": [True] * 3}
    assert running(yard.pidfile) is not None
    yard.end_daemons()


def test_descriptors_that_were_listed_are_kept(yard):
    """gotcha:DM3"""
    done = yard.start("""
kept, other = os.pipe()
daemon = hp.daemonize(keep=[kept])
daemon.ready()
say(kept=os.path.exists(f"/proc/self/fd/{kept}"), other=os.path.exists(f"/proc/self/fd/{other}"))
live()
""")
    assert done.returncode == 0
    assert yard.facts == {"kept": True, "other": False}
    yard.end_daemons()


def test_nobody_holds_the_callers_descriptors_any_more(yard):
    """gotcha:DM3: whoever reads its output to the end is not kept waiting by a process that only waits."""
    reader, writer = os.pipe()
    done = yard.start("hp.daemonize().ready(); say(); live()", pass_fds=[writer])
    os.close(writer)
    assert done.returncode == 0
    assert yard.facts == {}
    with open(reader, "rb") as end:
        assert end.read() == b""
    yard.end_daemons()


def test_one_process_is_left(yard):
    """gotcha:DM1: the one in between has gone once the starter has."""
    yard.start("hp.daemonize().ready(); say(pid=os.getpid()); live()")
    wait_until(lambda: yard.processes() == [yard.facts["pid"]], what="the one in between to go")
    yard.end_daemons()


def test_handlers_the_program_has_set_stay_its_own(yard):
    """gotcha:SIG13: only what was inherited is reset."""
    yard.start("""
hp.SIG["USR1"] = lambda sig: say(got=str(sig))
hp.daemonize(FOLDER + "/daemon.pid").ready()
live()
""")
    os.kill(running(yard.pidfile), signal.SIGUSR1)
    assert yard.facts == {"got": "USR1"}
    yard.end_daemons()


def test_all_of_hornpipe_works_in_it(yard):
    done = yard.start("""
hp.cmd("true").run()
daemon = hp.daemonize()
daemon.ready()
with hp.watch("USR1") as signals:
    hp.kill("USR1", os.getpid())
    got = str(next(iter(signals)))
try:
    hp.cmd("sleep", "60", timeout=0.1).run()
except TimeoutError:
    late = True
say(read=hp.cmd("echo", "x").read(), call=hp.fn(max, 1, 2).call(), got=got, late=late)
live()
""")
    assert done.returncode == 0, done.stderr
    assert yard.facts == {"read": "x\n", "call": 2, "got": "USR1", "late": True}
    yard.end_daemons()


class TestOutputIsSaidOnce:
    """perlipc:O9, gotcha:SP6."""

    @pytest.mark.parametrize(
        "say_it",
        [
            'print("once", end="")',
            'sys.stdout.write("once")',
            'sys.stdout.buffer.write(b"once")',
            'print("once", file=sys.stderr, end="")',
            'handler = logging.StreamHandler(sys.stdout); handler.terminator = ""\n'
            'logging.basicConfig(handlers=[handler], format="%(message)s"); logging.warning("once")',
        ],
    )
    @pytest.mark.parametrize("fails", [False, True])
    def test_nothing_is_printed_twice(self, yard, say_it, fails):
        """gotcha:SP6, perlipc:O9: stdout is a pipe, so Python keeps it back."""
        end = "sys.exit(7)" if fails else "daemon.ready()"
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
        log = yard.folder / "log"
        done = yard.start(
            f'{say_it}\nfrom pathlib import Path\nlog = Path(FOLDER + "/log")\n'
            f"daemon = hp.daemonize(stdout=log, stderr=log)\n{end}",
            env=environment,
        )
        assert (done.stdout + done.stderr).replace("the daemon ended before it was ready\n", "") == "once"
        wait_until(lambda: not yard.processes(), what="the daemon's end")
        assert log.read_text() == ""

    @pytest.mark.parametrize("fails", [False, True])
    def test_exit_handlers_run_in_the_daemon_alone(self, yard, fails):
        """gotcha:SP6: and no finally of the caller's in the starter."""
        yard.start(f"""
def note(what):
    with open(FOLDER + "/notes", "a") as file:
        file.write(f"{{what}} {{os.getpid() == starter}}\\n")
starter = os.getpid()
atexit.register(note, "atexit")
try:
    daemon = hp.daemonize()
    if {fails}:
        sys.exit(7)
    daemon.ready()
finally:
    note("finally")
""")
        wait_until(lambda: not yard.processes(), what="the daemon's end")
        assert (yard.folder / "notes").read_text() == "finally False\natexit False\n"


class TestHowItFails:
    """perlipc:D3, gotcha:DM2: the starter tells, and exits as the daemon did."""

    @pytest.mark.parametrize(
        ("program", "code", "words"),
        [
            ("sys.exit(7)", 7, "the daemon ended before it was ready\n"),
            ("sys.exit(0)", 1, "the daemon ended before it was ready\n"),
            ("os._exit(3)", 3, "the daemon ended before it was ready\n"),
            ("sys.exit('no such port')", 1, "no such port\n"),
            ("print('bad news', file=sys.stderr); os._exit(255)", 255, "bad news\n"),
            ("os.kill(os.getpid(), signal.SIGKILL)", 137, "the daemon ended before it was ready\n"),
            ("os.kill(os.getpid(), signal.SIGTERM)", 143, "the daemon ended before it was ready\n"),
            ("os.system('echo from a child >&2'); sys.exit(9)", 9, "from a child\n"),
        ],
    )
    def test_the_exit_code_and_the_words_are_the_daemons(self, yard, program, code, words):
        """gotcha:DM2"""
        done = yard.start(f'daemon = hp.daemonize(FOLDER + "/daemon.pid")\n{program}')
        assert (done.returncode, done.stdout, done.stderr) == (code, "", words)
        assert running(yard.pidfile) is None

    def test_an_exception_is_seen_with_its_traceback(self, yard):
        """gotcha:DM2"""
        done = yard.start("hp.daemonize()\n1 / 0")
        assert done.returncode == 1
        assert done.stderr.startswith("Traceback")
        assert done.stderr.endswith("ZeroDivisionError: division by zero\n")

    def test_a_long_complaint_is_shown_whole(self, yard):
        """gotcha:DM2: more than a pipe holds."""
        done = yard.start("hp.daemonize()\nsys.stderr.write('x' * 1_000_000 + '\\0rea' + 'y' * 10); sys.exit(4)")
        assert done.returncode == 4
        assert done.stderr == "x" * 1_000_000 + "\0rea" + "y" * 10

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            ('chdir="/no/such/folder"', "FileNotFoundError"),
            ('FOLDER + "/no/such/folder/pid"', "FileNotFoundError"),
            ("FOLDER", "IsADirectoryError"),
            ('"/dev/null"', "FileExistsError"),
            ('stdout=__import__("pathlib").Path("/no/such/log")', "FileNotFoundError"),
            ("keep=[4711]", "Bad file descriptor"),
            ("umask=0o1000", "ValueError: umask"),
            ("timeout=-1", "ValueError: timeout"),
        ],
    )
    def test_what_the_caller_did_wrong_is_his_error_at_once(self, yard, arguments, words):
        """gotcha:DM3: before anything has happened."""
        done = yard.start(f"hp.daemonize({arguments})")
        assert done.returncode == 1
        assert words in done.stderr
        assert not yard.processes()

    @pytest.mark.parametrize("timeout", ["0", "0.3"])
    def test_one_that_is_not_ready_in_time_is_ended(self, yard, timeout):
        """gotcha:DM2"""
        began = time.monotonic()
        done = yard.start(f"hp.daemonize(timeout={timeout}); print('busy', file=sys.stderr, flush=True); live()")
        assert time.monotonic() - began < 25
        assert done.returncode == 1
        assert done.stderr.endswith(f"the daemon was not ready within {timeout} s, and was ended\n")
        wait_until(lambda: not yard.processes(), what="the daemon's end")

    def test_one_that_does_not_want_to_be_ended_is_ended_all_the_same(self, yard):
        """gotcha:DM2"""
        done = yard.start(
            "hp.SIG['TERM'] = lambda _: None; hp.daemonize(timeout=1); print('up', file=sys.stderr)\nwhile True: live()"
        )
        assert done.returncode == 1
        assert done.stderr.startswith("up\n")
        wait_until(lambda: not yard.processes(), what="the daemon's end")

    def test_a_child_that_holds_its_stderr_cannot_hide_its_death(self, yard):
        """gotcha:DM2"""
        began = time.monotonic()
        done = yard.start("hp.daemonize()\nif not os.fork():\n    live()\n    os._exit(0)\nos._exit(5)")
        assert done.returncode == 5
        assert time.monotonic() - began < 25  # of the thirty that the starter would wait
        yard.end_daemons()

    def test_a_child_that_talks_meanwhile_cannot_hide_that_it_is_ready(self, yard):
        """gotcha:DM2: the same pipe carries both."""
        done = yard.start("""
daemon = hp.daemonize(timeout=40)
if not os.fork():
    try:
        while True:
            os.write(2, b"x")
    finally:
        os._exit(0)
daemon.ready()
live()
""")
        assert done.returncode == 0
        assert set(done.stderr) <= {"x"}
        yard.end_daemons()

    def test_a_kill_of_the_one_in_between_is_no_success(self, yard):
        """gotcha:DM2: between the two forks."""
        done = yard.start("""
real = os.setsid
def killed():
    real()
    os.kill(os.getpid(), signal.SIGKILL)
os.setsid = killed
hp.daemonize(FOLDER + "/daemon.pid").ready()
live()
""")
        assert done.returncode == 1
        assert done.stderr == "the daemon ended before it was ready\n"
        assert not yard.processes()
        assert running(yard.pidfile) is None

    def test_a_fork_that_fails_halfway_is_told_and_runs_nothing_of_the_caller(self, yard):
        """gotcha:DM1, gotcha:SP6: each result is looked at."""
        done = yard.start("""
real = os.fork
def fork():
    os.fork = real
    child = real()
    if not child:
        def none():
            raise BlockingIOError(11, "Resource temporarily unavailable")
        os.fork = none
    return child
os.fork = fork
try:
    hp.daemonize(FOLDER + "/daemon.pid")
finally:
    print("the caller's code")
""")
        assert (done.returncode, done.stdout) == (71, "")
        assert done.stderr == "cannot become a daemon: Resource temporarily unavailable\n"
        assert running(yard.pidfile) is None

    def test_a_fork_that_fails_at_once_changes_nothing(self, yard):
        """gotcha:SP5"""
        done = yard.start("""
def none():
    raise BlockingIOError(11, "Resource temporarily unavailable")
os.fork = none
try:
    hp.daemonize(FOLDER + "/daemon.pid", stdout=hp.cmd("cat"))
except BlockingIOError as error:
    from hornpipe import image
    print(error.errno, image.is_daemon, os.path.exists(FOLDER + "/daemon.pid"))
""")
        assert (done.returncode, done.stdout, done.stderr) == (0, "11 False False\n", "")

    @pytest.mark.parametrize("ends", ["daemon.ready(); live()", "sys.exit(6)"])
    def test_a_kill_of_the_one_in_between_after_the_forks_changes_little(self, yard, ends):
        """gotcha:DM2: whether it is ready is said by the daemon; only its exit code is lost, and never guessed."""
        done = yard.start(f"""
daemon = hp.daemonize()
between = os.getppid()
os.kill(between, signal.SIGKILL)
while os.getppid() == between:
    pass
{ends}
""")
        assert done.returncode == (0 if "ready" in ends else 1)
        yard.end_daemons()

    def test_the_starters_death_is_the_end_of_a_daemon_that_was_not_ready(self, yard):
        """gotcha:DM2: nobody would know of it."""
        log, gate = yard.folder / "log", yard.folder / "gate"
        os.mkfifo(gate)
        starter = yard.begin("""
from pathlib import Path
daemon = hp.daemonize(FOLDER + "/daemon.pid", stderr=Path(FOLDER + "/log"))
say(pid=os.getpid())
with open(FOLDER + "/gate") as gate:
    gate.read()
daemon.ready()
live()
""")
        with starter:
            assert yard.facts["pid"] in yard.processes()
            starter.kill()
        fd = os.open(gate, os.O_WRONLY)
        os.close(fd)
        assert wait_gone([yard.facts["pid"]]) == []
        assert "BrokenPipeError" in log.read_text()
        assert running(yard.pidfile) is None
        wait_until(lambda: not yard.processes(), what="the one in between to go")

    def test_a_starter_that_is_interrupted_ends_the_daemon_and_runs_nothing_of_the_caller(self, yard):
        """gotcha:DM2: Ctrl-C while it waits."""
        starter = yard.begin("""
try:
    hp.daemonize()
    say(pid=os.getpid())
    live()
finally:
    print("the caller's code", os.getpid(), file=sys.stderr)
""")
        with starter:
            pid = yard.facts["pid"]
            starter.send_signal(signal.SIGINT)
            _, err = starter.communicate(timeout=20)
        assert starter.returncode == 130
        assert f"the caller's code {starter.pid}" not in err
        assert wait_gone([pid]) == []


class TestThePidfile:
    """gotcha:DM4, gotcha:DM5."""

    BODY = 'daemon = hp.daemonize(FOLDER + "/daemon.pid"); daemon.ready(); live()'

    def test_it_names_the_daemon_while_that_lives(self, yard):
        """gotcha:DM4"""
        yard.start('d = hp.daemonize(FOLDER + "/daemon.pid"); d.ready(); say(pid=os.getpid()); live()')
        assert running(yard.pidfile) == yard.facts["pid"]
        assert yard.pidfile.read_text() == f"{yard.facts['pid']}\n"
        yard.end_daemons()
        assert not yard.pidfile.exists()
        assert running(yard.pidfile) is None

    def test_a_second_one_is_told_of_the_first(self, yard):
        """gotcha:DM4"""
        yard.start(self.BODY)
        pid = running(yard.pidfile)
        second = yard.start(self.BODY)
        assert second.returncode == 1
        assert f"process {pid} is running already: '{yard.pidfile}'" in second.stderr
        assert "AlreadyRunning" in second.stderr
        assert running(yard.pidfile) == pid
        yard.end_daemons()

    def test_of_many_at_once_one_runs(self, yard):
        """gotcha:DM4: no gap between a look and a write."""
        starters = [yard.begin(self.BODY) for _ in range(8)]
        codes = []
        for starter in starters:
            with starter:
                starter.communicate(timeout=50)
            codes.append(starter.returncode)
        assert sorted(codes) == [0] + [1] * 7
        wait_until(lambda: yard.processes() == [running(yard.pidfile)])
        yard.end_daemons()

    def test_a_killed_ones_is_nobodys(self, yard):
        """gotcha:DM4"""
        yard.start(self.BODY)
        first = running(yard.pidfile)
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: running(yard.pidfile) is None, what="the lock")
        assert yard.pidfile.exists()
        assert yard.start(self.BODY).returncode == 0
        assert running(yard.pidfile) != first
        yard.end_daemons()

    @pytest.mark.parametrize("content", ["{pid}\n", "1\n", "", "rubbish\n", "99999999999999999999\n", "-1\n"])
    def test_what_a_stale_one_says_does_not_count(self, yard, content):
        """gotcha:DM4: the number may be another process's by now."""
        yard.pidfile.write_text(content.format(pid=os.getpid()))
        assert running(yard.pidfile) is None
        assert yard.start(self.BODY).returncode == 0
        assert running(yard.pidfile) in yard.processes()
        yard.end_daemons()

    def test_a_longer_number_of_before_leaves_nothing(self, yard):
        yard.pidfile.write_text("4194304000\nand more\n")
        yard.start(self.BODY)
        assert yard.pidfile.read_text() == f"{running(yard.pidfile)}\n"
        yard.end_daemons()

    def test_one_that_was_removed_and_replaced_is_left_alone(self, yard):
        """gotcha:DM4: remove only our own."""
        yard.start(self.BODY)
        yard.pidfile.unlink()
        yard.pidfile.write_text("another's\n")
        yard.end_daemons()
        assert yard.pidfile.read_text() == "another's\n"

    def test_a_symlink_in_its_place_is_not_followed(self, yard):
        """gotcha:PR5"""
        target = yard.folder / "precious"
        target.write_text("precious\n")
        yard.pidfile.symlink_to(target)
        assert yard.start(self.BODY).returncode == 1
        assert target.read_text() == "precious\n"

    def test_a_worker_that_outlives_the_daemon_does_not_hold_it(self, yard):
        """gotcha:DM5"""
        yard.start("""
daemon = hp.daemonize(FOLDER + "/daemon.pid")
worker = os.fork()
if not worker:
    live()
    os._exit(0)
say(worker=worker)
daemon.ready()
live()
""")
        first = running(yard.pidfile)
        os.kill(first, signal.SIGKILL)
        # A process that was being forked from it may take a moment to let go.
        wait_until(lambda: running(yard.pidfile) is None, what="the lock")
        assert yard.start(self.BODY).returncode == 0
        assert yard.facts["worker"] in yard.processes()
        yard.end_daemons()

    def test_a_worker_that_exits_does_not_remove_it(self, yard):
        """gotcha:DM5, gotcha:SP6: not even by an ordinary exit, with its exit handlers."""
        yard.start("""
daemon = hp.daemonize(FOLDER + "/daemon.pid")
worker = os.fork()
if not worker:
    daemon.close()
    sys.exit()
os.waitpid(worker, 0)
daemon.ready()
live()
""")
        assert running(yard.pidfile) in yard.processes()
        yard.end_daemons()
        assert not yard.pidfile.exists()

    def test_an_exit_without_a_word_removes_it(self, yard):
        """gotcha:DM4"""
        assert yard.start('hp.daemonize(FOLDER + "/daemon.pid").ready()').returncode == 0
        wait_until(lambda: not yard.processes())
        assert not yard.pidfile.exists()

    def test_leaving_the_block_removes_it(self, yard):
        """gotcha:DM4"""
        yard.start("""
with hp.daemonize(FOLDER + "/daemon.pid") as daemon:
    daemon.ready()
say(there=os.path.exists(FOLDER + "/daemon.pid"))
live()
""")
        assert yard.facts == {"there": False}
        yard.end_daemons()

    def test_those_who_ask_are_not_taken_for_a_daemon(self, tmp_path):
        """gotcha:DM4"""
        path = tmp_path / "pid"
        path.write_text("1\n")
        program = """
import sys
from hornpipe.pidfile import running
print("up", flush=True)
while True:
    running(sys.argv[1])
"""
        with subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE) as asker:
            asker.stdout.readline()
            try:
                for _ in range(300):
                    ours = PidFile(path)
                    ours.hold()
                    ours.write()
                    ours.close()
            finally:
                asker.kill()

    def test_who_asks_is_not_held_up_by_a_fifo(self, tmp_path):
        os.mkfifo(tmp_path / "pid")
        with hp.alarm(20):
            assert running(tmp_path / "pid") is None

    def test_it_goes_although_the_service_manager_has_gone(self, tmp_path, monkeypatch):
        """gotcha:DM6"""
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
        ours = PidFile(tmp_path / "pid")
        ours.hold()
        with pytest.raises(FileNotFoundError):
            hp.Daemon(ours, supervised=True).close()
        assert not (tmp_path / "pid").exists()

    def test_one_who_asks_for_longer_than_an_instant_is_waited_for(self, tmp_path, monkeypatch):
        """gotcha:DM4: he has to wait for the processor while he has the lock; a daemon would not share it."""
        monkeypatch.setattr("hornpipe.pidfile._A_LOOK", 0.01)
        path = tmp_path / "pid"
        path.write_text("1\n")
        ours = PidFile(path)
        with open(path) as asker:
            fcntl.flock(asker, fcntl.LOCK_SH)
            leaving = threading.Timer(0.1, fcntl.flock, (asker, fcntl.LOCK_UN))
            leaving.start()
            ours.hold()
            leaving.join()
        ours.remove()

    def test_one_removed_while_another_waits_for_its_lock_is_made_anew(self, tmp_path, monkeypatch):
        """gotcha:DM4: the lock that is had then is that of a file without a name."""
        monkeypatch.setattr("hornpipe.pidfile._A_LOOK", 30)
        path = tmp_path / "pid"
        first, second = PidFile(path), PidFile(path)
        first.hold()
        first.write()
        leaving = threading.Timer(0.05, first.remove)
        leaving.start()
        second.hold()
        leaving.join()
        second.write()
        assert running(path) == os.getpid()
        second.remove()

    def test_a_stale_number_is_nobodys_while_another_starts(self, tmp_path):
        """gotcha:DM4: whoever kills by it would hit a stranger."""
        path = tmp_path / "pid"
        path.write_text(f"{os.getpid()}\n")
        ours = PidFile(path)
        ours.hold()
        assert running(path) is None
        ours.remove()
        assert not path.exists()

    def test_the_error_says_who(self, tmp_path):
        ours = PidFile(tmp_path / "pid")
        ours.hold()
        with pytest.raises(AlreadyRunning, match="a process that has not said its number yet") as caught:
            PidFile(tmp_path / "pid").hold()
        assert caught.value.pid is None
        ours.write()
        with pytest.raises(FileExistsError) as caught:
            PidFile(tmp_path / "pid").hold()
        assert caught.value.pid == os.getpid()
        ours.remove()


class TestThreads:
    """gotcha:DM7."""

    def test_are_refused_by_name(self, yard):
        """gotcha:DM7"""
        done = yard.start("""
gate = threading.Event()
for name in ("collector", "ticker"):
    threading.Thread(target=gate.wait, name=name).start()
try:
    hp.daemonize()
except RuntimeError as error:
    print(error)
gate.set()
""")
        assert "without these threads: collector, ticker; start them later" in done.stdout
        assert (done.returncode, done.stderr) == (0, "")

    def test_an_event_loop_is_refused(self, yard):
        """gotcha:DM7"""
        done = yard.start("""
import asyncio
async def main():
    hp.daemonize()
try:
    asyncio.run(main())
except RuntimeError as error:
    print(error)
""")
        assert "the event loop" in done.stdout
        assert (done.returncode, done.stderr) == (0, "")

    def test_hornpipes_own_is_no_obstacle(self, yard):
        """gotcha:DM7: it steps aside for every fork."""
        done = yard.start("""
# Dropped: from now on a thread waits for it.
hp.cmd("flock", "-s", FOLDER + "/life", "true", stdout=hp.NULL, stderr=hp.NULL).start()
hp.daemonize().ready()
live()
""")
        assert (done.returncode, done.stderr) == (0, "")
        yard.end_daemons()


class TestUnderAServiceManager:
    """gotcha:DM6."""

    BODY = """
before = os.getpid(), os.getsid(0)
daemon = hp.daemonize(FOLDER + "/daemon.pid", chdir=FOLDER)
assert daemon.supervised and (os.getpid(), os.getsid(0)) == before
daemon.ready()
supervision.notify(STATUS="two words")
print("in front", os.getpid(), os.getcwd() == FOLDER, flush=True)
print(hp.sh("echo ${NOTIFY_SOCKET-none} ${WATCHDOG_USEC-none}").read(), end="")
daemon.close()
"""

    @pytest.mark.parametrize("kind", ["path", "abstract"])
    def test_one_that_is_to_notify_stays_in_front_and_does(self, yard, kind):
        """gotcha:DM6"""
        name = str(yard.folder / "notify")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(name if kind == "path" else "\0" + name)
            manager.settimeout(20)
            address = name if kind == "path" else "@" + name
            with yard.begin(self.BODY, env={**os.environ, "NOTIFY_SOCKET": address}) as service:
                out, err = service.communicate(timeout=20)
            assert (service.returncode, err) == (0, "")
            # Its children are not meant.
            assert out == f"in front {service.pid} True\nnone none\n"
            heard = [manager.recv(4096).decode() for _ in range(3)]
        assert heard == [f"READY=1\nMAINPID={service.pid}", "STATUS=two words", "STOPPING=1"]
        assert not yard.pidfile.exists()

    def test_one_that_was_passed_sockets_stays_in_front_and_takes_them(self, yard):
        """gotcha:DM6: LISTEN_FDS counts only if LISTEN_PID is us."""
        program = """
os.environ["LISTEN_PID"] = str(os.getpid())
daemon = hp.daemonize()
daemon.ready()
passed = supervision.passed_descriptors()
print(daemon.supervised, passed, [os.get_inheritable(fd) for fd in passed])
print(hp.sh("echo ${LISTEN_FDS-none} ${LISTEN_PID-none} ${LISTEN_FDNAMES-none}").read(), end="")
print(supervision.passed_descriptors())
"""
        wrapped = ["sh", "-c", 'exec 3</dev/null 4</dev/null; exec "$@"', "sh", *yard.argv(program)]
        environment = {**os.environ, "LISTEN_FDS": "2", "LISTEN_FDNAMES": "web:"}
        done = subprocess.run(wrapped, capture_output=True, text=True, env=environment, timeout=50, check=False)
        assert done.stderr == ""
        assert done.stdout == "True {3: 'web', 4: 'unknown'} [False, False]\nnone none none\n{}\n"

    def test_sockets_that_are_another_processs_do_not_count(self, yard):
        """gotcha:DM6"""
        environment = {**os.environ, "LISTEN_FDS": "2", "LISTEN_PID": "1"}
        done = yard.start(
            "assert supervision.passed_descriptors() == {}\n"
            "d = hp.daemonize()\nassert not d.supervised\nd.ready(); live()",
            env=environment,
        )
        assert (done.returncode, done.stderr) == (0, "")
        yard.end_daemons()

    def test_the_watchdogs_interval_is_known(self, yard):
        """gotcha:DM6"""
        name = str(yard.folder / "notify")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(name)
            done = yard.start(
                """
os.environ["WATCHDOG_PID"] = str(os.getpid())
daemon = hp.daemonize()
daemon.ready()
print(supervision.watchdog_interval(), supervision.notify(WATCHDOG=1))
""",
                env={**os.environ, "NOTIFY_SOCKET": name, "WATCHDOG_USEC": "2500000"},
            )
            assert (done.stdout, done.stderr) == ("2.5 True\n", "")
            assert b"READY=1" in manager.recv(4096)
            assert manager.recv(4096) == b"WATCHDOG=1"

    def test_a_watchdog_of_somebody_else_is_none_of_ours(self, yard):
        """gotcha:DM6"""
        done = yard.start(
            "print(supervision.watchdog_interval())", env={**os.environ, "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1"}
        )
        assert done.stdout == "None\n"

    def test_an_address_that_is_none_is_an_error(self, yard):
        done = yard.start("hp.daemonize().ready()", env={**os.environ, "NOTIFY_SOCKET": "relative"})
        assert done.returncode == 1
        assert "NOTIFY_SOCKET is 'relative'" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
class TestPrivileges:
    """gotcha:PR1, gotcha:PR2."""

    def test_all_ids_and_groups_are_dropped_for_good(self, public_yard):
        """gotcha:PR1, gotcha:PR2, gotcha:PR7: nothing but numbers passes, and there is no way back."""
        yard = public_yard
        yard.folder.chmod(0o777)
        done = yard.start("""
os.setgroups([0, 4, 24])
daemon = hp.daemonize()
daemon.drop_privileges("nobody")
back = []
for attempt in (lambda: os.setuid(0), lambda: os.seteuid(0), lambda: os.setresuid(0, 0, 0), lambda: os.setgid(0),
                lambda: os.setgroups([0])):
    try:
        attempt()
        back.append(True)
    except PermissionError:
        back.append(False)
seen = status()
daemon.ready()
say(back=back, uids=seen["Uid"].split(), gids=seen["Gid"].split(), groups=seen["Groups"].split())
live()
""")
        assert (done.returncode, done.stderr) == (0, "")
        nobody = pwd.getpwnam("nobody")
        facts = yard.facts
        assert facts["back"] == [False] * 5
        assert facts["uids"] == [str(nobody.pw_uid)] * 4
        assert facts["gids"] == [str(nobody.pw_gid)] * 4
        assert sorted(map(int, facts["groups"])) == sorted(os.getgrouplist("nobody", nobody.pw_gid))
        yard.end_daemons()

    def test_what_only_root_may_do_comes_before(self, public_yard):
        """gotcha:PR5: a pidfile in a folder of root's."""
        yard = public_yard
        done = yard.start("""
daemon = hp.daemonize(FOLDER + "/daemon.pid")
daemon.drop_privileges("nobody")
daemon.ready()
live()
""")
        assert (done.returncode, done.stderr) == (0, "")
        assert running(yard.pidfile) is not None
        yard.end_daemons()
        # It may not be removed by a stranger to the folder; so it says nothing any more, and is nobody's.
        assert yard.pidfile.read_text() == ""
        assert running(yard.pidfile) is None

    def test_an_unknown_user_changes_nothing(self, yard):
        """gotcha:PR1"""
        done = yard.start("""
daemon = hp.daemonize()
try:
    daemon.drop_privileges("no-such-user")
except hp.SpawnError as error:
    print(error, os.getresuid(), file=sys.stderr)
daemon.ready()
live()
""")
        assert done.returncode == 0
        assert "no user 'no-such-user'" in done.stderr
        assert "(0, 0, 0)" in done.stderr
        yard.end_daemons()


def test_the_daemon_is_nobodys_child(yard):
    """perlipc:D3: no zombie is left to whoever started the starter."""
    yard.start("hp.daemonize().ready(); say(pid=os.getpid()); live()")
    wait_until(lambda: look_at(yard.facts["pid"]).parent != os.getpid())
    assert read_proc(yard.facts["pid"], "comm") != b""
    assert Path(f"/proc/{yard.facts['pid']}").exists()
    yard.end_daemons()
