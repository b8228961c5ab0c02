"""One contender in a process of its own: `python -m benchmarks.play MODULE MEASUREMENT CONTENDER SIZE`.

It prints one line, as the C programs do: the seconds that its work took and by how much memory grew at the peak.
"""

from __future__ import annotations

import importlib
import sys
import time
from collections.abc import Callable
from typing import Self

# So that the contest can tell a peer that is not installed from one that failed.
MISSING = 69


def memory(key: str) -> int:
    """A line of /proc/self/status in bytes. (`ru_maxrss` would still hold the peak of the process that started us.)"""
    with open("/proc/self/status") as status:
        for line in status:
            if line.startswith(key + ":"):
                return int(line.split()[1]) * 1024
    raise LookupError(key)


class Figures:
    """What a contender reports: memory from before its imports on, time within its `with` block."""

    def __init__(self) -> None:
        self.at_start = memory("VmRSS")
        self.seconds = 0.0
        self.grown = 0

    def __enter__(self) -> Self:
        self._entered = time.perf_counter()
        return self

    def __exit__(self, *exception: object) -> None:
        self.seconds += time.perf_counter() - self._entered
        self.grown = max(self.grown, memory("VmHWM") - self.at_start)

    def each(self, count: int, work: Callable[[], object]) -> None:
        """Time `count` calls; one goes ahead unmeasured, for imports that happen on first use."""
        work()
        with self:
            for _ in range(count):
                work()


def expect(found: object, wanted: object) -> None:
    """Hold a contender to its word: a fast wrong answer is no answer."""
    if found != wanted:
        raise SystemExit(f"expected {wanted!r}, found {found!r}"[:300])


def main() -> None:
    """Run the contender that the command line names."""
    module, measurement, contender, size = sys.argv[1:]
    figures = Figures()
    contest = importlib.import_module(module)
    work = next(m for m in contest.MEASUREMENTS if m.name == measurement).functions[contender]
    try:
        work(figures, int(size))
    except ImportError as error:
        print(error.name or error, file=sys.stderr)
        raise SystemExit(MISSING) from None
    print(f"seconds={figures.seconds:.9f} grown={figures.grown}")


if __name__ == "__main__":
    main()
