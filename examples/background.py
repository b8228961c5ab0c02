#!/usr/bin/env python3
"""Start a program in the background, say its pid, and leave: it goes on, and is nobody's zombie."""

import argparse

import hornpipe as hp


def main() -> None:
    """It shares our output, as a shell's cmd & does."""
    parser = argparse.ArgumentParser(description=__doc__, epilog="example: background.py -- sleep 60")
    parser.add_argument("command", nargs="+")
    print(hp.cmd(*parser.parse_args().command).background().pid)


if __name__ == "__main__":
    main()
