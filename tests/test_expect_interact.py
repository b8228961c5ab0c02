"""A person takes over: on real terminals, one of them tmux's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import hornpipe.expect as pexpect
from hornpipe.expect import interaction
from hornpipe.testing.patience import wait_until
from hornpipe.testing.processes import look_at

PRELUDE = """
import os, signal, sys, termios
import hornpipe.expect as pexpect
def say(*words):
    os.write(1, (" ".join(map(str, words)) + " !\\r\\n").encode())
before = termios.tcgetattr(0)
"""


def session(source: str) -> pexpect.spawn:
    """A program that lends its terminal, which is ours, to another one."""
    return pexpect.spawn(sys.executable, ["-c", PRELUDE + source], encoding="utf-8", timeout=20)


def test_a_person_talks_to_the_program_until_the_escape_character():
    """gotcha:TTY10: the terminal is as it was afterwards, and what was typed behind the escape is not sent."""
    source = """
child = pexpect.spawn("cat", echo=False)
child.sendline("seen before")
child.expect_exact("seen"); say("ready")
child.interact(input_filter=lambda data: data.replace(b"x", b"y"), output_filter=bytes.upper)
say("back", termios.tcgetattr(0) == before)
child.sendline("end")
child.expect_exact("end")
say("still", child.isalive(), b"lost" in child.before)
child.close()
"""
    with session(source) as person:
        person.expect_exact("ready !")
        person.expect_exact(" before")
        person.send("six\n")
        person.expect_exact("SIY\r\n")
        person.send("lost\x1d")
        person.expect_exact("back True !")
        person.expect_exact("still True True !")
        person.expect(pexpect.EOF)


def test_the_end_of_the_program_ends_it_and_nothing_of_its_last_words_is_lost():
    """gotcha:TTY10."""
    source = """
child = pexpect.spawn("sh", ["-c", "echo ready; read x; seq 3000; echo last words"], echo=False)
child.interact(escape_character=None)
say("back", termios.tcgetattr(0) == before, child.isalive())
"""
    with session(source) as person:
        person.expect_exact("ready")
        person.send("\n")
        person.expect_exact("3000\r\nlast words")
        assert person.before.count("\n") == 3000
        person.expect_exact("back True False !")


def test_an_exception_gives_the_terminal_back():
    """gotcha:TTY10: every way out."""
    source = """
def refuse(data): raise LookupError
child = pexpect.spawn("cat", echo=False)
say("ready")
try:
    child.interact(input_filter=refuse)
except LookupError:
    say("back", termios.tcgetattr(0) == before)
child.close()
"""
    with session(source) as person:
        person.expect_exact("ready !")
        person.send("x")
        person.expect_exact("back True !")


@pytest.mark.parametrize("program", ["cat", "yes"])
def test_the_hang_up_of_our_own_terminal_ends_it(program: str, tmp_path: Path):
    """gotcha:TTY10: pexpect spins there, and then raises."""
    report = tmp_path / "report"
    source = f"""
signal.signal(signal.SIGHUP, signal.SIG_IGN)
child = pexpect.spawn({program!r}, echo=False)
say("ready")
child.interact()
child.close()
with open({str(report)!r}, "w") as file:
    file.write(str(child.isalive()))
"""
    person = session(source)
    person.expect_exact("ready !")
    wait_until(lambda: not person.getecho(), what="raw mode")
    person.delayafterclose = 30
    person.close()
    assert (person.exitstatus, report.read_text()) == (0, "False")


def test_a_terminal_that_has_hung_up_is_no_error_when_we_go_on():
    """gotcha:TTY10: HUP is followed by CONT, upon which the terminal is made raw again."""
    master, slave = os.openpty()
    ours = interaction._OurTerminal(slave)
    os.close(master)
    ours.raw()
    os.close(slave)


def test_a_stop_from_outside_gives_the_terminal_back_for_as_long_as_it_lasts():
    """gotcha:TTY10."""
    source = """
child = pexpect.spawn("cat", echo=False)
say("ready")
child.interact()
child.close()
"""
    script = f'{sys.executable} -c "$0"; echo stopped; read x; fg; echo over'
    with pexpect.spawn("bash", ["-c", "set -m; " + script, PRELUDE + source], encoding="utf-8", timeout=20) as person:
        person.expect_exact("ready !")
        assert person.waitnoecho(20)
        inner = os.tcgetpgrp(person.child_fd)
        os.kill(inner, signal.SIGTSTP)
        person.expect_exact("stopped")
        assert (person.getecho(), look_at(inner).state) == (True, "T")
        person.sendline()
        assert person.waitnoecho(20)
        person.sendline("hello")
        person.expect_exact("hello\r\n")
        person.send("\x1d")
        person.expect_exact("over")


# --- tmux ---


class Tmux:
    def __init__(self, folder: Path) -> None:
        self.socket = folder / "tmux"

    def __call__(self, *words: str) -> str:
        done = subprocess.run(
            ["tmux", "-S", str(self.socket), "-f", "/dev/null", *words],
            capture_output=True,
            text=True,
            timeout=20,
            env={**os.environ, "TERM": "xterm", "LC_ALL": "C.UTF-8"},
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def shows(self, words: str) -> None:
        wait_until(lambda: words in self("capture-pane", "-p", "-J"), 20, what=f"{words!r} on the screen")


@pytest.fixture
def tmux(tmp_path: Path) -> Iterator[Tmux]:
    server = Tmux(tmp_path)
    yield server
    subprocess.run(["tmux", "-S", str(server.socket), "kill-server"], capture_output=True, timeout=20)


def test_in_tmux_sizes_are_passed_on_and_keys_arrive(tmux: Tmux, tmp_path: Path):
    """gotcha:TTY9, gotcha:TTY10."""
    program = tmp_path / "program.py"
    program.write_text(
        PRELUDE
        + """
child = pexpect.spawn("sh", ["-c", "trap 'stty size' WINCH; echo ready; while :; do read x; echo got $x; done"])
child.interact()
child.close()
say("back", termios.tcgetattr(0) == before)
sys.stdin.readline()
"""
    )
    tmux("new-session", "-d", "-x", "90", "-y", "20", f"{sys.executable} {program}")
    tmux.shows("ready")
    tmux("send-keys", "hello", "Enter")
    tmux.shows("got hello")
    tmux("resize-window", "-x", "100", "-y", "25")
    tmux.shows("25 100")
    tmux("send-keys", "C-]")
    tmux.shows("back True !")
