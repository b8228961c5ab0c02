"""Datagrams: whole messages, who sent them, what became of them."""

from __future__ import annotations

import errno
import os
import resource
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import hornpipe as hp
from hornpipe.fd import pipe

# A cable with both ends here: it has broadcasts, and multicasts of both families.
NET = (
    "ip link add v0 type veth peer name v1 && ip addr add 10.9.8.1/24 broadcast 10.9.8.255 dev v0"
    " && ip addr add fe80::1/64 dev v0 nodad && ip link set v0 up && ip link set v1 up"
    # The kernel notes a while later that the cable is in; before that IPv6 has no way to a group.
    " && until ip link show v0 | grep -q 'state UP' && ip -6 route show table all dev v0 | grep -q ff00;"
    " do sleep 0.01; done"
)
Ends = tuple[hp.DatagramSocket, hp.DatagramSocket]


@pytest.fixture(params=["udp", "udp6", "unixgram", "dual"])
def ends(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ends]:
    """A socket without a peer, and one whose peer it is."""
    local = {
        "udp": "udp://127.0.0.1:0",
        "udp6": "udp://[::1]:0",
        "unixgram": f"unixgram://{tmp_path}/server",
        "dual": "udp://:0",
    }[request.param]
    mine = f"unixgram://{tmp_path}/client" if request.param == "unixgram" else None
    with hp.open_datagram(local=local, timeout=30) as server:
        assert server.local is not None
        peer = f"udp://127.0.0.1:{server.local.port}" if request.param == "dual" else server.local
        with hp.open_datagram(peer, local=mine, timeout=30) as client:
            yield server, client


class TestMessages:
    def test_a_question_has_its_answer(self, ends: Ends) -> None:
        """perlipc:N13, gotcha:SO6"""
        server, client = ends
        client.send(b"time?")
        question = server.receive()
        assert (question.data, question.sender) == (
            b"time?",
            client.local if ":0.0.0.0" not in str(client.local) else 0,
        )
        server.send(b"noon", question.sender)
        assert client.receive().data == b"noon"

    def test_an_empty_one_is_no_end(self, ends: Ends) -> None:
        """gotcha:U1"""
        server, client = ends
        client.send(b"")
        client.send(b"more")
        assert [server.receive().data for _ in range(2)] == [b"", b"more"]

    def test_what_was_cut_off_is_told(self, ends: Ends) -> None:
        """gotcha:U1"""
        server, client = ends
        client.send(b"x" * 100)
        client.send(b"y" * 10)
        cut, whole = server.receive(10), server.receive(10)
        assert (len(cut.data), cut.truncated) == (10, True)
        assert (whole.data, whole.truncated) == (b"y" * 10, False)

    def test_many_come_at_once(self, ends: Ends) -> None:
        """gotcha:U5"""
        server, client = ends
        for number in range(5):
            client.send(b"%d" % number)
        assert [each.data for each in server.receive_many(3)] == [b"0", b"1", b"2"]
        assert [each.data for each in server.receive_many(10)] == [b"3", b"4"]

    def test_nobody_writes(self, ends: Ends) -> None:
        begun = time.monotonic()
        for call in (ends[0].receive, ends[0].receive_many):
            with pytest.raises(TimeoutError, match="no datagram came"):
                call(timeout=0.05)
        assert 0.1 <= time.monotonic() - begun < 20

    def test_poll_sees_it(self, ends: Ends) -> None:
        server, client = ends
        assert select.select([server], [], [], 0)[0] == []
        client.send(b"x")
        assert select.select([server], [], [], 30)[0] == [server]
        assert os.get_blocking(server.fileno())
        assert not os.get_inheritable(server.fileno())

    def test_closing_from_another_thread_ends_a_wait(self, ends: Ends) -> None:
        """gotcha:R8"""
        timer = threading.Timer(0.05, ends[0].close)
        timer.start()
        with pytest.raises(ValueError, match="closed"):
            ends[0].receive()
        timer.join()
        with pytest.raises(ValueError, match="closed"):
            ends[0].receive()


