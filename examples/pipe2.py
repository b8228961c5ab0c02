#!/usr/bin/env python3
"""Talk with oneself over a socket pair: the best ones always go both ways."""

import argparse
import os

import hornpipe as hp


def child() -> None:
    """Its stdin and its stdout are the same socket."""
    line = input()
    print(f"Child Pid {os.getpid()} is sending this, having read: {line}", flush=True)


def main() -> None:
    """One socket for each side."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    ours, theirs = hp.socket_pair()
    with ours, hp.fn(child).with_options(stdin=theirs, stdout=theirs).start() as kid:
        theirs.leave()
        print(f"Parent Pid {os.getpid()} is sending this", file=ours)
        print(f"Parent Pid {os.getpid()} just read this: {ours.readline()}", end="")
        kid.wait()


if __name__ == "__main__":
    main()
