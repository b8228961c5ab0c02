"""Other people's servers and clients that the other files have not met: nc and socat as servers, and datagrams."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

import hornpipe as hp
from hornpipe.testing.patience import wait_until

PATIENCE = 30


def free_port(kind: socket.SocketKind) -> int:
    with socket.socket(socket.AF_INET, kind) as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def is_bound(name: str) -> bool:
    """Whether a path, or a port as the kernel writes it, is somebody's."""
    return any(name in Path(f"/proc/net/{table}").read_text() for table in ("tcp", "udp", "unix"))


@contextlib.contextmanager
def running(*command: str, waiting_at: str) -> Iterator[hp.Duplex[str]]:
    with hp.cmd(*command, timeout=PATIENCE, check=False).duplex() as program:
        wait_until(lambda: is_bound(waiting_at), PATIENCE)
        yield program


@pytest.mark.parametrize("program", ["nc", "socat"])
@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_others_servers_are_talked_to(kind: str, program: str, tmp_path: Path) -> None:
    """perlipc:N4, perlipc:N8"""
    path, port = f"{tmp_path}/name", free_port(socket.SOCK_STREAM)
    command = {
        ("nc", "tcp"): ("nc", "-N", "-l", "127.0.0.1", str(port)),
        ("nc", "unix"): ("nc", "-N", "-l", "-U", path),
        ("socat", "tcp"): ("socat", f"TCP-LISTEN:{port},bind=127.0.0.1", "-"),
        ("socat", "unix"): ("socat", f"UNIX-LISTEN:{path}", "-"),
    }[program, kind]
    url = f"tcp://127.0.0.1:{port}" if kind == "tcp" else f"unix://{path}"
    with (
        running(*command, waiting_at=f":{port:04X} 00000000:0000 0A" if kind == "tcp" else path) as server,
        hp.connect(url, timeout=PATIENCE) as connection,
    ):
        print("hello", file=connection)
        assert server.readline() == "hello\n"
        server.send("welcome\n")
        assert connection.readline() == "welcome\n"
        server.close_input()
        assert connection.read() == ""


@pytest.mark.parametrize("program", ["nc", "socat"])
def test_others_datagrams_are_answered(program: str) -> None:
    """perlipc:N13"""
    with hp.open_datagram(local="udp://127.0.0.1:0", timeout=PATIENCE) as server:
        assert server.local is not None
        port = server.local.port
        command = ("nc", "-u", "127.0.0.1", str(port)) if program == "nc" else ("socat", "-", f"UDP:127.0.0.1:{port}")
        with hp.cmd(*command, timeout=PATIENCE, check=False).duplex() as client:
            client.send("time?\n")
            question = server.receive()
            assert question.data == b"time?\n"
            server.send_many([(b"noon\n", question.sender), (b"sharp\n", question.sender)])
            assert [client.readline(), client.readline()] == ["noon\n", "sharp\n"]
            client.close_input()


@pytest.mark.parametrize("kind", ["udp", "unixgram"])
def test_others_datagram_servers_are_asked(kind: str, tmp_path: Path) -> None:
    """perlipc:N13, perlipc:N19"""
    path, port = f"{tmp_path}/name", free_port(socket.SOCK_DGRAM)
    source = f"UDP-RECVFROM:{port},bind=127.0.0.1" if kind == "udp" else f"UNIX-RECVFROM:{path}"
    url = f"udp://127.0.0.1:{port}" if kind == "udp" else f"unixgram://{path}"
    mine = None if kind == "udp" else f"unixgram://{tmp_path}/mine"
    with (
        running("socat", source, "EXEC:tr a-z A-Z", waiting_at=f":{port:04X}" if kind == "udp" else path),
        hp.open_datagram(url, local=mine, timeout=PATIENCE) as asking,
    ):
        assert asking.ask(b"shout\n", tries=1).data == b"SHOUT\n"


def test_perl_s_datagram_server_is_asked() -> None:
    """perlipc:N13, perlipc:N9"""
    program = """
use IO::Socket; $| = 1; my $s = IO::Socket::INET->new(Proto => "udp", LocalAddr => "127.0.0.1") or die $!;
print $s->sockport, "\\n"; for (1 .. 3) { my $from = $s->recv(my $q, 100); $s->send(uc $q, 0, $from) }
"""
    with (
        hp.cmd("perl", "-e", program, timeout=PATIENCE).lines() as perl,
        hp.open_datagram(f"udp://localhost:{next(perl)}", timeout=PATIENCE) as asking,
    ):
        asking.send_many([b"a", b"b", b"c"])
        assert [asking.receive().data for _ in range(3)] == [b"A", b"B", b"C"]
