"""Reading from and writing to one running command: lines, readers, writers."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hornpipe as hp
from hornpipe.fd import Descriptor
from hornpipe.lines import BYTES, text_codec
from hornpipe.testing import stubborn


def gated(gate: str) -> None:
    print("one", flush=True)
    with open(gate) as opened:
        opened.read()
    print("two")


@pytest.fixture
def gate(tmp_path: Path) -> str:
    os.mkfifo(tmp_path / "gate")
    return str(tmp_path / "gate")


@pytest.mark.usefixtures("with_and_without_pidfd")
@pytest.mark.parametrize("mechanism", ["program", "callable", "pty"])
class TestLines:
    def command(self, mechanism: str, gate: str) -> Any:
        if mechanism == "callable":
            return hp.fn(gated, gate).with_options(timeout=10)
        return hp.sh('echo one; read x <"$GATE"; echo two', env={"GATE": gate}, pty=mechanism == "pty", timeout=10)

    def test_a_line_arrives_as_soon_as_its_newline_does(self, mechanism: str, gate: str) -> None:
        """Rows O2, gotcha:P3, gotcha:P4: the child cannot go on before we have seen its line."""
        with self.command(mechanism, gate).lines() as lines:
            assert next(lines) == "one"
            Path(gate).write_text("go\n")
            assert list(lines) == ["two"]

    def test_leaving_early_ends_the_child_without_an_error(self, mechanism: str, gate: str) -> None:
        """Row O8."""
        with self.command(mechanism, gate).lines() as lines:
            assert next(lines) == "one"
        assert lines.status is not None


def test_a_last_line_needs_no_newline_and_cr_lf_is_one_terminator() -> None:
    """gotcha:P8"""
    assert list(hp.cmd("printf", "a\\r\\nb\\n\\nc").lines()) == ["a", "b", "", "c"]


@pytest.mark.parametrize(("head", "tail", "whole"), [("a\\r", "\\nb", ["a", "b"]), ("\\303", "\\251\\n", ["é"])])
def test_a_terminator_or_character_may_be_split_between_two_reads(
    head: str, tail: str, whole: list[str], gate: str
) -> None:
    """gotcha:P8"""
    script = f"printf 'x\\n{head}'; read x <\"$GATE\"; printf '{tail}'"
    with hp.sh(script, env={"GATE": gate}, timeout=10).lines() as lines:
        assert next(lines) == "x"
        Path(gate).write_text("go\n")
        assert list(lines) == whole


def test_undecodable_bytes_come_back_as_they_were() -> None:
    """gotcha:P8"""
    data = bytes(range(256))
    text = hp.cmd("cat", input=data).read()
    assert hp.cmd("cat", input=text).as_bytes().read() == data


@pytest.mark.parametrize("verb", ["lines", "reader"])
def test_a_line_of_exactly_the_limit_passes_and_one_byte_more_does_not(verb: str) -> None:
    """gotcha:C4"""
    assert [line.rstrip("\n") for line in getattr(hp.cmd("echo", "x" * 10, line_limit=10), verb)()] == ["x" * 10]
    with pytest.raises(hp.LimitExceeded), getattr(hp.cmd("echo", "x" * 11, line_limit=10), verb)() as lines:
        list(lines)


def test_the_line_limit_holds_after_a_read_as_well() -> None:
    """gotcha:C4"""
    with pytest.raises(hp.LimitExceeded), hp.cmd("echo", "x" * 100, line_limit=10).reader() as file:
        file.read(1)
        file.readline()


def test_a_writer_whose_reader_has_gone_says_how_and_how_much() -> None:
    """Row O5, gotcha:P1, gotcha:P6."""
    with pytest.raises(BrokenPipeError) as caught, hp.sh("exit 3").writer() as file:
        for _ in range(1000):
            file.write("x" * 4096)
    assert caught.value.status.code == 3
    assert 0 <= caught.value.taken < 4096000


def test_a_writer_into_a_shell_pipeline_checks_the_status(tmp_path: Path) -> None:
    """Row O1."""
    with hp.sh("cat -v | sort", stdout=tmp_path / "out").writer() as file:
        file.write("b\na\n")
    assert (tmp_path / "out").read_text() == "a\nb\n"
    with pytest.raises(hp.CommandFailed), hp.sh("cat >/dev/null; exit 2").writer() as file:
        file.write("x")


def test_children_have_the_default_sigpipe() -> None:
    """gotcha:P2"""
    assert hp.sh("kill -PIPE $$", check=False).run().signal == 13


def test_our_inherited_stdin_stays_blocking() -> None:
    """gotcha:P5"""
    reader, writer = os.pipe()
    try:
        assert hp.cmd("true", stdin=reader).read() == ""
        assert os.get_blocking(reader)
    finally:
        os.close(reader)
        os.close(writer)


def test_descriptors_beyond_1024_are_no_obstacle() -> None:
    """gotcha:P7"""
    held = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    try:
        assert list(hp.cmd("seq", "2").lines()) == ["1", "2"]
        assert hp.cmd("cat", input="x").capture().stdout == "x"
    finally:
        for fd in held:
            os.close(fd)


# What a stream may be made of: line ends of every kind, and characters, whole, in halves, and such as are none.
ATOMS = [b"a", b"bc", b"\r", b"\n", b"\r\n", b"\n\r", b"\0", b"\xc3\xa9", b"\xc3", b"\xa9", b"\xf0\x9f", b"\x98\x80"]
ATOMS += [b"\xff", b"\xfe", b"\xef\xbb\xbf", b"\x81\x5c", b"\xed\xa0\x80"]
PACKETS = st.lists(st.lists(st.sampled_from(ATOMS), min_size=1, max_size=6).map(b"".join), max_size=12)
CODECS = [
    ("utf-8", "surrogateescape"),
    ("utf-8", "replace"),
    ("utf-8", "backslashreplace"),
    ("utf-8-sig", "replace"),
    ("latin-1", "strict"),
    ("ascii", "surrogateescape"),
    ("shift_jis", "replace"),
    ("gb18030", "ignore"),
    ("cp037", "strict"),
    ("utf-16-le", "replace"),
    ("utf-32-be", "replace"),
    None,
]
CALLS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["read", "readline"]), st.integers(0, 7)),
        st.tuples(st.just("readlines"), st.integers(-1, 9)),
        st.tuples(st.sampled_from(["readline", "readlines"]), st.sampled_from([-1, None])),
        st.tuples(st.sampled_from(["next", "read_some"]), st.none()),
    ),
    max_size=12,
)


def oracle_of(data: bytes, codec: tuple[str, str] | None) -> Any:
    """The standard library's file over the same bytes; line ends as they are, as with ours."""
    raw = io.BufferedReader(io.BytesIO(data))  # type: ignore[arg-type]
    return raw if codec is None else io.TextIOWrapper(raw, *codec, newline="\n")


