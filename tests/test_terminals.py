"""What a person at a terminal sees: Ctrl-C, Ctrl-Z, and whose terminal it is, on a real one."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import hornpipe as hp
from hornpipe.testing.processes import look_at
from hornpipe.testing.stubborn import wait_until

CTRL_C, CTRL_Z = b"\x03", b"\x1a"
PATIENCE = 30.0

_PRELUDE = """
import os, signal, sys, termios, time
import hornpipe as hp
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGTSTP, signal.SIG_DFL)
def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())
def in_front():
    return os.tcgetpgrp(0) == os.getpgrp()
def too_late(run, *files):
    # Under a limit as long as a busy machine needs for what the programs do first; then they make these files.
    for limit in (0.4, 2.0, 10.0):
        try:
            run(limit)
        except TimeoutError:
            if all(map(os.path.exists, files)):
                return True
"""


class Driver:
    """A Python program that leads a session on a terminal of its own, and our side of that terminal."""

    def __init__(self, source: str, *, shell: bool) -> None:
        self.seen = b""
        # A stop of a session's leader is discarded by the kernel where its group is orphaned. So where stops matter
        # the leader is a tiny shell of ours, and the program is in a group below it, like a job.
        self.pid, self.terminal = pty.fork()
        if self.pid == 0:
            program = ["-c", _SHELL, _PRELUDE + source] if shell else ["-c", _PRELUDE + source]
            os.execv(sys.executable, [sys.executable, *program])

    def wait_for(self, words: str) -> str:
        """Read until the terminal has shown *words*; what came before them."""
        wanted = words.encode()
        deadline = time.monotonic() + PATIENCE
        while wanted not in self.seen:
            ready, _, _ = select.select([self.terminal], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                pytest.fail(f"waited in vain for {words!r}; the terminal shows {self.seen!r}")
            try:
                self.seen += os.read(self.terminal, 4096)
            except OSError:  # EIO: nobody has it open any more
                pytest.fail(f"the session has ended without {words!r}; the terminal shows {self.seen!r}")
        before, _, self.seen = self.seen.partition(wanted)
        return before.decode()

    def press(self, key: bytes) -> None:
        os.write(self.terminal, key)

    def interrupt(self) -> None:
        """Ctrl-C, and the program tells of it and stands in front."""
        self.press(CTRL_C)
        self.wait_for("interrupted True !")

    def end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        os.close(self.terminal)  # HUP to whoever is in front
        os.waitpid(self.pid, 0)


# Like a shell with job control: it runs its program in a group in front, tells of each stop, and continues it on "fg".
_SHELL = """
import os, signal, sys
for number in (signal.SIGTTOU, signal.SIGTTIN, signal.SIGTSTP, signal.SIGINT):
    signal.signal(number, signal.SIG_IGN)
