#!/usr/bin/env python3
"""Number the lines of files, of commands (names that end with |) and of stdin (-), as Perl's <> gives them."""

import argparse

import hornpipe as hp


def main() -> None:
    """Commands are run because this program says that it wants them, and not because of a name."""
    hp.SIG["PIPE"] = "DEFAULT"  # | head is the end of it, and no error
    parser = argparse.ArgumentParser(description=__doc__, epilog="example: diamond.py f1 'cmd1|' - f2 < tmpfile")
    parser.add_argument("names", nargs="*")
    for line in (lines := hp.inputs(parser.parse_args().names, commands=True)):
        print(f"{lines.filename}:{lines.lineno}: {line}", end="")


if __name__ == "__main__":
    main()
