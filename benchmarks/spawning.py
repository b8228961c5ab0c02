"""Starting a program that does nothing, and waiting for it; the price of containment."""

from __future__ import annotations

from benchmarks.contest import MIB, MICROSECONDS, MILLISECONDS, US, Measurement, adds_at_most, ahead_of, at_most
from benchmarks.play import Figures, expect
from benchmarks.programs import bash, c, perl

NOOP = c("noop")
BALLAST = 512 * MIB
LONG_ENOUGH = 1000
"""For so many starts that the first 20 to 50 ms do not decide: as long as the kernel remembers how busy the processor
was before, which a Python is that has just begun, it moves each child to the other one at its exec, 45 us dearer."""

spawn = Measurement(
    "spawn",
    "start and wait for a static no-op, {size} times",
    unit=MICROSECONDS,
    size=LONG_ENOUGH,
    quick=60,
    turns=4,
    peer="subprocess.call",
    targets=[at_most(1.10, "C"), *ahead_of("subprocess.call")],
)
spawn.program("C", [c("spawnwait"), "SIZE", NOOP])
spawn.program("perl system", perl("system { $args[0] } $args[0] for 1 .. $size;", NOOP))
spawn.program("bash", bash('for ((i = 0; i < size; i++)); do "$1"; done; done_now', NOOP))


@spawn.contender(US)
def spawn_by_hornpipe(figures: Figures, size: int) -> None:
    import hornpipe as hp

    figures.each(size, lambda: hp.cmd(NOOP).run())


@spawn.contender("subprocess.call")
def spawn_by_subprocess(figures: Figures, size: int) -> None:
    import subprocess

    figures.each(size, lambda: subprocess.call([NOOP]))


@spawn.contender("os.posix_spawn")
def spawn_by_posix_spawn(figures: Figures, size: int) -> None:
    import os

    figures.each(size, lambda: os.waitpid(os.posix_spawn(NOOP, [NOOP], os.environ), 0))


@spawn.contender("duct")
def spawn_by_duct(figures: Figures, size: int) -> None:
    from duct import cmd

    figures.each(size, lambda: cmd(NOOP).run())


@spawn.contender("plumbum")
def spawn_by_plumbum(figures: Figures, size: int) -> None:
    from plumbum import local

    figures.each(size, local[NOOP])


@spawn.contender("sh", share=0.2)
def spawn_by_sh(figures: Figures, size: int) -> None:
    import sh

    figures.each(size, sh.Command(NOOP))


contain = Measurement(
    "contain",
    "the same with contain=True, {size} times, from small and from large callers",
    unit=MILLISECONDS,
    size=50,
    quick=10,
    turns=4,
    peer=US,
    targets=[
        adds_at_most(2e-3, US, ours="contained"),
        adds_at_most(2e-3, "hornpipe (512 MiB caller)", ours="contained (512 MiB caller)"),
    ],
)
contain.program("C", [c("spawnwait"), "SIZE", NOOP])


@contain.contender(US)
def plain_small(figures: Figures, size: int) -> None:
    import hornpipe as hp

    figures.each(size, lambda: hp.cmd(NOOP).run())


@contain.contender("contained")
def contained_small(figures: Figures, size: int) -> None:
    import hornpipe as hp

    figures.each(size, lambda: hp.cmd(NOOP, contain=True).run())


@contain.contender("hornpipe (512 MiB caller)")
def plain_large(figures: Figures, size: int) -> None:
    ballast = b"\1" * BALLAST
    plain_small(figures, size)
    expect(len(ballast), BALLAST)


@contain.contender("contained (512 MiB caller)")
def contained_large(figures: Figures, size: int) -> None:
    ballast = b"\1" * BALLAST
    contained_small(figures, size)
    expect(len(ballast), BALLAST)


MEASUREMENTS = [spawn, contain]