def assert_reads_alike(ours: Any, oracle: Any, calls: list[tuple[str, int | None]]) -> None:
    for name, size in [*calls, ("read", -1), ("read", 1), ("readline", -1), ("read", None)]:
        if name == "next":
            assert next(ours, None) == next(oracle, None)
        elif name == "read_some":  # as much as is there; never nothing before the end
            some = ours.read_some()
            assert some == oracle.read(len(some) or 1)
        else:
            # None is "all of it" everywhere in io but in TextIOWrapper.readline.
            assert getattr(ours, name)(size) == getattr(oracle, name)(-1 if size is None else size), (name, size)


@pytest.mark.parametrize("codec", CODECS, ids=lambda codec: "-".join(codec) if codec else "bytes")
@settings(max_examples=150, deadline=None, database=None)
@given(PACKETS, CALLS)
def test_a_handle_reads_as_the_standard_library_does(
    codec: tuple[str, str] | None, packets: list[bytes], calls: list[tuple[str, int | None]]
) -> None:
    """Row O2, gotcha:P8; the oracle is io.TextIOWrapper (or io.BufferedReader).

    The pipe is in packet mode (pipe(2), O_DIRECT), so each packet comes by a read(2) of its own, and where they are
    cut is where characters and line ends are split.
    """
    reader, writer = map(Descriptor, os.pipe2(os.O_CLOEXEC | os.O_DIRECT))
    with writer:
        for packet in packets:
            os.write(writer.fileno(), packet)
    with hp.Handle(reader, None, text_codec(*codec) if codec else BYTES) as handle:
        assert_reads_alike(handle, oracle_of(b"".join(packets), codec), calls)


@settings(max_examples=60, deadline=None, database=None)
@given(PACKETS, CALLS, st.sampled_from(CODECS))
def test_a_reader_of_a_command_reads_as_the_standard_library_does(
    packets: list[bytes], calls: list[tuple[str, int | None]], codec: tuple[str, str] | None
) -> None:
    """Row O2, gotcha:P8."""
    data = b"".join(packets)
    cat: Any = hp.cmd("cat", input=data)
    with (cat.as_text(*codec) if codec else cat.as_bytes()).reader() as file:
        assert_reads_alike(file, oracle_of(data, codec), calls)


def test_a_character_cut_off_at_the_end_is_not_lost_between_calls() -> None:
    """gotcha:P8"""
    with hp.cmd("printf", "a\\360\\237\\230").reader() as file:
        assert file.read(2) == "a\udcf0"
        assert file.readline() == "\udc9f\udc98"


def test_a_partial_line_does_not_block_a_reader_of_characters() -> None:
    """gotcha:P4"""
    with hp.cmd(*stubborn.partial_line("Password: "), timeout=10).reader() as file:
        assert file.read(9) == "Password:"


def test_a_callable_writes_what_sys_stdout_is_there() -> None:
    """Row O7."""
    assert hp.fn(lambda: sys.stdout.write("x")).read() == "x"
