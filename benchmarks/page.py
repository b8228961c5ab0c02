"""The page on performance: each measurement as a plot and a table, put in the place of what stood there before."""

from __future__ import annotations

import re
import time
from pathlib import Path

from benchmarks import report
from benchmarks.contest import US, Result

PAGE = Path(__file__).resolve().parent.parent / "docs" / "performance.md"
PLOTS = PAGE.parent / "performance"
README = PAGE.parent.parent / "README.md"
_ROW = re.compile(
    r"^\| \[[\d.]+\]\(docs/performance\.md#(?P<name>[\w-]+)\)(?P<rest> \|.*\| `(?P<peer>[^`]+)`.* \|)$", re.MULTILINE
)
_FOUND = re.compile(r"(?:ahead of|x the speed of) (?P<peer>.+?)(?: \([\d/]+\))?: (?P<times>[\d.]+)")
OURS, THEIRS, LIMIT = "#0b6e4f", "#8a93a0", "#222222"


def update(results: list[Result], machine: str) -> None:
    """Write the plots, and the section of each measurement; one that has none yet goes to the end."""
    PLOTS.mkdir(exist_ok=True)
    text = PAGE.read_text()
    for result in results:
        if not result.samples(reference(result)):
            continue  # what all is compared with failed, as the report says: the page keeps what it has
        plot(result, PLOTS / f"{result.measurement.name}.svg")
        name = result.measurement.name
        made = f"<!-- {name} -->\n{section(result, machine)}<!-- end of {name} -->\n"
        place = re.compile(rf"<!-- {name} -->\n.*?<!-- end of {name} -->\n", re.DOTALL)
        text = place.sub(lambda _, made=made: made, text) if place.search(text) else f"{text.rstrip()}\n\n{made}"
    PAGE.write_text(text)
    README.write_text(in_readme(README.read_text(), text))


def in_readme(readme: str, page: str) -> str:
    """The README with the page's figures in its table of speeds: of several on one peer the lowest."""

    def anew(row: re.Match[str]) -> str:
        section = page.partition(f"<!-- {row['name']} -->")[2].partition(f"<!-- end of {row['name']} -->")[0]
        times = min(float(found["times"]) for found in _FOUND.finditer(section) if found["peer"] == row["peer"])
        return f"| [{times:.{0 if times >= 9.95 else 1}f}](docs/performance.md#{row['name']}){row['rest']}"

    return _ROW.sub(anew, readme)


def _sentence(title: str) -> str:
    """With a capital and a full stop; what is Python's or the shell's own stays as it is."""
    first = title.split()[0]
    return f"{title[0].upper() if first.isalpha() and first != 'gen' else title[0]}{title[1:]}."


def section(result: Result, machine: str) -> str:
    """What the page says on a measurement."""
    measurement = result.measurement
    unit = measurement.unit
    name = measurement.name
    base = reference(result)
    lines = [
        f"### {name}\n\n{_sentence(measurement.title.format(size=unit.sizes(result.size)))}\n",
        f"```{{image}} performance/{name}.svg\n:alt: {name}, as multiples of the cost of {base}\n```\n",
        f"| | {unit.name} | x {base} |" + (" MiB grown |" if measurement.memory else ""),
        "|---|--:|--:|" + ("--:|" if measurement.memory else ""),
    ]
    for who in ranked(result):
        ratio = result.ratio(who, base)
        bold = f"**{who}**" if is_ours(who) else who
        row = f"| {bold} | {report.significant(unit.show(result.cost(who)))} | {ratio:.2f} |"
        lines.append(row + (f" {result.grown(who) / (1 << 20):.1f} |" if measurement.memory else ""))
    lines.append("")
    lines += [f"- {report.MARKS[v.reached].strip().lower()}: {v.target}: {v.found}" for v in result.verdicts]
    rounds = "1 round" if len(result.rounds) == 1 else f"{len(result.rounds)} rounds"
    lines.append(f"\n*{time.strftime('%Y-%m-%d')}, {rounds}; {machine}*\n")
    return "\n".join(lines)


def plot(result: Result, file: Path) -> None:
    """A bar for each contender: its cost as a multiple of C's, or of the peer's where there is no C."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    base = reference(result)
    names = [name for name in ranked(result) if result.ratio(name, base) is not None][::-1]
    ratios = [result.ratio(name, base) or 0.0 for name in names]
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": result.measurement.name, "font.size": 9}):
        figure = Figure(figsize=(7, 0.6 + 0.26 * len(names)), layout="constrained")
        axes = figure.add_subplot()
        colours = [OURS if is_ours(name) else LIMIT if name == base else THEIRS for name in names]
        bars = axes.barh(names, ratios, color=colours)
        axes.bar_label(bars, [f"{ratio:.2f}" for ratio in ratios], padding=3)
        axes.axvline(1, color=LIMIT, linewidth=0.8)
        if max(ratios) > 20 * min(ratios):
            axes.set_xscale("log")
        axes.margins(x=0.12)
        axes.set_xlabel(f"cost, as a multiple of that of {base}")
        axes.spines[["top", "right"]].set_visible(False)
        figure.savefig(file, format="svg", metadata={"Date": None})


def ranked(result: Result) -> list[str]:
    """Who took part, the fastest first."""
    names = [contender.name for contender in result.measurement.contenders if result.samples(contender.name)]
    return sorted(names, key=result.cost)


def reference(result: Result) -> str:
    """Whose cost is 1: C's, or the peer's where no program in C takes part."""
    return "C" if result.samples("C") else result.measurement.peer


def is_ours(name: str) -> bool:
    """Whether it is hornpipe in one of its forms."""
    return name.startswith((US, "contained"))
