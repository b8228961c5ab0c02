"""What a command is before it runs: a description that does not change and refuses what cannot be meant."""

from __future__ import annotations

import pathlib
from pathlib import Path
from typing import Any

import pytest

import hornpipe as hp


def evaluated(text: str) -> Any:
    return eval(text, {**vars(hp), **vars(pathlib)})


@pytest.mark.parametrize(
    "command",
    [
        hp.cmd("echo"),
        hp.cmd("echo", "a b", "it's", '"', "\n", "\udcff", b"\xff"),
        hp.cmd(Path("/bin/echo"), cwd=Path("/tmp"), env={"A": "1", "B": None}, timeout=1.5, ok_codes=(0, 1)),
        hp.cmd("cat", stdin=hp.NULL, stdout=hp.CLOSED, stderr=hp.STDOUT),
        hp.cmd("cat", input="x", limits={"NOFILE": (1, 2)}, pass_fds=(5, 3), umask=0o22),
        hp.cmd("cat", buffer_limit=hp.Tail(5)),
        hp.cmd("cat", user="nobody", groups=("a", 3), contain=True, check=False).as_bytes(),
        hp.cmd("cat").as_text("latin-1", "strict"),
        hp.sh("echo 'x' | cat", timeout=3),
        hp.sh("true").as_bytes(),
        hp.cmd("a", "b") | hp.cmd("c"),
        (hp.cmd("a") | hp.cmd("b", env={"X": "1"}) | hp.sh("c")).with_options(timeout=2),
        (hp.cmd("a") | hp.cmd("b")).with_options(check=False).as_bytes(),
        (hp.cmd("a") | hp.cmd("b")).as_text("latin-1"),
    ],
    ids=str,
)
def test_what_a_command_shows_evaluates_to_its_equal(command: Any) -> None:
    again = evaluated(repr(command))
    assert again == command
    assert hash(again) == hash(command)
    assert repr(again) == repr(command)
    assert str(again) == str(command)


def test_a_command_does_not_change() -> None:
    command = hp.cmd("echo", "x", env={"A": "1"})
    for name in ("argv", "_options", "anything"):
        with pytest.raises(AttributeError, match="does not change"):
            setattr(command, name, ())
    with pytest.raises(AttributeError, match="does not change"):
        del command.argv
    assert isinstance(command.argv, tuple)


@pytest.mark.parametrize(
    ("name", "value", "change"),
    [
        ("env", {"A": "1"}, lambda value: value.update(B="2")),
        ("ok_codes", [0], lambda value: value.append(7)),
        ("pass_fds", [3], lambda value: value.append(4)),
        ("limits", {"CORE": 0}, lambda value: value.update(NOFILE=3)),
        ("groups", ["a"], lambda value: value.append("b")),
    ],
)
def test_a_command_does_not_change_with_what_it_was_made_of(name: str, value: Any, change: Any) -> None:
    command = hp.cmd("true", **{name: value})
    before = repr(command)
    change(value)
    assert repr(command) == before


def test_other_options_make_another_command() -> None:
    first = hp.cmd("echo", "x", env={"A": "1", "B": "2"}, timeout=5)
    second = first.with_options(env={"B": None, "C": "3"}, timeout=None, check=False)
    assert repr(first) == "cmd('echo', 'x', env={'A': '1', 'B': '2'}, timeout=5)"
    assert repr(second) == "cmd('echo', 'x', env={'A': '1', 'B': None, 'C': '3'}, check=False)"
    assert first.with_options() == first
    assert first.with_options() is not second
    assert first.as_bytes().as_text() == first
    assert first.as_bytes() != first


def test_of_stdin_and_input_the_one_said_last_is_read() -> None:
    """Nothing that was given goes unread in silence."""
    cat = hp.cmd("cat")
    assert cat.with_options(stdin=hp.NULL).with_options(input="x").read() == "x"
    assert cat.with_options(input="x").with_options(stdin=hp.NULL).read() == ""
    assert cat.with_options(input="x").with_options(stdin=None).read() == "x"


def test_a_variable_named_by_text_and_by_bytes_is_one_variable() -> None:
    command = hp.cmd("printenv", "A", env={"A": "1"})
    assert command.with_options(env={b"A": b"2"}).read() == "2\n"
    assert command.with_options(env={b"A": b"2"}).with_options(env={"A": "3"}).read() == "3\n"


def test_options_of_a_pipeline_belong_to_the_whole_or_to_a_stage() -> None:
    with pytest.raises(TypeError, match="cwd belongs to a stage"):
        (hp.cmd("a") | hp.cmd("b")).with_options(cwd="/")  # type: ignore[call-arg]
    with pytest.raises(ValueError, match="timeout belongs to the pipeline"):
        hp.cmd("a", timeout=3) | hp.cmd("b")
    with pytest.raises(ValueError, match="stdout of 'a'"):
        hp.cmd("a", stdout=hp.NULL) | hp.cmd("b")
    with pytest.raises(ValueError, match="input of 'b'"):
        hp.cmd("a") | hp.cmd("b", input="x")
    with pytest.raises(TypeError, match="not into str"):
        hp.cmd("a") | "b"


