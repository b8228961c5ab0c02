#!/usr/bin/env python3
"""Print everything that a TCP server has to say."""

import argparse
import sys

import hornpipe as hp


def main() -> None:
    """A handle like that of any file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("host", nargs="?", default="localhost")
    parser.add_argument("port", nargs="?", default="2345", help="a number, or the name of a service (default: 2345)")
    arguments = parser.parse_args()
    try:
        with hp.connect(f"tcp://{arguments.host}:{arguments.port}", timeout=10) as connection:
            for line in connection:
                print(line, end="")
    except (OSError, ValueError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
