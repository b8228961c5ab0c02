"""Going through a program's output line by line, and the memory that it takes not to keep it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from typing import AnyStr

from benchmarks.contest import GIB, GIGABYTES_PER_SECOND, MIB, US, Measurement, at_least, grows_below
from benchmarks.play import Figures, expect
from benchmarks.programs import c, perl

GEN = c("gen")
# A few lines are counted first, without the clock, so that the loop that is measured can be empty.
PROBE = 1000
LAST = "".join(map(chr, range(ord("0"), ord("0") + 63)))


def last_of(lines: Iterable[AnyStr]) -> AnyStr:
    """The loop that is measured."""
    line = None
    for line in lines:  # noqa: B007
        pass
    if line is None:
        raise SystemExit("no lines")
    return line


in_bytes = Measurement(
    "lines",
    "iterate {size} of 64-byte lines, bytes",
    unit=GIGABYTES_PER_SECOND,
    size=512 * MIB,
    quick=64 * MIB,
    peer="Popen",
    targets=[at_least(1.5, "Popen")],
)
in_bytes.program("C", [c("lines"), "SIZE", GEN])
in_bytes.program(
    "perl <$h>",
    perl(
        """
        open my $h, '-|', $args[0], $size or die; my $n = 0; $n++ while <$h>; close $h or die;
        $n == $size / 64 or die;
        """,
        GEN,
    ),
)


@in_bytes.contender(US)
def bytes_by_hornpipe(figures: Figures, size: int) -> None:
    import hornpipe as hp

    expect(sum(len(x) == 63 for x in hp.cmd(GEN, str(64 * PROBE)).as_bytes().lines()), PROBE)
    with figures:
        line = last_of(hp.cmd(GEN, str(size)).as_bytes().lines())
    expect(line, LAST.encode())


def by_popen(figures: Figures, size: int, *, text: bool = False, pipesize: int = -1, bufsize: int = -1) -> None:
    encoding = "utf-8" if text else None
    with (
        figures,
        subprocess.Popen(
            [GEN, str(size)], stdout=subprocess.PIPE, encoding=encoding, pipesize=pipesize, bufsize=bufsize
        ) as child,
    ):
        assert child.stdout
        line = last_of(child.stdout)
    expect(line.strip(), LAST if text else LAST.encode())


@in_bytes.contender("Popen")
def bytes_by_subprocess(figures: Figures, size: int) -> None:
    by_popen(figures, size)


@in_bytes.contender("Popen pipesize=1M bufsize=256K")
def bytes_by_subprocess_with_a_big_pipe(figures: Figures, size: int) -> None:
    by_popen(figures, size, pipesize=MIB, bufsize=MIB // 4)


@in_bytes.contender("duct (1/512)", share=1 / 512)
def bytes_by_duct(figures: Figures, size: int) -> None:
    from duct import cmd

    with figures:
        line = last_of(cmd(GEN, str(size)).reader())
    expect(line.strip(), LAST.encode())


in_text = Measurement(
    "lines_text",
    "iterate {size} of 64-byte lines, text",
    unit=GIGABYTES_PER_SECOND,
    size=512 * MIB,
    quick=64 * MIB,
    peer="Popen text",
    targets=[at_least(1.3, "Popen text")],
)
in_text.program("C", [c("lines"), "SIZE", GEN])


@in_text.contender(US)
def text_by_hornpipe(figures: Figures, size: int) -> None:
    import hornpipe as hp

    expect(sum(len(x) == 63 for x in hp.cmd(GEN, str(64 * PROBE)).lines()), PROBE)
    with figures:
        line = last_of(hp.cmd(GEN, str(size)).lines())
    expect(line, LAST)


@in_text.contender("Popen text")
def text_by_subprocess(figures: Figures, size: int) -> None:
    by_popen(figures, size, text=True)


@in_text.contender("Popen text pipesize=1M bufsize=256K")
def text_by_subprocess_with_a_big_pipe(figures: Figures, size: int) -> None:
    by_popen(figures, size, text=True, pipesize=MIB, bufsize=MIB // 4)


@in_text.contender("plumbum (1/128)", share=1 / 128)
def text_by_plumbum(figures: Figures, size: int) -> None:
    from plumbum import local

    with figures:
        line = last_of(out for out, _ in local[GEN].popen([str(size)]))
    expect(line.strip(), LAST)


@in_text.contender("sh (1/256)", share=1 / 256)
def text_by_sh(figures: Figures, size: int) -> None:
    import sh

    with figures:
        line = last_of(sh.Command(GEN)(str(size), _iter=True))
    expect(line.strip(), LAST)


memory = Measurement(
    "lines_memory",
    "{size} through lines()",
    unit=GIGABYTES_PER_SECOND,
    size=4 * GIB,
    quick=256 * MIB,
    peer="Popen",
    targets=[grows_below(64 * MIB), grows_below(64 * MIB, ours="hornpipe (text)")],
    memory=True,
    rounds=1,
)
memory.program("C", [c("lines"), "SIZE", GEN])
memory.contender(US)(bytes_by_hornpipe)
memory.contender("hornpipe (text)")(text_by_hornpipe)
memory.contender("Popen")(bytes_by_subprocess)


MEASUREMENTS = [in_bytes, in_text, memory]