r, w = os.pipe()
job = os.fork()
if not job:
    os.close(w)
    os.read(r, 1)
    for number in (signal.SIGTTOU, signal.SIGTTIN, signal.SIGTSTP, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    os.execv(sys.executable, [sys.executable, "-c", sys.argv[1]])
os.setpgid(job, job)
os.tcsetpgrp(0, job)
os.close(w)
while True:
    _, status = os.waitpid(job, os.WUNTRACED)
    os.tcsetpgrp(0, os.getpgrp())
    if not os.WIFSTOPPED(status):
        os.write(1, b"shell: job over %d\\n" % status)
        sys.stdin.readline()
        sys.exit()
    os.write(1, b"shell: job stopped by %d\\n" % os.WSTOPSIG(status))
    sys.stdin.readline()
    os.tcsetpgrp(0, job)
    os.killpg(job, signal.SIGCONT)
"""


def telling(call: str, stay: bool = True) -> str:
    """A program that makes this call, says where it stands when INT comes out of it, and stays there."""
    source = f"""
try:
    {call}
except KeyboardInterrupt:
    say("interrupted", in_front(), "!")
"""
    return source + "sys.stdin.readline()\n" if stay else source


@contextlib.contextmanager
def on_a_terminal(source: str, shell: bool = False) -> Iterator[Driver]:
    driver = Driver(source, shell=shell)
    try:
        yield driver
    finally:
        driver.end()


def state_of(pid: int) -> str:
    seen = look_at(pid)
    assert seen is not None, f"process {pid} has gone"
    return seen.state


def is_gone(pid: int) -> bool:
    """It may go while it is being looked at."""
    seen = look_at(pid)
    return seen is None or seen.is_zombie


# Prints its pid and its group's place, then waits.
_CHILD = "echo child $$ .; exec sleep 60"


def pid_of_the_child(driver: Driver) -> int:
    driver.wait_for("child ")
    return int(driver.wait_for(" ."))


def test_ctrl_c_during_run_ends_the_child_and_interrupts_us() -> None:
    """perlipc:O10: without a timeout we are in one group, so both get it, as a user expects."""
    source = telling(f'hp.cmd("sh", "-c", {_CHILD!r}).run()')
    with on_a_terminal(source) as driver:
        child = pid_of_the_child(driver)
        assert os.getpgid(child) == os.getpgid(driver.pid)
        driver.interrupt()
        assert is_gone(child)


@pytest.mark.parametrize("options", ["timeout=60", "contain=True", "timeout=60, contain=True"])
def test_ctrl_c_during_a_limited_run_ends_the_child_and_interrupts_us(options: str) -> None:
    """perlipc:O10, gotcha:SP10: the child has a group of its own in front; its death by INT is meant for us too."""
    source = telling(f'hp.cmd("sh", "-c", {_CHILD!r}, {options}).run()')
    with on_a_terminal(source) as driver:
        child = pid_of_the_child(driver)
        assert os.getpgid(child) == os.tcgetpgrp(driver.terminal) != os.getpgid(driver.pid)
        driver.interrupt()
        assert is_gone(child)


@pytest.mark.parametrize("options", ["", "timeout=60", "contain=True"])
def test_ctrl_z_stops_both_and_cont_resumes_both(options: str) -> None:
    """perlipc:O10, gotcha:SP10: the shell sees us stop; after "fg" the child is in front, and Ctrl-C reaches it."""
    source = telling(f'hp.cmd("sh", "-c", {_CHILD!r}, {options}).run()', stay=False)
    with on_a_terminal(source, shell=True) as driver:
        child = pid_of_the_child(driver)
        for _ in range(2):
            wait_until(lambda: os.tcgetpgrp(driver.terminal) == os.getpgid(child), what="the child in front")
            driver.press(CTRL_Z)
            driver.wait_for(f"shell: job stopped by {signal.SIGTSTP.value}")
            wait_until(lambda: state_of(child) == "T", what="the child's stop")
            driver.press(b"fg\n")
            wait_until(lambda: state_of(child) == "S", what="the child's going on")
        wait_until(lambda: os.tcgetpgrp(driver.terminal) == os.getpgid(child), what="the child in front")
        driver.interrupt()
        driver.wait_for("shell: job over 0")
        assert is_gone(child)


def test_the_child_of_a_limited_run_can_read_from_the_terminal() -> None:
    """gotcha:SP10: in a background group it would be stopped by TTIN."""
    source = """
hp.cmd("sh", "-c", "echo ask; read x; echo got $x", timeout=60).run()
say("done", in_front(), "!")
say("and", sys.stdin.readline().strip(), "!")
sys.stdin.readline()
"""
    with on_a_terminal(source) as driver:
        driver.wait_for("ask")
        driver.press(b"word\n")
        driver.wait_for("got word")
        driver.wait_for("done True !")
        driver.press(b"more\n")
        driver.wait_for("and more !")


@pytest.mark.parametrize(
    ("program", "options", "outcome"),
    [
        ("true", "timeout=60", "ExitStatus(0)"),
        ("exit 3", "timeout=60, check=False", "ExitStatus(768)"),
        ("exit 3", "contain=True", "CommandFailed"),
        ("kill -KILL $$", "timeout=60", "CommandFailed"),
        ("sleep 60", "timeout=0.2", "CommandTimeout"),
        ("trap '' TERM HUP; sleep 60", "timeout=0.2, grace=0.1, contain=True", "CommandTimeout"),
    ],
)
def test_the_terminal_is_taken_back_however_it_ends(program: str, options: str, outcome: str) -> None:
    """perlipc:O10, gotcha:SP10."""
    source = f"""
try:
    what = hp.cmd("sh", "-c", {program!r}, {options}).run()
except Exception as error:
    what = type(error).__name__
say("outcome", what if isinstance(what, str) else repr(what), in_front(), "!")
sys.stdin.readline()
"""
    with on_a_terminal(source) as driver:
        driver.wait_for(f"outcome {outcome} True !")


def test_the_terminal_is_taken_back_when_the_start_fails() -> None:
    """gotcha:SP10."""
    source = """
try:
    hp.cmd("/no/such/program", timeout=60).run()
except FileNotFoundError:
    say("not found", in_front(), "!")
sys.stdin.readline()
"""
    with on_a_terminal(source) as driver:
        driver.wait_for("not found True !")


def test_the_modes_of_the_terminal_are_restored_after_a_kill(tmp_path: Path) -> None:
    """gotcha:SP10: a child that switched echo off and was killed would leave the user typing blindly."""
    said = str(tmp_path / "said")
    source = f"""
before = termios.tcgetattr(0)
change = hp.cmd("sh", "-c", 'stty -echo -icanon; echo changed; : >"$0"; sleep 60', {said!r}, grace=0.1)
if too_late(lambda limit: change.with_options(timeout=limit).run(), {said!r}):
    say("restored", termios.tcgetattr(0) == before, in_front(), "!")
sys.stdin.readline()
"""
    with on_a_terminal(source) as driver:
        driver.wait_for("changed")
        driver.wait_for("restored True True !")


@pytest.mark.parametrize("options", ["", "timeout=60", "contain=True"])
def test_captured_commands_never_touch_the_terminal(options: str) -> None:
    """gotcha:SP10: we stay in front, and what is typed stays ours."""
    source = f"""
show = 'read x; echo "[$x]"; ps -o tpgid= -p $$ 2>/dev/null || cut -d" " -f8 /proc/$$/stat'
answer, group = hp.cmd("sh", "-c", show, {options}).with_options(ok_codes=(0, 1)).read().split()
say("read", answer, int(group) == os.getpgrp(), "!")
say("capture", hp.cmd("cat", {options}).capture().stdout == "", in_front(), "!")
say("lines", list(hp.cmd("cat", {options}).lines()), in_front(), "!")
say("typed", sys.stdin.readline().strip(), "!")
sys.stdin.readline()
"""
    with on_a_terminal(source) as driver:
        driver.press(b"mine\n")
        driver.wait_for("read [] True !")
        driver.wait_for("capture True True !")
        driver.wait_for("lines [] True !")
        driver.wait_for("typed mine !")


def test_ctrl_c_during_a_captured_command_ends_it() -> None:
    """perlipc:O10: we get the INT, and the exception that leaves the verb ends the child first."""
    source = telling('hp.cmd("sh", "-c", "echo child $$ . >/dev/tty; exec sleep 60", timeout=60).read()')
    with on_a_terminal(source) as driver:
        child = pid_of_the_child(driver)
        driver.interrupt()
        assert is_gone(child)


# --- a limited pipeline: all its stages are one group in front ---


_LIMITS = pytest.mark.parametrize("options", ["timeout=60", "contain=True", "timeout=60, contain=True"])

# A pager's way: what it shows comes through the pipe, and what it is told from the terminal.
_PAGER = "read shown; echo showing $shown .; read key </dev/tty; echo key $key ."

# Two stages that tell their numbers and wait for ever.
_TWO = f"""(hp.sh("echo first $$ . >/dev/tty; exec sleep 60") | hp.sh({_CHILD!r}))"""


def pids_of_the_two(driver: Driver) -> list[int]:
    """The second tells its own first if it is quicker."""
    told = sorted((driver.wait_for(" ."), driver.wait_for(" .")), key=lambda words: "child" in words)
    return [int(words.split()[-1]) for words in told]


@_LIMITS
@pytest.mark.parametrize("first", ['hp.cmd("yes", "text")', 'hp.cmd("echo", "text")', 'hp.fn(print, "text")'])
def test_the_last_stage_of_a_limited_pipeline_can_read_from_the_terminal(first: str, options: str) -> None:
    """gotcha:SP10: ``ls | less``, and the first has ended long before. The group has not."""
    source = f"""
status = ({first} | hp.sh({_PAGER!r} + "; exit 3")).with_options({options}, check=False).run()
say("done", status.code, in_front(), "!")
sys.stdin.readline()
"""
    with on_a_terminal(source) as driver:
        driver.wait_for("showing text .")
        driver.press(b"q\n")
        driver.wait_for("key q .")
        driver.wait_for("done 3 True !")


def test_a_stage_may_be_gone_before_the_next_one_starts() -> None:
    """gotcha:SP10, gotcha:SIG6: nor need anybody keep it for us: the kernel reaps where CHLD is ignored."""
    source = f"""
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for _ in range(20):
    (hp.cmd("true") | hp.cmd("true") | hp.cmd("true")).with_options(timeout=60).run()
(hp.cmd("echo", "text") | hp.cmd("cat") | hp.sh({_PAGER!r})).with_options(timeout=60).run()
say("done", in_front(), "!")
sys.stdin.readline()
"""
    with on_a_terminal(source) as driver:
        driver.wait_for("showing text .")
        driver.press(b"q\n")
        driver.wait_for("key q .")
        driver.wait_for("done True !")


@_LIMITS
def test_ctrl_c_ends_all_stages_of_a_limited_pipeline_and_interrupts_us(options: str) -> None:
    """perlipc:O10, gotcha:SP10."""
    source = telling(f"{_TWO}.with_options({options}).run()")
    with on_a_terminal(source) as driver:
        pids = pids_of_the_two(driver)
        groups = {os.getpgid(pid) for pid in pids}
        assert groups == {os.tcgetpgrp(driver.terminal)} != {os.getpgid(driver.pid)}
        driver.interrupt()
        assert all(map(is_gone, [*pids, *groups]))


@_LIMITS
def test_a_callable_is_in_the_group_of_a_limited_pipeline_as_well(options: str) -> None:
    """perlipc:O11, gotcha:SP10: it leads no group of its own either, although it is forked and not exec'ed."""
    source = f"""
def wait_for_ever():
    say("child", os.getpid(), ".")
    time.sleep(60)
try:
    (hp.cmd("echo", "text") | hp.fn(wait_for_ever)).with_options({options}).run()
except KeyboardInterrupt:
    say("interrupted", in_front(), "!")
sys.stdin.readline()
"""
    with on_a_terminal(source) as driver:
        child = pid_of_the_child(driver)
        assert os.getpgid(child) == os.tcgetpgrp(driver.terminal) != child
        driver.interrupt()
        assert is_gone(child)


def test_a_pager_outlives_the_ctrl_c_that_ended_what_it_shows() -> None:
    """perlipc:O10: it takes INT as a wish about its own work; once it has ended, the whole was meant."""
    pager = "trap 'echo caught' INT; " + _PAGER
    source = telling(f'(hp.sh("echo text; exec sleep 60") | hp.sh({pager!r})).with_options(timeout=60).run()')
    with on_a_terminal(source) as driver:
        driver.wait_for("showing text .")
        driver.press(CTRL_C)
        driver.press(b"q\n")
        driver.wait_for("caught")
        driver.wait_for("interrupted True !")


@_LIMITS
def test_ctrl_z_stops_all_stages_and_us_and_cont_resumes_all(options: str) -> None:
    """perlipc:O10, gotcha:SP10."""
    source = telling(f"{_TWO}.with_options({options}).run()", stay=False)
    with on_a_terminal(source, shell=True) as driver:
        pids = pids_of_the_two(driver)
        for _ in range(2):
            wait_until(lambda: os.tcgetpgrp(driver.terminal) == os.getpgid(pids[0]), what="the stages in front")
            driver.press(CTRL_Z)
            driver.wait_for(f"shell: job stopped by {signal.SIGTSTP.value}")
            wait_until(lambda: [state_of(pid) for pid in pids] == ["T", "T"], what="their stop")
            driver.press(b"fg\n")
            wait_until(lambda: [state_of(pid) for pid in pids] == ["S", "S"], what="their going on")
        wait_until(lambda: os.tcgetpgrp(driver.terminal) == os.getpgid(pids[0]), what="the stages in front")
        driver.interrupt()
        driver.wait_for("shell: job over 0")
        assert all(map(is_gone, pids))


@_LIMITS
def test_a_ctrl_z_that_comes_before_each_supervisor_has_heard_of_the_resumption_is_not_lost(options: str) -> None:
    """gotcha:SP10: on a busy machine one of them may be late."""
    source = telling(f"{_TWO}.with_options({options}).run()", stay=False)
    with on_a_terminal(source, shell=True) as driver:
        pids = pids_of_the_two(driver)
        late = [look_at(pid).parent for pid in pids]
        wait_until(lambda: os.tcgetpgrp(driver.terminal) == os.getpgid(pids[0]), what="the stages in front")
        driver.press(CTRL_Z)
        driver.wait_for(f"shell: job stopped by {signal.SIGTSTP.value}")
        os.kill(late[1], signal.SIGSTOP)
        driver.press(b"fg\n")
        wait_until(lambda: [state_of(pid) for pid in pids] == ["S", "S"], what="their going on")
        wait_until(lambda: os.tcgetpgrp(driver.terminal) == os.getpgid(pids[0]), what="the stages in front")
        driver.press(CTRL_Z)
        wait_until(lambda: [state_of(pid) for pid in pids] == ["T", "T"], what="their stop")
        os.kill(late[1], signal.SIGCONT)
        driver.wait_for(f"shell: job stopped by {signal.SIGTSTP.value}")


def test_ctrl_z_stops_us_when_those_that_are_left_have_stopped() -> None:
    """gotcha:SP10: the first has ended, and what the last one started is resumed with it."""
    source = """
pipe = hp.cmd("true") | hp.sh("sh -c 'echo child $$ .; exec sleep 60'; exit 0")
try:
    pipe.with_options(timeout=60).run()
except KeyboardInterrupt:
    say("interrupted", in_front(), "!")
"""
    with on_a_terminal(source, shell=True) as driver:
        child = pid_of_the_child(driver)
        driver.press(CTRL_Z)
        driver.wait_for(f"shell: job stopped by {signal.SIGTSTP.value}")
        wait_until(lambda: state_of(child) == "T", what="the child's stop")
        driver.press(b"fg\n")
        wait_until(lambda: state_of(child) == "S", what="the child's going on")
        wait_until(lambda: os.tcgetpgrp(driver.terminal) == os.getpgid(child), what="the child in front")
        driver.interrupt()
        assert is_gone(child)


def test_a_stage_that_ignores_ctrl_z_keeps_us_running_until_it_ends() -> None:
    """gotcha:SP10: it has the terminal, as a shell's job has it until all of its processes have stopped."""
    deaf = "exec >/dev/tty; trap '' TSTP; echo deaf .; read x </dev/tty; echo read $x ."
    other = "exec 2>/dev/tty; echo child $$ . >&2; exec sleep 60"
    source = telling(f"(hp.sh({deaf!r}) | hp.sh({other!r})).with_options(timeout=60).run()", stay=False)
    with on_a_terminal(source, shell=True) as driver:
        told = driver.wait_for(" .") + driver.wait_for(" .")
        child = next(int(word) for word in told.split() if word.isdigit())
        driver.press(CTRL_Z)
        wait_until(lambda: state_of(child) == "T", what="the other one's stop")
        driver.press(b"word\n")
        assert "stopped" not in driver.wait_for("read word .")
        driver.wait_for(f"shell: job stopped by {signal.SIGTSTP.value}")
        driver.press(b"fg\n")
        wait_until(lambda: state_of(child) == "S", what="its going on")
        wait_until(lambda: os.tcgetpgrp(driver.terminal) == os.getpgid(child), what="it in front")
        driver.interrupt()


@pytest.mark.parametrize("options", ["", ", contain=True"])
@pytest.mark.parametrize("first", ["true", "exec sleep 60"])
def test_a_timeout_ends_all_stages_and_what_they_started(first: str, options: str, tmp_path: Path) -> None:
    """gotcha:SP10, gotcha:T4: the group's first member may be gone, and all stages before that child."""
    said = str(tmp_path / "said")
    stubborn = f"""sh -c "trap '' TERM; echo child \\$\\$ .; : >'{said}'; exec sleep 60"; exit 0"""
    source = f"""
pipe = (hp.sh({first!r}) | hp.sh({stubborn!r})).with_options(grace=0.2{options})
if too_late(lambda limit: pipe.with_options(timeout=limit).run(), {said!r}):
    say("too late", in_front(), "!")
sys.stdin.readline()
"""
    with on_a_terminal(source) as driver:
        child = pid_of_the_child(driver)
        driver.wait_for("too late True !")
        wait_until(lambda: is_gone(child), what="the end of the child")


def test_a_timeout_asks_each_process_of_a_pipeline_once(tmp_path: Path) -> None:
    """gotcha:SP10: a second TERM tells many programs to hurry. The shell's child is asked as well, or it would wait."""
    one, other = str(tmp_path / "one"), str(tmp_path / "other")
    asked = f"trap 'echo told; exit 0' TERM; sh -c 'echo child $$ .; : >{one}; exec sleep 60'; exit 1"
    counts = f"trap 'echo counted' TERM; : >{other}; while :; do sleep 0.1; done"
    source = f"""
pipe = hp.cmd("true") | hp.sh("exec >/dev/tty; " + {asked!r}) | hp.sh({counts!r})
def run(limit):
    say("begin")
    pipe.with_options(timeout=limit, grace=0.6).run()
if too_late(run, {one!r}, {other!r}):
    say("too late", in_front(), "!")
sys.stdin.readline()
"""
    with on_a_terminal(source) as driver:
        shown = driver.wait_for("too late True !").rpartition("begin")[2].split()
        assert (shown.count("told"), shown.count("counted")) == (1, 1)
        assert is_gone(int(shown[shown.index("child") + 1]))


def test_the_terminal_is_taken_back_when_a_later_stage_does_not_start() -> None:
    """gotcha:SP10."""
    source = """
try:
    (hp.cmd("cat") | hp.cmd("/no/such/program")).with_options(timeout=60, grace=0.1).run()
except FileNotFoundError:
    say("not found", in_front(), "!")
sys.stdin.readline()
"""
    with on_a_terminal(source) as driver:
        driver.wait_for("not found True !")


@_LIMITS
def test_a_limited_pipeline_on_the_terminal_ends_with_its_caller(options: str) -> None:
    """gotcha:SP10: also the process that does nothing but lead the group."""
    with on_a_terminal(f"{_TWO}.with_options({options}).run()") as driver:
        pids = pids_of_the_two(driver)
        group = os.getpgid(pids[0])
        os.kill(driver.pid, signal.SIGKILL)
        wait_until(lambda: all(map(is_gone, [*pids, group])), what="the end of all")


def test_without_a_terminal_a_limited_run_is_no_different() -> None:
    """perlipc:O10: stdin may be anything."""
    assert hp.cmd("true", timeout=60).run()
    assert hp.cmd("true", contain=True).run()


# --- terminals that we make (pty=True) ---


# Closes its terminal and goes on working: it looks a while for the HUP that would have ended it there.
_CLOSES_ITS_TERMINAL = """
import os, signal
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])
os.write(1, b"said\\n")
for number in (0, 1, 2):
    os.close(number)
os._exit(0 if signal.sigtimedwait([signal.SIGHUP], 0.3) is None else 1)
"""


def read_by_reader(command: hp.Command[str]) -> str:
    with command.reader() as file:
        return file.read()


def read_by_duplex(command: hp.Command[str]) -> str:
    with command.duplex() as both:
        both.close_input()
        return both.read()


_READINGS: dict[str, Callable[[hp.Command[str]], str]] = {
    "read": lambda command: command.read(),
    "capture": lambda command: command.capture().stdout,
    "lines": lambda command: "".join(f"{line}\n" for line in command.lines()),
    "reader": read_by_reader,
    "duplex": read_by_duplex,
}


@pytest.mark.parametrize(
    ("verb", "options"),
    [(verb, options) for verb in _READINGS for options in ({}, {"stdin": hp.NULL}, {"input": "x\n"})][:-2],
)
def test_a_program_that_closes_its_terminal_may_go_on_working(verb: str, options: hp.Options) -> None:
    """gotcha:TTY2, gotcha:TTY3: closing our side of it would end the program by HUP."""
    command = hp.cmd(sys.executable, "-S", "-c", _CLOSES_ITS_TERMINAL, pty=True, timeout=30, **options)
    assert _READINGS[verb](command) == "said\n"


def test_whoever_leaves_a_conversation_by_an_exception_hangs_up() -> None:
    """gotcha:TTY3: a shell at its prompt ignores TERM; the end of its terminal ends it at once."""
    began = time.monotonic()
    ignoring = "trap '' TERM; echo ready; read x"
    with pytest.raises(LookupError), hp.sh(ignoring, pty=True, grace=30).duplex() as both:
        assert both.readline() == "ready\n"
        raise LookupError
    assert time.monotonic() - began < 15


# --- Ctrl-C is the program's first, and ours if it died of it ---


def test_a_program_that_handles_ctrl_c_goes_on_and_so_do_we() -> None:
    """perlipc:O10: an editor takes INT as a wish about its own work."""
    source = """
status = hp.cmd("sh", "-c", "trap 'echo caught' INT; echo ready; while :; do read line && break; done; exit 0").run()
say("went on with", status.code)
"""
    with on_a_terminal(source) as driver:
        driver.wait_for("ready")
        driver.press(CTRL_C)
        driver.wait_for("caught")
        driver.press(b"enough\n")
        driver.wait_for("went on with 0")


def test_a_program_that_dies_of_ctrl_c_takes_us_along() -> None:
    """perlipc:O10: the whole was meant."""
    source = """
try:
    hp.cmd("sh", "-c", "echo ready; exec sleep 60").run()
except KeyboardInterrupt:
    say("interrupted", signal.getsignal(signal.SIGINT) is signal.default_int_handler)
"""
    with on_a_terminal(source) as driver:
        driver.wait_for("ready")
        driver.press(CTRL_C)
        driver.wait_for("interrupted True")


def test_the_same_without_a_check() -> None:
    source = """
try:
    hp.cmd("sh", "-c", "echo ready; exec sleep 60", check=False).run()
except KeyboardInterrupt:
    say("interrupted")
"""
    with on_a_terminal(source) as driver:
        driver.wait_for("ready")
        driver.press(CTRL_C)
        driver.wait_for("interrupted")


def test_an_int_that_somebody_sends_is_for_us() -> None:
    """It did not come from the keyboard, so the program has not got it: it is ended, at once."""
    source = """
try:
    hp.cmd("sh", "-c", "trap 'exit 3' TERM; kill -INT $PPID; while :; do sleep 0.01; done").run()
except KeyboardInterrupt:
    say("interrupted")
"""
    with on_a_terminal(source) as driver:
        driver.wait_for("interrupted")


def test_whoever_has_a_handler_of_his_own_keeps_it() -> None:
    source = """
hp.SIG["INT"] = lambda sig: say("handler", sig.code)
try:
    hp.cmd("sh", "-c", "echo ready; exec sleep 60").run()
except hp.CommandFailed as error:
    say("failed by", error.status.signal)
"""
    with on_a_terminal(source) as driver:
        driver.wait_for("ready")
        driver.press(CTRL_C)
        driver.wait_for("handler KERNEL")
        driver.wait_for("failed by INT")
