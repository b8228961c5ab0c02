#!/usr/bin/env python3
"""Count, and on HUP begin again as a new program in the same process, with the same arguments."""

import argparse
import itertools
import os
import sys
import time

import hornpipe as hp


def main() -> None:
    """Restart however this script was started, as often as it is asked to."""
    parser = argparse.ArgumentParser(description=__doc__, epilog="then: kill -HUP PID")
    parser.add_argument("--every", type=float, default=2, metavar="S", help="seconds between numbers (default: 2)")
    parser.add_argument("words", nargs="*", help="anything, to see it survive")
    arguments = parser.parse_args()
    hp.restart_on_hup()
    print(f"PID: {os.getpid()}")
    print("ARGV:", *sys.argv[1:], flush=True)
    for count in itertools.count(1):
        time.sleep(arguments.every)
        # In one piece: a restart may come between the words of a print, its newline being one.
        sys.stdout.write(f"{count}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
