#!/usr/bin/env python3
"""Make a set of ten semaphores under a key, for take.py and give.py; or remove it."""

import argparse
import sys

import hornpipe as hp


def main() -> None:
    """The set outlives this program, until it is removed; two that make it at once make one."""
    parser = argparse.ArgumentParser(description=__doc__, epilog="then: take.py; take.py waits until: give.py")
    parser.add_argument("--key", type=int, default=1234, help="default: 1234")
    parser.add_argument("--remove", action="store_true")
    arguments = parser.parse_args()
    try:
        if arguments.remove:
            hp.sysv.SemaphoreSet.open(arguments.key).remove()
        else:
            print(f"sem id {hp.sysv.SemaphoreSet.open_or_create(arguments.key, initial=[0] * 10).id}")
    except OSError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
