"""``hornpipe run``: a deadline and containment for any command, otherwise as if hornpipe were not there."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import pytest

import hornpipe as hp
from hornpipe.cli import run as cli_run
from hornpipe.testing import stubborn
from hornpipe.testing.patience import wait_until
from hornpipe.testing.stubborn import find_marked, new_mark

HORNPIPE = str(Path(sysconfig.get_path("scripts"), "hornpipe"))
# With nothing to watch it becomes the command; with a time-out it leads a group; contained it is a supervisor's child.
WAYS = [[], ["--timeout", "50"], ["--contain"], ["--contain", "--timeout", "50"]]
WATCHED = WAYS[1:]
every_way = pytest.mark.parametrize("options", WAYS, ids=lambda options: " ".join(options) or "plain")
every_watched_way = pytest.mark.parametrize("options", WATCHED, ids=" ".join)


def run(*arguments, **options):
    options.setdefault("stdin", subprocess.DEVNULL)
    return subprocess.run([HORNPIPE, "run", *arguments], capture_output=True, text=True, timeout=50, **options)


@contextlib.contextmanager
def begin(*arguments, command=(), **options):
    """Start it; a failing test does not wait for what may never end."""
    command = [*command, HORNPIPE, "run", *arguments]
    options = {"stdout": subprocess.PIPE, "stdin": subprocess.DEVNULL, "text": True, **options}
    with subprocess.Popen(command, **options) as process:
        try:
            yield process
        except BaseException:
            process.kill()
            raise


# --- as if it were not there ---


@every_way
@pytest.mark.parametrize("code", [0, 1, 7, 124, 137, 255])
def test_the_exit_code_is_the_commands(options, code):
    assert run(*options, "--", "sh", "-c", f"exit {code}").returncode == code


@every_way
@pytest.mark.parametrize("name", ["TERM", "KILL", "SEGV", "PIPE", "USR1"])
def test_a_death_by_signal_looks_to_a_shell_as_without_us(options, name):
    """gotcha:SP8"""
    dying = f"ulimit -c 0; kill -{name} $$"
    command = ["sh", "-c", '"$@"; echo $?', "sh", HORNPIPE, "run", *options, "--", "sh", "-c", dying]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, timeout=50)
    assert done.stdout == f"{128 + signal.Signals[f'SIG{name}']}\n"


@every_way
def test_a_death_by_int_is_our_own_death_by_int(options):
    """gotcha:SIG16: a shell that runs us in a loop has to see it."""
    assert run(*options, "--", "sh", "-c", "kill -INT $$").returncode == -signal.SIGINT


@every_way
def test_arguments_pass_verbatim(options):
    hard = ["two words", "$(id)", "--timeout", "", "--", "-x", "é"]
    assert run(*options, "--", "printf", "<%s>", *hard).stdout == "".join(f"<{word}>" for word in hard)


@every_way
def test_options_end_at_the_first_word_that_is_none(options):
    assert run(*options, "echo", "--contain", "--help").stdout == "--contain --help\n"


@every_way
def test_stdin_stdout_and_stderr_are_left_alone(options):
    done = run(*options, "--", "sh", "-c", "cat; echo no >&2", stdin=None, input="yes\n")
    assert (done.stdout, done.stderr, done.returncode) == ("yes\n", "no\n", 0)


@every_way
def test_the_environment_and_the_directory_are_left_alone(options, tmp_path):
    done = run(*options, "--", "sh", "-c", 'pwd -P; echo "$TUNE"', cwd=tmp_path, env={**os.environ, "TUNE": "jig"})
    assert done.stdout == f"{tmp_path.resolve()}\njig\n"


@every_way
def test_the_command_starts_with_default_signals_and_an_empty_mask(options):
    """gotcha:SIG13, gotcha:P2"""
    look = "import signal; print(signal.pthread_sigmask(0, []) or '')"
    pipe = "grep -E '^(SigBlk|SigIgn):' /proc/self/status"
    assert run(*options, "--", sys.executable, "-c", look).stdout == "\n"
    ignored = run(*options, "--", "sh", "-c", pipe).stdout
    assert [int(line.split()[1], 16) for line in ignored.splitlines()] == [0, 0]


# --- what cannot be started ---


@every_way
def test_a_program_that_is_not_there_is_127(options):
    done = run(*options, "--", "hornpipe-no-such-program")
    assert done.returncode == 127
    assert len(done.stderr.splitlines()) == 1
    assert "hornpipe-no-such-program" in done.stderr


@every_way
def test_a_program_that_cannot_be_executed_is_126(options, tmp_path):
    program = tmp_path / "text"
    program.write_text("hello\n")
    done = run(*options, "--", str(program))
    assert done.returncode == 126
    assert len(done.stderr.splitlines()) == 1
    program.chmod(0o755)
    assert run(*options, "--", str(program)).returncode == 126


@every_way
def test_a_user_who_does_not_exist_is_our_failure(options):
    done = run("--user", "no-such-user", *options, "--", "true")
    assert done.returncode == 125
    assert "no-such-user" in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")
@every_way
def test_the_command_runs_as_the_user(options):
    done = run("--user", "nobody", *options, "--", "id", "-un", cwd="/")
    assert (done.stdout, done.returncode) == ("nobody\n", 0)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "no command"),
        (["--"], "no command"),
        (["--timeout", "5"], "no command"),
        (["--timeout"], "--timeout needs a value"),
        (["--timeout", "soon", "true"], "'soon'"),
        (["--timeout", "nan", "true"], "'nan'"),
        (["--grace=-1", "true"], "'-1'"),
        (["--user=", "true"], "--user"),
        (["--contain=yes", "true"], "--contain=yes"),
        (["--colour", "true"], "--colour"),
    ],
)
def test_what_makes_no_sense_is_one_line_and_125(arguments, said):
    done = run(*arguments)
    assert done.returncode == 125
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""


def test_help_says_how_and_shows_an_example():
    done = run("--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "Example:" in done.stdout
    for option in ("--timeout", "--grace", "--contain", "--user"):
        assert option in done.stdout


def test_options_may_be_given_in_either_spelling():
    assert cli_run.parse(["--timeout=3", "--user=7", "x"]) == cli_run.parse(
        ["--timeout", "3", "--user", "7", "--", "x"]
    )


def test_it_imports_neither_click_nor_rich():
    program = """
