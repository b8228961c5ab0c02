#!/usr/bin/env python3
"""Start many children at once and collect every status, while somebody else's reaper steals what it can."""

import argparse
import collections
import contextlib
import os
import signal

import hornpipe as hp


def reaper(*_: object) -> None:
    """The loop of the manual page: one CHLD may stand for many dead children."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def main() -> None:
    """Print how the children ended; none of them is lost, and no lost one is a success."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", nargs="?", type=int, default=100, help="how many children (default: 100)")
    parser.add_argument("--thief", action="store_true", help="with such a reaper beside us")
    arguments = parser.parse_args()
    if arguments.thief:
        signal.signal(signal.SIGCHLD, reaper)
    children = [hp.cmd("sh", "-c", f"exit {n % 3}").start() for n in range(arguments.count)]
    ends = collections.Counter(str(child.wait()) for child in children)
    for end, count in sorted(ends.items()):
        print(f"{count} {end}")


if __name__ == "__main__":
    main()
