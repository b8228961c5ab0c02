"""Measurements: contenders that do the same work in turn, and the targets that ours should reach."""

from __future__ import annotations

import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from benchmarks import machine
from benchmarks.play import MISSING, Figures
from benchmarks.programs import ROOT

US = "hornpipe"
MIB = 1 << 20
GIB = 1 << 30
# A contender that takes longer is out of the contest.
PATIENCE = 120.0


@dataclass(frozen=True)
class Unit:
    """How the cost of one item, in seconds, is shown."""

    name: str
    show: Callable[[float], float]
    sizes: Callable[[int], str]


def _bytes(size: int) -> str:
    return f"{size // GIB} GiB" if size % GIB == 0 else f"{size // MIB} MiB"


MICROSECONDS = Unit("us", lambda cost: cost * 1e6, "{:,}".format)
MILLISECONDS = Unit("ms", lambda cost: cost * 1e3, "{:,}".format)
GIGABYTES_PER_SECOND = Unit("GB/s", lambda cost: 1e-9 / cost, _bytes)


@dataclass(frozen=True)
class Sample:
    """What one contender did in one round: seconds for each item, memory grown by at the peak, and how many items."""

    cost: float
    grown: float
    size: int


@dataclass(frozen=True)
class Verdict:
    """What became of a target: the median and the extremes, in words; `reached` is None if it was not measured."""

    target: str
    found: str
    reached: bool | None


Rounds = list[dict[str, Sample]]
Work = Callable[[Figures, int], None]


@dataclass(frozen=True)
class Target:
    """A bound on a figure that each round yields, and how the figure reads."""

    text: str
    needs: tuple[str, ...]
    figure: Callable[[dict[str, Sample]], float]
    reached: Callable[[float], bool]
    show: Callable[[float], str] = "{:.2f}".format

    def judge(self, rounds: Rounds) -> Verdict:
        """Compare the median with the bound."""
        figures = [self.figure(r) for r in rounds if all(name in r for name in self.needs)]
        if not figures:
            return Verdict(self.text, "not measured", None)
        middle = statistics.median(figures)
        found = f"{self.show(middle)} ({self.show(min(figures))} to {self.show(max(figures))})"
        return Verdict(self.text, found, self.reached(middle))


def at_most(bound: float, than: str, *, ours: str = US, aim: str = "at most") -> Target:
    """Our cost is at most `bound` times the other's."""
    return Target(
        f"{_ours(ours)}{aim} {bound:.2f} x the cost of {than}",
        (ours, than),
        lambda r: r[ours].cost / r[than].cost,
        lambda x: x <= bound,
    )


def at_least(bound: float, than: str, *, ours: str = US, aim: str = "at least") -> Target:
    """Our speed is at least `bound` times the other's."""
    return Target(
        f"{_ours(ours)}{aim} {bound:.2f} x the speed of {than}",
        (ours, than),
        lambda r: r[than].cost / r[ours].cost,
        lambda x: x >= bound,
    )


def ahead_of(*others: str, ours: str = US) -> Iterable[Target]:
    """Our cost is below each other's."""
    for than in others:
        yield Target(
            f"{_ours(ours)}ahead of {than}",
            (ours, than),
            lambda r, than=than: r[than].cost / r[ours].cost,
            lambda x: x > 1,
            "{:.2f} x".format,
        )


def adds_at_most(seconds: float, to: str, *, ours: str = US) -> Target:
    """Our cost is at most so many seconds above the other's."""
    return Target(
        f"{_ours(ours)}at most {seconds * 1e3:g} ms over {to}",
        (ours, to),
        lambda r: r[ours].cost - r[to].cost,
        lambda x: x <= seconds,
        lambda x: f"{x * 1e3:.2f} ms",
    )


def grows_below(bound: int, *, ours: str = US) -> Target:
    """Memory grows by less than so many bytes."""
    return Target(
        f"{_ours(ours)}memory grows by less than {bound // MIB} MiB",
        (ours,),
        lambda r: r[ours].grown,
        lambda x: x < bound,
        lambda x: f"{x / MIB:.1f} MiB",
    )


def keeps(times: float, *, ours: str = US) -> Target:
    """Memory grows by at most so many times what went through. (1.13 is once, and room for the interpreter's own.)"""
    return Target(
        f"{_ours(ours)}memory at most {times:.2f} x the data",
        (ours,),
        lambda r: r[ours].grown / r[ours].size,
        lambda x: x <= times,
    )


def grows_below_that_of(than: str, *, ours: str = US) -> Target:
    """Memory grows by less than the other's."""
    return Target(
        f"{_ours(ours)}memory below that of {than}",
        (ours, than),
        lambda r: r[ours].grown / r[than].grown,
        lambda x: x < 1,
        "{:.2f} of it".format,
    )


def _ours(name: str) -> str:
    return "" if name == US else f"{name}: "


@dataclass
class Contender:
    """Something that does the work: a command that prints its figures, or one that is timed as a whole."""

    name: str
    command: Callable[[int], list[str]]
    share: float = 1.0
    whole: bool = False


