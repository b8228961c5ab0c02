#!/usr/bin/env python3
"""Run a program while holding a lock on a file, if the lock can be had in time."""

import argparse
import fcntl
import sys

import hornpipe as hp


def main() -> None:
    """Exit as the program does, or with 75 (EX_TEMPFAIL) when somebody else holds the lock."""
    parser = argparse.ArgumentParser(description=__doc__, epilog="example: lock_in_time.py --wait 2 /tmp/lock -- date")
    parser.add_argument("--wait", type=float, default=10, metavar="S", help="seconds to wait (default: 10)")
    parser.add_argument("file")
    parser.add_argument("command", nargs="+")
    arguments = parser.parse_args()
    with open(arguments.file, "a") as file:
        try:
            # flock takes no time limit of its own; hp.lock(file, timeout=...) does all this at once.
            with hp.alarm(arguments.wait):
                fcntl.flock(file, fcntl.LOCK_EX)
        except TimeoutError:
            print(f"{arguments.file} is locked by somebody else", file=sys.stderr)
            sys.exit(75)
        sys.exit(hp.cmd(*arguments.command, check=False).run().code)


if __name__ == "__main__":
    main()
