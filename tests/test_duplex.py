"""Conversations with a command."""

from __future__ import annotations

import sys
from typing import Any

import pytest

import hornpipe as hp
from hornpipe.testing import stubborn

MIB = 1 << 20
OPEN3 = """use IPC::Open3; $pid = open3(my $in, my $out, undef, 'cat'); print $in "x\\n"; close $in;
print <$out>; waitpid $pid, 0; exit $? >> 8"""


def echo() -> None:
    for line in sys.stdin:
        print(line, end="", flush=True)


@pytest.mark.usefixtures("with_and_without_pidfd")
@pytest.mark.parametrize("mechanism", ["program", "callable", "pty"])
class TestConversation:
    def command(self, mechanism: str) -> Any:
        if mechanism == "callable":
            return hp.fn(echo).with_options(timeout=10)
        return hp.cmd(*stubborn.echo_lines(), pty=mechanism == "pty", timeout=10)

    def test_each_question_has_its_answer(self, mechanism: str) -> None:
        """Rows B1 and B5, gotcha:P9."""
        with self.command(mechanism).duplex() as talk:
            assert [talk.ask(word) for word in ("one", "two")] == ["one", "two"]

    def test_a_closed_input_lets_the_rest_be_read(self, mechanism: str) -> None:
        """Row B1, gotcha:P9."""
        with self.command(mechanism).duplex() as talk:
            talk.send("a\nb\n")
            talk.close_input()
            assert talk.read() == "a\nb\n"


def test_bc_calculates() -> None:
    """Rows B1 and O14."""
    with hp.cmd("bc", timeout=10).duplex() as bc:
        assert (bc.ask("6*7"), bc.ask("2^10")) == ("42", "1024")


def test_sort_answers_at_the_end_of_its_input() -> None:
    """gotcha:P9"""
    with hp.cmd("sort", timeout=10).duplex() as sort:
        sort.send("b\na\n")
        sort.close_input()
        assert sort.readlines() == ["a\n", "b\n"]


def test_ask_says_what_was_read_in_time_and_the_conversation_goes_on() -> None:
    """Row B2, gotcha:P4."""
    script = "read a; printf part; read b; echo ial; read c; echo again"
    with hp.sh(script, timeout=10).duplex() as talk:
        with pytest.raises(TimeoutError, match="part"):
            talk.ask("a", timeout=0.5)
        assert (talk.ask("b"), talk.ask("c")) == ("partial", "again")


def test_no_answer_comes_with_the_status() -> None:
    """gotcha:P1"""
    with hp.sh("read a; printf half; exit 3", check=False).duplex() as talk:
        with pytest.raises(hp.NoAnswer) as caught:
            talk.ask("a")
        assert caught.value.status is not None
        assert (caught.value.read, caught.value.status.code) == ("half", 3)


@pytest.mark.parametrize("pty", [False, True], ids=["pipe", "terminal"])
def test_sending_to_a_program_that_has_gone_is_a_broken_pipe_with_its_status(pty: bool) -> None:
    """gotcha:P1, gotcha:TTY1: a terminal takes no more then, and gives no error by itself."""
    with pytest.raises(BrokenPipeError) as caught, hp.sh("exit 3", pty=pty, timeout=10).duplex() as talk:
        for _ in range(1000):
            talk.send("never read\n" * 100)
    assert caught.value.status.code == 3
    assert 0 <= caught.value.taken < 1_100_000


def test_events_come_from_both_streams() -> None:
    """Row B2."""
    with hp.sh("echo o; echo e >&2", timeout=10).duplex(stderr=True) as talk:
        assert sorted(talk.events()) == [("stderr", "e\n"), ("stdout", "o\n")]


def test_twenty_mebibytes_go_both_ways_at_once() -> None:
    """gotcha:P9"""
    data = b"0123456789abcdef" * (20 * MIB // 16)
    with hp.cmd("cat", timeout=30).as_bytes().duplex() as cat:
        cat.send(data)
        cat.close_input()
        assert cat.read() == data


def test_unread_output_beyond_the_limit_is_refused() -> None:
    """gotcha:C4"""
    with pytest.raises(hp.LimitExceeded, match="buffer_limit"), hp.cmd("cat", buffer_limit=MIB).duplex() as cat:
        cat.send("x" * (8 * MIB))


def test_what_was_read_ahead_is_not_lost_to_ask() -> None:
    """gotcha:P4"""
    with hp.sh("printf 'ab\\n'; read x; echo later", timeout=10).duplex() as talk:
        assert talk.read(1) == "a"
        assert talk.ask("x") == "b"


def test_what_was_read_ahead_is_not_lost_to_events() -> None:
    """gotcha:P4"""
    with hp.cmd("echo", "ab", timeout=10).duplex() as talk:
        assert talk.read(1) == "a"
        assert "".join(data for _, data in talk.events()) == "b\n"


def test_a_perl_program_answers_line_by_line() -> None:
    """Row B1, gotcha:P3."""
    with hp.cmd("perl", "-ne", "$|=1; print uc", timeout=10).duplex() as perl:
        assert perl.ask("abc") == "ABC"


def test_perls_open3_works_inside_a_child_of_ours() -> None:
    """Row B2."""
    assert hp.cmd("perl", "-e", OPEN3, timeout=10).read() == "x\n"
