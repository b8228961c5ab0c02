#!/usr/bin/env python3
"""Start a few programs, hang up on the whole process group, and survive it alone."""

import argparse
import contextlib
import os

import hornpipe as hp


def hang_up(count: int) -> None:
    """The leader of a group of its own: nobody else is to be hit."""
    with contextlib.ExitStack() as stack:
        sleepers = [stack.enter_context(hp.cmd("sleep", "60").start()) for _ in range(count)]
        hp.signals.kill_group("HUP")
        for sleeper in sleepers:
            print(f"pid {sleeper.pid}: {sleeper.wait()}")
    print(f"pid {os.getpid()}: still here")


def main() -> None:
    """Hang up."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", nargs="?", type=int, default=3, help="how many programs (default: 3)")
    hp.fn(hang_up, parser.parse_args().count).with_options(new_session=True).run()


if __name__ == "__main__":
    main()
