"""Programs that feed each other: gen | cat | wc -c."""

from __future__ import annotations

import subprocess

from benchmarks.contest import GIB, GIGABYTES_PER_SECOND, MIB, US, Measurement, at_least
from benchmarks.play import Figures, expect
from benchmarks.programs import bash, c, perl

GEN = c("gen")

pipeline = Measurement(
    "pipeline",
    "gen | cat | wc -c over {size}",
    unit=GIGABYTES_PER_SECOND,
    size=GIB,
    quick=128 * MIB,
    peer="bash",
    targets=[at_least(1.7, "bash")],
    turns=2,  # the shell's 64 KiB pipes have two speeds, by where three processes land on the CPUs
)
pipeline.program("C", [c("pipeline"), "SIZE", GEN])
pipeline.program("bash", bash('(( $("$1" "$size" | cat | wc -c) == size )) || exit 1; done_now', GEN))
pipeline.program("perl backticks (dash)", perl("`$args[0] $size | cat | wc -c` == $size or die;", GEN))


@pipeline.contender(US)
def by_hornpipe(figures: Figures, size: int) -> None:
    import hornpipe as hp

    with figures:
        answer = (hp.cmd(GEN, str(size)) | hp.cmd("cat") | hp.cmd("wc", "-c")).read()
    expect(int(answer), size)


@pipeline.contender("subprocess shell=True")
def by_subprocess_shell(figures: Figures, size: int) -> None:
    with figures:
        answer = subprocess.run(f"{GEN} {size} | cat | wc -c", shell=True, stdout=subprocess.PIPE, check=True).stdout
    expect(int(answer), size)


def by_popen(figures: Figures, size: int, pipesize: int) -> None:
    with figures:
        gen = subprocess.Popen([GEN, str(size)], stdout=subprocess.PIPE, pipesize=pipesize)
        cat = subprocess.Popen(["cat"], stdin=gen.stdout, stdout=subprocess.PIPE, pipesize=pipesize)
        wc = subprocess.Popen(["wc", "-c"], stdin=cat.stdout, stdout=subprocess.PIPE)
        assert gen.stdout
        assert cat.stdout
        gen.stdout.close()
        cat.stdout.close()
        answer = wc.communicate()[0]
        gen.wait()
        cat.wait()
    expect(int(answer), size)


@pipeline.contender("Popen chain")
def by_subprocess(figures: Figures, size: int) -> None:
    by_popen(figures, size, -1)


@pipeline.contender("Popen chain pipesize=1M")
def by_subprocess_with_big_pipes(figures: Figures, size: int) -> None:
    by_popen(figures, size, MIB)


@pipeline.contender("duct")
def by_duct(figures: Figures, size: int) -> None:
    from duct import cmd

    with figures:
        answer = cmd(GEN, str(size)).pipe(cmd("cat")).pipe(cmd("wc", "-c")).read()
    expect(int(answer), size)


@pipeline.contender("plumbum")
def by_plumbum(figures: Figures, size: int) -> None:
    from plumbum import local

    with figures:
        answer = (local[GEN][str(size)] | local["cat"] | local["wc"]["-c"])()
    expect(int(answer), size)


@pipeline.contender("sh _piped (1/32)", share=1 / 32)
def by_sh(figures: Figures, size: int) -> None:
    import sh

    with figures:
        answer = sh.wc("-c", _in=sh.cat(_in=sh.Command(GEN)(str(size), _piped=True), _piped=True))
    expect(int(str(answer)), size)


MEASUREMENTS = [pipeline]
