"""Feeding a program and taking its output at once."""

from __future__ import annotations

import subprocess

from benchmarks.contest import GIGABYTES_PER_SECOND, MIB, US, Measurement, at_least, grows_below_that_of
from benchmarks.play import Figures, expect
from benchmarks.programs import c

both_ways = Measurement(
    "both_ways",
    "{size} through cat, in and out at once",
    unit=GIGABYTES_PER_SECOND,
    size=256 * MIB,
    quick=64 * MIB,
    peer="Popen.communicate",
    targets=[at_least(2.5, "Popen.communicate"), grows_below_that_of("Popen.communicate")],
    warm=3.25,
    memory=True,
)
both_ways.program("C", [c("both_ways"), "SIZE"])


def sample(size: int) -> bytes:
    """Bytes in which no block is like its neighbour: a lost or a doubled one would show."""
    block = bytes(range(251))
    return (block * (size // len(block) + 1))[:size]


@both_ways.contender(US)
def by_hornpipe(figures: Figures, size: int) -> None:
    import hornpipe as hp

    data = sample(size)
    with figures:
        output = hp.cmd("cat", input=data).as_bytes().read()
    expect(output == data, True)


@both_ways.contender("Popen.communicate")
def by_subprocess(figures: Figures, size: int) -> None:
    data = sample(size)
    with figures, subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        output, _ = child.communicate(data)
    expect(output == data, True)


@both_ways.contender("communicate pipesize=1M")
def by_subprocess_with_big_pipes(figures: Figures, size: int) -> None:
    data = sample(size)
    with (
        figures,
        subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, pipesize=MIB) as child,
    ):
        output, _ = child.communicate(data)
    expect(output == data, True)


@both_ways.contender("duct (1/4)", share=1 / 4)
def by_duct(figures: Figures, size: int) -> None:
    from duct import cmd

    data = sample(size)
    with figures:
        output = cmd("cat").stdin_bytes(data).stdout_capture().run().stdout
    expect(output == data, True)


@both_ways.contender("plumbum (1/4)", share=1 / 4)
def by_plumbum(figures: Figures, size: int) -> None:
    from plumbum import local

    data = sample(size)
    with figures:
        output = (local["cat"] << data)()
    expect(len(output) > 0, True)  # it is text, with what is not UTF-8 left out


@both_ways.contender("sh (1/64)", share=1 / 64)
def by_sh(figures: Figures, size: int) -> None:
    import sh

    data = sample(size)
    with figures:
        output = sh.cat(_in=data, _return_cmd=True).stdout
    expect(output == data, True)


MEASUREMENTS = [both_ways]
