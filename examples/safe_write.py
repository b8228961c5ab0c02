#!/usr/bin/env python3
"""Feed lines to a program; no shell sees its arguments, whatever is in them."""

import argparse
import sys

import hornpipe as hp


def main() -> None:
    """A safe pipe open for writing."""
    parser = argparse.ArgumentParser(description=__doc__, epilog="example: seq 9 | safe_write.py grep -e '[3-5]'")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="PROGRAM [ARGUMENT]...")
    command = parser.parse_args().command
    if not command:
        parser.error("no program to run")
    try:
        with hp.cmd(*command).writer() as program:
            program.writelines(sys.stdin)
    except BrokenPipeError as error:
        sys.exit(f"whoops, {command[0]} pipe broke: {error}")
    except (hp.CommandFailed, hp.SpawnError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
