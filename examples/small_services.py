#!/usr/bin/env python3
"""Serve time, daytime and echo, as inetd does of its own: what the clients of the manual page ask for."""

import argparse
import sys
import time

import hornpipe as hp

SECONDS_OF_70_YEARS = 2_208_988_800


def now() -> bytes:
    """The time as RFC 868 has it."""
    return ((int(time.time()) + SECONDS_OF_70_YEARS) % 2**32).to_bytes(4, "big")


def tell_time(client: hp.Connection[str]) -> None:
    """Four bytes."""
    client.as_bytes().write(now())


def tell_daytime(client: hp.Connection[str]) -> None:
    """A line for people (RFC 867)."""
    print(time.ctime(), file=client)


def echo(client: hp.Connection[str]) -> None:
    """Whatever comes, as it comes (RFC 862)."""
    bare = client.as_bytes()
    while data := bare.read_some():
        bare.write(data)
        bare.flush()


def answer_datagrams(address: str) -> None:
    """The time, for everybody who asks by a datagram."""
    with hp.open_datagram(local=address) as socket:
        print(f"time at {socket.local}", flush=True)
        while True:
            question = socket.receive()
            if question.sender is not None:
                socket.send(now(), question.sender)


def main() -> None:
    """A service for each port, each in the background."""
    parser = argparse.ArgumentParser(description=__doc__, epilog="then: tcp_clocks.py --port 3737 localhost")
    parser.add_argument("--host", default="localhost")
    parser.add_argument("--time", default="3737", metavar="PORT", help="over TCP and UDP (default: 3737)")
    parser.add_argument("--daytime", default="1313", metavar="PORT", help="default: 1313")
    parser.add_argument("--echo", default="7777", metavar="PORT", help="default: 7777")
    arguments = parser.parse_args()
    services = {"time": tell_time, "daytime": tell_daytime, "echo": echo}
    try:
        servers = [
            hp.Server(f"tcp://{arguments.host}:{getattr(arguments, name)}", handler, newline="\r\n").start()
            for name, handler in services.items()
        ]
    except (OSError, ValueError) as error:
        sys.exit(str(error))
    for name, server in zip(services, servers, strict=True):
        print(f"{name} at {server.address}", flush=True)
    hp.signals.unwind("TERM", "INT")  # for this process; the servers end in good order, and have clients to think of
    try:
        answer_datagrams(f"udp://{arguments.host}:{arguments.time}")
    finally:
        for server in servers:
            server.stop()


if __name__ == "__main__":
    main()
