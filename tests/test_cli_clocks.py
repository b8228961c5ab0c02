"""``hornpipe clocks``: clocks of Perl's and of nobody's, over TCP and UDP, many at once."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sysconfig
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import hornpipe as hp
from hornpipe.cli.clocks import Question, ask, ask_all
from hornpipe.testing import hostile

HORNPIPE = str(Path(sysconfig.get_path("scripts"), "hornpipe"))


def clocks(*arguments: object, **options):
    return subprocess.run(
        [HORNPIPE, "clocks", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=50,
        stdin=subprocess.DEVNULL,
        **options,
    )


def told(*arguments: object) -> list[dict[str, object]]:
    return json.loads(clocks("--json", *arguments).stdout)


# As in inetd: the time of RFC 868, the daytime of RFC 867, each over TCP and UDP.
PERL = r"""
use strict; use warnings; use IO::Socket; use IO::Select; $| = 1;
my ($ahead) = @ARGV;
my %says = (
    time => sub { pack "N", (time + 2208988800 + $ahead) % 2**32 },
    day => sub { "Thu Nov 26 08:40:46 2026\r\n" },
);
my (%service, @ports);
for my $name (qw(time day)) {
    for my $proto (qw(tcp udp)) {
        my $socket = IO::Socket::INET->new(
            Proto => $proto, LocalAddr => "127.0.0.1", $proto eq "tcp" ? (Listen => 1000) : ()
        ) or die "$proto: $!";
        $service{$socket} = [$proto, $says{$name}];
        push @ports, $socket;
    }
}
my $select = IO::Select->new(@ports);
print join(" ", map { $_->sockport } @ports), "\n";
while (1) {
    for my $socket ($select->can_read) {
        my ($proto, $says) = @{ $service{$socket} };
        if ($proto eq "tcp") { my $client = $socket->accept; print $client $says->(); close $client }
        else { my $from = $socket->recv(my $question, 100); $socket->send($says->(), 0, $from) }
    }
}
"""


@contextlib.contextmanager
def perl_clocks(ahead: int) -> Iterator[list[str]]:
    """Perl's clocks: where time is over TCP and UDP, and daytime."""
    with subprocess.Popen(["perl", "-e", PERL, "--", str(ahead)], stdout=subprocess.PIPE, text=True) as perl:
        try:
            yield [f"127.0.0.1:{port}" for port in perl.stdout.readline().split()]
        finally:
            perl.kill()


class TestTime:
    """perlipc:N7, N13."""

    @pytest.mark.parametrize("ahead", [0, 3600, -100_000])
    def test_perls_clocks_are_as_far_ahead_as_they_are(self, ahead):
        """perlipc:N7, N13"""
        with perl_clocks(ahead) as (tcp, udp, _, _):
            (one,), (other,) = told(tcp), told("--udp", udp)
        for clock in (one, other):
            assert clock["ok"]
            assert (
                abs(clock["difference"] - ahead) <= 20
            )  # an error in the epoch, the order of bytes or a sign is far more
            assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d[+-]\d\d:\d\d", clock["said"])

    def test_people_read_daytime(self):
        """perlipc:N9"""
        with perl_clocks(0) as (_, _, tcp, udp):
            for clock in (*told("--daytime", tcp), *told("--daytime", "--udp", udp)):
                assert (clock["ok"], clock["said"]) == (True, "Thu Nov 26 08:40:46 2026")

    def test_each_host_has_its_own_verdict(self):
        """perlipc:N7: the page's program dies of the first host that is not there."""
        with perl_clocks(0) as (tcp, *_), hostile.serving(lambda peer, its: peer.send(its, b"ab")) as short:
            cut = f"127.0.0.1:{short.address[1]}"
            done = clocks("127.0.0.1:1", tcp, cut, "no-such-host.invalid")
        assert done.returncode == 1
        lines = {line.split()[1]: line for line in done.stdout.splitlines()}
        assert lines[tcp].startswith("ok ")
        assert all(line.startswith("FAIL ") for host, line in lines.items() if host != tcp)
        assert "Connection refused" in lines["127.0.0.1:1"]
        assert "ended after 2 of 4" in lines[cut]
        assert "no address for the host" in lines["no-such-host.invalid"]
        assert "\x1b" not in done.stdout

    def test_nobody_waits_for_who_is_silent(self):
        """perlipc:N13: many at once, and the time is that of one of them."""
        with perl_clocks(0) as (tcp, *_), hostile.silent_server() as peer:
            silent = f"127.0.0.1:{peer.address[1]}"
            begun = time.monotonic()
            with hp.cmd(HORNPIPE, "clocks", "--timeout", "2", *[silent] * 20, tcp, check=False).reader() as output:
                # The last one to be asked, and the first that is known: no verdict on another has been waited for.
                assert output.readline().startswith(f"ok    {tcp}")
                rest = output.read().splitlines()
            assert time.monotonic() - begun < 20  # one after another they would take 40
        assert len(rest) == 20
        assert all("time ran out" in line for line in rest)
        assert output.status.code == 1

    def test_a_datagram_that_is_lost_is_asked_for_again(self):
        """gotcha:U3, perlipc:N13: the page's program does not, and says so."""
        with hp.open_datagram(local="udp://127.0.0.1:0", timeout=20) as server:
            host = f"127.0.0.1:{server.local.port}"
            with hp.cmd(HORNPIPE, "clocks", "--udp", "--timeout", "7", host, timeout=50).reader() as output:
                first = server.receive()
                again = server.receive()
                assert first.sender == again.sender
                server.send(b"what?", again.sender)  # no time at all
                server.send((int(time.time()) + 2_208_988_800).to_bytes(4, "big"), again.sender)
                assert output.readline().startswith(f"ok    {host}")

    def test_who_refuses_datagrams_is_known_at_once(self):
        """gotcha:U2"""
        (clock,) = told("--udp", "--timeout", "20", "127.0.0.1:1")
        assert (clock["ok"], clock["difference"]) == (False, None)
        assert "Connection refused" in clock["said"]

    def test_json_is_in_the_order_of_the_hosts(self):
        with perl_clocks(0) as (tcp, *_):
            hosts = ["127.0.0.1:1", tcp, "127.0.0.1:2", f"tcp://{tcp}"]
            assert [clock["host"] for clock in told(*hosts)] == hosts

    def test_more_hosts_than_there_are_descriptors(self):
        with perl_clocks(0) as (tcp, *_):
            done = clocks("--json", *[tcp] * 600)
        assert [clock["ok"] for clock in json.loads(done.stdout)] == [True] * 600
        assert done.returncode == 0


