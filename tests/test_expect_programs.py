"""Real programs on terminals: what they do to us, and what is left of them."""

from __future__ import annotations

import asyncio
import io
import os
import re
import select
import signal
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import hornpipe.expect as pexpect
from hornpipe.expect import pxssh, replwrap
from hornpipe.testing import stubborn
from hornpipe.testing.between_lines import before_each_line
from hornpipe.testing.patience import wait_until
from hornpipe.testing.processes import look_at, wait_gone

pytestmark = pytest.mark.usefixtures("with_and_without_pidfd")


def sh(script: str, **options: object) -> pexpect.spawn:
    options = {"encoding": "utf-8", "echo": False, "timeout": 30, **options}
    return pexpect.spawn("sh", ["-c", script], **options)  # type: ignore[arg-type]


def python(source: str, **options: object) -> pexpect.spawn:
    options = {"encoding": "utf-8", "echo": False, "timeout": 30, **options}
    return pexpect.spawn(sys.executable, ["-S", "-c", source], **options)  # type: ignore[arg-type]


# --- programs that insist on a terminal ---


def test_cat_numbers_each_line_as_soon_as_it_has_it():
    """perlipc:B4, the manual page's loop: open_proc('cat -n')."""
    with pexpect.spawn("cat -n", encoding="utf-8", echo=False, timeout=30) as child:
        for number, line in enumerate(["one", "two", "three"], 1):
            child.sendline(line)
            child.expect(r"\s*(\d+)\t(.*)\r\n")
            assert child.match.groups() == (str(number), line)
        child.sendeof()
        child.expect(pexpect.EOF)
        assert (child.isalive(), child.exitstatus) == (False, 0)


def test_bc_calculates():
    with pexpect.spawn("bc -q", encoding="utf-8", echo=False, timeout=30) as child:
        for number in range(20):
            child.sendline(f"{number}^2")
            child.expect_exact(f"{number * number}\r\n")


def test_python_shows_its_prompt():
    with pexpect.spawn(sys.executable, ["-i", "-q"], encoding="utf-8", timeout=20, env={"TERM": "dumb"}) as child:
        child.expect_exact(">>> ")
        child.sendline("6 * 7")
        child.expect(r"(?m)^(\d+)\r\n")
        assert child.match[1] == "42"
        child.expect_exact(">>> ")
        child.sendline("1/0")
        child.expect("ZeroDivisionError: .*\r\n")
        child.sendline("exit(3)")
        child.expect(pexpect.EOF)
        assert child.wait() == 3


_PASSWD = """
import getpass
first, second = getpass.getpass("New password: "), getpass.getpass("Retype new password: ")
print("changed to", first) if first == second else print("they differ")
"""


def test_a_password_is_typed_once_nobody_can_see_it():
    """gotcha:TTY8: the flag is waited for, not the clock; and logs do not have the secret."""
    log = io.StringIO()
    with python(_PASSWD, echo=True) as child:
        child.logfile_send = log
        for prompt in ("New password: ", "Retype new password: "):
            child.expect_exact(prompt)
            assert child.waitnoecho(None)
            child.sendline("s3cret")
        child.expect_exact("changed to s3cret")
        assert "s3cret" not in child.before
    assert log.getvalue() == "<not shown>\n" * 2


def test_waiting_for_the_echo_to_go_has_an_end():
    """gotcha:TTY8."""
    with sh("echo ready; read x", echo=True) as child:
        child.expect_exact("ready")
        began = time.monotonic()
        assert not child.waitnoecho(0.1)
        assert 0.1 <= time.monotonic() - began < 20


# --- the end ---


def test_the_last_words_of_a_fast_child_are_not_lost():
    """gotcha:TTY1: they stay in the terminal after its death, and the end comes after them."""
    for _ in range(20):
        with sh("printf 'last words'") as child:
            wait_until(lambda child=child: not child.isalive(), what="the child's end")
            child.expect(pexpect.EOF)
            assert child.before == "last words"


