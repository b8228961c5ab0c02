"""What is public says what it does, in units, with examples that run; and the reference has all of it."""

from __future__ import annotations

import doctest
import inspect
import re
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import hornpipe as hp
from hornpipe._native import sysv as native_sysv

REFERENCE = Path(__file__).parent.parent / "docs" / "reference.md"
FACES = (hp, hp.signals, hp.sysv)
PUBLIC = {
    f"{face.__name__}.{name}": getattr(face, name)
    for face in FACES
    for name in face.__all__
    if not isinstance(getattr(face, name), types.ModuleType) and not (face is hp.signals and name in hp.__all__)
}

Routine = types.FunctionType | types.BuiltinFunctionType

SECONDS = {"grace", "idle", "idle_timeout", "interval", "seconds", "timeout"}
SIZES = {"buffer_limit", "limit", "line_limit", "max_size", "size"}
SIZE_WORDS = re.compile(r"\b(byte|bytes|character|characters)\b")


def callables() -> Iterator[tuple[str, Any]]:
    """The functions of the faces, their classes (for what these are made with), and the methods of those."""
    for where, thing in PUBLIC.items():
        if isinstance(thing, type):
            if "__init__" in vars(thing) and not issubclass(thing, BaseException) and not made_by_us_alone(thing):
                yield where, thing
            for name, member in inspect.getmembers(thing, callable):
                if not name.startswith("_") and getattr(member, "__module__", "") != "hornpipe._native.buffers":
                    yield f"{where}.{name}", member
        elif callable(thing):
            yield where, thing


def made_by_us_alone(kind: type) -> bool:
    """Whether only the verbs make such objects: what they are made with is no part of the face."""
    return kind.__name__ not in {"Fifo", "Server", "alarm", "lock"}


def without_units(function: Any) -> list[str]:
    try:
        names = inspect.signature(function).parameters.keys()
    except (TypeError, ValueError):  # a type without a signature
        return []
    said = inspect.getdoc(function) or ""
    missing = [name for name in names & SECONDS if "second" not in said]
    missing += [name for name in names & SIZES if not SIZE_WORDS.search(said)]
    if "timeout" in names and not re.search(r"TimeoutError|CommandTimeout|(for|within)\s``timeout`` seconds", said):
        missing.append("what comes after the timeout")
    return sorted(missing)


@pytest.mark.parametrize("where", [where for where, _ in callables()])
def test_times_and_sizes_have_units(where: str) -> None:
    assert without_units(dict(callables())[where]) == []


def test_a_time_without_a_unit_is_seen() -> None:
    def wait(timeout: float) -> None:
        """Waits for ``timeout``."""

    assert without_units(wait) == ["timeout", "what comes after the timeout"]


@pytest.mark.parametrize("where", [where for where, thing in PUBLIC.items() if isinstance(thing, type | Routine)])
def test_what_is_public_is_explained(where: str) -> None:
    assert inspect.getdoc(PUBLIC[where])


@pytest.mark.parametrize("where", PUBLIC)
def test_what_is_public_is_in_the_reference(where: str) -> None:
    assert re.search(rf"{re.escape(where)}\b", REFERENCE.read_text())


def test_examples_of_the_native_room_work() -> None:
    """pytest looks for examples in files of Python only."""
    finder, runner = doctest.DocTestFinder(recurse=False), doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    ran = 0
    for kind in (native_sysv.Segment, native_sysv.Semaphores, native_sysv.OneSemaphore, native_sysv.Queue):
        for name, member in vars(kind).items():
            for test in finder.find(member, f"{kind.__name__}.{name}", module=False, globs={}):
                ran += runner.run(test).attempted
    assert runner.failures == 0
    assert ran > 0
