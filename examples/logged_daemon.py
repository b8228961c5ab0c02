#!/usr/bin/env python3
"""Become a daemon whose stdout and stderr are what a command reads: by default logger, which passes it on to syslog."""

import argparse
import time

import hornpipe as hp


def main() -> None:
    """Print the time now and then. A logger that dies is started again, and no line is lost meanwhile."""
    parser = argparse.ArgumentParser(description=__doc__, epilog="then: kill $(cat PIDFILE)")
    parser.add_argument("pidfile")
    parser.add_argument("command", nargs="*", default=["logger", "--tag", "clock"], help="after --")
    arguments = parser.parse_args()
    log = hp.cmd(*arguments.command)
    with hp.daemonize(arguments.pidfile, stdout=log, stderr=log) as daemon:
        hp.signals.unwind("TERM")
        daemon.ready()
        while True:
            print(time.ctime(), flush=True)
            time.sleep(1)


if __name__ == "__main__":
    main()