def test_the_end_of_the_output_is_not_the_end_of_the_program():
    """gotcha:TTY2: isalive never waits, and the status is there as soon as it is known."""
    with sh("exec 0<&- 1>&- 2>&-; trap '' HUP; kill -STOP $$; exit 7") as child:
        child.expect(pexpect.EOF)
        # The end of its output comes before it stops: a CONT from here must come after that.
        wait_until(lambda: look_at(child.pid).state == "T", what="its stop")
        began = time.monotonic()
        assert child.isalive()
        assert time.monotonic() - began < 20
        assert child.exitstatus is None
        child.kill(signal.SIGCONT)
        assert child.wait() == 7
        assert (child.isalive(), child.exitstatus, child.signalstatus) == (False, 7, None)


def test_waiting_for_the_end_does_not_keep_it_from_coming():
    """gotcha:TTY2: what the program says meanwhile is taken, and there to be expected afterwards."""
    with sh("seq 50000; exit 3") as child:
        assert child.wait() == 3
        child.expect_exact("50000\r\n")
        assert child.before.count("\n") == 49_999


def test_a_child_that_is_told_by_hang_up_goes_at_once():
    """gotcha:TTY3."""
    child = sh("echo ready; exec sleep 60")
    child.expect_exact("ready")
    child.delayafterclose = 30
    began = time.monotonic()
    child.close()
    assert time.monotonic() - began < 20
    assert (child.closed, child.isalive(), child.signalstatus) == (True, False, signal.SIGHUP)


@pytest.mark.parametrize("end", ["close", "terminate", "kill"])
def test_a_handler_may_see_the_end_between_any_two_lines(end: str):
    """gotcha:SIG17, TTY3: by the next line it is reaped, and its pidfd let go of."""

    def see_the_end() -> None:
        if child.isalive():
            os.kill(child.pid, signal.SIGKILL)
            os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
            assert not child.isalive()

    lines = 0
    for line in before_each_line(see_the_end):
        with pexpect.spawn("cat", timeout=30) as child:
            ends = {"close": child.close, "terminate": child.terminate, "kill": lambda: child.kill(signal.SIGTERM)}
            call = ends[end]
            with line:
                call()
            lines += line.has_run
    assert lines > 10, "its lines were not looked at"


def test_a_child_that_ignores_everything_does_not_survive():
    """gotcha:TTY3: nor does what it has started."""
    child = sh("trap '' HUP INT TERM; sleep 60 & echo $! ready; wait; wait; sleep 60")
    child.expect(r"(\d+) ready")
    grandchild = int(child.match[1])
    child.close()
    assert child.signalstatus == signal.SIGKILL
    assert wait_gone([grandchild]) == []


def test_without_force_a_stubborn_child_is_an_error():
    """gotcha:TTY3."""
    with sh("trap '' HUP INT; echo ready; sleep 60; sleep 60") as child:
        child.expect_exact("ready")
        assert not child.terminate()
        assert child.terminate(force=True)
        child.expect(pexpect.EOF)
    other = sh("trap '' HUP INT; echo ready; while :; do sleep 60; done")
    other.expect_exact("ready")
    with pytest.raises(pexpect.ExceptionPexpect):
        other.close(force=False)
    other.terminate(force=True)


def test_a_program_put_in_the_background_by_one_that_has_ended_is_left_alone(tmp_path: Path):
    """Starting a daemon by its script is no reason to kill it."""
    # Deaf to the hang-up from before its start: nohup itself would need a moment for that.
    with sh("trap '' HUP; sleep 60 >/dev/null 2>&1 & echo $! started") as child:
        child.expect(r"(\d+) started")
        daemon = int(child.match[1])
        child.expect(pexpect.EOF)
    try:
        os.kill(daemon, 0)
    finally:
        os.kill(daemon, signal.SIGKILL)


def test_an_exception_that_leaves_the_with_block_leaves_nothing_running():
    with pytest.raises(LookupError), sh("exec sleep 60") as child:
        raise LookupError
    assert child.closed
    assert not child.isalive()


def test_a_forgotten_child_is_ended():
    child = sh("exec sleep 60")
    pid = child.pid
    del child
    assert not os.path.exists(f"/proc/{pid}")


# --- starting ---


@pytest.mark.parametrize("command", ["/no/such/program", "no-such-program", "/etc/passwd", "/"])
def test_what_cannot_be_started_is_an_error_here(command):
    """gotcha:SP1."""
    with pytest.raises(pexpect.ExceptionPexpect, match="not found or was not executable"):
        pexpect.spawn(command)


