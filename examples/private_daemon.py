#!/usr/bin/env python3
"""Keep words and answer questions about them at a Unix name, which only programs of this machine can reach."""

import argparse
import sys
from pathlib import Path

import hornpipe as hp

WORDS = {
    "fifo": "a pipe that has a name",
    "socket": "a pipe that goes both ways",
    "signal": "a word without a sentence",
}


def answer(client: hp.Connection[str]) -> None:
    """A line with a word, a message that ends with a dot."""
    for line in client:
        client.write_until_dot(WORDS.get(line.strip(), "I do not know that word"))


def main() -> None:
    """Serve; there is one process for each client, so a slow one keeps nobody waiting."""
    parser = argparse.ArgumentParser(description=__doc__, epilog="in front of it: ask_daemon.py, by a web server")
    parser.add_argument("path", nargs="?", type=Path, default=Path("/tmp/words.sock"), help="default: /tmp/words.sock")
    path = parser.parse_args().path
    try:
        hp.serve(f"unix://{path}", answer, idle_timeout=30, ready=lambda: print(f"answering at {path}", flush=True))
    except (OSError, ValueError) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
