#!/usr/bin/env python3
"""Number the lines that a program prints; no shell sees its arguments, whatever is in them."""

import argparse
import sys

import hornpipe as hp


def main() -> None:
    """A safe backtick."""
    hp.SIG["PIPE"] = "DEFAULT"  # | head is the end of it, and no error
    parser = argparse.ArgumentParser(description=__doc__, epilog="example: safe_read.py ps aux")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="PROGRAM [ARGUMENT]...")
    command = parser.parse_args().command
    if not command:
        parser.error("no program to run")
    try:
        for number, line in enumerate(hp.cmd(*command).lines(), 1):
            print(f"{number:6}  {line}")
    except (hp.CommandFailed, hp.SpawnError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