def test_what_fails_in_the_child_is_an_error_here():
    """gotcha:SP1: no exception ever comes out in the child."""

    def refuse() -> None:
        raise ValueError("not like this")

    with pytest.raises(ValueError, match="not like this"):
        pexpect.spawn("true", preexec_fn=refuse)
    with pytest.raises(FileNotFoundError):
        pexpect.spawn("true", cwd="/no/such/folder")


def test_the_child_leads_a_session_on_its_terminal():
    """gotcha:SP10, gotcha:TTY9: the terminal is its own, with a size, from the first moment on."""
    source = "import os; print(os.getsid(0) == os.getpid() == os.tcgetpgrp(0), os.get_terminal_size(0))"
    with python(source, dimensions=(40, 132)) as child:
        child.expect_exact("True os.terminal_size(columns=132, lines=40)")


def test_preparation_and_an_ignored_hang_up_reach_the_program():
    script = "pwd; echo $A; trap; exec sleep 60"
    child = sh(
        script, preexec_fn=lambda: os.chdir("/usr"), ignore_sighup=True, env={"A": "b", "PATH": os.environ["PATH"]}
    )
    child.expect_exact("/usr\r\nb\r\n")
    with open(f"/proc/{child.pid}/status") as file:
        ignored = next(int(line.split()[1], 16) for line in file if line.startswith("SigIgn"))
    assert ignored & 1 << (signal.SIGHUP - 1)
    child.close()


# --- sending ---


def test_a_line_that_the_terminal_would_cut_is_refused():
    """gotcha:TTY4."""
    with pexpect.spawn("cat", echo=False, timeout=30) as child:
        child.sendline("x" * 4095)
        child.expect_exact("x" * 4095 + "\r\n")
        with pytest.raises(ValueError, match="4096 bytes"):
            child.sendline("x" * 4096)
        child.send("y" * 4000)
        with pytest.raises(ValueError, match="4096 bytes"):
            child.send("y" * 96)
        child.sendline("y" * 95)
        child.expect_exact("y" * 4095 + "\r\n")
    raw = "import sys, tty; tty.setraw(0); print('raw'); print(len(sys.stdin.buffer.read(50_000)), 'came')"
    with python(raw) as child:
        child.expect_exact("raw")
        child.send("x" * 50_000)
        child.expect_exact("50000 came")


def test_control_characters_are_sent_as_they_are():
    """gotcha:TTY5: here they are what the user wants."""
    source = "import tty, os; tty.setraw(0); print('raw', flush=True); print(os.read(0, 1), os.read(0, 1))"
    with python(source) as child:
        child.expect_exact("raw")
        child.send("\x03")
        child.sendcontrol("d")
        child.expect_exact(r"b'\x03' b'\x04'")
    with sh("trap 'echo caught' INT; echo ready; read x; echo over") as child:
        child.expect_exact("ready")
        child.sendintr()
        child.expect_exact("caught")


def test_the_end_of_file_is_said_with_this_terminals_character():
    """gotcha:TTY6: twice in the middle of a line."""
    with pexpect.spawn("cat", echo=False, timeout=30) as child:
        modes = termios.tcgetattr(child.child_fd)
        modes[6][termios.VEOF] = b"\x05"
        termios.tcsetattr(child.child_fd, termios.TCSANOW, modes)
        child.send("no newline")
        child.sendeof()
        child.expect(pexpect.EOF)
        assert child.before == b"no newline"


def test_sending_to_one_that_does_not_read_has_an_end():
    """gotcha:TTY7."""
    command, *arguments = stubborn.never_reads()
    with pexpect.spawn(command, arguments, timeout=0.3, echo=False) as child:
        began = time.monotonic()
        with pytest.raises(pexpect.TIMEOUT, match=r"\d+ of 100000 bytes"):
            child.send(b"line\n" * 20_000)
        assert time.monotonic() - began < 15  # of the thirty that it lives


def test_sending_to_one_that_wants_to_be_read_first_does_not_hang():
    """gotcha:TTY7: what it says meanwhile is kept."""
    with pexpect.spawn("cat", echo=False, timeout=30) as child:
        lines = b"".join(b"%06d\n" % number for number in range(6000))
        assert child.send(lines) == len(lines)
        child.expect_exact("005999\r\n")
        assert child.before + child.after == lines.replace(b"\n", b"\r\n")


