#!/usr/bin/env python3
"""Show the lines of netstat that are not about TCP and UDP, each as soon as it is there."""

import argparse
import sys

import hornpipe as hp


def main() -> None:
    """Read a program line by line; netstat is never wholly in memory."""
    hp.SIG["PIPE"] = "DEFAULT"  # | head is the end of it, and no error
    argparse.ArgumentParser(description=__doc__).parse_args()
    try:
        for line in hp.cmd("netstat", "-an", stderr=hp.STDOUT).lines():
            if not line.startswith(("tcp", "udp")):
                print(line)
    except (hp.CommandFailed, hp.SpawnError) as error:
        sys.exit(f"bad netstat: {error}")


if __name__ == "__main__":
    main()
