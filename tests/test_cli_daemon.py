"""``hornpipe daemon``: any program in the background, known by a lock and ended for sure."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import sysconfig
import time
from pathlib import Path

import pytest

from hornpipe.cli import app
from hornpipe.pidfile import running
from hornpipe.testing import stubborn
from hornpipe.testing.patience import wait_until
from hornpipe.testing.processes import wait_gone

HORNPIPE = str(Path(sysconfig.get_path("scripts"), "hornpipe"))
READY = "ready"


class Daemon:
    """One pidfile, and what can be said to ``hornpipe daemon`` about it."""

    def __init__(self, folder):
        self.folder = folder
        self.pidfile = folder / "p.pid"
        self.log = folder / "log"
        self.mark = stubborn.new_mark()

    def __call__(self, verb, *words):
        words = [HORNPIPE, "daemon", verb, "--pidfile", str(self.pidfile), *map(str, words)]
        return subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=50, check=False, cwd=self.folder
        )

    def start(self, *argv, options=()):
        done = self("start", "--stdout", self.log, *options, "--", *argv)
        assert (done.returncode, done.stderr) == (0, "")
        return self.pid

    @property
    def pid(self):
        return running(self.pidfile)

    def said(self, words=READY):
        wait_until(lambda: self.log.exists() and words in self.log.read_text(), 20, f"{words!r} in the log")

    def marked(self):
        return stubborn.find_marked(self.mark)


@pytest.fixture
def daemon(tmp_path):
    made = Daemon(tmp_path)
    yield made
    done = made("stop", "--grace", "0")
    assert done.returncode == 0, done.stderr


def shell(daemon, line):
    return ["sh", "-c", line, daemon.mark]


def test_a_life(daemon):
    """perlipc:D3"""
    assert (daemon("status").returncode, daemon("status").stdout) == (3, "not running\n")
    pid = daemon.start("sleep", "60")
    done = daemon("status")
    assert (done.returncode, done.stdout) == (0, f"running: process {pid}\n")
    done = daemon("stop")
    assert (done.returncode, done.stdout) == (0, f"stopped: process {pid}\n")
    assert daemon("status").returncode == 3
    assert os.listdir(daemon.folder) == ["log"]
    done = daemon("stop")
    assert (done.returncode, done.stdout) == (0, "not running\n")


def test_a_second_start_changes_nothing(daemon):
    """gotcha:DM4"""
    pid = daemon.start("sleep", "60")
    done = daemon("start", "--", "sleep", "60")
    assert (done.returncode, done.stdout) == (0, f"running already: process {pid}\n")
    assert daemon.pid == pid


def test_its_output_goes_to_its_logs_and_relative_names_are_the_callers(daemon):
    """gotcha:DM3"""
    daemon("start", "--stdout", "log", "--stderr", "errors", "--", *shell(daemon, "pwd; echo oops >&2; exec sleep 60"))
    daemon.said("/\n")
    wait_until(lambda: (daemon.folder / "errors").read_text() == "oops\n")


def test_it_works_where_it_is_told_to(daemon):
    daemon.start("sh", "-c", "pwd; exec sleep 60", options=["--chdir", daemon.folder])
    daemon.said(f"{daemon.folder}\n")


def test_the_program_has_nothing_of_ours(daemon):
    """gotcha:DM3: no descriptor, no terminal, no ignored or blocked signal."""
    look = "ls /proc/self/fd; grep -E '^Sig(Blk|Ign)' /proc/self/status; echo ready; exec sleep 60"
    daemon.start(*shell(daemon, look))
    daemon.said()
    words = daemon.log.read_text().split()
    assert words[:4] == ["0", "1", "2", "3"]  # the last is the list's own
    assert words[4:] == ["SigBlk:", "0" * 16, "SigIgn:", "0" * 16, "ready"]


def test_a_program_that_is_not_there_is_told_at_once(daemon):
    """gotcha:DM2"""
    done = daemon("start", "--", "no-such-program")
    assert done.returncode == 127
    assert done.stderr == "hornpipe daemon: no-such-program: not found, or not executable\n"
    assert os.listdir(daemon.folder) == []


def test_one_that_cannot_be_executed_is_told_by_the_starter(daemon):
    """gotcha:DM2: known only in the daemon, once all is done that comes before."""
    program = daemon.folder / "program"
    program.write_text("#!/no/such/interpreter\n")
    program.chmod(0o755)
    done = daemon("start", "--", program)
    assert done.returncode == 1
    assert "program" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert daemon("status").returncode == 3


@pytest.mark.parametrize("name", ["HUP", "USR1"])
def test_signals_are_passed_on(daemon, name):
    """perlipc:D2"""
    line = f"trap 'echo got {name}' {name}; echo ready; while :; do sleep 0.05; done"
    pid = daemon.start(*shell(daemon, line))
    daemon.said()
    if name == "HUP":
        assert daemon("reload").returncode == 0
    else:
        os.kill(pid, signal.SIGUSR1)
    # sleep, which is its child and contained with it, dies of it; the loop goes on.
    daemon.said(f"got {name}")
    assert daemon.pid == pid


def test_reload_of_nobody_is_an_error(daemon):
    done = daemon("reload")
    assert done.returncode == 7
    assert done.stderr == f"hornpipe daemon: {daemon.pidfile}: not running\n"


def test_restart_ends_one_and_starts_another(daemon):
    first = daemon.start("sleep", "60")
    done = daemon("restart", "--", "sleep", "61")
    assert (done.returncode, done.stdout) == (0, f"stopped: process {first}\n")
    assert wait_gone([first]) == []
    assert daemon.pid not in {None, first}


def test_restart_with_a_typing_error_leaves_the_first_alone(daemon):
    pid = daemon.start("sleep", "60")
    assert daemon("restart", "--", "no-such-program").returncode == 127
    assert daemon.pid == pid


def test_stop_is_polite_at_first(daemon):
    daemon.start(*shell(daemon, "trap 'echo bye; exit' TERM; echo ready; while :; do sleep 0.05; done"))
    daemon.said()
    assert daemon("stop").returncode == 0
    daemon.said("bye")


def test_stop_is_sure(daemon):
    """gotcha:DM4: a program that ignores TERM, HUP and INT, and what it has started in other sessions."""
    pid = daemon.start(*stubborn.ignores_term(seconds=60))
    daemon.said()
    began = time.monotonic()
    done = daemon("stop", "--grace", "0.3")
    assert done.returncode == 0
    assert 0.3 < time.monotonic() - began < 9  # of the ten that it would have otherwise
    assert wait_gone([pid]) == []
    assert daemon("status").returncode == 3


def test_nothing_that_it_started_is_left(daemon):
    """gotcha:DM5"""
    daemon.start(*stubborn.daemonizes_completely(60, daemon.mark, lingers=True))
    wait_until(daemon.marked, what="its children")
    assert daemon("stop").returncode == 0
    wait_until(lambda: not daemon.marked(), what="the end of all")


def test_kill_is_the_end_of_all_and_the_pidfile_does_not_lie(daemon):
    """gotcha:DM4, gotcha:DM5"""
    pid = daemon.start(*stubborn.daemonizes_completely(60, daemon.mark, lingers=True))
    wait_until(daemon.marked, what="its children")
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: daemon.pid is None, what="the lock")
    done = daemon("status")
    assert (done.returncode, done.stdout) == (1, "dead, and its pidfile is left\n")
    wait_until(lambda: not daemon.marked(), what="the end of all")
    assert daemon("reload").returncode == 7


def test_a_stale_number_is_not_killed(daemon):
    """gotcha:DM4: the number has passed to somebody else."""
    with subprocess.Popen(["sleep", "60"]) as stranger:
        daemon.pidfile.write_text(f"{stranger.pid}\n")
        done = daemon("stop")
        assert (done.returncode, done.stdout) == (0, "not running\n")
        assert stranger.poll() is None
        stranger.kill()


def test_a_program_that_ends_by_itself_takes_the_pidfile_along(daemon):
    daemon.start("sleep", "0.1")
    wait_until(lambda: not daemon.pidfile.exists(), what="the end")
    assert daemon("status").returncode == 3


def test_a_status_that_cannot_be_known_is_four(daemon):
    done = subprocess.run(
        [HORNPIPE, "daemon", "status", "--pidfile", "/dev/null/p"],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 4
    assert done.stderr == "hornpipe daemon: /dev/null/p: Not a directory\n"


def test_a_folder_is_nobodys_pidfile(tmp_path, capsys):
    assert app.main(["daemon", "status", "--pidfile", str(tmp_path)]) == 3
    assert capsys.readouterr().out == "not running\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_it_may_run_as_somebody_else(daemon):
    """gotcha:PR1"""
    look = "grep -E '^(Uid|Gid|Groups):' /proc/self/status; echo ready; exec sleep 60"
    daemon.start(*shell(daemon, look), options=["--user", "nobody"])
    daemon.said()
    nobody = pwd.getpwnam("nobody")
    seen = dict(line.split(":", 1) for line in daemon.log.read_text().splitlines() if ":" in line)
    assert seen["Uid"].split() == [str(nobody.pw_uid)] * 4
    assert seen["Gid"].split() == [str(nobody.pw_gid)] * 4
    assert "0" not in seen["Groups"].split()
