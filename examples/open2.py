#!/usr/bin/env python3
"""Talk with cat -u -n over two pipes: a line there, a numbered line back."""

import argparse

import hornpipe as hp


def main() -> None:
    """Both ends of a program that does not keep its answers to itself."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("lines", nargs="*", default=["stuff"])
    with hp.cmd("cat", "-u", "-n").duplex() as cat:
        for line in parser.parse_args().lines:
            print("got back:", cat.ask(line).strip())


if __name__ == "__main__":
    main()
