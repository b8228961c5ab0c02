#!/usr/bin/env python3
"""Greet TCP clients, a process for each, and tell them their fortune with the line ends of the Internet."""

import argparse
import logging
import sys
import time

import hornpipe as hp

FORTUNE = "/usr/games/fortune"


def greet(client: hp.Connection[str]) -> None:
    """In a process of its own: the others are not kept waiting by a name server that is asked for this client."""
    try:
        name = hp.host_name(client.peer, timeout=2)
    except TimeoutError:
        name = str(client.peer)
    print(f"Hello there, {name}, it's now {time.ctime()}", file=client)
    client.write(hp.cmd(FORTUNE, env_base="minimal", timeout=10).read())


def main() -> None:
    """Serve until INT or TERM; children are reaped, and logged."""
    parser = argparse.ArgumentParser(description=__doc__, epilog="then: tcp_client.py localhost 2345")
    parser.add_argument("address", nargs="?", default="tcp://:2345", help="default: tcp://:2345, every interface")
    logging.basicConfig(format="%(asctime)s %(message)s", level=logging.INFO)
    try:
        server = hp.Server(parser.parse_args().address, greet, newline="\r\n", ready=lambda: print(server, flush=True))
        server.run()
    except (OSError, ValueError) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
