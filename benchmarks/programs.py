"""The programs that take part: those in C, compiled at the start, and the lines of Perl and bash."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SOURCES = Path(__file__).resolve().parent / "c"
BUILT = ROOT / "build" / "bench"

# What is measured with these is the parent; static, they cost the least to start.
CHILDREN = {"noop", "brief", "gen", "echo", "flood", "serve"}
FLAGS = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-pthread"]

LINE = "hello, coprocess"

PERL_CLOCK = r"""
use strict; use warnings; use Time::HiRes qw(clock_gettime CLOCK_MONOTONIC);
sub memory {
    my ($key) = @_; open my $h, '<', '/proc/self/status' or die;
    while (<$h>) { return $1 * 1024 if /^$key:\s+(\d+)/ }
}
my ($size, @args) = @ARGV; my $at_start = memory('VmRSS'); my $start = clock_gettime(CLOCK_MONOTONIC);
sub start_now { $start = clock_gettime(CLOCK_MONOTONIC) }
END {
    my $seconds = clock_gettime(CLOCK_MONOTONIC) - $start;
    printf "seconds=%.9f grown=%d\n", $seconds, memory('VmHWM') - $at_start unless $?;
}
"""

BASH_CLOCK = r"""
size=$1; shift; start=${EPOCHREALTIME/./}
done_now() { local end=${EPOCHREALTIME/./}; echo "seconds=$(( end - start ))e-6"; }
"""

TCL_CLOCK = r"""
set size $env(size); set args [split $env(args)]; log_user 0; set timeout 60
proc memory {key} {
    set h [open /proc/self/status]; regexp "$key:\\s+(\\d+)" [read $h] - kib; close $h; return [expr {$kib * 1024}]
}
set at_start [memory VmRSS]; set start [clock microseconds]
proc start_now {} { global start; set start [clock microseconds] }
proc done_now {} {
    global start at_start; set took [expr {[clock microseconds] - $start}]
    puts "seconds=${took}e-6 grown=[expr {[memory VmHWM] - $at_start}]"
}
"""


def c(name: str) -> str:
    """The path of a program from `c/`."""
    return str(BUILT / name)


def perl(body: str, *args: str) -> list[str]:
    """A command that runs some Perl with `$size` and `@args`, timed to its end (or from `start_now` on)."""
    return ["perl", "-e", PERL_CLOCK + body, "SIZE", *args]


def bash(body: str, *args: str) -> list[str]:
    """A command that runs some bash with `$size` and `$1`..., timed until its `done_now`."""
    return ["bash", "-c", BASH_CLOCK + body, "bash", "SIZE", *args]


def tcl(body: str, *args: str) -> list[str]:
    """A command that runs some Tcl expect with `$size` and `$args`, timed to its end (or from `start_now` on)."""
    # Its -c has no arguments, so they come by the environment.
    return [
        "sh",
        "-c",
        'size=$1; shift; export size args="$*"; exec expect -c "$0"',
        TCL_CLOCK + body + "\ndone_now",
        "SIZE",
        *args,
    ]


def build() -> None:
    """Compile what is older than its source."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise SystemExit(
            "benchmarks: no C compiler here (the programs in benchmarks/c are the limit to measure against)"
        )
    BUILT.mkdir(parents=True, exist_ok=True)
    header = max(each.stat().st_mtime for each in SOURCES.glob("*.h"))
    for source in sorted(SOURCES.glob("*.c")):
        target = BUILT / source.stem
        if not target.exists() or target.stat().st_mtime < max(header, source.stat().st_mtime):
            static = ["-static"] if source.stem in CHILDREN else []
            subprocess.run([compiler, *FLAGS, *static, "-o", str(target), str(source)], check=True)
