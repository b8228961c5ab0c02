#!/usr/bin/env python3
"""Send a message with a type through a queue, and receive it."""

import argparse

import hornpipe as hp


def main() -> None:
    """The queue is removed at the end of its maker's with block."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("message", nargs="?", default="message")
    parser.add_argument("--type", type=int, default=1234, help="default: 1234")
    arguments = parser.parse_args()
    with hp.sysv.MessageQueue.create() as queue:
        queue.send(arguments.message.encode(), type=arguments.type)
        received = queue.receive(timeout=10)
        print("okay" if (received.data.decode(), received.type) == (arguments.message, arguments.type) else "not okay")


if __name__ == "__main__":
    main()
