#!/usr/bin/env python3
"""Tell local clients their fortune at a name in the file system: the client is the program's input and output."""

import argparse
import sys
import time

import hornpipe as hp


def greet(client: hp.Connection[str]) -> None:
    """Greet, and let the program speak to the client itself."""
    print(f"Hello there, it's now {time.ctime()}", file=client)
    hp.cmd("/usr/games/fortune", env_base="minimal", stdin=client, stdout=client, check=False).run()


def main() -> None:
    """A name left by a dead server is replaced; a living one's, or anything else that stands there, is not."""
    parser = argparse.ArgumentParser(description=__doc__, epilog="then: catsock_client.py /tmp/catsock")
    parser.add_argument("path", nargs="?", default="/tmp/catsock", help="default: /tmp/catsock")
    path = parser.parse_args().path
    try:
        hp.serve(f"unix://{path}", greet, ready=lambda: print(f"server started on {path}", flush=True))
    except (OSError, ValueError) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
