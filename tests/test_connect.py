"""Connecting: several addresses, one deadline, TLS, and errors that say what was tried."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import hornpipe as hp
from hornpipe.testing import hostile
from hornpipe.testing.between_lines import before_each_line

InANetwork = Callable[..., str]

# The name has a black hole as its first address: a listener with a full queue answers no SYN.
HOSTS = 'printf "::1 both.test\\n127.0.0.1 both.test\\n" > "$0/hosts" && mount --bind "$0/hosts" /etc/hosts'
FULL = """
import contextlib
from hornpipe.testing import hostile
def full(family, host):
    listener = socket.socket(family)
    listener.bind((host, 0))
    listener.listen(0)
    clients = []
    while True:
        client = socket.socket(family)
        client.settimeout(0.1)
        clients.append(client)
        with contextlib.suppress(TimeoutError):
            client.connect(listener.getsockname())
        if hostile._has_no_room(listener):
            return listener, clients
hole = full(socket.AF_INET6, "::1")
port = hole[0].getsockname()[1]
"""


class TestSeveralAddresses:
    def test_one_that_never_answers_costs_a_quarter_of_a_second(self, in_a_network: InANetwork) -> None:
        """gotcha:SO4"""
        source = (
            FULL
            + """
open_one = socket.create_server(("127.0.0.1", port))
begun = time.monotonic()
def sockets():
    there = [name for name in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{name}")]
    return {int(name) for name in there if os.readlink(f"/proc/self/fd/{name}").startswith("socket:")}
before = sockets()
connection = hp.connect(f"tcp://both.test:{port}", timeout=50)
print(0.25 <= took(begun) < 20, connection.peer.host)
# The loser is not left half open.
print(sockets() - before == {connection.fileno()})
"""
        )
        assert in_a_network(source, setup=HOSTS).split() == ["True", "127.0.0.1", "True"]

    def test_one_that_refuses_costs_nothing(self, in_a_network: InANetwork) -> None:
        """gotcha:SO4"""
        source = """
open_one = socket.create_server(("127.0.0.1", 0))
port = open_one.getsockname()[1]
import hornpipe.sockets.connecting
hornpipe.sockets.connecting._HEAD_START = 40
begun = time.monotonic()
connection = hp.connect(f"tcp://both.test:{port}", timeout=50)
print(took(begun) < 20, connection.peer)
"""
        assert in_a_network(source, setup=HOSTS).startswith("True tcp://127.0.0.1:")

    def test_the_error_tells_of_each(self, in_a_network: InANetwork) -> None:
        """gotcha:SO4"""
        source = """
for text in ("tcp://both.test:9",):
    try:
        hp.connect(text, timeout=20)
    except ConnectionRefusedError as error:
        print(error)
"""
        assert in_a_network(source, setup=HOSTS) == (
            "[Errno 111] no connection to tcp://both.test:9: ::1: Connection refused; 127.0.0.1: Connection refused\n"
        )

    def test_the_deadline_is_one_for_all_and_tells_of_each(self, in_a_network: InANetwork) -> None:
        """gotcha:SO4"""
        source = (
            FULL
            + """
import hornpipe.sockets.connecting
hornpipe.sockets.connecting._HEAD_START = 0.01
begun = time.monotonic()
try:
    hp.connect(f"tcp://both.test:{port}", timeout=0.5)
except TimeoutError as error:
    print(error)
print(took(begun) < 20)
begun = time.monotonic()
try:
    hp.connect(f"tcp://both.test:{port}", timeout=0)
except TimeoutError as error:
    print(took(begun) < 20)
"""
        )
        said, in_time, at_once = in_a_network(source, setup=HOSTS).splitlines()
        assert said.startswith("no connection to tcp://both.test:")
        assert said.endswith("within 0.5 s: 127.0.0.1: Connection refused; ::1: no answer")
        assert (in_time, at_once) == ("True", "True")

    def test_the_look_up_counts(self, in_a_network: InANetwork) -> None:
        """gotcha:SO5"""
        source = """
silent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
silent.bind(("127.0.0.53", 53))
begun = time.monotonic()
try:
    hp.connect("tcp://nobody.test:80", timeout=0.3)
except TimeoutError as error:
    print(took(begun) < 20, error)
"""
        assert in_a_network(source) == "True time ran out while looking up 'nobody.test'\n"

    def test_a_link_local_address_is_reached_by_its_scope(self, in_a_network: InANetwork) -> None:
        """gotcha:SO6"""
        source = """
server = socket.create_server(("fe80::1", 0, 0, socket.if_nametoindex("lo")), family=socket.AF_INET6)
print(hp.connect(f"tcp://[fe80::1%lo]:{server.getsockname()[1]}", timeout=20).peer.host)
"""
        setup = "ip addr add fe80::1/64 dev lo nodad"
        assert in_a_network(source, setup=setup) == "fe80::1%lo\n"


class TestErrors:
    def test_nobody_there_is_a_refusal(self) -> None:
        with pytest.raises(ConnectionRefusedError, match="no connection to tcp://127.0.0.1:1: Connection refused"):
            hp.connect("tcp://127.0.0.1:1", timeout=20)

    def test_no_name_is_not_a_dead_name(self, tmp_path: Path) -> None:
        """gotcha:SO7"""
        path = tmp_path / "name"
        with pytest.raises(FileNotFoundError, match=f"no connection to unix://{path}"):
            hp.connect(f"unix://{path}")
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(path))
        with pytest.raises(ConnectionRefusedError, match="the name is there, and nobody listens"):
            hp.connect(f"unix://{path}")

    @pytest.mark.skipif(os.getuid() != 0, reason="needs to become somebody else")
    def test_a_name_that_may_not_be_written_to_is_told(self, tmp_path: Path) -> None:
        """gotcha:SO8"""
        path = Path("/tmp") / f"hornpipe-{os.getpid()}"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            listener.listen()
            path.chmod(0o700)

            def try_it() -> str:
                os.setuid(65534)
                try:
                    hp.connect(f"unix://{path}")
                except PermissionError as error:
                    return str(error)
                return ""

            said = hp.fn(try_it).call()
            path.unlink()
        assert said == f"[Errno 13] no connection to unix://{path}: Permission denied"

    def test_a_full_unix_queue_is_waited_for(self, tmp_path: Path) -> None:
        """gotcha:SO11"""
        path = tmp_path / "name"
        with hostile.never_accepting(path) as peer:
            begun = time.monotonic()
            with pytest.raises(TimeoutError, match="its queue is full"):
                hp.connect(peer.url, timeout=0.2)
            assert 0.2 <= time.monotonic() - begun < 20

    def test_room_in_a_full_unix_queue_is_taken(self, tmp_path: Path) -> None:
        """gotcha:SO11"""
        path = tmp_path / "name"
        with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
            listener.bind(str(path))
            listener.listen(0)
            first.connect(str(path))
            made: list[hp.Connection[str]] = []
            thread = threading.Thread(target=lambda: made.append(hp.connect(f"unix://{path}", timeout=20)))
            thread.start()
            listener.accept()[0].close()
            thread.join()
            made[0].close()

    def test_a_listener_that_goes_at_any_moment_refuses_or_resets(self) -> None:
        """gotcha:SO4: who was connected and is reset before he looks is told when he reads."""
        lines_seen = 0
        for line in before_each_line(lambda: listener.close()):
            with socket.create_server(("127.0.0.1", 0)) as listener:
                address = f"tcp://127.0.0.1:{listener.getsockname()[1]}"
                with contextlib.suppress(ConnectionError), line:
                    hp.connect(address, timeout=5).leave()
                lines_seen += line.has_run
        assert lines_seen > 30

    def test_nobody_connects_to_himself(self) -> None:
        """gotcha:SO11"""
        with socket.socket() as holder:
            holder.bind(("127.0.0.1", 0))
            port = holder.getsockname()[1]
        address = f"tcp://127.0.0.1:{port}"
        with pytest.raises(ConnectionRefusedError):
            hp.connect(address, local=address, timeout=20)

    @pytest.mark.parametrize(
        ("arguments", "options", "complaint"),
        [
            (("udp://127.0.0.1:1",), {}, "open_datagram"),
            (("tcp://:1",), {}, "has no host"),
            (("tcp://127.0.0.1:1",), {"local": "udp://127.0.0.1:0"}, "local="),
            (("unix:///tmp/x",), {"tls": True}, "server_name"),
            (("tcp://127.0.0.1:1",), {"timeout": -1}, "timeout"),
            (("tcp://127.0.0.1:1",), {"newline": "\r"}, "newline"),
            (("tcp://127.0.0.1:1",), {"tls": ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)}, "for servers"),
        ],
    )
    def test_what_cannot_be_is_refused(self, arguments: tuple[str], options: dict[str, object], complaint: str) -> None:
        with pytest.raises(ValueError, match=complaint):
            hp.connect(*arguments, **options)

    def test_a_local_address_of_another_family_is_told(self) -> None:
        with pytest.raises(OSError, match="another family"):
            hp.connect("tcp://127.0.0.1:1", local="tcp://[::1]:0", timeout=20)


def test_the_local_address_is_where_it_comes_from() -> None:
    """perlipc:N17"""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = "tcp://{}:{}".format(*listener.getsockname())
        with hp.connect(url, local="tcp://127.0.0.2:0", timeout=20) as connection:
            taken, (host, port) = listener.accept()
            taken.close()
            assert connection.local == hp.Address("tcp", host, str(port))
            assert (host, str(connection.peer)) == ("127.0.0.2", url)


def test_small_packets_leave_at_once_and_the_dead_are_noticed() -> None:
    with hostile.silent_server() as peer, hp.connect(peer.url, timeout=20) as connection:
        assert connection.nodelay
        connection.nodelay = False
        assert not connection.nodelay
        connection.keep_alive(idle=7)
        with socket.socket(fileno=os.dup(connection.fileno())) as same:
            assert same.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            assert same.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 7


@pytest.mark.parametrize("kind", ["tcp", "unix", "abstract"])
def test_perl_s_server_is_talked_to(kind: str, tmp_path: Path) -> None:
    """perlipc:N4, perlipc:N8, perlipc:N9"""
    if kind == "tcp":
        make = 'IO::Socket::INET->new(Listen => 1, LocalAddr => "127.0.0.1")'
        where = '"tcp://127.0.0.1:" . $s->sockport'
    else:
        name = str(tmp_path / "catsock") if kind == "unix" else f"\0hornpipe-{os.getpid()}"
        shown = name.replace("\0", "@")
        make = f'IO::Socket::UNIX->new(Listen => 1, Local => "{name}")'.replace("\0", "\\0")
        where = f'"unix://{shown}"'.replace("@", "\\@")
    program = f"""
use IO::Socket; $| = 1; my $s = {make} or die $!; print {where}, "\\n";
my $c = $s->accept; my $line = <$c>; print $c "you said $line"; print $c "bye\\015\\012"; close $c;
"""
    with hp.cmd("perl", "-e", program, timeout=20).lines() as perl:
        with hp.connect(next(perl), timeout=20) as connection:
            print("hello", file=connection)
            assert connection.readlines() == ["you said hello\n", "bye\n"]
        assert list(perl) == []


def test_errors_are_of_the_built_in_classes() -> None:
    with pytest.raises(ConnectionRefusedError) as caught:
        hp.connect("tcp://127.0.0.1:1", timeout=20)
    assert caught.value.errno == errno.ECONNREFUSED
