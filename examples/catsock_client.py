#!/usr/bin/env python3
"""Print everything that a local server has to say."""

import argparse
import sys

import hornpipe as hp


def main() -> None:
    """The test for a socket is Perl's -S; only connecting tells whether anybody is there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", nargs="?", default="/tmp/catsock", help="default: /tmp/catsock")
    path = parser.parse_args().path
    if not hp.is_socket(path):
        sys.exit(f"something's wicked: {path} is no socket")
    try:
        with hp.connect(f"unix://{path}") as server:
            for line in server:
                print(line, end="")
    except OSError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
