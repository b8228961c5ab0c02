#!/usr/bin/env python3
"""Talk with oneself over two pipes: this program forks, and the child is this program."""

import argparse
import os

import hornpipe as hp


def child() -> None:
    """Its stdin is what the parent writes, its stdout what the parent reads."""
    line = input()
    print(f"Child Pid {os.getpid()} is sending this, having read: {line}", flush=True)


def main() -> None:
    """Two pipes, their ends closed where they have to be, and no zombie."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    with hp.fn(child).duplex() as kid:
        answer = kid.ask(f"Parent Pid {os.getpid()} is sending this")
    print(f"Parent Pid {os.getpid()} just read this: {answer}")


if __name__ == "__main__":
    main()
