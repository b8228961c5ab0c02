"""The network programs of the manual page, as commands: other people's servers on the other end."""

from __future__ import annotations

import sys

import hornpipe as hp
from hornpipe.cli.clocks import Question, ask_all
from hornpipe.cli.tour.judging import PATIENCE, Judge, row
from hornpipe.cli.visits import Visits, body, parse
from hornpipe.deadline import after

PERL_CLOCK = """
use IO::Socket; $| = 1; my $s = IO::Socket::INET->new(Listen => 5, LocalAddr => "127.0.0.1") or die $!;
print $s->sockport, "\\n"; my $c = $s->accept; print $c pack "N", time + 2208988800 + 3600; close $c; <STDIN>;
"""
PERL_WEB = """
use IO::Socket; $| = 1; my $s = IO::Socket::INET->new(Listen => 5, LocalAddr => "127.0.0.1") or die $!;
print $s->sockport, "\\n";
for my $reply ("302 Found\\r\\nLocation: /new\\r\\nContent-Length: 0", "200 OK\\r\\nTransfer-Encoding: chunked") {
    my $c = $s->accept; while (<$c>) { last unless /\\S/ }
    print $c "HTTP/1.1 $reply\\r\\n\\r\\n";
    print $c $reply =~ /chunked/ ? "5\\r\\nhorn \\r\\n8\\r\\nand pipe\\r\\n0\\r\\n\\r\\n" : ""; close $c;
}
"""
PERL_PROMPT = """
use IO::Socket; $| = 1; my $s = IO::Socket::INET->new(Listen => 1, LocalAddr => "127.0.0.1") or die $!;
print $s->sockport, "\\n"; my $c = $s->accept; $c->autoflush(1);
print $c "Command? "; while (<$c>) { last if /quit/; print $c ucfirst, "Command? " } print $c "bye\\n";
"""


@row("perl")
def clocks(judge: Judge) -> str:
    """The clocks of many hosts at once, each with a verdict of its own.

    Breaks when a clock is not as far ahead as it is, or when nobody keeps one.
    """
    question = Question("tcp", daytime=False, timeout=PATIENCE)
    with hp.cmd("perl", "-e", PERL_CLOCK, timeout=PATIENCE, check=False).duplex() as perl:
        hosts = [f"localhost:{perl.readline().strip()}", "127.0.0.1:1"]
        found = dict(ask_all(question, hosts, [question.address(host) for host in hosts]))
    judge.same([found[0].ok, found[1].ok], [True, False], "who answers")
    judge.within(found[1].said, "refused", "why the other does not")
    judge.same(abs((found[0].difference or 0) - 3600) <= 2, True, "whether it is an hour ahead")
    return f"{hosts[0]} {found[0].difference:+d} s; {hosts[1]} refused"


@row("perl")
def web(judge: Judge) -> str:
    """A document of the web, where we are sent for it, in chunks.

    Breaks when there is no web server, or when it says something else.
    """
    with hp.cmd("perl", "-e", PERL_WEB, timeout=PATIENCE).lines() as perl, Visits(None) as visits:
        url = parse(f"http://localhost:{next(perl)}/old")
        reply = visits.get(url, after(PATIENCE))
        document = b"".join(body(reply)).decode()
    judge.same((reply.status, document), (200, "horn and pipe"), "the document")
    return f"{url.path}, sent on to /new: {document!r}"


@row("perl")
def interactive(judge: Judge) -> str:
    """Somebody at a terminal who talks with a server until it hangs up.

    Breaks when the server does not prompt, or does not answer.
    """
    with hp.cmd("perl", "-e", PERL_PROMPT, timeout=PATIENCE, check=False).lines() as perl:
        words = ["-c", "from hornpipe.cli import main; main()", "connect", f"tcp://localhost:{next(perl)}"]
        with hp.expect.spawn(sys.executable, words, timeout=PATIENCE, encoding="utf-8") as client:
            client.expect_exact("Command? ")
            client.sendline("horn and pipe")
            client.expect_exact("Command? ")
            told = [line for line in client.before.split("\r\n") if line]
            client.sendline("quit")
            client.expect(hp.expect.EOF)
            last = client.before.split()[-1]
            client.close()
    judge.same((told, last, client.exitstatus), (["horn and pipe", "Horn and pipe"], "bye", 0), "the conversation")
    return f"typed {told[0]!r}, seen {told[1]!r} and {last!r}"
