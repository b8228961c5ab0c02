#!/usr/bin/env python3
"""Show how far the clocks of hosts differ from ours: one socket asks them all, and waits for all at once."""

import argparse
import sys
import time

import hornpipe as hp

SECONDS_OF_70_YEARS = 2_208_988_800


def main() -> None:
    """Datagrams may get lost: who has not answered in time is counted. hornpipe clocks --udp asks again."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("hosts", nargs="+", metavar="HOST")
    parser.add_argument("--port", default="time(37)", help="default: time(37)")
    parser.add_argument("--timeout", type=float, default=10, metavar="S", help="seconds for all (default: 10)")
    arguments = parser.parse_args()
    print(f"{'localhost':24} {0:8} {time.ctime()}")
    waiting = len(arguments.hosts)
    end = time.monotonic() + arguments.timeout
    with hp.open_datagram(local="udp://:0") as socket:
        for host in arguments.hosts:
            socket.send(b"", f"udp://{host}:{arguments.port}", timeout=arguments.timeout)
        while waiting:
            try:
                answer = socket.receive(4, timeout=max(0, end - time.monotonic()))
            except ConnectionRefusedError as error:
                print(error.strerror)
            except TimeoutError:
                break
            else:
                said = int.from_bytes(answer.data, "big") - SECONDS_OF_70_YEARS
                print(f"{answer.sender!s:24} {said - int(time.time()):8} {time.ctime(said)}")
            waiting -= 1
    sys.exit(f"{waiting} have not answered" if waiting else 0)


if __name__ == "__main__":
    main()