class TestPeers:
    def test_a_stranger_is_not_heard(self) -> None:
        """gotcha:U3"""
        with (
            hp.open_datagram(local="udp://127.0.0.1:0") as server,
            hp.open_datagram(server.local) as client,
            hp.open_datagram(local="udp://127.0.0.1:0") as stranger,
        ):
            stranger.send(b"forged", client.local)
            server.send(b"true", client.local)
            assert client.receive(timeout=30).data == b"true"

    def test_a_refusal_is_told_with_who_refused(self) -> None:
        """gotcha:U2: a socket without a peer never hears of it by itself."""
        with (
            hp.open_datagram(local="udp://127.0.0.1:0", timeout=30) as sender,
            hp.open_datagram(local="udp://127.0.0.1:0") as here,
        ):
            sender.send(b"x", here.local)
            sender.send(b"x", "udp://127.0.0.1:1")
            with pytest.raises(ConnectionRefusedError, match="udp://127.0.0.1:1: Connection refused"):
                sender.receive()
            sender.send(b"y", here.local)
            assert [here.receive(timeout=30).data for _ in range(2)] == [b"x", b"y"]

    def test_a_peer_s_refusal_is_told_by_the_next_call(self) -> None:
        """gotcha:U2"""
        with hp.open_datagram("udp://127.0.0.1:1", timeout=30) as client:
            client.send(b"x")
            with pytest.raises(ConnectionRefusedError, match="udp://127.0.0.1:1"):
                client.receive()
            client.send(b"x")
            with pytest.raises(ConnectionRefusedError, match="udp://127.0.0.1:1"):
                client.send(b"y")

    def test_one_with_a_peer_sends_to_nobody_else(self) -> None:
        with (
            hp.open_datagram("udp://127.0.0.1:9") as client,
            pytest.raises(ValueError, match="talks to udp://127.0.0.1:9 only"),
        ):
            client.send(b"x", "udp://127.0.0.1:10")
        with hp.open_datagram(local="udp://127.0.0.1:0") as anybody:
            with pytest.raises(ValueError, match="needs to know whom"):
                anybody.send(b"x")
            with pytest.raises(ValueError, match="cannot be reached over udp"):
                anybody.send(b"x", "unixgram:///tmp/x")
            with pytest.raises(ValueError, match="needs a peer"):
                anybody.ask(b"x")

    def test_an_answer_comes_from_where_the_question_went(self) -> None:
        """gotcha:U5: from a socket at one address, never from another of the machine's."""
        with (
            hp.open_datagram(local="udp://127.0.0.2:0") as server,
            hp.open_datagram(server.local, local="udp://127.0.0.1:0") as client,
        ):
            client.send(b"?")
            server.send(b"!", server.receive(timeout=30).sender)
            assert client.receive(timeout=30).sender == server.local