def test_what_a_host_says_cannot_speak_to_the_terminal():
    with hostile.serving(lambda peer, its: peer.send(its, b"\x1b[2Jnoon\r\nand\xff more" + b"x" * 1000)) as peer:
        port = peer.address[1]
        said = clocks("--daytime", f"127.0.0.1:{port}").stdout
    assert "?[2Jnoon and" in said
    assert "\x1b" not in said
    assert len(said) < 400


def test_in_a_terminal_it_is_a_table_that_fills():
    """perlipc:N7"""
    with perl_clocks(0) as (tcp, *_):
        arguments = [HORNPIPE, "clocks", tcp, "127.0.0.1:1"]
        out = hp.cmd(*arguments, pty=True, env={"TERM": "xterm", "NO_COLOR": None}, check=False, timeout=50).read()
    assert "\x1b[" in out
    seen = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", out)
    assert "ahead (s)" in seen
    assert re.search(rf"ok +{tcp}", seen)
    assert re.search(r"FAIL +127\.0\.0\.1:1 ", seen)


def test_ctrl_c_ends_it_at_once():
    with hostile.silent_server() as peer:
        child = hp.expect.spawn(HORNPIPE, ["clocks", f"127.0.0.1:{peer.address[1]}"], timeout=20)
        child.expect(r"\.\.\.")
        child.sendintr()
        child.expect(hp.expect.EOF)
        child.close()
    assert child.signalstatus == 2


@pytest.mark.parametrize("host", ["", ":37", "udp://x:37", "tcp://x", "a b", "unix:///tmp/x", "x:99999"])
def test_what_is_no_host_is_refused_before_anybody_is_asked(host):
    done = clocks("127.0.0.1:1", host)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1


def test_no_room_for_threads_is_a_verdict():
    # In a child: Python keeps something of each thread that it could not start.
    said, error = hp.fn(ask_without_room).with_options(timeout=30).call()
    assert said == "can't start new thread"
    assert (type(error), error.strerror) == (BlockingIOError, said)


def ask_without_room():
    question = Question("tcp", daytime=False, timeout=20)
    address = question.address("localhost:1")
    threading.stack_size((1 << 47) - 4096)  # more than there is of addresses
    said = ask(question, "localhost:1", address).said
    try:
        list(ask_all(question, ["localhost:1"], [address]))
    except OSError as error:
        return said, error
    return said, None


@pytest.mark.parametrize("host", ["::1", "[::1]"])
def test_ipv6_needs_no_brackets_where_there_is_no_port(host):
    (clock,) = told(host)
    assert "tcp://[::1]:time(37)" in clock["said"]


def test_help_shows_an_example():
    done = clocks("--help")
    assert done.returncode == 0
    assert "hornpipe clocks " in done.stdout.split("Examples:")[1]
