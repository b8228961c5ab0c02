"""Daemons whose stdout and stderr go to a command: a real ``logger``, and what becomes of lines and processes.

A daemon here says every word that it is told through a FIFO, and ends when the test closes that.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from hornpipe.pidfile import running
from hornpipe.testing.patience import wait_until
from hornpipe.testing.processes import find_marked, look_at, pids
from hornpipe.testing.stubborn import new_mark

PATIENCE = 20.0
PRELUDE = """
import os, sys
import hornpipe as hp
folder, mark = sys.argv[1:]
def parrot():
    with hp.Fifo(folder + "/words").reader() as words:
        for word in words:
            print(word, end="", flush=True)
            with open(folder + "/said", "a") as said:
                said.write(word)
"""
TO_LOGGER = """
log = hp.cmd("logger", "--socket", folder + "/log", "--tag", mark)
daemon = hp.daemonize(folder + "/pid", stdout=log, stderr=log)
daemon.ready()
parrot()
"""


class Parrot:
    """A daemon, a folder for it, and the socket that is its /dev/log."""

    def __init__(self, folder):
        self.folder = folder
        self.mark = new_mark()
        os.mkfifo(folder / "words")
        # Both ends: neither who opens it first nor who goes first matters.
        self._words = os.open(folder / "words", os.O_RDWR | os.O_CLOEXEC)
        self._log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._log.bind(str(folder / "log"))
        self._log.settimeout(PATIENCE)

    def start(self, program=TO_LOGGER, **options):
        argv = [sys.executable, "-c", PRELUDE + program, str(self.folder), self.mark]
        return subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=50, check=False, **options
        )

    def say(self, text):
        """Returns when the daemon has said it."""
        os.write(self._words, text.encode())
        said = self.folder / "said"
        wait_until(lambda: said.exists() and said.read_text().endswith(text), PATIENCE, "the daemon to say it")

    def logged(self):
        """What the next datagram says, without its date."""
        text = self._log.recv(65536).decode()
        tag = f" {self.mark}: "
        assert text.startswith("<13>"), text
        assert tag in text, text
        return text.partition(tag)[2]

    def processes(self):
        return [seen for seen in map(look_at, find_marked(self.mark)) if seen is not None]

    def loggers(self):
        return [seen.pid for seen in self.processes() if seen.command.startswith("logger ")]

    @property
    def pid(self):
        return int((self.folder / "pid").read_text())

    def close(self):
        os.close(self._words)
        self._log.close()
        for seen in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(seen.pid, signal.SIGKILL)
        wait_until(lambda: not self.processes(), PATIENCE, "the daemon's end")


@pytest.fixture
def parrot(tmp_path):
    made = Parrot(tmp_path)
    try:
        yield made
    finally:
        made.close()


def test_the_lines_of_both_streams_reach_syslog_in_their_order(parrot):
    """perlipc:D3: the starter shows stderr until the daemon is ready, and is kept waiting by no logger."""
    done = parrot.start("""
log = hp.cmd("logger", "--socket", folder + "/log", "--tag", mark)
with hp.daemonize(folder + "/pid", stdout=log, stderr=log) as daemon:
    print("one", flush=True)
    print("to the starter", file=sys.stderr)
    daemon.ready()
    print("two", file=sys.stderr)
    print("three")
""")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "to the starter\n")
    assert [parrot.logged() for _ in range(3)] == ["one", "two", "three"]
    wait_until(lambda: not parrot.processes(), PATIENCE, "the end of all")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_command_ends_with_the_daemon_once_it_has_read_all(parrot, number):
    """gotcha:DM5: neither it nor its keeper holds the pidfile, and the last line is not lost."""
    assert parrot.start().returncode == 0
    parrot.say("alive\n")
    assert parrot.logged() == "alive"
    [logger] = parrot.loggers()
    os.kill(logger, signal.SIGSTOP)
    parrot.say("last\n")
    os.kill(parrot.pid, number)
    wait_until(lambda: running(parrot.folder / "pid") is None, PATIENCE, "the lock")
    os.kill(logger, signal.SIGCONT)
    assert parrot.logged() == "last"
    wait_until(lambda: not parrot.processes(), PATIENCE, "the end of all")


def test_a_command_that_has_died_is_started_again_and_no_line_is_lost(parrot):
    """gotcha:P7: its death would be the daemon's, by PIPE or by an error that nobody sees."""
    assert parrot.start().returncode == 0
    for number in range(2):
        parrot.say(f"before {number}\n")
        assert parrot.logged() == f"before {number}"
        [logger] = parrot.loggers()
        os.kill(logger, signal.SIGKILL)
        wait_until(lambda: not parrot.loggers(), PATIENCE, "its death")
        parrot.say(f"after {number}\n")
        assert parrot.logged() == f"after {number}"
        assert logger not in parrot.loggers()
    assert running(parrot.folder / "pid") == parrot.pid