class TestLimits:
    def test_the_longest_there_is_arrives_and_one_more_is_refused(self) -> None:
        """gotcha:U4"""
        with (
            hp.open_datagram(local="udp://127.0.0.1:0", timeout=30) as server,
            hp.open_datagram(server.local, timeout=30) as client,
        ):
            client.send(b"x" * 65507)
            assert len(server.receive().data) == 65507
            with pytest.raises(OSError, match=r"65508 bytes are too long") as caught:
                client.send(b"x" * 65508)
            assert caught.value.errno == errno.EMSGSIZE
            # The kernel queues the same error for whoever asks for refusals: it is no answer of the network's.
            with pytest.raises(TimeoutError):
                client.receive(timeout=0.05)
            server.send(b"on we go", client.local)
            assert client.receive().data == b"on we go"

    def test_a_full_unix_queue_is_waited_for(self, tmp_path: Path) -> None:
        """gotcha:U4"""
        with (
            hp.open_datagram(local=f"unixgram://{tmp_path}/slow", timeout=30) as slow,
            hp.open_datagram(local=f"unixgram://{tmp_path}/quick", timeout=30) as quick,
        ):
            assert slow.local is not None
            with pytest.raises(TimeoutError, match="the queue is full"):
                while True:
                    quick.send(b"x", slow.local, timeout=0.05)
            relief = threading.Timer(0.05, slow.receive_many, (1000,))
            relief.start()
            quick.send(b"y", slow.local)
            relief.join()

    def test_nobody_can_answer_one_without_a_name(self, tmp_path: Path) -> None:
        """gotcha:U4"""
        with (
            hp.open_datagram(local=f"unixgram://{tmp_path}/server", timeout=30) as server,
            hp.open_datagram(f"unixgram://{tmp_path}/server") as nameless,
        ):
            nameless.send(b"x")
            assert server.receive().sender is None

    def test_broadcasting_has_to_be_asked_for(self, in_a_network: Callable[..., str]) -> None:
        """gotcha:U4, perlipc:N14"""
        source = """
server = hp.open_datagram(local="udp://10.9.8.255:777", timeout=30)
for allowed in (False, True):
    with hp.open_datagram(local="udp://10.9.8.1:0", broadcast=allowed) as sender:
        try:
            sender.send(b"to all", "udp://10.9.8.255:777")
        except PermissionError as error:
            print(error)
print(server.receive().data)
"""
        seen = in_a_network(source, setup=NET)
        assert seen.splitlines() == [
            "[Errno 13] udp://10.9.8.255:777 is a broadcast address, which takes broadcast=True",
            "b'to all'",
        ]


class TestAsking:
    def test_it_is_asked_again(self) -> None:
        """gotcha:U3, perlipc:N13"""
        with (
            hp.open_datagram(local="udp://127.0.0.1:0", timeout=30) as server,
            hp.open_datagram(server.local) as client,
        ):

            def answer_the_third() -> None:
                for _ in range(2):
                    server.receive()
                server.send(b"noon", server.receive().sender)

            thread = threading.Thread(target=answer_the_third)
            thread.start()
            assert client.ask(b"time?", tries=6, timeout=10).data == b"noon"
            thread.join()

    def test_a_late_answer_to_an_earlier_question_is_passed_over(self) -> None:
        """gotcha:U3"""
        with (
            hp.open_datagram(local="udp://127.0.0.1:0", timeout=30) as server,
            hp.open_datagram(server.local) as client,
        ):
            server.send(b"1 late", client.local)
            server.send(b"2 right", client.local)
            assert client.ask(b"2", timeout=30, accept=lambda each: each.data[:1] == b"2").data == b"2 right"

    def test_no_try_has_more_than_the_time_that_is_left(self) -> None:
        class Asking(hp.DatagramSocket):
            def send(self, data: bytes, *arguments: object, timeout: float | None = None, **options: object) -> None:
                times.append(timeout or 0.0)

        times: list[float] = []
        one, other = hp.datagram_pair()
        with one, other, pytest.raises(TimeoutError, match="asked 2 times"):
            asking = Asking(one._socket, "unixgram", hp.Address("unixgram", path="x"))
            asking.ask(b"?", tries=2, timeout=0.06)
        assert times[1] <= 0.04

    def test_nobody_answers(self) -> None:
        with (
            hp.open_datagram(local="udp://127.0.0.1:0", timeout=30) as server,
            hp.open_datagram(server.local) as client,
        ):
            begun = time.monotonic()
            with pytest.raises(TimeoutError, match="did not answer within 0.2 s, asked 4 times"):
                client.ask(b"?", tries=4, timeout=0.2)
            assert 0.2 <= time.monotonic() - begun < 20
            assert len(server.receive_many()) == 4
            with pytest.raises(ValueError, match="tries"):
                client.ask(b"?", tries=0)


