#!/usr/bin/env python3
"""Become a daemon that writes the time to a log; the starter waits until it works, or says why it does not."""

import argparse
import time
from pathlib import Path

import hornpipe as hp


def main() -> None:
    """Dissociate completely: own session, no terminal, / as the folder, and a pidfile that is a lock."""
    parser = argparse.ArgumentParser(description=__doc__, epilog="then: kill $(cat PIDFILE)")
    parser.add_argument("pidfile", type=Path)
    parser.add_argument("log", type=Path)
    arguments = parser.parse_args()
    with hp.daemonize(arguments.pidfile, stdout=arguments.log, stderr=arguments.log) as daemon:
        hp.signals.unwind("TERM")
        daemon.ready()
        while True:
            print(time.ctime(), flush=True)
            time.sleep(1)


if __name__ == "__main__":
    main()
