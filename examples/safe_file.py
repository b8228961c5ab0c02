#!/usr/bin/env python3
"""Write stdin to a file in a child of this program that has cast off what the parent may do."""

import argparse
import shutil
import sys

import hornpipe as hp


def store(path: str) -> None:
    """In the child: what the parent writes is our stdin."""
    with open(path, "w") as file:
        shutil.copyfileobj(sys.stdin, file)


def main() -> None:
    """The file is opened by the user named, with that one's rights alone."""
    parser = argparse.ArgumentParser(description=__doc__, epilog="example: safe_file.py --user nobody /tmp/safe < data")
    parser.add_argument("--user", help="as root: whom the child becomes for good")
    parser.add_argument("path")
    arguments = parser.parse_args()
    try:
        with hp.fn(store, arguments.path).with_options(user=arguments.user).writer() as kid:
            kid.writelines(sys.stdin)
    except hp.CommandFailed as error:
        sys.exit(f"kid {error.status}")


if __name__ == "__main__":
    main()
