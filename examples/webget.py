#!/usr/bin/env python3
"""Fetch documents from a web server, in the protocol's own words; hornpipe get is the grown-up one."""

import argparse
import shutil
import sys

import hornpipe as hp


def main() -> None:
    """A connection for each document: in HTTP/1.0 its end is the document's."""
    hp.SIG["PIPE"] = "DEFAULT"  # | head is the end of it, and no error
    parser = argparse.ArgumentParser(description=__doc__, epilog="example: webget.py www.perl.org /guanaco.html")
    parser.add_argument("--port", default="http(80)", help="default: http(80)")
    parser.add_argument("host")
    parser.add_argument("documents", nargs="+", metavar="document")
    arguments = parser.parse_args()
    try:
        for document in arguments.documents:
            with hp.connect(f"tcp://{arguments.host}:{arguments.port}", timeout=20, newline="\r\n") as remote:
                print(f"GET {document} HTTP/1.0\nHost: {arguments.host}\n", file=remote)
                shutil.copyfileobj(remote.as_bytes(), sys.stdout.buffer)
    except (OSError, ValueError) as error:
        sys.exit(f"cannot fetch from {arguments.host}: {error}")


if __name__ == "__main__":
    main()
