#!/usr/bin/env python3
"""Greet TCP clients, one after another: who they are, and what time it is."""

import argparse
import sys
import time

import hornpipe as hp


def main() -> None:
    """The loop of the manual page; serve() has everything that a server needs besides."""
    parser = argparse.ArgumentParser(description=__doc__, epilog="then: tcp_client.py localhost 2345")
    parser.add_argument("address", nargs="?", default="tcp://:2345", help="default: tcp://:2345, every interface")
    try:
        listener = hp.listen(parser.parse_args().address, newline="\r\n")
    except (OSError, ValueError) as error:
        sys.exit(str(error))
    hp.signals.unwind("INT", "TERM")
    with listener:
        print(f"server started at {listener.address}", flush=True)
        for client in listener:
            print(f"connection from {client.peer} at {time.ctime()}", flush=True)
            with client:
                print(f"Hello there, {client.peer}, it's now {time.ctime()}", file=client)


if __name__ == "__main__":
    main()
