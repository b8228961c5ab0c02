#!/usr/bin/env python3
"""Show how far the clocks of hosts differ from ours, over TCP; hornpipe clocks asks them all at once."""

import argparse
import sys
import time

import hornpipe as hp

SECONDS_OF_70_YEARS = 2_208_988_800


def main() -> None:
    """A host that is not there is a line, and not the end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("hosts", nargs="+", metavar="HOST")
    parser.add_argument("--port", default="time(37)", help="default: time(37)")
    arguments = parser.parse_args()
    print(f"{'localhost':24} {0:8} {time.ctime()}")
    failed = False
    for host in arguments.hosts:
        try:
            with hp.connect(f"tcp://{host}:{arguments.port}", timeout=10) as clock:
                said = int.from_bytes(clock.as_bytes().read_exactly(4), "big") - SECONDS_OF_70_YEARS
            print(f"{host:24} {said - int(time.time()):8} {time.ctime(said)}")
        except (OSError, EOFError, ValueError) as error:
            print(f"{host:24} {'-':>8} {error}")
            failed = True
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
