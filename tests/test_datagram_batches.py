"""Many datagrams in one system call: the same messages as one by one, by every mechanism."""

from __future__ import annotations

import errno
import os
import select
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import hornpipe as hp
from hornpipe.sockets import batches

Ends = tuple[hp.DatagramSocket, hp.DatagramSocket]

# Runs of one size, with what ends a run in every way: a shorter one, a longer one, an empty one.
MESSAGES = [b"%04d" % n for n in range(150)] + [b"", b"x", b"", b"", b"yy", b"zz", b"longer", b"l", b"x" * 9000, b"end"]


@pytest.fixture(params=["in one call", "without pieces", "one by one"], autouse=True)
def mechanism(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each is what some system has; the first may fall back to the second, and that one as well."""

    def send(fd: int, messages: list[bytes], names: object, start: int, segments: bool) -> int:
        if segments:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return in_one_call(fd, messages, names, start, segments)  # type: ignore[arg-type]

    in_one_call = batches.send
    if request.param == "without pieces":
        monkeypatch.setattr(batches, "send", send)
        monkeypatch.setattr(hp.DatagramSocket, "_ask_for_pieces", lambda self: None)
    elif request.param == "one by one":
        monkeypatch.setattr(batches, "IN_ONE_CALL", False)
    return str(request.param)


@pytest.fixture(params=["udp", "udp6", "dual", "unixgram", "abstract"])
def ends(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ends]:
    """A socket without a peer, and one whose peer it is."""
    kind = request.param
    unix = f"unixgram://{tmp_path}/" if kind == "unixgram" else f"unixgram://@hornpipe-{os.getpid()}-"
    local = {"udp": "udp://127.0.0.1:0", "udp6": "udp://[::1]:0", "dual": "udp://:0"}.get(kind, f"{unix}server")
    mine = f"{unix}client" if kind in ("unixgram", "abstract") else None
    with hp.open_datagram(local=local, timeout=30) as server:
        assert server.local is not None
        peer = f"udp://127.0.0.1:{server.local.port}" if kind == "dual" else server.local
        with hp.open_datagram(peer, local=mine, timeout=30) as client:
            yield server, client


def come(receiver: hp.DatagramSocket, count: int, most: int = 64) -> list[hp.Datagram]:
    found: list[hp.Datagram] = []
    while len(found) < count:
        found += receiver.receive_many(most)
    return found


def gone(sender: hp.DatagramSocket, messages: list[bytes]) -> threading.Thread:
    """Sent by a thread, since a Unix receiver's queue is short."""
    thread = threading.Thread(target=sender.send_many, args=(messages,))
    thread.start()
    return thread


class TestMany:
    def test_they_arrive_as_they_were_and_in_their_order(self, ends: Ends) -> None:
        """gotcha:U5"""
        server, client = ends
        thread = gone(client, MESSAGES)
        found = come(server, len(MESSAGES))
        thread.join()
        assert [each.data for each in found] == MESSAGES
        assert not any(each.truncated for each in found)

    def test_their_senders_are_known(self, ends: Ends) -> None:
        """gotcha:SO6: whichever call it was that received them."""
        server, client = ends
        client.send_many([b"one", b"two"])
        (one,) = server.receive_many(1)
        assert server.receive().sender == one.sender
        server.send(b"for you", one.sender)
        assert client.receive().data == b"for you"

    def test_each_goes_back_to_who_sent_it(self, ends: Ends) -> None:
        server, client = ends
        for _ in range(2):
            client.send_many([b"a", b"b", b"c"])
            server.send_many(come(server, 3))
            assert [each.data for each in come(client, 3)] == [b"a", b"b", b"c"]

    def test_no_more_come_than_were_asked_for(self, ends: Ends) -> None:
        """And what came in one piece with them is there for the next call, whichever that is."""
        server, client = ends
        with pytest.raises(TimeoutError):
            server.receive_many(timeout=0)  # from now on they may come in one piece
        client.send_many([b"%d" % n for n in range(8)])
        assert [each.data for each in server.receive_many(3)] == [b"0", b"1", b"2"]
        assert server.receive().data == b"3"
        assert [each.data for each in server.receive_many(2)] == [b"4", b"5"]
        assert [each.data for each in come(server, 2)] == [b"6", b"7"]
        with pytest.raises(TimeoutError):
            server.receive_many(timeout=0)

    def test_what_was_cut_off_is_told_of_each(self, ends: Ends) -> None:
        """gotcha:U1"""
        server, client = ends
        client.send_many([b"12345", b"12345", b"12345", b"123"])
        found = [server.receive_many(1, 4), server.receive_many(1, 4), [server.receive(4)], server.receive_many(1, 4)]
        assert [(each.data, each.truncated) for (each,) in found] == [(b"1234", True)] * 3 + [(b"123", False)]

    def test_those_that_wait_come_at_once(self, ends: Ends) -> None:
        server, client = ends
        for number in range(5):
            client.send(b"%d" % number)
        assert len(server.receive_many()) == 5

    def test_one_by_one_is_the_same(self, ends: Ends) -> None:
        server, client = ends
        thread = gone(client, MESSAGES)
        assert [server.receive().data for _ in MESSAGES] == MESSAGES
        thread.join()


@pytest.mark.parametrize("mechanism", ["in one call"], indirect=True)
def test_it_is_one_call_each_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """gotcha:U5"""
    sent: list[int] = []
    send = batches.send

    def counted(*arguments: object) -> int:
        sent.append(send(*arguments))  # type: ignore[arg-type]
        return sent[-1]

    monkeypatch.setattr(batches, "send", counted)
    with hp.open_datagram(local="udp://127.0.0.1:0", timeout=30) as server, hp.open_datagram(server.local) as client:
        with pytest.raises(TimeoutError):
            server.receive_many(timeout=0)  # from now on the kernel need not cut for it
        client.send_many([b"same"] * 300)
        assert sent == [300]
        assert len(server.receive_many(1000)) == 300


class TestReceivers:
    def test_each_has_its_own(self) -> None:
        with (
            hp.open_datagram(local="udp://127.0.0.1:0", timeout=30) as one,
            hp.open_datagram(local="udp://127.0.0.1:0", timeout=30) as other,
            hp.open_datagram(local="udp://127.0.0.1:0") as sender,
        ):
            assert one.local is not None
            assert other.local is not None
            sender.send_many([(b"1", one.local), (b"2", one.local), (b"3", str(other.local)), (b"4", one.local)])
            assert [each.data for each in come(one, 3)] == [b"1", b"2", b"4"]
            assert [each.data for each in come(other, 1)] == [b"3"]
            sender.send_many([b"all", b"here"], other.local)
            assert [each.data for each in come(other, 2)] == [b"all", b"here"]

    def test_others_get_them_one_by_one(self) -> None:
        """The kernel takes them in one piece, and cuts it for who did not ask for pieces."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as plain:
            plain.bind(("127.0.0.1", 0))
            plain.settimeout(30)
            with hp.open_datagram("udp://{}:{}".format(*plain.getsockname())) as sender:
                sender.send_many([b"x" * 500] * 100)
                assert [len(plain.recv(65535)) for _ in range(100)] == [500] * 100

    def test_poll_sees_the_first(self) -> None:
        with (
            hp.open_datagram(local="udp://127.0.0.1:0", timeout=30) as server,
            hp.open_datagram(server.local) as client,
        ):
            with pytest.raises(TimeoutError):
                server.receive_many(timeout=0)
            client.send_many([b"x"] * 10)
            assert select.select([server], [], [], 30)[0] == [server]
            assert len(come(server, 10)) == 10
            assert select.select([server], [], [], 0)[0] == []


class TestFailures:
    @pytest.mark.parametrize("mechanism", ["in one call"], indirect=True)
    def test_messages_that_have_to_be_cut_on_their_way_go_as_well(self, in_a_network: Callable[..., str]) -> None:
        """Pieces have to fit into packets, messages have not."""
        source = """
with hp.open_datagram(local="udp://127.0.0.1:0", timeout=30) as server, hp.open_datagram(server.local) as client:
    client.send_many([b"x" * 3000] * 5 + [b"y"])
    print(sum((len(each.data) for each in server.receive_many()), 0))
"""
        assert in_a_network(source, setup="ip link set lo mtu 1500") == "15001\n"

    def test_one_that_is_too_long_is_told_with_how_many_went_before(self) -> None:
        """gotcha:U4"""
        with (
            hp.open_datagram(local="udp://127.0.0.1:0", timeout=30) as server,
            hp.open_datagram(server.local) as client,
        ):
            with pytest.raises(OSError, match="70000 bytes are too long") as caught:
                client.send_many([b"a", b"b", b"x" * 70000, b"c"])
            assert caught.value.sent == 2  # type: ignore[attr-defined]
            assert [each.data for each in come(server, 2)] == [b"a", b"b"]

    def test_a_full_queue_is_waited_for_and_told_of(self, tmp_path: Path) -> None:
        """gotcha:U4"""
        with (
            hp.open_datagram(local=f"unixgram://{tmp_path}/slow", timeout=30) as slow,
            hp.open_datagram(slow.local) as sender,
        ):
            with pytest.raises(TimeoutError, match="the queue is full") as caught:
                sender.send_many([b"%d" % n for n in range(1000)], timeout=0.05)
            sent = caught.value.sent  # type: ignore[attr-defined]
            assert [each.data for each in come(slow, sent, 1000)] == [b"%d" % n for n in range(sent)]
            thread = gone(sender, [b"x"] * 500)
            assert len(come(slow, 500)) == 500
            thread.join()

    def test_a_refusal_is_told(self) -> None:
        """gotcha:U2"""
        with hp.open_datagram(local="udp://127.0.0.1:0") as gone_soon:
            address = gone_soon.local
        with hp.open_datagram(address, timeout=30) as client:
            client.send_many([b"x"])
            with pytest.raises(ConnectionRefusedError, match=str(address)):
                client.receive_many()
            client.send_many([b"x"])
            select.select([client], [], [], 30)
            with pytest.raises(ConnectionRefusedError, match=str(address)) as caught:
                client.send_many([b"y", b"z"])
            assert caught.value.sent == 0  # type: ignore[attr-defined]

    def test_a_refusal_beside_messages_is_told_by_the_next_call(self) -> None:
        """gotcha:U2: of what came in one piece something is left over, and is there first."""
        with (
            hp.open_datagram(local="udp://127.0.0.1:0", timeout=30) as here,
            hp.open_datagram(here.local) as client,
        ):
            client.send(b"first")
            assert len(here.receive_many(1)) == 1  # from here on pieces come
            client.send_many([b"a", b"b", b"c"])
            got, refused = here.receive_many(1), []
            here.send(b"x", "udp://127.0.0.1:1")
            while len(got) < 3 or not refused:
                try:
                    got += here.receive_many(timeout=1)
                except ConnectionRefusedError as error:
                    refused.append(str(error))
            assert [each.data for each in got] == [b"a", b"b", b"c"]
            assert refused == ["[Errno 111] udp://127.0.0.1:1: Connection refused"]

    def test_it_is_told_who_could_not_be_sent_to(self) -> None:
        told = pytest.raises(OSError, match="too long for one datagram to udp://127.0.0.1:9")
        with hp.open_datagram(local="udp://127.0.0.1:0") as here, told:
            here.send_many([(b"x" * 70000, "udp://127.0.0.1:9")])

    def test_what_cannot_be_is_refused(self) -> None:
        with hp.open_datagram(local="udp://127.0.0.1:0") as server, hp.open_datagram(server.local) as client:
            with pytest.raises(TypeError):
                client.send_many(["text"])  # type: ignore[list-item]
            with pytest.raises(ValueError, match="no peer"):
                server.send_many([(b"x", None)])  # type: ignore[list-item]
            with pytest.raises(ValueError, match="room for a message"):
                server.receive_many(0)
            client.send_many([])
            with pytest.raises(TimeoutError):
                server.receive_many(timeout=0)
