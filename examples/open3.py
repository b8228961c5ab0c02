#!/usr/bin/env python3
"""Feed stdin to a shell command line, and show which of its words came by stdout and which by stderr."""

import argparse
import sys

import hornpipe as hp


def main() -> None:
    """All three streams at once, without a loop around select and without deadlock."""
    parser = argparse.ArgumentParser(description=__doc__, epilog="example: open3.py 'tr a-z A-Z; echo done >&2' < text")
    parser.add_argument("command")
    with hp.sh(parser.parse_args().command, check=False).duplex(stderr=True) as program:
        program.send(sys.stdin.read())
        program.close_input()
        for stream, data in program.events():
            for line in data.splitlines():
                print(f"{stream}: {line}", flush=True)
    print(program.status)


if __name__ == "__main__":
    main()