@dataclass
class Measurement:
    """One row of the table: what is done, how much of it, by whom, and what is to be reached."""

    name: str
    title: str
    unit: Unit
    size: int
    quick: int
    peer: str
    targets: Iterable[Target] = ()
    warm: float = 0.0  # memory to have at hand before each contender, as a multiple of the size
    memory: bool = False  # whether memory is part of the result
    one_cpu: bool = False
    others_busy: bool = False  # with `one_cpu`, where kernel threads take part
    turns: int = 1  # how many rounds for each that is asked for; short ones need many
    rounds: int | None = None  # at most so many in all, where what is found does not vary
    contenders: list[Contender] = field(default_factory=list)
    functions: dict[str, Work] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.targets = tuple(self.targets)

    def program(self, name: str, command: list[str], *, share: float = 1.0) -> None:
        """Enter a program that prints its figures; `SIZE` becomes the amount of work, `TENTH` a tenth of it."""
        self.contenders.append(Contender(name, lambda size: [_amount(word, size) for word in command], share))

    def whole(self, name: str, command: list[str]) -> None:
        """Enter a program that is timed from outside, from start to end, in an empty environment."""
        self.contenders.append(Contender(name, lambda _: command, whole=True))

    def contender(self, name: str, *, share: float = 1.0) -> Callable[[Work], Work]:
        """Enter a Python function, to be run in a process of its own by `play`; `share` is for those that are slow."""

        def enter(function: Work) -> Work:
            self.functions[name] = function
            play = [sys.executable, "-m", "benchmarks.play", function.__module__, self.name, name]
            self.contenders.append(Contender(name, lambda size: [*play, str(size)], share))
            return function

        return enter


def _amount(word: str, size: int) -> str:
    return {"SIZE": str(size), "TENTH": str(size // 10)}.get(word, word)


class Missing(Exception):
    """A peer that is not installed here."""


class Failed(Exception):
    """A contender that did not do its work."""


@dataclass
class Result:
    """What came out of a measurement."""

    measurement: Measurement
    size: int
    rounds: Rounds
    missing: list[str]
    failed: dict[str, str]

    @property
    def verdicts(self) -> list[Verdict]:
        """What became of each target."""
        return [target.judge(self.rounds) for target in self.measurement.targets]

    def samples(self, name: str) -> list[Sample]:
        """All that one contender did."""
        return [r[name] for r in self.rounds if name in r]

    def cost(self, name: str) -> float:
        """The median cost."""
        return statistics.median(sample.cost for sample in self.samples(name))

    def grown(self, name: str) -> float:
        """The median growth of memory."""
        return statistics.median(sample.grown for sample in self.samples(name))

    def spread(self, name: str) -> float:
        """How far the costs are apart, as a part of their median."""
        costs = [sample.cost for sample in self.samples(name)]
        return (max(costs) - min(costs)) / statistics.median(costs)

    def ratio(self, name: str, other: str) -> float | None:
        """The median of the ratios of two costs within each round."""
        ratios = [r[name].cost / r[other].cost for r in self.rounds if name in r and other in r]
        return statistics.median(ratios) if ratios else None


def hold(measurement: Measurement, rounds: int, noise: machine.Noise, *, quick: bool) -> Result:
    """Let all contenders work in turn, round after round."""
    size = measurement.quick if quick else measurement.size
    turns = -(-measurement.turns // 10) if quick else measurement.turns
    result = Result(measurement, size, [], [], {})
    taking_part = list(measurement.contenders)
    for number in range(min(rounds * turns, measurement.rounds or sys.maxsize)):
        if number % turns == 0:
            noise.sample()
        figures: dict[str, Sample] = {}
        # Nobody always runs behind the same neighbour.
        first = number % max(len(taking_part), 1)
        for contender in taking_part[first:] + taking_part[:first]:
            try:
                figures[contender.name] = _play(measurement, contender, size)
            except Missing:
                result.missing.append(contender.name)
                taking_part.remove(contender)
            except Failed as failure:
                result.failed[contender.name] = str(failure)
                taking_part.remove(contender)
        result.rounds.append(figures)
    return result


def _play(measurement: Measurement, contender: Contender, size: int) -> Sample:
    amount = max(1, int(size * contender.share))
    argv = contender.command(amount)
    if shutil.which(argv[0]) is None:
        raise Missing(argv[0])
    machine.warm(int(measurement.warm * amount))
    environment = {} if contender.whole else {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    with machine.one_cpu(measurement.one_cpu):
        start = time.perf_counter()
        child = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=environment,
            start_new_session=True,
        )
    try:
        with machine.others_busy(measurement.others_busy):
            output, complaint = child.communicate(timeout=PATIENCE)
            seconds = time.perf_counter() - start
    except subprocess.TimeoutExpired:
        raise Failed(f"not done after {PATIENCE:.0f} s") from None
    finally:
        if child.returncode is None:
            os.killpg(child.pid, signal.SIGKILL)
            child.communicate()
    if child.returncode == MISSING:
        raise Missing(complaint.strip())
    last = (complaint.strip() or f"status {child.returncode}").splitlines()[-1]
    if contender.whole and "ModuleNotFoundError" in complaint:
        raise Missing(last)
    if child.returncode:
        raise Failed(last)
    if contender.whole:
        return Sample(seconds, 0, 1)
    try:
        found = dict(word.split("=") for word in output.split())
        return Sample(float(found["seconds"]) / amount, float(found.get("grown", 0)), amount)
    except (ValueError, KeyError):
        raise Failed(f"no figures in {output!r}") from None
