#!/usr/bin/env python3
"""Be told to end: clean up, end the children, and die of the signal that it was."""

import argparse
import os
import tempfile

import hornpipe as hp


def main() -> None:
    """Work in a folder that will not be left behind."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    hp.signals.unwind("TERM", "HUP", "INT")
    with tempfile.TemporaryDirectory() as folder, hp.cmd("sleep", "60", cwd=folder).start() as worker:
        try:
            print(f"pid {os.getpid()} works in {folder} with pid {worker.pid}", flush=True)
            worker.wait()
        finally:
            print("cleaned up", flush=True)


if __name__ == "__main__":
    main()
