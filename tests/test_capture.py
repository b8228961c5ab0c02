"""Captured commands: any volume, inputs of any kind, limits."""

from __future__ import annotations

import itertools
import os
import signal
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import hornpipe as hp
from hornpipe._native.buffers import ByteSink
from hornpipe.fd import pipe
from hornpipe.testing import stubborn
from hornpipe.testing.stubborn import wait_gone

MIB = 1 << 20

VERBS: dict[str, Callable[[Any], str]] = {
    "read": lambda command: command.read(),
    "capture": lambda command: command.capture().stdout,
    "lines": lambda command: "".join(f"{line}\n" for line in command.lines()),
    "reader": lambda command: "".join(read_all(command)),
    "events": lambda command: "".join(data for stream, data in take_events(command) if stream == "stdout"),
}
every_verb = pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS.keys())


def read_all(command: Any) -> list[str]:
    with command.reader() as file:
        return file.readlines()


def take_events(command: Any) -> list[tuple[str, str]]:
    with command.duplex(stderr=True) as both:
        return list(both.events())


class Gate:
    """Two FIFOs: by one a process tells us that it has come so far, through the other we let it go on."""

    def __init__(self, directory: Path) -> None:
        self.told, self.gate = str(directory / "told"), str(directory / "gate")
        os.mkfifo(self.told)
        os.mkfifo(self.gate)

    def opened_by(self, function: Callable[[], object]) -> hp.Function[None, str]:
        """A process that opens the gate when it has been told something; for use beside a verb that blocks us."""

        def open_it() -> None:
            function()
            Path(self.gate).write_text("go\n")

        return hp.fn(open_it).with_options(timeout=20)


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path)


# What the callables do. Each is the twin of a program below.


