"""What came out, for people and as JSON."""

from __future__ import annotations

from typing import Any

from benchmarks.contest import MIB, Result, Verdict

MARKS = {True: "reached", False: "MISSED ", None: "   ?   "}


def table(result: Result) -> str:
    """A measurement's contenders, the fastest first, and its targets."""
    measurement = result.measurement
    size = measurement.unit.sizes(result.size)
    names = sorted((n for n in _names(result) if result.samples(n)), key=result.cost)
    width = max([len(n) for n in names] + [24])
    lines = [f"{measurement.name}: {measurement.title.format(size=size)} ({len(result.rounds)} rounds)"]
    heads = [measurement.unit.name, "x C", "x peer", "spread"] + ["MiB grown"] * measurement.memory
    lines.append(f"  {'':{width}}" + "".join(f"{head:>11}" for head in heads))
    for name in names:
        cells = [
            significant(measurement.unit.show(result.cost(name))),
            _times(result.ratio(name, "C")),
            _times(result.ratio(name, measurement.peer)),
            f"{100 * result.spread(name):.0f}%",
        ]
        if measurement.memory:
            cells.append(f"{result.grown(name) / MIB:.1f}")
        lines.append(f"  {name:{width}}" + "".join(f"{cell:>11}" for cell in cells))
    lines.append(f"  x: times the cost of C, and of the peer {measurement.peer}; below 1 is better")
    if result.missing:
        lines.append(f"  not here: {', '.join(result.missing)}")
    lines += [f"  FAILED {name}: {why}" for name, why in result.failed.items()]
    lines += [verdict(v) for v in result.verdicts]
    return "\n".join(lines)


def verdict(v: Verdict) -> str:
    """A target, whether it is reached, and what was found: the median and the extremes over the rounds."""
    return f"  {MARKS[v.reached]}  {v.target}: {v.found}"


def summary(results: list[Result]) -> str:
    """All targets once more, those that were missed by name."""
    verdicts = [(r.measurement.name, v) for r in results for v in r.verdicts]
    reached = sum(v.reached is True for _, v in verdicts)
    unknown = sum(v.reached is None for _, v in verdicts)
    lines = [f"targets: {reached} of {len(verdicts)} reached" + (f", {unknown} not measured" if unknown else "")]
    lines += [f"  MISSED   {name}: {v.target}: {v.found}" for name, v in verdicts if v.reached is False]
    return "\n".join(lines)


def as_json(results: list[Result], about: dict[str, Any]) -> dict[str, Any]:
    """Everything, down to the single sample, in seconds for each item and in bytes."""
    return about | {
        "measurements": [
            {
                "name": r.measurement.name,
                "size": r.size,
                "rounds": [{n: {"cost": s.cost, "grown": s.grown} for n, s in round_.items()} for round_ in r.rounds],
                "missing": r.missing,
                "failed": r.failed,
                "targets": [{"target": v.target, "found": v.found, "reached": v.reached} for v in r.verdicts],
            }
            for r in results
        ]
    }


def _names(result: Result) -> list[str]:
    return [contender.name for contender in result.measurement.contenders]


def _times(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.2f}"


def significant(figure: float) -> str:
    return f"{figure:.3g}" if figure < 1000 else f"{figure:.0f}"
