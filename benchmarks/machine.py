"""The machine under the contest: how steady it is, and what steadies it."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
import time
from collections.abc import Iterator
from importlib import metadata

from benchmarks.programs import c

LOOP = 400_000


class Noise:
    """How much a fixed piece of arithmetic varies, and how much of the CPU somebody else took."""

    def __init__(self) -> None:
        self.loops: list[float] = []
        self._ticks = ticks()

    def sample(self) -> None:
        """Time the loop once."""
        start = time.perf_counter()
        total = 0
        for i in range(LOOP):
            total += i * i
        self.loops.append(time.perf_counter() - start)

    def __str__(self) -> str:
        total, stolen = (now - then for now, then in zip(ticks(), self._ticks, strict=True))
        loops = sorted(self.loops)
        load = "/".join(f"{x:.2f}" for x in os.getloadavg())
        return (
            f"a fixed arithmetic loop took {loops[0] * 1e3:.1f} to {loops[-1] * 1e3:.1f} ms "
            f"(median {loops[len(loops) // 2] * 1e3:.1f}); "
            f"{100 * stolen / max(total, 1):.1f}% of the CPU time was stolen; load {load}"
        )


def ticks() -> tuple[int, int]:
    """All CPU time that has passed, and the part that a hypervisor gave to others."""
    with open("/proc/stat") as stat:
        values = [int(word) for word in stat.readline().split()[1:9]]
    return sum(values), values[7]


def describe(peers: tuple[str, ...]) -> str:
    """The machine and the versions, in two lines."""
    versions = []
    for name in peers:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions.append(f"{name} {metadata.version(name)}")
    model = "unknown CPU"
    with contextlib.suppress(OSError), open("/proc/cpuinfo") as cpus:
        model = next((line.split(":", 1)[1].strip() for line in cpus if line.startswith("model name")), model)
    return (
        f"{platform.system()} {platform.release()}, {model}, {os.cpu_count()} CPUs\n"
        f"Python {platform.python_version()}, {', '.join(versions)}"
    )


@contextlib.contextmanager
def one_cpu(pinned: bool) -> Iterator[None]:
    """Keep what is started here on one CPU: a round trip between two of them measures how an idle one wakes up."""
    if not pinned:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextlib.contextmanager
def others_busy(wanted: bool) -> Iterator[None]:
    """Give the other CPUs something to do.

    What is written to a terminal goes through a kernel thread, which no pinning of ours reaches: it would run on an
    idle CPU, and what is measured would again be how that wakes up.
    """
    others = sorted(os.sched_getaffinity(0))[:-1] if wanted else []
    spinners = [subprocess.Popen(["sh", "-c", "while :; do :; done"]) for _ in others]
    try:
        for spinner, cpu in zip(spinners, others, strict=True):
            os.sched_setaffinity(spinner.pid, {cpu})
        yield
    finally:
        for spinner in spinners:
            spinner.kill()
            spinner.wait()


def warm(size: int) -> None:
    """See to it that `size` bytes of memory are at hand (see `c/warm.c`); a machine too small for that goes without."""
    if size:
        subprocess.run([c("warm"), str(size)], check=False, stderr=subprocess.DEVNULL)
