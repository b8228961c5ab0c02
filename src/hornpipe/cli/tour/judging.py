"""Rows and their verdicts: what is compared, and what becomes of a row that goes wrong."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import hornpipe as hp
from hornpipe.cli import printable
from hornpipe.cli.tour.looking import settle, state_of

PATIENCE = 20.0
"""Seconds that a step of a healthy row may take on a very busy machine: a hang has to end as a failed row."""
GLIMPSE = 60
"""Characters shown of a row's output."""


class Wrong(Exception):
    """Something came out otherwise than it should have."""


class Judge:
    """Compares, and counts how often it was asked to."""

    def __init__(self) -> None:
        self.compared = 0

    def same(self, got: object, wanted: object, what: str = "the output") -> None:
        """*got* has to equal *wanted*.

        >>> Judge().same("4", "5", "the sum")
        Traceback (most recent call last):
        ...
        hornpipe.cli.tour.judging.Wrong: the sum is '4', not '5'
        """
        self.compared += 1
        if got != wanted:
            raise Wrong(f"{what} is {brief(repr(got))}, not {brief(repr(wanted))}")

    def within(self, got: object, wanted: str, what: str = "the output") -> None:
        """*wanted* has to occur in the text of *got*."""
        self.compared += 1
        if wanted not in str(got):
            raise Wrong(f"{what} is {brief(repr(str(got)))}, without {wanted!r}")

    def soon(self, seconds: float, limit: float, what: str) -> None:
        """*seconds* must not exceed *limit*."""
        self.compared += 1
        if seconds > limit:
            raise Wrong(f"{what} took {seconds:.2f} s, {limit:g} s were allowed")

    def gone(self, pid: int, what: str) -> None:
        """No process has this number, not even a zombie."""
        self.compared += 1
        state = state_of(pid)
        if state:
            raise Wrong(f"{what} (pid {pid}) is still there, in state {state}")

    def ended(self, pid: int, what: str) -> None:
        """No process of this number runs; one that is not our child may wait to be reaped by somebody else."""
        self.compared += 1
        settle(pid, "ZX")
        state = state_of(pid)
        if state and state not in "ZX":
            raise Wrong(f"{what} (pid {pid}) still runs, in state {state}")

    @contextmanager
    def raised(self, kind: type[BaseException]) -> Iterator[list[Any]]:
        """The block has to raise *kind*, which is then in the list."""
        caught: list[Any] = []
        self.compared += 1
        try:
            yield caught
        except kind as error:
            caught.append(error)
        else:
            raise Wrong(f"no {kind.__name__} was raised")


class Row(NamedTuple):
    """One facility."""

    name: str
    what: str
    """The docstring's first sentence."""
    tools: tuple[str, ...]
    """The programs it runs, as they are looked up in PATH."""
    show: Callable[[Judge], str]


class Outcome(NamedTuple):
    """What became of a row."""

    row: Row
    ok: bool
    glimpse: str
    """Of the real output."""
    problem: str
    """Why it failed, on one line."""
    seconds: float

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "row": self.row.name,
            "what": self.row.what,
            "ok": self.ok,
            "glimpse": self.glimpse,
            "problem": self.problem,
            "seconds": round(self.seconds, 4),
        }


def row(*tools: str) -> Callable[[Callable[[Judge], str]], Row]:
    """Make a function a row of the tour; *tools* are the programs it runs."""

    def make(function: Callable[[Judge], str]) -> Row:
        name = function.__name__.replace("_", "-")
        what = " ".join((function.__doc__ or "").split("\n\n")[0].split()).rstrip(".")
        assert what, f"{name} needs a docstring: it is what the row says"
        return Row(name, what, tools, function)

    return make


def perform(row: Row) -> Outcome:
    """Do a row; whatever it raises is its failure, never the tour's."""
    judge, glimpse, problem = Judge(), "", ""
    started = time.monotonic()
    try:
        glimpse = brief(row.show(judge))
        if not judge.compared:
            problem = "it compared nothing"
    except Exception as error:  # noqa: BLE001  any failure of a row is what the row is there to show
        problem = " ".join(str(error).split()) or type(error).__name__
        if not isinstance(error, Wrong | hp.CommandFailed | hp.CommandTimeout | hp.SpawnError):
            problem = f"{type(error).__name__}: {problem}"
    seconds = time.monotonic() - started
    if problem and (missing := [tool for tool in row.tools if shutil.which(tool) is None]):
        problem = f"this machine has no {', no '.join(missing)}: {problem}"
    return Outcome(row, not problem, glimpse, problem, seconds)


def brief(text: str) -> str:
    """As much of it as a glimpse has room for, on one line and harmless to a terminal."""
    line = printable(text)
    return line if len(line) <= GLIMPSE else line[: GLIMPSE - 3] + "..."
