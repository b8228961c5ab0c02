#!/usr/bin/env python3
"""A CGI program: checks what the web asks, and passes it on to the private daemon of private_daemon.py."""

import argparse
import html
import os
import re
import sys
from urllib.parse import parse_qs

import hornpipe as hp


def reply(status: str, text: str) -> None:
    """Print a small page, and log who asked."""
    sys.stdout.write(f"Status: {status}\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<p>{html.escape(text)}</p>\n")
    print(f"{os.environ.get('REMOTE_ADDR', '-')}: {status}", file=sys.stderr)


def main() -> None:
    """Run by a web server, which says in QUERY_STRING what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, epilog="by hand: QUERY_STRING=word=fifo ask_daemon.py")
    parser.add_argument("--path", default=os.environ.get("WORDS_SOCKET", "/tmp/words.sock"), help="where the daemon is")
    path = parser.parse_args().path
    word = parse_qs(os.environ.get("QUERY_STRING", "")).get("word", [""])[0]
    if not re.fullmatch(r"[a-z]{1,30}", word):
        reply("400 Bad Request", "ask for a word: ?word=fifo")
        return
    try:
        with hp.connect(f"unix://{path}", timeout=5) as daemon:
            print(word, file=daemon)
            reply("200 OK", f"{word}: {daemon.read_until_dot().strip()}")
    except (OSError, EOFError) as error:
        print(f"the daemon: {error}", file=sys.stderr)
        reply("503 Service Unavailable", "the daemon does not answer; try again later")


if __name__ == "__main__":
    main()
