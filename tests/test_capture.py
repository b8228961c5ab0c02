"""Captured commands: any volume, inputs of any kind, limits."""

from __future__ import annotations

import itertools
import sys

import pytest

import hornpipe as hp
from hornpipe.testing import stubborn

MIB = 1 << 20


@pytest.mark.usefixtures("with_and_without_pidfd")
class TestCapture:
    def test_floods_on_both_streams_are_read_at_once(self) -> None:
        """Row O7, gotcha:C1."""
        got = hp.cmd(*stubborn.floods("both", 20 * MIB, 65536), timeout=30).as_bytes().capture()
        assert (len(got.stdout), len(got.stderr)) == (20 * MIB, 20 * MIB)

    def test_twenty_mebibytes_go_in_while_they_come_out(self) -> None:
        """gotcha:C1"""
        data = b"0123456789abcdef" * (20 * MIB // 16)
        assert hp.cmd("cat", input=data, timeout=30).as_bytes().read() == data

    def test_an_endless_input_ends_with_the_child(self) -> None:
        """gotcha:C2"""
        assert hp.cmd("head", "-1", input=itertools.repeat("line\n"), timeout=10).read() == "line\n"

    def test_a_child_may_exit_without_reading_its_input(self) -> None:
        """gotcha:C2"""
        assert hp.cmd("echo", "x", input=b"y" * MIB, timeout=10).read() == "x\n"

    def test_output_after_the_exit_of_the_child_is_still_read(self) -> None:
        """gotcha:C3"""
        assert hp.sh("{ read x; echo late; } <&0 & exit 0", input="x\n", timeout=10).read() in ("late\n", "")
        assert hp.sh("(trap '' HUP; echo late) & exit 0", timeout=10).read() == "late\n"

    def test_exit_after_the_end_of_the_output_is_waited_for(self) -> None:
        """gotcha:C3"""
        assert hp.cmd("sh", "-c", "exec >&- 2>&-; exit 4", check=False).capture().status.code == 4


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


def test_a_flood_beyond_the_limit_is_dropped() -> None:
    """gotcha:C4"""
    got = hp.cmd(*stubborn.floods("both", 4 * MIB), buffer_limit=hp.Tail(1000), timeout=30).capture()
    assert (len(got.stdout), len(got.stderr), got.truncated) == (1000, 1000, True)


def test_a_callable_is_captured_like_a_program() -> None:
    """Row O7."""
    got = hp.fn(lambda: (sys.stdout.write("o"), sys.stderr.write("e"))).capture()
    assert (got.stdout, got.stderr) == ("o", "e")
