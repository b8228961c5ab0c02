#!/usr/bin/env python3
"""Print lines into a shell pipeline, as to a printer, and know whether they arrived."""

import argparse
import sys

import hornpipe as hp


def main() -> None:
    """Spool what is on stdin."""
    parser = argparse.ArgumentParser(description=__doc__, epilog="example: spooler.py --to 'tee copy' < letter")
    parser.add_argument("--to", default="lpr -h 2>/dev/null", metavar="COMMAND", help="default: lpr -h")
    try:
        with hp.sh(f"cat -v | {parser.parse_args().to}").writer() as spooler:
            spooler.writelines(sys.stdin)
    except BrokenPipeError as error:
        sys.exit(f"spooler pipe broke: {error}")
    except hp.CommandFailed as error:
        sys.exit(f"bad spool: {error.status}")


if __name__ == "__main__":
    main()
