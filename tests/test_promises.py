"""The promises of docs/promises.md that no single room keeps, and the page itself: what it names exists."""

from __future__ import annotations

import ast
import builtins
import functools
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import hornpipe as hp

HERE = Path(__file__).parent
PAGES = sorted((HERE.parent / "docs").rglob("*.md"))
LINK = re.compile(r"\[`(?P<test>[\w:]+)`\]\(\.\./tests/(?P<file>test_\w+\.py)\)")


def linked() -> list[tuple[str, str, str]]:
    return [(page.name, found["file"], found["test"]) for page in PAGES for found in LINK.finditer(page.read_text())]


@functools.cache
def parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text())


@functools.cache
def names_of_tests_in(file: Path) -> set[str]:
    """Every test of a file, as pytest names it."""
    names = set()
    for node in parsed(file).body:
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}::{each.name}" for each in node.body if isinstance(each, ast.FunctionDef)}
        elif isinstance(node, ast.FunctionDef):
            names.add(node.name)
    return names


def test_every_test_that_a_page_names_exists() -> None:
    found = linked()
    assert len(found) > 50
    assert [link for link in found if link[2] not in names_of_tests_in(HERE / link[1])] == []


def test_every_promise_names_tests() -> None:
    page = (HERE.parent / "docs/promises.md").read_text()
    promises = re.split(r"^## ", page, flags=re.MULTILINE)[1:]
    assert [promise.partition(".")[0] for promise in promises] == [str(number) for number in range(1, 12)]
    assert [promise for promise in promises if not LINK.search(promise)] == []


def test_every_error_is_a_builtin_one_as_well() -> None:
    """Promise 10: who catches what Python raises in such a case catches ours."""
    ours = [value for name in hp.__all__ if isinstance(value := getattr(hp, name), type)]
    errors = [each for each in ours if issubclass(each, Exception)]
    assert len(errors) > 5
    plain = {"Exception", "BaseException", "OSError"}
    for each in errors:
        if each is hp.RemoteError:  # what it stands for has no class on this side
            continue
        bases = {base.__name__ for base in each.__mro__ if getattr(builtins, base.__name__, None) is base}
        kin = {base.__name__ for sub in each.__subclasses__() for base in sub.__mro__}
        assert bases - plain - {"object"} or kin - plain - {"object"}, each


def test_no_verb_starts_a_thread(tmp_path: Path) -> None:
    """Promise 11: not even for streams in all directions, or for a limit."""
    before = set(threading.enumerate())  # one of before may end meanwhile
    limited = hp.cmd("cat", input="x" * 300_000, timeout=20)
    assert len(limited.capture().stdout) == 300_000
    assert hp.cmd("cat", input="x", contain=True).read() == "x"
    with hp.cmd("cat").duplex() as cat:
        assert cat.ask("hello") == "hello"
        assert set(threading.enumerate()) <= before
    with hp.watch("USR1"), pytest.raises(TimeoutError), hp.alarm(0.01):
        hp.cmd("sleep", "5").run()
    assert hp.fn(threading.active_count).call() == 1
    assert set(threading.enumerate()) <= before


def test_importing_it_starts_no_thread_and_opens_nothing_but_a_pipe() -> None:
    """Promise 11, and 1: the pipe ends waits, and is close-on-exec."""
    source = """if True:
        import hornpipe as hp, os, threading
        hp.cmd, hp.SIG, hp.connect
        print(threading.active_count())
        for fd in sorted(os.listdir("/proc/self/fd"), key=int)[3:-1]:  # the last is that of the listing
            print(os.readlink(f"/proc/self/fd/{fd}").partition(":")[0], os.get_inheritable(int(fd)))
    """
    ran = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines() == ["1", "pipe False", "pipe False"]


GOTCHAS = {
    "SIG": 18,
    "SP": 11,
    "P": 10,
    "C": 4,
    "T": 5,
    "R": 8,
    "TTY": 12,
    "FI": 6,
    "DM": 7,
    "H": 4,
    "SO": 13,
    "U": 5,
    "SRV": 8,
    "Y": 13,
    "PR": 7,
}
HELD = re.compile(r"^Held by \[`(?P<test>[\w:]+)`\]\(\.\./tests/(?P<file>test_\w+\.py)\)\.$", re.MULTILINE)


def docstrings_of(file: Path, test: str) -> str:
    node: ast.AST = parsed(file)
    said = ""
    for name in test.split("::"):
        node = next(each for each in node.body if getattr(each, "name", "") == name)  # type: ignore[attr-defined]
        said += f"\n{ast.get_docstring(node)}"  # type: ignore[arg-type]
    return said


def test_every_gotcha_is_told_and_held_by_a_test_that_names_it() -> None:
    page = (HERE.parent / "docs/why.md").read_text()
    told = {part.partition(":")[0]: part for part in re.split(r"^### ", page, flags=re.MULTILINE)[1:]}
    assert set(told) == {f"{area}{number}" for area, last in GOTCHAS.items() for number in range(1, last + 1)}
    for gotcha, part in told.items():
        held = HELD.search(part)
        assert held, f"{gotcha} names no test"
        named = set(re.findall(r"[A-Z]+\d+", docstrings_of(HERE / held["file"], held["test"])))
        assert gotcha in named, f"{held['test']} does not name {gotcha}"


def places_in(page: Path) -> set[str]:
    """The names that the headings of a page have in links."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_no_link_leads_nowhere() -> None:
    """To a file of ours, or a place in a page."""
    top = HERE.parent
    found = 0
    for page in [top / "README.md", top / "CONTRIBUTING.md", top / "examples" / "README.md", *PAGES]:
        for name, place in re.findall(r'\]\(([^)#:\s"]*)#?([^)\s:"]*)\)', page.read_text()):
            target = page.parent / name if name else page
            assert target.is_file(), f"{page.name} leads to {name}"
            assert not place or place in places_in(target), f"{page.name} leads to {name}#{place}"
            found += 1
    assert found > 350
