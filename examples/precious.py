#!/usr/bin/env python3
"""Ignore interrupts for as long as something precious is done, and no longer."""

import argparse
import sys

import hornpipe as hp


def precious() -> None:
    """What is ignored here is ignored in all that is called from here, and not in the programs that are started."""
    with hp.SIG.local(INT="IGNORE"):
        more_functions()


def more_functions() -> None:
    """Take the time that it takes."""
    print("interrupts are ignored, for now: press Enter", flush=True)
    sys.stdin.readline()


def main() -> None:
    """Be deaf, and hear again."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    precious()
    print("and now they are not: press Enter", flush=True)
    sys.stdin.readline()


if __name__ == "__main__":
    main()
