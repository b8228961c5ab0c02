"""``hp.inputs``: Perl's ``<>``, line for line where Perl is harmless, and harmless where it is not."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import hornpipe as hp

OURS = """
import sys, hornpipe as hp
lines = hp.inputs().as_bytes()
for line in lines:
    sys.stdout.buffer.write(b"%s:%d:%d:%s" % (lines.filename.encode(), lines.lineno, lines.total, line))
"""
# $. goes on over the files unless ARGV is closed, so the number within the file is counted by hand.
PERL = r"""
while (my $line = <>) {
    $n = 0, $name = $ARGV if $name ne $ARGV;
    $n++;
    print "$ARGV:$n:$.:$line";
}
"""


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def write(name, data):
    with open(name, "wb") as file:
        file.write(data)
    return name


def both(*arguments, stdin=b""):
    ran = [
        subprocess.run([*program, *arguments], input=stdin, capture_output=True, timeout=50, check=True)
        for program in ([sys.executable, "-c", OURS], ["perl", "-e", PERL, "--"])
    ]
    return [each.stdout for each in ran]


FILES = {
    "plain": b"a\nb\n",
    "empty": b"",
    "no newline": b"one\ntwo",
    "bytes": b"\xff\xfe\x00\n\x80",
    "crlf": b"one\r\ntwo\r\n",
    "long": b"x" * 300_000 + b"\nend\n",
    "blank lines": b"\n\n\n",
}


@pytest.mark.parametrize("name", FILES)
def test_perl_sees_the_same_lines(name):
    """perlipc:O6"""
    ours, perls = both(write(name, FILES[name]), write("last", b"end\n"))
    assert ours == perls
    assert ours.endswith(b":end\n")


def test_perl_sees_the_same_in_many_files_and_stdin():
    """perlipc:O6"""
    names = [write(f"f{n}", b"%d\n" % n * n) for n in range(1, 20)]
    ours, perls = both(*names[:9], "-", *names[9:], stdin=b"from stdin\n")
    assert ours == perls
    assert b"-:1:46:from stdin\n" in ours


def test_without_names_it_is_stdin():
    """perlipc:O6"""
    ours, perls = both(stdin=b"a\nb")
    assert ours == perls == b"-:1:1:a\n-:2:2:b"


def test_a_file_that_is_missing_is_reported_and_the_rest_is_read(capfd):
    """perlipc:O6"""
    write("there", b"line\n")
    os.mkdir("folder")
    lines = hp.inputs(["missing", "there", "folder", "there"])
    open_before = os.listdir("/proc/self/fd")
    assert list(lines) == ["line\n", "line\n"]
    assert os.listdir("/proc/self/fd") == open_before  # although the errors are kept, with all that they know
    assert capfd.readouterr().err.splitlines() == ["missing: No such file or directory", "folder: Is a directory"]
    assert [type(error) for error in lines.failed] == [FileNotFoundError, IsADirectoryError]
    perl = subprocess.run(
        ["perl", "-ne", "print", "missing", "there", "there"], capture_output=True, text=True, timeout=20
    )
    assert perl.stdout == "line\nline\n"
    assert "missing" in perl.stderr


# Each of these makes Perl's <> do something else than read the file of that name.
TRICKY = [
    "> file",
    ">file",
    "< file",
    " leading",
    "trailing ",
    "|x",
    "x|",
    "| x |",
    "+<x",
    "-x",
    "--",
    "=x",
    "$(x)",
    "a\nb",
]


@pytest.mark.parametrize("name", TRICKY)
def test_a_name_is_nothing_but_a_name(name):
    """perlipc:O6, gotcha:PR4"""
    write(name, b"inside\n")
    before = sorted(os.listdir())
    lines = hp.inputs([name])
    assert [(lines.filename, line) for line in lines] == [(name, "inside\n")]
    assert sorted(os.listdir()) == before


def test_perl_would_have_destroyed_one(tmp_path):
    """perlipc:O6, gotcha:PR4: the reason, seen in this Perl."""
    write("file", b"precious\n")
    subprocess.run(["perl", "-ne", "print", "> file"], capture_output=True, timeout=20)
    assert (tmp_path / "file").read_bytes() == b""
    write("file", b"precious\n")
    assert list(hp.inputs(["> file"])) == []
    assert (tmp_path / "file").read_bytes() == b"precious\n"


def test_no_command_runs_unless_asked_for(capfd):
    """perlipc:O6, gotcha:PR4"""
    lines = hp.inputs(["touch made|", "|touch made", "touch made |"])
    assert list(lines) == []
    assert len(lines.failed) == 3
    assert os.listdir() == []
    capfd.readouterr()


def test_with_commands_a_line_for_the_shell_is_read_as_perl_reads_it():
    """perlipc:O6"""
    names = ["printf 'a\\nb\\n'|", "echo c | tr c d|", write("plain", b"e\n")]
    perl = subprocess.run(["perl", "-ne", "print", *names], capture_output=True, text=True, timeout=20, check=True)
    assert "".join(hp.inputs(names, commands=True)) == perl.stdout == "a\nb\nd\ne\n"


def test_a_command_that_fails_is_reported_and_the_rest_is_read(capfd):
    """perlipc:O3"""
    lines = hp.inputs(["echo a; exit 3|", "echo b|"], commands=True)
    assert list(lines) == ["a\n", "b\n"]
    assert [error.status.code for error in lines.failed] == [3]
    assert "echo a; exit 3|: " in capfd.readouterr().err


def test_a_command_whose_name_begins_with_a_pipe_is_a_name(capfd):
    """perlipc:O6: Perl would have it write to the command."""
    lines = hp.inputs(["|touch made"], commands=True)
    assert list(lines) == []
    assert os.listdir() == []
    assert isinstance(lines.failed[0], FileNotFoundError)
    capfd.readouterr()


def test_skip_goes_on_with_the_next_file_as_close_argv_does():
    """perlipc:O6"""
    names = [write("a", b"1\n2\n3\n"), write("b", b"4\n5\n")]
    lines = hp.inputs(names)
    got = []
    for line in lines:
        got.append((lines.filename, lines.lineno, lines.total, line))
        if lines.lineno == 1 and lines.filename == "a":
            lines.skip()
    assert got == [("a", 1, 1, "1\n"), ("b", 1, 2, "4\n"), ("b", 2, 3, "5\n")]
    perl = subprocess.run(
        ["perl", "-ne", "print; close ARGV if $ARGV eq 'a'", *names], capture_output=True, text=True, timeout=20
    )
    assert perl.stdout == "1\n4\n5\n"


def test_skip_ends_a_command_without_a_complaint(capfd):
    """perlipc:O8"""
    lines = hp.inputs(["yes|", "echo end|"], commands=True)
    assert next(lines) == "y\n"
    lines.skip()
    assert list(lines) == ["end\n"]
    assert lines.failed == []
    assert capfd.readouterr().err == ""


def test_leaving_the_block_ends_what_runs():
    """perlipc:O8"""
    with hp.inputs(["yes|", "never read"], commands=True) as lines:
        assert next(lines) == "y\n"
    assert list(lines) == []


def test_text_that_is_none_is_not_lost():
    raw = b"caf\xe9 \xf0\x9f\x8e\xba\n"
    (line,) = hp.inputs([write("latin", raw)])
    assert line.encode("utf-8", "surrogateescape") == raw
    assert list(hp.inputs(["latin"]).as_bytes()) == [raw]


def test_bytes_come_from_commands_too():
    lines = hp.inputs([r"printf '\377\n'|"], commands=True).as_bytes()
    assert list(lines) == [b"\xff\n"]


def test_paths_may_be_given(tmp_path):
    write("a", b"1\n")
    lines = hp.inputs([tmp_path / "a"])
    assert [(lines.filename, line) for line in lines] == [(str(tmp_path / "a"), "1\n")]


def test_a_name_alone_is_refused_and_the_remedy_named():
    with pytest.raises(TypeError, match=r"inputs\(\['file'\]\)"):
        hp.inputs("file")


def test_names_may_be_few_or_many_and_are_opened_one_at_a_time():
    """Ten thousand names need one descriptor."""
    write("a", b"1\n")
    lines = hp.inputs(["a"] * 10_000)
    assert sum(1 for _ in lines) == 10_000
    assert lines.total == 10_000


def test_the_file_is_not_standard_input_where_that_is_closed():
    """gotcha:SP7: a program that is started meanwhile would read our file."""
    write("a", b"1\n2\n")
    program = """
import os, subprocess, hornpipe as hp
for line in hp.inputs(["a"]):
    try:
        print(os.readlink("/proc/self/fd/0"))
    except FileNotFoundError:
        print("closed")
"""
    seen = subprocess.run(
        ["sh", "-c", 'exec <&-; exec "$@"', "sh", sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        text=True,
        timeout=20,
    )
    assert seen.stdout == "closed\nclosed\n"
