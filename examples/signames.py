#!/usr/bin/env python3
"""Say the names of signals by their numbers, and their numbers by their names."""

import argparse

import hornpipe as hp


def main() -> None:
    """Print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("signals", nargs="*", metavar="SIGNAL", help="a name or a number; all of them without")
    wanted = parser.parse_args().signals
    for signal in hp.signals.table():
        if not wanted or signal.name in wanted or str(signal.number) in wanted:
            print(f"{signal.number} {signal.name}")


if __name__ == "__main__":
    main()