class TestMulticast:
    @pytest.mark.parametrize(("group", "local"), [("239.1.2.3", "0.0.0.0"), ("ff02::1:2", "[::]")])
    def test_who_has_joined_hears_it_until_he_leaves(
        self, in_a_network: Callable[..., str], group: str, local: str
    ) -> None:
        """perlipc:N14"""
        source = f"""
hearers = [hp.open_datagram(local="udp://{local}:7777", reuse=True, timeout=30) for _ in range(2)]
sender = hp.open_datagram(local="udp://{local}:0")
sender.multicast(ttl=1, loop=True, interface="v0")
for each in hearers:
    each.join("{group}", "v0")
to = "udp://{f"[{group}%v0]" if ":" in group else group}:7777"
sender.send(b"to those who care", to)
print([each.receive().data for each in hearers])
hearers[1].leave("{group}", "v0")
sender.send(b"again", to)
print(hearers[0].receive().data)
try:
    hearers[1].receive(timeout=0.05)
except TimeoutError:
    print("nothing")
sender.multicast(loop=False)
try:
    hearers[0].join("127.0.0.1", "v0")
except OSError as error:
    print("127.0.0.1" in str(error))
"""
        assert in_a_network(source, setup=NET).splitlines() == [
            "[b'to those who care', b'to those who care']",
            "b'again'",
            "nothing",
            "True",
        ]


