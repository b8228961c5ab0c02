"""Servers: how many clients a second, by a process each, by workers, threads and programs; and kept connections."""

from __future__ import annotations

import sys
from pathlib import Path

from benchmarks.contest import Measurement, Target, Unit, at_least
from benchmarks.programs import c

CLIENTS_PER_SECOND = Unit("/s", lambda cost: 1 / cost, "{:,}".format)
GREETERS = str(Path(__file__).resolve().parent / "greeters.py")
LINE = "hello from the server"

PERL_LISTEN = r"""
use strict; use warnings; use IO::Socket::INET; use POSIX ':sys_wait_h';
my $server = IO::Socket::INET->new(
    LocalAddr => '127.0.0.1', LocalPort => $ARGV[0], Listen => 4096, ReuseAddr => 1) or die;
sub greet { my ($client) = @_; print $client "hello from the server\n"; close $client }
"""
PERL_FORK = (
    PERL_LISTEN
    + r"""
$SIG{CHLD} = sub { while (waitpid(-1, WNOHANG) > 0) {} };
while (1) {
    my $client = $server->accept or next;
    defined(my $pid = fork) or die;
    if (!$pid) { close $server; greet($client); POSIX::_exit(0) }
    close $client;
}
"""
)
PERL_EXEC = (
    PERL_LISTEN
    + r"""
$SIG{CHLD} = sub { while (waitpid(-1, WNOHANG) > 0) {} };
while (1) {
    my $client = $server->accept or next;
    defined(my $pid = fork) or die;
    if (!$pid) {
        open(STDIN, '<&', $client); open(STDOUT, '>&', $client);
        exec '/bin/echo', 'hello from the server' or die;
    }
    close $client;
}
"""
)
PERL_PREFORK = (
    PERL_LISTEN
    + r"""
for (1 .. 3) { last if !fork }
while (my $client = $server->accept) { greet($client) }
"""
)


def enter(measurement: Measurement, mode: str, clients: int, servers: dict[str, list[str]]) -> None:
    """Each server is started by the load itself, at a free port."""
    for name, command in servers.items():
        measurement.program(name, [c("load"), mode, "SIZE", str(clients), *command])


def python(name: str) -> list[str]:
    return [sys.executable, GREETERS, name, "PORT"]


def measurement(name: str, title: str, size: int, turns: int, peer: str, targets: list[Target]) -> Measurement:
    """Many short turns: the machine is at times half as fast for a second or two, which would decide a long one."""
    return Measurement(name, title, CLIENTS_PER_SECOND, size, max(size // 20, 64), peer, targets, turns=turns)


fork = measurement(
    "serve_fork",
    "greet {size} clients, 16 at once, a process for each",
    1_000,
    5,
    "socketserver",
    [at_least(1.4, "socketserver"), at_least(1.0, "perl fork", aim="aim at")],
)
enter(
    fork,
    "greet",
    16,
    {
        "C fork": [c("greeter"), "fork", "PORT"],
        "hornpipe": python("fork"),
        "perl fork": ["perl", "-e", PERL_FORK, "PORT"],
        "socketserver": python("socketserver-fork"),
    },
)

prefork = measurement(
    "serve_prefork",
    "greet {size} clients, 16 at once, four workers",
    10_000,
    4,
    "perl prefork",
    [at_least(1.0, "perl prefork"), at_least(1.0, "C prefork")],
)
enter(
    prefork,
    "greet",
    16,
    {
        "C prefork": [c("greeter"), "prefork", "PORT"],
        "hornpipe": python("prefork"),
        "perl prefork": ["perl", "-e", PERL_PREFORK, "PORT"],
        "asyncio streams": python("asyncio"),
        "uvloop streams": python("uvloop"),
    },
)

thread = measurement(
    "serve_thread",
    "greet {size} clients, 16 at once, in threads",
    4_000,
    4,
    "socketserver",
    [at_least(2.0, "socketserver")],
)
enter(
    thread,
    "greet",
    16,
    {
        "hornpipe": python("thread"),
        "socketserver": python("socketserver-thread"),
        "hornpipe inline": python("inline"),
        "socketserver, one at a time": python("socketserver-one"),
    },
)

command = measurement(
    "serve_command",
    "have {size} clients greeted by a program, 16 at once",
    1_000,
    3,
    "tcpserver",
    [at_least(1.0, "perl exec"), at_least(1.0, "socat"), at_least(1.0, "tcpserver", aim="aim at")],
)
enter(
    command,
    "greet",
    16,
    {
        "hornpipe": python("command"),
        "perl exec": ["perl", "-e", PERL_EXEC, "PORT"],
        "socat": ["socat", "TCP-LISTEN:PORT,reuseaddr,fork,backlog=4096", f"EXEC:/bin/echo {LINE}"],
        "tcpserver": ["tcpserver", "-HRl0", "-b4096", "-c256", "127.0.0.1", "PORT", "/bin/echo", LINE],
    },
)

echo = measurement(
    "serve_echo",
    "echo {size} messages of 64 bytes over 64 kept connections",
    50_000,
    4,
    "asyncio streams",
    [at_least(1.0, "asyncio streams"), at_least(1.0, "uvloop streams", aim="aim at")],
)
enter(
    echo,
    "echo",
    64,
    {
        "hornpipe": python("echo-fork"),
        "hornpipe, text": python("echo-fork-text"),
        "hornpipe, threads": python("echo-thread"),
        "asyncio streams": python("echo-asyncio"),
        "uvloop streams": python("echo-uvloop"),
        "asyncio protocol": python("echo-asyncio-protocol"),
        "uvloop protocol": python("echo-uvloop-protocol"),
    },
)

MEASUREMENTS = (fork, prefork, thread, command, echo)
