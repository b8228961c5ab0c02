#!/usr/bin/env python3
"""Take a semaphore: wait until it is zero and increment it, in one step."""

import argparse
import sys

import hornpipe as hp


def main() -> None:
    """A second one waits here until somebody gives, or until its time is over."""
    parser = argparse.ArgumentParser(description=__doc__, epilog="make the set first: semaphores.py")
    parser.add_argument("--key", type=int, default=1234, help="default: 1234")
    parser.add_argument("--number", type=int, default=0, help="which of the set (default: 0)")
    parser.add_argument("--timeout", type=float, metavar="S", help="seconds to wait (default: for ever)")
    arguments = parser.parse_args()
    number = arguments.number
    try:
        hp.sysv.SemaphoreSet.open(arguments.key).op([(number, 0), (number, +1)], timeout=arguments.timeout)
    except (OSError, ValueError) as error:
        sys.exit(str(error))
    print("taken")


if __name__ == "__main__":
    main()