def test_a_command_that_cannot_run_holds_nobody_up_and_what_was_lost_is_said(parrot):
    """gotcha:P2: a pipe that nobody reads is full some day."""
    done = parrot.start("""
log = hp.sh("test -e $F/works && exec cat >> $F/copy", env={"F": folder})
with hp.daemonize(folder + "/pid", stdout=log) as daemon:
    daemon.ready()
    for number in range(20_000):
        os.write(1, b"line %d\\n" % number)
    with open(folder + "/works", "w"):
        pass
    parrot()
""")
    assert (done.returncode, done.stderr) == (0, "")
    wait_until((parrot.folder / "works").exists, PATIENCE, "all lines to be written")
    parrot.say("the last\n")
    copy = parrot.folder / "copy"
    wait_until(lambda: copy.exists() and copy.read_text().endswith("the last\n"), PATIENCE, "the last line")
    lines = copy.read_text().splitlines()
    lost = [line for line in lines if not line.startswith("line ")][:-1]
    assert lost
    assert all(re.fullmatch(r"hornpipe: [1-9]\d* lines are missing here: .* did not run", line) for line in lost)
    assert "line 19999" in lines


def test_a_command_that_is_not_there_is_the_callers_error_at_once(parrot):
    """gotcha:DM3: before anything has happened, on his terminal."""
    done = parrot.start('hp.daemonize(folder + "/pid", stdout=hp.cmd("no-such-logger"))')
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("hornpipe.errors.SpawnError: cannot start 'no-such-logger'")
    assert not (parrot.folder / "pid").exists()
    wait_until(lambda: not parrot.processes(), PATIENCE, "the end of all")


def test_a_command_that_has_an_input_of_its_own_is_refused(parrot):
    done = parrot.start('hp.daemonize(stdout=hp.cmd("cat", input="mine"))')
    assert "daemonize() has its own use for input" in done.stderr
    assert done.returncode == 1


@pytest.mark.parametrize("outlet", ['hp.cmd("cat") | hp.sh("cat > $F/copy", env={"F": folder})', "hp.fn(copy)"])
def test_a_pipeline_or_a_callable_will_do(parrot, outlet):
    done = parrot.start(f"""
def copy():
    with open(folder + "/copy", "w") as file:
        file.writelines(sys.stdin)
with hp.daemonize(folder + "/pid", stdout={outlet}) as daemon:
    daemon.ready()
    print("some words")
""")
    assert (done.returncode, done.stderr) == (0, "")
    wait_until(lambda: not parrot.processes(), PATIENCE, "the end of all")
    assert (parrot.folder / "copy").read_text() == "some words\n"


def test_it_works_where_the_daemon_does_and_holds_nothing_of_the_callers(parrot):
    """gotcha:DM1, gotcha:DM3: neither directory nor umask, session nor descriptor."""
    with open(parrot.folder / "other", "w") as other:
        done = parrot.start(
            f"os.umask(0)\nos.set_inheritable({other.fileno()}, True)\n" + TO_LOGGER,
            cwd=parrot.folder,
            pass_fds=[other.fileno()],
        )
    assert done.returncode == 0
    parrot.say("alive\n")
    # The one between starter and daemon goes when the starter has gone.
    wait_until(lambda: len(parrot.processes()) == 3, PATIENCE, "daemon, keeper and logger alone")
    daemon, others = parrot.pid, [seen for seen in parrot.processes() if seen.pid != parrot.pid]
    for seen in others:
        assert os.readlink(f"/proc/{seen.pid}/cwd") == "/"
        assert "Umask:\t0022\n" in Path(f"/proc/{seen.pid}/status").read_text()
        assert os.getsid(seen.pid) not in (os.getsid(0), os.getsid(daemon))
        held = {os.readlink(f"/proc/{seen.pid}/fd/{name}") for name in os.listdir(f"/proc/{seen.pid}/fd")}
        assert str(parrot.folder / "other") not in held
        assert str(parrot.folder / "pid") not in held


def test_over_a_restart_it_is_started_anew_and_no_zombie_is_left(parrot):
    """perlipc:D1, gotcha:H3"""
    program = TO_LOGGER.replace(
        "daemon.ready()\n", "daemon.ready()\nhp.restart_on_hup(check=False)\nprint('up', flush=True)\n"
    )
    assert parrot.start(program).returncode == 0
    assert parrot.logged() == "up"
    pid = parrot.pid
    for number in range(3):
        before = parrot.loggers()
        os.kill(pid, signal.SIGHUP)
        assert parrot.logged() == "up"
        parrot.say(f"line {number}\n")
        assert parrot.logged() == f"line {number}"
        wait_until(lambda old=before: not set(old) & set(parrot.loggers()), PATIENCE, "the old one's end")
    assert parrot.pid == pid
    wait_until(lambda: len(parrot.processes()) == 3, PATIENCE, "the old keepers' end")
    wait_until(lambda: not [seen for seen in map(look_at, pids()) if seen and seen.parent == pid and seen.is_zombie])


def test_under_a_service_manager_the_streams_go_there_as_well(parrot):
    """gotcha:DM6"""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(parrot.folder / "notify"))
        environment = {**os.environ, "NOTIFY_SOCKET": str(parrot.folder / "notify")}
        done = parrot.start(TO_LOGGER.replace("parrot()", "print('in front')"), env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert parrot.logged() == "in front"
    wait_until(lambda: not parrot.processes(), PATIENCE, "the end of all")
