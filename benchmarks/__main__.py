"""`python -m benchmarks [--rounds N] [--quick] [--json FILE] [--page] [NAME...]`."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from benchmarks import (
    both_ways,
    capture,
    coprocess,
    datagrams,
    expecting,
    fifos,
    importing,
    lines,
    machine,
    many_children,
    page,
    pipelines,
    programs,
    report,
    servers,
    signals,
    sockets,
    spawning,
    sysv,
)
from benchmarks.contest import US, hold

TOPICS = (
    *(spawning, capture, lines, both_ways, pipelines, coprocess, fifos, expecting, many_children),
    *(signals, sockets, datagrams, servers, sysv, importing),
)
MEASUREMENTS = {m.name: m for topic in TOPICS for m in topic.MEASUREMENTS}
PEERS = (US, "duct", "plumbum", "sh", "pexpect", "sysv_ipc")


def main() -> int:
    """Hold the contests that were asked for. The status is 1 if hornpipe could not take part or failed in one."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        epilog="measurements: " + " ".join(MEASUREMENTS),
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these measurements")
    parser.add_argument("--rounds", type=int, metavar="N", help="how often each is repeated (5; 2 when quick)")
    parser.add_argument("--quick", action="store_true", help="small amounts: a smoke test, no verdict on speed")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every single figure there as well")
    parser.add_argument("--page", action="store_true", help="put plots and tables into docs/performance.md")
    options = parser.parse_args()
    if unknown := [name for name in options.names if name not in MEASUREMENTS]:
        parser.error(f"no such measurement: {' '.join(unknown)} (there are: {' '.join(MEASUREMENTS)})")
    rounds = options.rounds or (2 if options.quick else 5)
    if rounds < 1:
        parser.error("at least one round")

    programs.build()
    about = machine.describe(PEERS)
    print(about, end="\n\n", flush=True)
    noise = machine.Noise()
    started = time.monotonic()
    results = []
    for name in options.names or MEASUREMENTS:
        results.append(hold(MEASUREMENTS[name], rounds, noise, quick=options.quick))
        print(report.table(results[-1]), end="\n\n", flush=True)
        if options.page:
            page.update(results[-1:], about.replace("\n", "; "))
    seconds = time.monotonic() - started
    print(f"{seconds:.0f} s; noise: {noise}")
    print("medians over the rounds; ratios are the median of the ratios within each round")
    if options.quick:
        print("quick: the amounts are too small for the figures to mean much")
    print(report.summary(results))
    if options.json:
        facts = {
            "machine": about.splitlines(),
            "noise": str(noise),
            "quick": options.quick,
            "seconds": round(seconds, 1),
        }
        options.json.write_text(json.dumps(report.as_json(results, facts), indent=1) + "\n")
    ours = [c.name for r in results for c in r.measurement.contenders if c.name.startswith((US, "contained"))]
    failed = [name for r in results for name in (*r.missing, *r.failed) if name in ours]
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
