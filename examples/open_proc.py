#!/usr/bin/env python3
"""Talk with cat -n over a pseudo-terminal, where it answers at once although nobody told it to."""

import argparse

import hornpipe as hp


def main() -> None:
    """Most programs keep what they write to a pipe until there is much of it; at a terminal they do not."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", nargs="?", type=int, default=10, help="how many lines (default: 10)")
    with hp.expect.spawn("cat -n", encoding="utf-8", echo=False) as cat:
        for _ in range(parser.parse_args().count):
            cat.sendline("a line")
            print("got back", cat.readline().rstrip())


if __name__ == "__main__":
    main()
