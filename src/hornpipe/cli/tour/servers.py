"""Servers: other people's clients, and a program in between."""

from __future__ import annotations

import os

import hornpipe as hp
from hornpipe.cli.tour.judging import PATIENCE, Judge, row

PERL_CLIENT = """
use IO::Socket; my $s = IO::Socket::INET->new("127.0.0.1:$ARGV[0]") or die $!;
print $s "$ARGV[1]\\n"; $s->shutdown(1); print <$s>
"""


def _answer(client: hp.Connection[str]) -> None:
    for line in client:
        print(os.getpid(), line.strip()[::-1], file=client)
        return


@row("perl")
def serve(judge: Judge) -> str:
    """Two Perl clients of a server that has a process for each: neither is ours.

    Breaks when a client is not answered, or by a process that it shares with somebody.
    """
    with hp.Server("tcp://127.0.0.1:0", _answer) as server:
        client = ("perl", "-e", PERL_CLIENT, server.address.service)
        said = [hp.cmd(*client, word, timeout=PATIENCE).read() for word in ("stressed", "drawer")]
    pids, words = zip(*(line.split() for line in said), strict=True)
    judge.same((len({*pids, str(os.getpid())}), words), (3, ("desserts", "reward")))
    return f"{words[0]} from {pids[0]}, {words[1]} from {pids[1]}"


@row("tr", "perl")
def serve_program(judge: Judge) -> str:
    """The client is the stdin and stdout of ``tr``, whose line feed arrives as CR LF.

    Breaks when the program does not get what the client says, or its line ends are not translated.
    """
    command = hp.cmd("tr", "a-z", "A-Z", env_base="inherit")
    with hp.Server("tcp://127.0.0.1:0", command, newline="crlf") as server:
        port = server.address.service
        said = hp.cmd("perl", "-e", PERL_CLIENT, port, "shout", timeout=PATIENCE).as_bytes().read()
    judge.same(said, b"SHOUT\r\n")
    return repr(said.decode())
