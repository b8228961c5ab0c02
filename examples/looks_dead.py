#!/usr/bin/env python3
"""Say which processes are there: ours, or somebody else's who does not let us signal them."""

import argparse
import sys

import hornpipe as hp


def main() -> None:
    """Exit with 1 if one is dead."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pids", nargs="+", type=int, metavar="PID")
    alive = {pid: hp.alive(pid) for pid in parser.parse_args().pids}
    for pid, lives in alive.items():
        print(f"{pid} {'lives' if lives else 'looks dead'}")
    sys.exit(0 if all(alive.values()) else 1)


if __name__ == "__main__":
    main()