# --- what comes ---


def test_what_is_expected_is_found_however_it_is_cut():
    """gotcha:TTY11: characters and patterns that are split over reads."""
    source = (
        "import os, sys\n"
        "for byte in 'caf\\u00e9 \\u2026 login: '.encode():\n"
        "    os.write(1, bytes([byte])); sys.stdin.readline()\n"
    )
    with python(source) as child:
        child.setecho(False)
        child.send("\n" * 30)
        child.expect("é (.) log.n: $")
        assert (child.before, child.match[1]) == ("caf", "…")


def test_a_time_out_says_what_was_seen_and_what_was_wanted():
    with sh("echo 'Permission denied'; read x") as child:
        assert select.select([child], [], [], 20)[0]
        with pytest.raises(pexpect.TIMEOUT) as info:
            child.expect([r"log(in)?: ", pexpect.EOF], timeout=0.1)
        message = str(info.value)
        assert "Permission denied" in message
        assert "log(in)?: " in message
        assert isinstance(info.value, TimeoutError)
        assert child.before == child.buffer == "Permission denied\r\n"
        assert child.expect(["x", pexpect.TIMEOUT], timeout=0) == 1
        assert child.expect_exact("denied", timeout=0) == 0


def test_an_error_can_say_where_in_the_caller_s_code_it_was_raised():
    with sh("read x") as child:
        try:
            child.expect("never", timeout=0)
        except pexpect.TIMEOUT as error:
            trace = error.get_trace()
    assert 'child.expect("never", timeout=0)' in trace
    assert "spawnbase" not in trace


def test_output_without_end_is_no_excuse_for_missing_the_deadline():
    with pexpect.spawn("yes", timeout=0.3) as child:
        began = time.monotonic()
        with pytest.raises(pexpect.TIMEOUT):
            child.expect("no")
        assert time.monotonic() - began < 20


def test_a_signal_is_handled_while_something_is_expected():
    came = []
    before = signal.signal(signal.SIGUSR1, lambda *_: came.append(True))
    try:
        with sh(f"kill -USR1 {os.getpid()}; echo done") as child:
            child.expect_exact("done")
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert came == [True]


@pytest.mark.parametrize("encoding", [None, "utf-8"])
def test_what_a_handler_raises_takes_nothing_away_of_what_has_come(encoding: str | None):
    """gotcha:SIG11: neither from ``before`` nor from what is expected next, though nobody had looked at it yet."""

    with sh("echo one; read x; echo two", encoding=encoding) as child:

        def give_up(*_: object) -> None:
            if len(child._intake):  # it has been read, and is waited on
                signal.setitimer(signal.ITIMER_REAL, 0)
                raise LookupError("enough")

        before = signal.signal(signal.SIGALRM, give_up)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
            with pytest.raises(LookupError, match="enough"):
                child.expect_exact("two")
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        said = "one\r\n" if encoding else b"one\r\n"
        assert child.before == child.buffer == said
        child.sendline()
        child.expect_exact("two")
        assert child.before == said


def test_a_log_is_told_at_once_what_comes():
    """Also of what is of no interest to who expects something: this one answers."""

    class Log(io.BytesIO):
        def write(self, data: object) -> int:
            count = super().write(data)  # type: ignore[arg-type]
            if self.getvalue() == b"one\r\n":
                child.sendline()
            return count

    with sh("echo one; read x; echo two", encoding=None) as child:
        child.logfile_read = Log()
        child.expect_exact("two")


def test_what_is_no_text_is_an_error_when_it_comes():
    with python("import os, time; os.write(1, b'caf\\xff'); input()") as child, pytest.raises(UnicodeDecodeError):
        child.expect("never")


def test_what_came_before_a_match_can_be_bounded():
    """gotcha:TTY12."""
    with sh("seq 100000; echo '$ '", before_limit=100) as child:
        child.expect_exact("$ ")
        assert child.before == "".join(f"{number}\r\n" for number in range(100_000))[-92:] + "100000\r\n"


def test_lines_are_read_as_from_a_file():
    with sh("echo one; echo two; printf end") as child:
        assert child.readline() == "one\r\n"
        assert child.read(2) == "tw"
        assert list(child) == ["o\r\n", "end"]
        assert child.read() == ""


