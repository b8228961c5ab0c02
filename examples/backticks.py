#!/usr/bin/env python3
"""The same as netstat.py with all of the output at once: for little output, and little to say about it."""

import argparse
import sys

import hornpipe as hp


def main() -> None:
    """Read a program's output as one string."""
    hp.SIG["PIPE"] = "DEFAULT"  # | head is the end of it, and no error
    argparse.ArgumentParser(description=__doc__).parse_args()
    try:
        output = hp.cmd("netstat", "-an", stderr=hp.STDOUT).read()
    except (hp.CommandFailed, hp.SpawnError) as error:
        sys.exit(f"bad netstat: {error}")
    print(*(line for line in output.splitlines() if not line.startswith(("tcp", "udp"))), sep="\n")


if __name__ == "__main__":
    main()
