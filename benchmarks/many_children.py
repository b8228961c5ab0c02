"""A thousand children alive at once, and whether each costs more than when there are a hundred."""

from __future__ import annotations

import contextlib
import resource
import subprocess

from benchmarks.contest import MICROSECONDS, US, Measurement, Sample, Target
from benchmarks.play import Figures, expect
from benchmarks.programs import LINE, c

ECHO = c("echo")
FEW = 0.1
TENTH = " (a tenth alive)"
# The kernel's own lists grow: in C, too, each of a thousand costs a sixth more than each of a hundred. What a library
# adds must not grow any further than by a tenth, which is noise.
GROWTH = 1.10


def growth(figures: dict[str, Sample], name: str) -> float:
    """The cost of each when all are alive, as a multiple of that when a tenth is."""
    return figures[name].cost / figures[name + TENTH].cost


many = Measurement(
    "many",
    "{size} children alive at once: started, fed, read and reaped; cost of each",
    unit=MICROSECONDS,
    size=1000,
    quick=200,
    peer="Popen",
    targets=[
        Target(
            f"the cost of each grows by at most {GROWTH:.2f} x what it does in C",
            (US, US + TENTH, "C", "C" + TENTH),
            lambda r: growth(r, US) / growth(r, "C"),
            lambda x: x <= GROWTH,
        )
    ],
    turns=2,
)
many.program("C", [c("many"), "SIZE", "SIZE", ECHO, LINE])
many.program("C" + TENTH, [c("many"), "SIZE", "TENTH", ECHO, LINE])


def hornpipe_with(figures: Figures, count: int, alive: int) -> None:
    import hornpipe as hp

    line = LINE.encode()
    _files_without_limit()
    with figures:
        for _ in range(count // alive):
            with contextlib.ExitStack() as stack:
                children = [stack.enter_context(hp.cmd(ECHO).as_bytes().duplex()) for _ in range(alive)]
                for child in children:
                    expect(child.ask(line), line)


def popen_with(figures: Figures, count: int, alive: int) -> None:
    line = LINE.encode() + b"\n"
    pipe = subprocess.PIPE
    _files_without_limit()
    with figures:
        for _ in range(count // alive):
            with contextlib.ExitStack() as stack:
                children = [
                    stack.enter_context(subprocess.Popen([ECHO], stdin=pipe, stdout=pipe)) for _ in range(alive)
                ]
                for child in children:
                    assert child.stdin
                    assert child.stdout
                    child.stdin.write(line)
                    child.stdin.flush()
                    expect(child.stdout.readline(), line)


def _files_without_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@many.contender(US)
def all_by_hornpipe(figures: Figures, size: int) -> None:
    hornpipe_with(figures, size, size)


@many.contender(US + TENTH)
def few_by_hornpipe(figures: Figures, size: int) -> None:
    hornpipe_with(figures, size, int(size * FEW))


@many.contender("Popen")
def all_by_subprocess(figures: Figures, size: int) -> None:
    popen_with(figures, size, size)


@many.contender("Popen" + TENTH)
def few_by_subprocess(figures: Figures, size: int) -> None:
    popen_with(figures, size, int(size * FEW))


MEASUREMENTS = [many]
