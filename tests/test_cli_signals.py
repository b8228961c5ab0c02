"""``hornpipe signals``: the system's signals as they are, and other processes' as /proc has them."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import hornpipe as hp
from hornpipe.cli import app

HORNPIPE = str(Path(sysconfig.get_path("scripts"), "hornpipe"))
EVERY = sorted(int(number) for number in signal.valid_signals() if number < 32 or number >= signal.SIGRTMIN)
NOBODY = 1 << 22  # one more than the largest number that Linux gives to a process


def run(*arguments, command=(), **options):
    return subprocess.run(
        [*command, HORNPIPE, "signals", *arguments],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        timeout=50,
        **options,
    )


def told(*arguments):
    done = run("--json", *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("signals >&-", "hornpipe signals: Bad file descriptor\n"),
        ("cat /dev/null - <&- >&-", "-: Bad file descriptor\n"),
        ("signals >/dev/full", "hornpipe signals: No space left on device\n"),
        ("run --help >/dev/full", "hornpipe: No space left on device\n"),
    ],
)
def test_output_that_goes_nowhere_is_told_in_one_line(line, why):
    done = subprocess.run(["sh", "-c", f'exec "$0" {line}', HORNPIPE], capture_output=True, text=True, timeout=50)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", why)


@pytest.mark.parametrize(("line", "code"), [("signals xx", 2), ("cat /no/such", 1)])
def test_without_a_stderr_a_complaint_does_not_go_to_stdout(line, code):
    done = subprocess.run(["sh", "-c", f'exec "$0" {line} 2>&-', HORNPIPE], capture_output=True, text=True, timeout=50)
    assert (done.returncode, done.stdout) == (code, "")


@pytest.mark.parametrize(
    "words",
    [
        ["clocks", "--timeout", "nan", "localhost"],
        ["connect", "--timeout", "nan", "tcp://localhost:1"],
        ["get", "--timeout", "nan", "http://localhost/"],
        ["daemon", "stop", "--pidfile", "/no/such", "--grace", "nan"],
        ["serve", "--idle", "nan", "tcp://127.0.0.1:0", "cat"],
    ],
)
def test_a_time_that_is_no_number_is_refused_at_once(words, capsys):
    """gotcha:T2"""
    assert app.main(words) == 2
    told = capsys.readouterr()
    assert (told.out, len(told.err.splitlines())) == ("", 1)
    assert "'nan' is not a valid number" in told.err


@contextlib.contextmanager
def python(program):
    """A process that runs some Python, says one line, and stays until we let go of its stdin."""
    command = [sys.executable, "-I", "-c", f"import os, signal, sys, threading\n{program}\nsys.stdin.read()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process, process.stdout.readline().rstrip("\n")
        except BaseException:
            process.kill()
            raise


HANDLING = """
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGUSR2, signal.SIGQUIT, signal.SIGRTMIN + 2])
signal.signal(signal.SIGHUP, signal.SIG_IGN)
signal.signal(signal.SIGUSR1, print)
os.kill(os.getpid(), signal.SIGUSR2)
os.kill(os.getpid(), signal.SIGRTMIN + 2)
signal.pthread_kill(threading.get_ident(), signal.SIGQUIT)
print("ready", flush=True)
"""


# --- every signal ---


def test_names_and_numbers_are_the_systems():
    """perlipc:S2"""
    listed = run().stdout.splitlines()
    ours = [(line.split()[0], int(line.split()[1])) for line in listed]
    script = 'for number; do echo "$(kill -l "$number") $number"; done'
    theirs = subprocess.run(
        ["bash", "-c", script, "bash", *map(str, EVERY)], capture_output=True, text=True, check=True, timeout=50
    )
    assert ours == [(name, int(number)) for name, number in map(str.split, theirs.stdout.splitlines())]


def test_the_default_actions_are_the_kernels():
    for kind in told():
        # A group of its own, or it would be too orphaned to be stopped from the keyboard.
        pid = os.posix_spawn(
            "/bin/sh",
            ["sh", "-c", 'ulimit -c 0; kill -"$0" $$; exit 7', str(kind["number"])],
            os.environ,
            setpgroup=0,
            setsigdef=signal.valid_signals(),
            setsigmask=(),
        )
        _, raw = os.waitpid(pid, os.WUNTRACED)
        if os.WIFSTOPPED(raw):
            found = {"stop"}
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        else:
            found = {"terminate", "core"} if os.WIFSIGNALED(raw) else {"ignore", "continue"}
        assert kind["default"] in found, kind["name"]


def test_each_has_a_meaning_of_its_own():
    meanings = {kind["name"]: kind["meaning"] for kind in told()}
    assert "real-time" in meanings["RTMIN+1"]
    assert [name for name, meaning in meanings.items() if "real-time" in meaning] == [
        name for name in meanings if name.startswith("RT")
    ]


def test_the_list_is_plain_in_a_pipe_and_a_table_on_a_terminal():
    assert "\x1b" not in run().stdout
    out = hp.cmd(HORNPIPE, "signals", pty=True, env={"TERM": "xterm", "NO_COLOR": None}, timeout=50).read()
    assert "\x1b[" in out
    seen = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", out).splitlines()
    assert any(line.split()[:3] == ["RTMIN+1", "35", "terminate"] for line in seen)


# --- processes ---


def test_what_a_process_blocks_ignores_catches_and_has_pending():
    with python(HANDLING) as (process, _):
        (found,) = told(str(process.pid))
    assert found["pid"] == process.pid
    assert found["name"] == Path(sys.executable).name[:15]
    assert found["blocked"] == ["QUIT", "USR2", "TERM", "RTMIN+2"]
    assert found["pending"] == ["USR2", "RTMIN+2"]
    assert found["thread_pending"] == ["QUIT"]
    assert {"HUP", "PIPE"} <= {*found["ignored"]}
    assert {"INT", "USR1"} <= {*found["caught"]}
    assert {*found["ignored"]} & {*found["caught"]} == set()


def test_in_a_pipe_each_fact_is_a_line():
    with python(HANDLING) as (process, _):
        done = run(str(process.pid))
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line.split() for line in done.stdout.splitlines()]
    assert {line[0] for line in lines} == {str(process.pid)}
    facts = {line[1]: line[2:] for line in lines}
    assert facts["blocked"] == ["QUIT", "USR2", "TERM", "RTMIN+2"]
    assert facts["pending"] == ["USR2", "RTMIN+2"]


def test_what_a_process_does_not_have_is_a_dash():
    with python("print('ready', flush=True)") as (process, _):
        assert re.search(r"^\d+  blocked +-$", run(str(process.pid)).stdout, re.MULTILINE)


def test_on_a_terminal_it_is_a_table():
    with python(HANDLING) as (process, _):
        out = hp.cmd(HORNPIPE, "signals", str(process.pid), pty=True, env={"TERM": "xterm"}, timeout=50).read()
    assert "\x1b[" in out
    assert str(process.pid) in out
    assert "USR2" in out


def test_a_thread_is_looked_at_by_its_own_number():
    """gotcha:SIG14: a mask is the thread's."""
    program = """
def work():
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGWINCH])
    print(threading.get_native_id(), flush=True)
    stay.wait()
stay = threading.Event()
threading.Thread(target=work, daemon=True).start()
"""
    with python(program) as (process, thread):
        whole, part = told(str(process.pid), thread)
    assert whole["blocked"] == []
    assert part["blocked"] == ["WINCH"]


