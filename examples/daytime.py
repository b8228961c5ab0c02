#!/usr/bin/env python3
"""Ask a host for the time of its day, by the name of the service, and the number where that is not known."""

import argparse
import sys

import hornpipe as hp


def main() -> None:
    """One line is the whole client."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("host", nargs="?", default="localhost")
    parser.add_argument("--port", default="daytime(13)", help="default: daytime(13)")
    arguments = parser.parse_args()
    try:
        print(hp.connect(f"tcp://{arguments.host}:{arguments.port}", timeout=10).read(), end="")
    except (OSError, ValueError) as error:
        sys.exit(f"cannot connect to the daytime port: {error}")


if __name__ == "__main__":
    main()