def test_window_sizes_are_set_and_told():
    """gotcha:TTY9."""
    with sh("trap 'stty size' WINCH; stty size; while :; do read x; done") as child:
        child.expect_exact("24 80")
        child.setwinsize(30, 100)
        assert child.getwinsize() == (30, 100)
        child.expect_exact("30 100")


def test_logs_have_both_directions():
    both, read, sent = io.BytesIO(), io.BytesIO(), io.BytesIO()
    with pexpect.spawn("cat", echo=False, logfile=both, timeout=30) as child:
        child.logfile_read, child.logfile_send = read, sent
        child.sendline("one")
        child.expect_exact("one\r\n")
    assert (both.getvalue(), read.getvalue(), sent.getvalue()) == (b"one\none\r\n", b"one\r\n", b"one\n")


def test_no_hidden_sleep_is_in_a_round_trip():
    """gotcha:T3: pexpect takes 50 ms for each, and so for the shortest of them."""
    with pexpect.spawn("cat", echo=False, timeout=30) as child:
        took = []
        for _ in range(100):
            began = time.monotonic()
            child.sendline("x")
            child.expect_exact("x\r\n")
            took.append(time.monotonic() - began)
        assert min(took) < 0.03


def test_a_subclass_may_read_in_its_own_way():
    class Shouting(pexpect.spawn):
        def read_nonblocking(self, size: int = 1, timeout: float | None = -1) -> str:
            text: str = super().read_nonblocking(size, timeout).upper()
            return text

    with Shouting("echo hello", encoding="utf-8", timeout=30) as child:
        child.expect_exact("HELLO")
        child.expect(pexpect.EOF)


# --- what stands on these ---


def test_run_answers_what_is_asked():
    asked: list[str] = []

    def colour(known: dict[str, object]) -> str:
        asked.append(str(known["extra_args"]))
        return "red\n"

    script = "printf 'name? '; read n; printf 'colour? '; read c; echo $n: $c; exit 4"
    events = {"name[?] ": "me\n", "colour[?] ": colour}
    said, status = pexpect.run(
        f'sh -c "{script}"',
        events=events,
        extra_args="!",
        encoding="utf-8",
        echo=False,
        withexitstatus=True,
    )
    assert said == "name? colour? me: red\r\n"
    assert (status, asked) == (4, ["!"])


def test_interpreters_take_commands():
    with replwrap.python() as interpreter:
        assert interpreter.run_command("for n in range(2):\n    print(n)\n") == "0\r\n1\r\n"
        with pytest.raises(ValueError, match="incomplete"):
            interpreter.run_command("(")
        assert asyncio.run(interpreter.run_command("2 + 2", async_=True)) == "4\r\n"


_SSH = r"""#!/bin/sh
echo "args: $*" >> "$LOG"
printf 'Are you sure you want to continue connecting (yes/no)? '; read answer
stty -echo; printf "me@host's password: "; read word; stty echo; echo
[ "$word" = s3cret ] || { echo 'Permission denied'; exit 255; }
PS1='$ ' exec sh -i
"""


@pytest.fixture
def far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], pxssh.pxssh]:
    program = tmp_path / "ssh"
    program.write_text(_SSH)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("LOG", str(tmp_path / "log"))
    return lambda: pxssh.pxssh(encoding="utf-8", ignore_sighup=False, timeout=30)


def test_a_shell_elsewhere_takes_commands(far, tmp_path):
    with far() as shell:
        assert shell.login("host", "me", "s3cret", port=2222)
        shell.sendline("echo $((6 * 7))")
        assert shell.prompt()
        assert "42\r\n" in shell.before
        assert not shell.prompt(timeout=0.1)
        shell.logout()
    assert (tmp_path / "log").read_text() == "args: -q -p 2222 -l me host\n"


def test_a_refused_password_leaves_nothing_running(far):
    with far() as shell:
        with pytest.raises(pxssh.ExceptionPxssh, match="permission denied"):
            shell.login("host", "me", "wrong")
        assert shell.closed


def test_a_pattern_that_is_none_is_refused():
    with sh("echo x") as child:
        with pytest.raises(TypeError, match="as pattern"):
            child.expect([3])  # type: ignore[list-item]
        assert child.expect([re.compile(b"x")]) == 0