def test_a_zombie_can_be_looked_at():
    with subprocess.Popen(["true"]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert told(str(process.pid))[0]["name"] == "true"


def test_a_name_cannot_speak_to_the_terminal():
    program = "open('/proc/self/comm', 'wb').write(b'\\x1b[2J\\xff\\n]0;x'); print('ready', flush=True)"
    with python(program) as (process, _):
        shown, (found,) = run(str(process.pid)).stdout, told(str(process.pid))
    assert "\x1b" not in shown
    assert found["name"].startswith("?[2J")
    assert len(shown.splitlines()) == 6


def test_a_child_of_nohup_ignores_hup():
    """gotcha:SIG16"""
    command = ["nohup", "sh", "-c", "echo ready; read x"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout.readline() == "ready\n"
        assert "HUP" in told(str(process.pid))[0]["ignored"]
        process.stdin.write("\n")


# --- what cannot be shown ---


def test_a_process_that_is_not_there_is_one_line_and_1():
    done = run(str(NOBODY))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"hornpipe signals: there is no process {NOBODY}\n"
    assert run(str(0x7FFF_FFFF)).stderr == "hornpipe signals: there is no process 2147483647\n"


def test_the_others_are_shown_all_the_same():
    here = str(os.getpid())
    done = run(here, str(NOBODY), here)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert len(done.stdout.splitlines()) == 12
    done = run("--json", str(NOBODY), here)
    assert done.returncode == 1
    assert [found["pid"] for found in json.loads(done.stdout)] == [os.getpid()]
    assert json.loads(run("--json", str(NOBODY)).stdout) == []


def can_mount():
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        return False
    return subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode == 0


def with_proc(mount):
    return ["unshare", "--mount", "sh", "-c", f'{mount} && exec "$@"', "sh"]


needs_mount = pytest.mark.skipif(not can_mount(), reason="mounting needs root")


@needs_mount
@pytest.mark.parametrize("how", ["1", "2"])
def test_a_process_that_proc_hides_is_one_line_and_1(how):
    """hidepid=1 refuses, hidepid=2 has no trace of it: either way it is there."""
    # Somebody else, once all is loaded: who may not look at processes may not read this folder either.
    program = """
import os, sys, json
from hornpipe.cli import app, signals
from hornpipe import signals, wait
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
sys.exit(app.main(["signals", *sys.argv[1:]]))
"""
    command = [*with_proc(f"mount -t proc -o hidepid={how} proc /proc"), sys.executable, "-c", program]
    done = subprocess.run(
        [*command, str(os.getpid()), str(NOBODY)], capture_output=True, text=True, timeout=50, cwd="/"
    )
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"hornpipe signals: process {os.getpid()} belongs to somebody else, and /proc hides it from us",
        f"hornpipe signals: there is no process {NOBODY}",
    ]


@needs_mount
def test_without_proc_it_says_so_in_one_line():
    done = run(str(os.getpid()), command=with_proc("mount -t tmpfs none /proc"))
    assert done.returncode == 1
    assert done.stderr == "hornpipe signals: nothing is known about processes where /proc is not mounted\n"
    assert run(command=with_proc("mount -t tmpfs none /proc")).returncode == 0


@pytest.mark.parametrize("arguments", [["TERM"], ["0"], ["--", "-1"], ["4294967297"], ["--colour"]])
def test_what_makes_no_sense_is_one_line_and_2(arguments):
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert arguments[-1] in done.stderr


def test_help_has_an_example():
    done = run("--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "hornpipe signals $$" in done.stdout


def test_a_reader_that_leaves_early_is_answered_with_silence():
    """gotcha:SIG16"""
    with subprocess.Popen([HORNPIPE, "signals"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 128 + signal.SIGPIPE
