#!/usr/bin/env python3
"""Make a file whose content is a fresh signature for each reader, such as ~/.signature."""

import argparse
from pathlib import Path

import hornpipe as hp


def main() -> None:
    """Serve it until INT or TERM, and remove it then."""
    parser = argparse.ArgumentParser(description=__doc__, epilog="then: cat ~/.signature")
    parser.add_argument("--path", type=Path, default=Path.home() / ".signature", help="default: ~/.signature")
    parser.add_argument("--name", default="John Smith (smith@host.org)", help="the first line")
    parser.add_argument("--fortune", default="/usr/games/fortune", help="where the rest comes from")
    arguments = parser.parse_args()
    hp.signals.unwind("INT", "TERM")
    with hp.Fifo(arguments.path) as fifo:
        fifo.serve(lambda: f"{arguments.name}\n" + hp.cmd(arguments.fortune, "-s").read())


if __name__ == "__main__":
    main()
