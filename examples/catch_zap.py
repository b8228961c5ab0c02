#!/usr/bin/env python3
"""Count interrupts and say who sent them; the third one is the end."""

import argparse
import os
import sys

import hornpipe as hp

shucks = 0


def catch_zap(sig: hp.Signal) -> None:
    """A handler is told which signal it is. What it raises comes out where the program was interrupted."""
    global shucks
    shucks += 1
    os.write(1, f"pid {sig.pid} sent me a {sig}\n".encode())  # it may be a print that was interrupted
    if shucks == 3:
        sys.exit("Outta here!")


def main() -> None:
    """Wait for signals."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    hp.SIG["INT"] = catch_zap
    print(f"kill -INT {os.getpid()}", flush=True)
    while True:
        hp.signals.suspend()


if __name__ == "__main__":
    main()
