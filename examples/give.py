#!/usr/bin/env python3
"""Give a semaphore back: decrement it, and whoever waits in take.py goes on."""

import argparse
import sys

import hornpipe as hp


def main() -> None:
    """To be run while another program waits."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--key", type=int, default=1234, help="default: 1234")
    parser.add_argument("--number", type=int, default=0, help="which of the set (default: 0)")
    arguments = parser.parse_args()
    try:
        hp.sysv.SemaphoreSet.open(arguments.key).op([(arguments.number, -1)], timeout=0)
    except TimeoutError:
        sys.exit("nobody has taken it")
    except (OSError, ValueError) as error:
        sys.exit(str(error))
    print("given")


if __name__ == "__main__":
    main()