class TestUnix:
    def test_its_name_is_made_and_removed_like_a_listener_s(self, tmp_path: Path) -> None:
        """gotcha:SO7, gotcha:SO8"""
        path = tmp_path / "name"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as dead:
            dead.bind(str(path))
        with hp.open_datagram(local=f"unixgram://{path}", mode=0o622) as living:
            assert path.stat().st_mode & 0o777 == 0o622
            with pytest.raises(OSError, match=f"in use, held by process {os.getpid()}"):
                hp.open_datagram(local=f"unixgram://{path}")
            hp.fn(living.close).with_options(pass_fds=[living.fileno()]).call()
            assert path.exists()
        assert not path.exists()

    def test_its_name_is_removed_although_the_directory_is_another_one_by_now(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """gotcha:DM3"""
        monkeypatch.chdir(tmp_path)
        with hp.open_datagram(local="unixgram://name"):
            monkeypatch.chdir("/")
        assert not (tmp_path / "name").exists()

    def test_descriptors_for_which_there_is_no_room_are_told(self) -> None:
        """gotcha:SO10"""
        one, other = hp.datagram_pair(timeout=30, receives_fds=True)
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        with one, other:
            one.send(b"take these", fds=[0, 0, 0])
            used = set(map(int, os.listdir("/proc/self/fd")))
            room = sorted(set(range(max(used) + 3)) - used)[1]  # for one of them
            resource.setrlimit(resource.RLIMIT_NOFILE, (room, limits[1]))
            try:
                came = other.receive()
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        assert (came.data, came.truncated, came.fds) == (b"take these", True, ())

    def test_descriptors_travel(self) -> None:
        """perlipc:N19, gotcha:SO10"""
        one, other = hp.datagram_pair(timeout=30, receives_fds=True)
        reader, writer = pipe()
        with one, other, reader:
            one.send(b"take this", fds=[writer])
            writer.close()
            came = other.receive()
            (taken,) = came.fds
            with taken:
                assert not os.get_inheritable(taken.fileno())
                os.write(taken.fileno(), b"through it")
            assert os.read(reader.fileno(), 100) == b"through it"
        with hp.open_datagram("udp://127.0.0.1:9") as udp, pytest.raises(ValueError, match="Unix sockets only"):
            udp.send(b"x", fds=[0])
        one, other = hp.datagram_pair()
        with one, other, pytest.raises(ValueError, match="253 descriptors go in one message at most, not 254"):
            one.send(b"x", fds=[0] * 254)

    @pytest.mark.parametrize("call", ["receive", "receive_many", "ask"])
    def test_messages_of_a_connection_have_an_end(self, tmp_path: Path, call: str) -> None:
        """gotcha:U1: an empty message is none, and an end is no empty message."""
        path = str(tmp_path / "name")
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            listener.bind(path)
            listener.listen()
            with hp.open_datagram(f"unixseqpacket://{path}", timeout=30) as client:
                server, _ = listener.accept()
                with server:
                    server.send(b"")
                    server.send(b"more")
                    assert client.receive().data == b""
                    assert client.receive_many()[0].data == b"more"
                    client.send_many([b"one", b"two"])
                    assert (server.recv(10), server.recv(10)) == (b"one", b"two")
                    server.send(b"last")
                    if call == "ask":
                        assert client.ask(b"?").data == b"last"
                        server.recv(10)
                    else:
                        server.shutdown(socket.SHUT_RDWR)
                        assert client.receive_many()[0].data == b"last"
                with pytest.raises((hp.NoAnswer, BrokenPipeError), match="has ended|Broken pipe"):
                    getattr(client, call)(*([b"?"] if call == "ask" else []))
        with pytest.raises(ValueError, match="needs a peer"):
            hp.open_datagram(local=f"unixseqpacket://{path}2")

    def test_a_pair_talks_both_ways(self) -> None:
        """perlipc:N19"""
        one, other = hp.datagram_pair(timeout=30)
        with one, other:
            one.send(b"ping")
            other.send(b"pong")
            assert (one.receive().data, other.receive().data) == (b"pong", b"ping")


class TestRefusals:
    @pytest.mark.parametrize(
        ("arguments", "options", "complaint"),
        [
            ((), {}, "needs a peer"),
            (("tcp://127.0.0.1:1",), {}, "is a stream"),
            (("udp://127.0.0.1:1",), {"local": "unixgram:///tmp/x"}, "cannot reach"),
            (("udp://:1",), {}, "has no host"),
            (("udp://127.0.0.1:1",), {"mode": 0o1000}, "mode"),
        ],
    )
    def test_what_cannot_be_is_refused(
        self, arguments: tuple[str, ...], options: dict[str, object], complaint: str
    ) -> None:
        with pytest.raises(ValueError, match=complaint):
            hp.open_datagram(*arguments, **options)

    def test_groups_and_interfaces_that_are_none_are_told(self) -> None:
        """perlipc:N14"""
        with hp.open_datagram(local="udp://127.0.0.1:0") as here:
            with pytest.raises(OSError, match="'ff02::1:2' is no IPv4 address") as caught:
                here.join("ff02::1:2")
            assert caught.value.errno == errno.EINVAL
            for call in (lambda: here.join("239.1.2.3", "nowhere"), lambda: here.multicast(interface="nowhere")):
                with pytest.raises(OSError, match="no interface 'nowhere'"):
                    call()

    def test_a_port_in_use_is_told(self) -> None:
        """perlipc:N17"""
        with hp.open_datagram(local="udp://127.0.0.1:0") as first, pytest.raises(OSError, match="is in use"):
            hp.open_datagram(local=first.local)

    def test_families_that_do_not_meet_are_told(self) -> None:
        with pytest.raises(OSError, match="another family"):
            hp.open_datagram("udp://127.0.0.1:9", local="udp://[::1]:0")


def test_perl_s_datagrams_are_answered() -> None:
    """perlipc:N13"""
    with hp.open_datagram(local="udp://127.0.0.1:0", timeout=30) as server:
        assert server.local is not None
        program = (
            "use IO::Socket; my $s = IO::Socket::INET->new(Proto => 'udp', PeerAddr => $ARGV[0]) or die $!;"
            "$s->send('time?'); $s->recv(my $answer, 100); print $answer"
        )
        with hp.cmd("perl", "-e", program, f"127.0.0.1:{server.local.port}", timeout=20).lines() as perl:
            server.send(b"noon", server.receive().sender)
            assert list(perl) == ["noon"]