def flood(size: int) -> None:
    for _ in range(size // 65536):
        os.write(1, b"x" * 65536)
        os.write(2, b"x" * 65536)


def copy() -> None:
    while data := os.read(0, 65536):
        os.write(1, data)


def say_first_line() -> None:
    sys.stdout.write(sys.stdin.readline())


def say_late(gate: Gate) -> None:
    ours, theirs = os.pipe()
    if os.fork() == 0:
        os.close(ours)
        os.close(theirs)
        Path(gate.gate).read_text()
        os.write(1, b"late\n")
        os._exit(0)
    Path(gate.told).write_text(f"{os.getpid()}\n")


def end_late(gate: Gate) -> None:
    for number in (0, 1, 2):
        os.close(number)
    Path(gate.told).write_text("closed\n")
    Path(gate.gate).read_text()
    os._exit(4)


SAY_LATE = '{ read go <"$GATE"; echo late; } & echo $$ >"$TOLD"'
END_LATE = 'exec <&- >&- 2>&-; echo closed >"$TOLD"; read go <"$GATE"; exit 4'


@pytest.mark.usefixtures("with_and_without_pidfd")
@pytest.mark.parametrize("mechanism", ["program", "callable", "pty"])
class TestCapture:
    def options(self, mechanism: str, **options: Any) -> dict[str, Any]:
        return {"timeout": 30, "pty": mechanism == "pty", **options}

    def command(self, mechanism: str, argv: list[str], function: Callable[[], object], **options: Any) -> Any:
        if mechanism == "callable":
            return hp.fn(function).with_options(**self.options(mechanism, **options))
        return hp.cmd(*argv, **self.options(mechanism, **options))

    def test_floods_on_both_streams_are_read_at_once(self, mechanism: str) -> None:
        """perlipc:O7, gotcha:C1: a terminal is one stream for both."""
        size = 4 * MIB if mechanism == "pty" else 20 * MIB
        command = self.command(mechanism, stubborn.floods("both", size, 65536), lambda: flood(size))
        got = command.as_bytes().capture()
        expected = (2 * size, 0) if mechanism == "pty" else (size, size)
        assert (len(got.stdout), len(got.stderr)) == expected

    def test_mebibytes_go_in_while_they_come_out(self, mechanism: str) -> None:
        """gotcha:C1"""
        data = b"0123456789abcde\n" * ((2 * MIB if mechanism == "pty" else 20 * MIB) // 16)
        assert self.command(mechanism, ["cat"], copy, input=data).as_bytes().read() == data

    def test_an_endless_input_ends_with_the_child(self, mechanism: str) -> None:
        """gotcha:C2"""
        endless = itertools.repeat("line\n")
        assert self.command(mechanism, ["head", "-1"], say_first_line, input=endless).read() == "line\n"

    def test_a_child_may_exit_without_reading_its_input(self, mechanism: str) -> None:
        """gotcha:C2"""
        data = b"yyyyyyyyyyyyyyy\n" * (MIB // 16)
        assert self.command(mechanism, ["echo", "x"], lambda: print("x"), input=data).read() == "x\n"

    @every_verb
    def test_exit_after_the_end_of_the_output_is_waited_for(
        self, mechanism: str, verb: Callable[[Any], str], gate: Gate
    ) -> None:
        """gotcha:C3: the output has ended before the child is allowed to."""
        command = self.command(
            mechanism,
            ["sh", "-c", END_LATE],
            lambda: end_late(gate),
            env={"TOLD": gate.told, "GATE": gate.gate},
        )
        opener = gate.opened_by(lambda: Path(gate.told).read_text())
        with opener.start(), pytest.raises(hp.CommandFailed) as caught:
            verb(command)
        assert caught.value.status.code == 4


@pytest.mark.usefixtures("with_and_without_pidfd")
@pytest.mark.parametrize("limit", [{}, {"timeout": 20}], ids=["for ever", "with a limit"])
# Not on a terminal: that is hung up when the child ends, and nobody can write to it any more.
@pytest.mark.parametrize("mechanism", ["program", "callable"])
@every_verb
def test_output_after_the_exit_of_the_child_is_still_read(
    verb: Callable[[Any], str], mechanism: str, limit: dict[str, Any], gate: Gate
) -> None:
    """gotcha:C3, gotcha:T1: what a grandchild writes is waited for, as the shell would wait, with a limit or without.

    1. The child starts the grandchild, tells its number and ends.  2. Only when it has ended the gate is opened.
    3. The grandchild writes.
    """
    environment = {"TOLD": gate.told, "GATE": gate.gate}
    command: Any = hp.sh(SAY_LATE, env=environment) if mechanism == "program" else hp.fn(say_late, gate)

    def wait_for_the_end() -> None:
        child = int(Path(gate.told).read_text())
        assert wait_gone([child]) == []

    with gate.opened_by(wait_for_the_end).start():
        assert verb(command.with_options(**limit)) == "late\n"


@pytest.mark.usefixtures("with_and_without_pidfd")
def test_feeding_ends_with_the_child_although_a_grandchild_holds_the_pipe() -> None:
    """gotcha:C2: nobody will read the rest."""
    endless = itertools.repeat("line\n")
    pid = int(hp.sh("exec 3<&0; sleep 60 <&3 >/dev/null 2>&1 & echo $!", input=endless, timeout=20).read())
    assert hp.alive(pid)
    os.kill(pid, signal.SIGKILL)
    assert wait_gone([pid]) == []


@pytest.mark.parametrize("name", ["read", "capture", "lines", "reader"])
def test_a_program_that_closes_its_terminal_before_it_exits_is_not_killed_by_the_hang_up(name: str) -> None:
    """gotcha:TTY2: sort and its kin close their streams first; we see the end then, and must not let go yet.

    Otherwise three of four are killed by HUP.
    """
    for _ in range(20):
        assert VERBS[name](hp.cmd("sort", input="b\na\n", pty=True, timeout=20)) == "a\nb\n"


def test_a_time_out_says_whether_the_exit_or_the_end_of_the_output_was_missing() -> None:
    """gotcha:C3"""

    def said(verb: Callable[[Any], str], script: str) -> str:
        with pytest.raises(hp.CommandTimeout) as caught:
            verb(hp.sh(script, timeout=1))
        return str(caught.value)

    verbs = [VERBS[name] for name in ("read", "capture", "lines", "reader")]
    # Side by side, since all that takes time is the time-outs.
    with ThreadPoolExecutor(2 * len(verbs)) as pool:
        no_exit = pool.map(said, verbs, itertools.repeat("exec >&- 2>&-; exec sleep 60"))
        no_end = pool.map(said, verbs, itertools.repeat("sleep 60 & exit 0"))
    for words in no_exit:
        assert "was killed by TERM" in words
        assert "held open" not in words
    for words in no_end:
        assert "exited successfully, but its output is still held open" in words


def talk_much() -> None:
    if os.fork() == 0:
        os.write(1, b"x" * MIB)  # whole, since nothing interrupts it
        os._exit(0)
    os.write(2, b"e" * MIB)
    left = MIB
    while left:
        left -= len(os.read(0, 65536))
    os.wait()


TALK_MUCH = f"""
head -c {MIB} /dev/zero | tr '\\0' x &
head -c {MIB} /dev/zero | tr '\\0' e >&2
test "$(head -c {MIB} | wc -c)" = {MIB} && wait
"""


@pytest.mark.usefixtures("with_and_without_pidfd")
@pytest.mark.parametrize("mechanism", ["program", "callable"])
def test_two_started_children_that_talk_to_each_other_need_nobody_to_drain_them(
    mechanism: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """gotcha:C4: start captures nothing, so both get through a mebibyte each way, and one of stderr, unwatched."""
    command: Any = hp.sh(TALK_MUCH) if mechanism == "program" else hp.fn(talk_much)
    (to_left, from_right), (to_right, from_left) = pipe(), pipe()
    with to_left, from_right, to_right, from_left:
        left = command.with_options(stdin=to_left.fileno(), stdout=from_left.fileno()).start()
        right = command.with_options(stdin=to_right.fileno(), stdout=from_right.fileno()).start()
    try:
        assert wait_gone([left.pid, right.pid], timeout=20) == []  # and nobody has waited for them until here
        assert (left.wait(0).code, right.wait(0).code) == (0, 0)
    finally:
        left.terminate()
        right.terminate()
    assert capfd.readouterr().err.count("e") == 2 * MIB


@pytest.mark.parametrize("verb", ["read", "capture", "lines", "reader"])
def test_captured_commands_start_with_an_empty_stdin(verb: str) -> None:
    """gotcha:C4"""
    made = getattr(hp.cmd("cat"), verb)()
    assert (made if verb == "read" else made.stdout if verb == "capture" else "".join(made)) == ""
    if verb == "reader":
        made.close()


def test_the_head_or_the_tail_is_kept_within_the_limit() -> None:
    """gotcha:C4"""
    for limit, kept in ((4, "1\n2\n"), (hp.Head(4), "1\n2\n"), (hp.Tail(4), "8\n9\n")):
        got = hp.cmd("seq", "9", buffer_limit=limit).capture()
        assert (got.stdout, got.truncated) == (kept, True)
    assert not hp.cmd("seq", "2", buffer_limit=4).capture().truncated
    with pytest.raises(hp.LimitExceeded):
        hp.cmd("seq", "9", buffer_limit=4).read()


_ENDLESS: list[hp.Command[str] | hp.Pipeline[str]] = [
    hp.cmd("yes", buffer_limit=3),
    hp.cmd("true") | hp.cmd("yes", buffer_limit=3),
    hp.fn(lambda: print("y\n" * MIB)).with_options(buffer_limit=3),
]


@pytest.mark.parametrize("command", _ENDLESS)
def test_an_endless_output_is_not_waited_for(command: hp.Command[str] | hp.Pipeline[str]) -> None:
    """gotcha:C4: what was asked for cannot be had any more once the limit is exceeded."""
    with pytest.raises(hp.LimitExceeded, match="more than buffer_limit=3") as caught:
        command.read()
    assert (caught.value.data, caught.value.limit) == ("y\ny", 3)


def test_a_flood_beyond_the_limit_is_dropped() -> None:
    """gotcha:C4"""
    got = hp.cmd(*stubborn.floods("both", 4 * MIB), buffer_limit=hp.Tail(1000), timeout=30).capture()
    assert (len(got.stdout), len(got.stderr), got.truncated) == (1000, 1000, True)


def test_a_callable_is_captured_like_a_program() -> None:
    """perlipc:O7."""
    got = hp.fn(lambda: (sys.stdout.write("o"), sys.stderr.write("e"))).capture()
    assert (got.stdout, got.stderr) == ("o", "e")


def test_a_first_byte_that_comes_alone_is_the_first_of_many() -> None:
    """Bytes of one are shared by everybody, and must not grow."""
    sink = ByteSink()
    reader, writer = pipe()
    with reader, writer:
        for data in (b"x", b"yz", b"0" * 5000):
            os.write(writer.fileno(), data)
            assert sink.fill(reader.fileno(), 65536) == len(data)
    assert sink.finish() == b"xyz" + b"0" * 5000
