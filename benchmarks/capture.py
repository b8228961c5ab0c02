"""Taking all that a program prints: a line of it, and 512 MiB."""

from __future__ import annotations

import subprocess

from benchmarks.contest import GIGABYTES_PER_SECOND, MIB, MICROSECONDS, US, Measurement, ahead_of, at_least, keeps
from benchmarks.play import Figures, expect
from benchmarks.programs import c, perl

BRIEF, GEN = c("brief"), c("gen")
PRINTED = b"thirty-two bytes, a line's feed\n"

small = Measurement(
    "capture_small",
    "run a program and take its 32 bytes, {size} times",
    unit=MICROSECONDS,
    size=200,
    quick=60,
    turns=4,
    peer="subprocess.run stdout",
    targets=ahead_of("subprocess.run stdout", "subprocess.run both", "perl backticks", "duct", "plumbum", "sh"),
)
small.program("C", [c("capture_small"), "SIZE", BRIEF])
small.program("perl backticks", perl("for (1 .. $size) { length(`$args[0]`) == 32 or die }", BRIEF))
small.program(
    "perl open -|",
    perl(
        "for (1 .. $size) { open my $h, '-|', $args[0] or die; local $/; length(<$h>) == 32 or die; close $h or die }",
        BRIEF,
    ),
)


@small.contender(US)
def small_by_hornpipe(figures: Figures, size: int) -> None:
    import hornpipe as hp

    expect(hp.cmd(BRIEF).as_bytes().read(), PRINTED)
    figures.each(size, lambda: hp.cmd(BRIEF).as_bytes().read())


@small.contender("hornpipe (text)")
def small_text_by_hornpipe(figures: Figures, size: int) -> None:
    import hornpipe as hp

    expect(hp.cmd(BRIEF).read(), PRINTED.decode())
    figures.each(size, lambda: hp.cmd(BRIEF).read())


@small.contender("hornpipe (capture)")
def small_capture_by_hornpipe(figures: Figures, size: int) -> None:
    import hornpipe as hp

    expect(hp.cmd(BRIEF).as_bytes().capture().stdout, PRINTED)
    figures.each(size, lambda: hp.cmd(BRIEF).as_bytes().capture())


@small.contender("subprocess.run stdout")
def small_by_subprocess(figures: Figures, size: int) -> None:
    figures.each(size, lambda: subprocess.run([BRIEF], stdout=subprocess.PIPE, check=True).stdout)


@small.contender("subprocess.run both")
def small_by_subprocess_both(figures: Figures, size: int) -> None:
    figures.each(size, lambda: subprocess.run([BRIEF], capture_output=True, check=True).stdout)


@small.contender("duct")
def small_by_duct(figures: Figures, size: int) -> None:
    from duct import cmd

    figures.each(size, lambda: cmd(BRIEF).read())


@small.contender("plumbum")
def small_by_plumbum(figures: Figures, size: int) -> None:
    from plumbum import local

    figures.each(size, local[BRIEF])


@small.contender("sh", share=0.2)
def small_by_sh(figures: Figures, size: int) -> None:
    import sh

    figures.each(size, lambda: str(sh.Command(BRIEF)()))


big = Measurement(
    "capture_big",
    "read() of {size} as bytes",
    unit=GIGABYTES_PER_SECOND,
    size=512 * MIB,
    quick=128 * MIB,
    peer="subprocess.run",
    targets=[
        at_least(2.5, "subprocess.run"),
        at_least(0.8, "C", aim="aim at"),
        keeps(1.13),
    ],
    warm=2.25,
    memory=True,
)
big.program("C", [c("slurp"), "SIZE", GEN])
big.program("perl backticks", perl("my $all = `$args[0] $size`; length($all) == $size or die;", GEN))
big.program(
    "perl open -|",
    perl(
        """
        open my $h, '-|', $args[0], $size or die; local $/; my $all = <$h>; close $h or die;
        length($all) == $size or die;
        """,
        GEN,
    ),
)


@big.contender(US)
def big_by_hornpipe(figures: Figures, size: int) -> None:
    import hornpipe as hp

    command = hp.cmd(GEN, str(size)).as_bytes()
    with figures:
        output = command.read()
    expect(len(output), size)


@big.contender("subprocess.run")
def big_by_subprocess(figures: Figures, size: int) -> None:
    with figures:
        output = subprocess.run([GEN, str(size)], stdout=subprocess.PIPE, check=True).stdout
    expect(len(output), size)


@big.contender("subprocess pipesize=1M")
def big_by_subprocess_with_a_big_pipe(figures: Figures, size: int) -> None:
    with figures:
        output = subprocess.run([GEN, str(size)], stdout=subprocess.PIPE, pipesize=MIB, check=True).stdout
    expect(len(output), size)


@big.contender("duct (1/4)", share=1 / 4)
def big_by_duct(figures: Figures, size: int) -> None:
    from duct import cmd

    with figures:
        output = cmd(GEN, str(size)).stdout_capture().run().stdout
    expect(len(output), size)


@big.contender("plumbum (1/4)", share=1 / 4)
def big_by_plumbum(figures: Figures, size: int) -> None:
    from plumbum import local

    with figures:
        output = local[GEN](str(size))
    expect(len(output), size)


@big.contender("sh (1/64)", share=1 / 64)
def big_by_sh(figures: Figures, size: int) -> None:
    import sh

    with figures:
        output = sh.Command(GEN)(str(size), _return_cmd=True).stdout
    expect(len(output), size)


MEASUREMENTS = [small, big]
