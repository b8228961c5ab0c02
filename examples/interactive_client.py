#!/usr/bin/env python3
"""Talk to a server: what is typed goes there, what it says is shown, both at once."""

import argparse
import sys

import hornpipe as hp


def main() -> None:
    """One process does both; it ends when the server hangs up, and the end of the input does not cut the answer off."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("host")
    parser.add_argument("port")
    arguments = parser.parse_args()
    try:
        with hp.connect(f"tcp://{arguments.host}:{arguments.port}") as server:
            print(f"[Connected to {server.peer}]", file=sys.stderr, flush=True)
            hp.relay((0, 1), server, until="other")
    except (OSError, ValueError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