import sys
from hornpipe.cli import main
try:
    main()
except SystemExit:
    print({"click", "rich", "json", "dataclasses", "subprocess"} & {*sys.modules}, file=sys.stderr)
"""
    command = [sys.executable, "-I", "-c", program, "run", "--timeout", "9", "--", "true"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50)
    assert done.stderr == "set()\n"


# --- time-outs ---


@pytest.mark.parametrize("contain", [[], ["--contain"]], ids=["group", "contained"])
class TestTimeouts:
    def test_a_time_out_is_124_and_one_line(self, contain):
        started = time.monotonic()
        done = run("--timeout", "0.2", *contain, "--", "sleep", "60")
        assert done.returncode == 124
        assert len(done.stderr.splitlines()) == 1
        assert "sleep 60" in done.stderr
        assert time.monotonic() - started < 10

    def test_a_command_that_ignores_term_is_killed_after_the_grace(self, contain):
        mark = new_mark()
        command = ["sh", "-c", "trap '' TERM; sleep 60; sleep 60", mark]
        started = time.monotonic()
        done = run("--timeout", "0.5", "--grace", "0.2", *contain, "--", *command)
        assert done.returncode == 124
        assert 0.7 <= time.monotonic() - started < 10
        assert find_marked(mark) == []

    def test_a_grandchild_is_ended_too(self, contain):
        mark = new_mark()
        started = time.monotonic()
        # stdout is a pipe of ours, which the grandchild holds.
        lingering = "sh -c 'sleep 60 & wait' \"$0\" & wait"
        done = run("--timeout", "0.3", "--grace", "0.2", *contain, "--", "sh", "-c", lingering, mark)
        assert done.returncode == 124
        assert time.monotonic() - started < 10
        wait_until(lambda: find_marked(mark) == [], what="the grandchild to be gone")

    def test_a_command_that_is_quick_enough_is_not_disturbed(self, contain):
        assert run("--timeout", "50", *contain, "--", "echo", "quick").stdout == "quick\n"


def test_nothing_of_a_contained_command_is_left():
    mark = new_mark()
    assert run("--contain", "--", *stubborn.daemonizes_completely(mark=mark)).returncode == 0
    assert find_marked(mark) == []


def test_nothing_of_a_contained_command_is_left_when_we_are_killed():
    mark = new_mark()
    with begin("--contain", "--", *stubborn.daemonizes_completely(mark=mark, lingers=True)) as process:
        assert process.stdout.readline() == "ready\n"
        assert find_marked(mark)
        process.kill()
    wait_until(lambda: find_marked(mark) == [], what="everything to be gone")


# --- signals ---


@every_way
@pytest.mark.parametrize("name", ["TERM", "HUP", "INT", "QUIT", "USR1", "USR2"])
def test_a_signal_is_passed_on(options, name):
    script = f"trap 'echo got {name}; exit 3' {name}; echo ready; while :; do sleep 0.05; done"
    with begin(*options, "--", "sh", "-c", script) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.Signals[f"SIG{name}"])
        assert process.stdout.read() == f"got {name}\n"
    assert process.returncode == 3


@every_watched_way
def test_a_command_that_dies_of_a_passed_on_signal_is_128_and_the_signal(options):
    with begin(*options, "--", "sh", "-c", "echo ready; exec sleep 60") as process:
        assert process.stdout.readline() == "ready\n"
        process.terminate()
    assert process.returncode == 128 + signal.SIGTERM


@every_watched_way
def test_a_stop_and_its_continuation_are_passed_on(options):
    with begin(*options, "--", "sh", "-c", "echo $$; read go; echo over", stdin=subprocess.PIPE) as process:
        pid = int(process.stdout.readline())
        process.send_signal(signal.SIGTSTP)
        wait_until(lambda: state(process.pid) == "T" and state(pid) == "T", what="both to be stopped")
        process.send_signal(signal.SIGCONT)
        process.stdin.write("go\n")
        process.stdin.flush()
        assert process.stdout.read() == "over\n"
    assert process.returncode == 0


def state(pid):
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


@every_way
def test_what_nohup_ignores_stays_ignored(options):
    """gotcha:SIG16"""
    script = "trap '' HUP; exec \"$@\""
    command = ["sh", "-c", script, "sh", HORNPIPE, "run", *options, "--", "sh", "-c", "kill -HUP $$; echo alive"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, timeout=50)
    assert done.stdout == "alive\n"


# --- terminals ---


@every_way
def test_the_command_has_the_terminal(options):
    """gotcha:SP10: a background group that reads is stopped by TTIN."""
    with hp.cmd(
        HORNPIPE, "run", *options, "--", "sh", "-c", "read x; echo got $x", pty=True, timeout=30
    ).duplex() as it:
        assert it.ask("words") == "got words"


# --- as PID 1 of a container ---

NAMESPACE = ["unshare", "--pid", "--fork", "--mount-proc"]


def can_unshare():
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        return False
    return subprocess.run([*NAMESPACE, "true"], capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not can_unshare(), reason="pid namespaces need root")
@every_way
class TestAsPid1:
    def inside(self, options, *command, **others):
        return begin(*options, "--", *command, command=NAMESPACE, **others)

    @pytest.mark.parametrize("code", [0, 7])
    def test_the_exit_code_is_the_commands(self, options, code):
        with self.inside(options, "sh", "-c", f"echo $PPID; exit {code}") as process:
            parent = process.stdout.read()
        assert process.returncode == code
        if "--contain" not in options:
            assert parent == "1\n"

    def test_orphans_are_reaped(self, options):
        """gotcha:SIG7: what PID 1 does not reap stays a zombie for ever."""
        script = r"""
            (setsid sh -c 'exit 1' & ) ; (sh -c 'exit 2' & ); (true & ); (true & )
            i=0
            while grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null >&2 || [ $i -lt 5 ]; do
                i=$((i+1)); [ $i -lt 200 ] || { echo zombies; exit 1; }
                sleep 0.02
            done
            echo none
        """
        with self.inside(options, "sh", "-c", script) as process:
            assert process.stdout.read() == "none\n"
        assert process.returncode == 0

    def test_signals_are_passed_on(self, options):
        """The kernel gives PID 1 only the signals that it handles."""
        script = "trap 'echo got TERM; exit 3' TERM; echo ready; while :; do sleep 0.05; done"
        with self.inside(options, "sh", "-c", script) as process:
            assert process.stdout.readline() == "ready\n"
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            os.kill(int(children[0]), signal.SIGTERM)
            assert process.stdout.read() == "got TERM\n"
        assert process.returncode == 3

    def test_a_death_by_signal_is_128_and_the_signal(self, options):
        with self.inside(options, "sh", "-c", "kill -TERM $$") as process:
            process.stdout.read()
        assert process.returncode == 128 + signal.SIGTERM