def test_an_empty_input_in_the_middle_of_a_pipeline_is_refused_like_any_other() -> None:
    with pytest.raises(ValueError, match="input of 'b'"):
        hp.cmd("a") | hp.cmd("b", input="")


def test_stdin_0_in_the_middle_of_a_pipeline_is_refused_like_any_other() -> None:
    with pytest.raises(ValueError, match="stdin of 'b'"):
        hp.cmd("a") | hp.cmd("b", stdin=0)


@pytest.mark.parametrize("name", ["", "A=B", "=", "A\0", b"A=B", b""])
def test_what_cannot_name_a_variable_is_refused(name: Any) -> None:
    """gotcha:SP11."""
    with pytest.raises(ValueError, match="cannot be the name of a variable"):
        hp.cmd("true", env={name: "x"})


@pytest.mark.parametrize("value", ["a\0b", b"a\0b"])
def test_a_nul_in_a_value_is_refused_without_showing_the_value(value: Any) -> None:
    """gotcha:SP11."""
    with pytest.raises(ValueError, match="the value of 'A' has a NUL") as caught:
        hp.cmd("true", env={"A": value})
    assert "a\\x00b" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        ({"timout": 3}, TypeError, "did you mean 'timeout'"),
        ({"env": ["A=1"]}, TypeError, "env must be a mapping"),
        ({"env": {"A": 1}}, TypeError, "'A' is given a int"),
        ({"env_base": "clean"}, ValueError, "'inherit' or 'minimal'"),
        ({"timeout": -1}, ValueError, "timeout"),
        ({"timeout": float("nan")}, ValueError, "timeout"),
        ({"timeout": "3"}, TypeError, "timeout"),
        ({"grace": -0.5}, ValueError, "grace"),
        ({"umask": 0o1000}, ValueError, "umask"),
        ({"umask": True}, ValueError, "umask"),
        ({"limits": {"NOFILES": 3}}, ValueError, "no limit 'NOFILES'"),
        ({"limits": {"NOFILE": "3"}}, TypeError, "NOFILE"),
        ({"limits": {"NOFILE": (5, 3)}}, ValueError, "above the hard limit"),
        ({"limits": {"NOFILE": -5}}, ValueError, "NOFILE"),
        ({"limits": 64}, TypeError, "limits must be a mapping, such as"),
        ({"check": 0}, TypeError, "check must be True or False, not 0"),
        ({"contain": "cgroup"}, TypeError, "contain must be True or False"),
        ({"pty": 1}, TypeError, "pty must be True or False"),
        ({"new_session": "yes"}, TypeError, "new_session must be True or False"),
        ({"stdin": "file"}, TypeError, "a file is given as a Path"),
        ({"stdin": hp.STDOUT}, ValueError, "only stderr"),
        ({"stdout": hp.TAIL}, ValueError, "only stderr"),
        ({"stdout": -1}, ValueError, "no such descriptor"),
        ({"stdout": True}, TypeError, "stdout"),
        ({"stdout": 1.5}, TypeError, "stdout"),
        ({"ok_codes": 3}, ValueError, "ok_codes"),
        ({"ok_codes": [256]}, ValueError, "ok_codes"),
        ({"ok_codes": [-9]}, ValueError, "ok_codes"),
        ({"pass_fds": [2]}, ValueError, "pass_fds"),
        ({"pass_fds": 5}, TypeError, "pass_fds"),
        ({"cwd": ""}, ValueError, "cwd is empty"),
        ({"cwd": "a\0"}, ValueError, "cwd"),
        ({"cwd": 3}, TypeError, "cwd"),
        ({"input": 3}, TypeError, "input"),
        ({"input": "x", "stdin": hp.NULL}, ValueError, "stdin and input both"),
        ({"buffer_limit": 0}, ValueError, "buffer_limit"),
        ({"line_limit": -1}, ValueError, "line_limit"),
        ({"user": -1}, ValueError, "user"),
        ({"user": True}, TypeError, "user"),
        ({"groups": "wheel"}, TypeError, "groups"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_what_cannot_be_meant_is_refused_when_the_command_is_made(
    options: Any, kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words):
        hp.cmd("true", **options)


@pytest.mark.parametrize(
    "begin",
    [
        lambda command: command.exec(),
        lambda command: command.background(),
        lambda command: hp.Server("tcp://127.0.0.1:0", command),
    ],
    ids=["exec", "background", "a server"],
)
def test_a_tail_is_refused_where_nobody_stays_to_read_it(begin: Any) -> None:
    with pytest.raises(ValueError, match="has nobody to read stderr=TAIL"):
        begin(hp.cmd("true", stderr=hp.TAIL))
