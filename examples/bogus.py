#!/usr/bin/env python3
"""Write to a program that may not be there, or not listen: both are known, and at the right moment."""

import argparse
import sys

import hornpipe as hp


def main() -> None:
    """Say which of the two it was."""
    parser = argparse.ArgumentParser(description=__doc__, epilog="examples: bogus.py bogus; bogus.py true")
    parser.add_argument("program")
    try:
        with hp.cmd(parser.parse_args().program).writer() as pipe:
            print("it has been started")
            pipe.write("bang\n" * 1_000_000)
    except hp.SpawnError as error:
        sys.exit(f"can't start it: {error}")
    except BrokenPipeError as error:
        sys.exit(f"it reads no more: {error}")


if __name__ == "__main__":
    main()
