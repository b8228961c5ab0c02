"""Connections as file objects: lines, messages, deadlines, ends, descriptors, and hostile peers."""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import select
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import hornpipe as hp
from hornpipe.fd import pipe
from hornpipe.testing import hostile
from hornpipe.testing.between_lines import before_each_line
from hornpipe.testing.patience import wait_until

MIB = 1 << 20


@pytest.fixture
def pair() -> Iterator[tuple[hp.Connection[str], hp.Connection[str]]]:
    one, other = hp.socket_pair(timeout=30)
    with one, other:
        yield one, other


@contextlib.contextmanager
def saying(data: bytes, **options: object) -> Iterator[hp.Connection[str]]:
    """A connection to somebody who sends *data* and then finishes."""
    with hostile.half_closing_server(data) as peer, hp.connect(peer.url, timeout=30, **options) as connection:
        yield connection


@pytest.mark.parametrize("size", [5, 40_000, 200_000])
def test_a_handler_may_write_between_any_two_lines_of_a_write(size: int) -> None:
    """gotcha:SIG15: it does not wait for itself, and each has its line whole and once."""

    def interrupted() -> None:
        client.write("handler\n")  # print() makes two writes of it

    heard = []
    with hp.listen("tcp://127.0.0.1:0", timeout=10) as listener:
        for line in before_each_line(interrupted):
            # Lines that are translated are not sent by the native room in one step.
            with hp.connect(listener.address, newline="crlf", timeout=10) as client, listener.accept() as server:
                if size == 40_000:  # in more than one piece
                    client.calls.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
                with hp.alarm(10), line:
                    client.write("x" * size + "\n")
                heard.append(sorted(server.readline() for _ in range(1 + line.has_run)))
                client.shutdown()
                assert server.read() == ""
    *all_but_the_last, last = heard
    assert all(each == ["handler\n", "x" * size + "\n"] for each in all_but_the_last)
    assert last == ["x" * size + "\n"]
    assert len(heard) > 20


def test_a_handler_may_ask_for_the_calls_of_what_has_just_been_accepted() -> None:
    """gotcha:SIG15: while they are being made, between any two lines; and no descriptor is closed twice."""

    def interrupted() -> None:
        server.cut()

    with hp.listen("tcp://127.0.0.1:0", timeout=10) as listener:
        for line in before_each_line(interrupted):
            with hp.connect(listener.address) as client, listener.accept() as server:
                with hp.alarm(10), line:
                    assert server.local == listener.address
                if line.has_run:
                    assert client.read(timeout=10) == ""
                os.fstat(server.fileno())


def test_what_a_handler_raises_while_a_socket_is_closed_leaves_nothing_open() -> None:
    """gotcha:R8: the interpreter calls handlers when a native call has returned, as that of detach()."""

    class Interrupted:
        def detach(self) -> int:
            calls.detach()
            raise InterruptedError

    one, other = hp.socket_pair()
    calls, one._socket._calls = one.calls, Interrupted()
    before = sorted(os.listdir("/proc/self/fd"))
    with other, pytest.raises(InterruptedError):
        one.close()
    assert len(os.listdir("/proc/self/fd")) == len(before) - 2


class TestLines:
    def test_text_lines_end_the_same_however_they_were_sent(self) -> None:
        """gotcha:SO3, perlipc:N2"""
        with saying(b"a\r\nb\nlone\rcr\r\n\r\nlast") as connection:
            assert list(connection) == ["a\n", "b\n", "lone\rcr\n", "\n", "last"]

    def test_lines_of_bytes_are_as_they_came(self) -> None:
        """gotcha:SO3"""
        with saying(b"a\r\nb\n") as connection:
            assert connection.as_bytes().readlines() == [b"a\r\n", b"b\n"]

    def test_a_line_end_that_is_cut_in_two_packets_is_one(self) -> None:
        """gotcha:SO3"""
        with hostile.dripping_server(b"a\r\nb\r\n", interval=0.005) as peer, hp.connect(peer.url, timeout=30) as drip:
            assert drip.readlines() == ["a\n", "b\n"]

    @pytest.mark.parametrize(
        ("pieces", "sent"),
        [
            (["a\n", "b\r\n"], b"a\r\nb\r\n"),
            (["a\r", "\n"], b"a\r\n"),
            (["a\n", "\n"], b"a\r\n\r\n"),
            (["lone\rcr\n"], b"lone\rcr\r\n"),
            (["a\r", "b\n"], b"a\rb\r\n"),
        ],
    )
    def test_what_is_sent_ends_exactly_as_was_asked_for(self, pieces: list[str], sent: bytes) -> None:
        """gotcha:SO3, perlipc:N2"""
        with hostile.silent_server() as peer:
            with hp.connect(peer.url, newline="\r\n") as connection:
                for piece in pieces:
                    connection.write(piece)
            wait_until(lambda: bytes(peer.received) == sent, what=f"{sent!r}")

    def test_crlf_is_a_word_for_that_as_well(self) -> None:
        with hostile.silent_server() as peer, hp.connect(peer.url, newline="crlf") as connection:
            connection.write("a\n")
            assert connection.newline == "\r\n"
            wait_until(lambda: bytes(peer.received) == b"a\r\n")

    def test_bytes_are_sent_as_they_are(self) -> None:
        with hostile.silent_server() as peer:
            with hp.connect(peer.url, newline="\r\n").as_bytes() as connection:
                connection.write(b"a\nb\r\n")
            wait_until(lambda: bytes(peer.received) == b"a\nb\r\n")

    def test_another_newline_is_refused(self) -> None:
        with hostile.silent_server() as peer, pytest.raises(ValueError, match=r"newline must be"):
            hp.connect(peer.url, newline="\r")

    def test_one_print_is_one_packet(self) -> None:
        """perlipc:N19"""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        connection = wrapped(ours)
        with connection, theirs:
            print("one", "two", 3, file=connection)
            assert theirs.recv(100) == b"one two 3\n"

    def test_what_is_gathered_goes_out_before_a_read_waits(self, pair: tuple[hp.Connection[str], ...]) -> None:
        """perlipc:N19"""
        one, other = pair
        one.write("question?")
        answers: list[str] = []

        def answer() -> None:
            answers.append(other.read_exactly(9))
            other.write("answer\n")

        thread = threading.Thread(target=answer)
        thread.start()
        assert one.readline() == "answer\n"
        thread.join()
        assert answers == ["question?"]


def wrapped(ours: socket.socket) -> hp.Connection[str]:
    from hornpipe.lines import TEXT
    from hornpipe.sockets.descriptor import Socket

    return hp.Connection(Socket(ours), TEXT, scheme="unix", peer=None, name="the other end", timeout=30)


class TestMessages:
    def test_a_message_ends_at_a_dot_on_a_line_of_its_own(self) -> None:
        """gotcha:SO3, perlipc:N3"""
        with saying(b"a.b\r\n..\n...stuffed\r\n.x\n.\r\nnext\n") as connection:
            assert connection.read_until_dot() == "a.b\n.\n..stuffed\n.x\n"
            assert connection.readline() == "next\n"

    def test_an_empty_message_is_only_the_dot(self) -> None:
        """perlipc:N3"""
        with saying(b".\r\n.\n") as connection:
            assert (connection.read_until_dot(), connection.read_until_dot()) == ("", "")

    def test_a_message_of_bytes_keeps_its_line_ends(self) -> None:
        with saying(b"..a\r\nb\n.\r\n") as connection:
            assert connection.as_bytes().read_until_dot() == b".a\r\nb\n"

    def test_a_message_without_its_dot_is_no_message(self) -> None:
        """perlipc:N3"""
        with saying(b"half\n") as connection, pytest.raises(hp.NoAnswer, match="before the dot") as caught:
            connection.read_until_dot()
        assert caught.value.read == "half\n"

    def test_a_message_may_take_several_attempts(self, pair: tuple[hp.Connection[str], ...]) -> None:
        one, other = pair
        one.write("first\n")
        with pytest.raises(TimeoutError):
            other.read_until_dot(timeout=0.05)
        one.write("second\n.\n")
        assert other.read_until_dot() == "first\nsecond\n"

    def test_a_message_without_end_is_bounded(self) -> None:
        """gotcha:SO3"""
        with saying(b"line\n" * 1000) as connection, pytest.raises(hp.LimitExceeded, match="limit=100"):
            connection.read_until_dot(limit=100)

    @pytest.mark.parametrize("message", ["", ".", ".a\n..b\n", "a\n.\nb", "plain\n"])
    def test_what_is_written_until_a_dot_is_read_until_it(
        self, pair: tuple[hp.Connection[str], ...], message: str
    ) -> None:
        """gotcha:SO3, perlipc:N3"""
        one, other = pair
        one.write_until_dot(message)
        one.write("after\n")
        assert other.read_until_dot() == (message if message.endswith("\n") or not message else message + "\n")
        assert other.readline() == "after\n"


class TestExactly:
    def test_so_many_come_however_they_were_sent(self) -> None:
        """gotcha:SO2"""
        with hostile.dripping_server(b"123456", interval=0.002) as peer, hp.connect(peer.url, timeout=30) as drip:
            assert (drip.read_exactly(4), drip.read_exactly(2)) == ("1234", "56")

    def test_an_earlier_end_gives_what_there_was(self) -> None:
        """gotcha:SO2"""
        with saying(b"abc") as connection, pytest.raises(hp.NoAnswer, match="after 3 of 10") as caught:
            connection.read_exactly(10)
        assert caught.value.read == "abc"

    @pytest.mark.parametrize("kind", ["text", "bytes"])
    def test_nothing_is_lost_when_the_time_is_over(self, pair: tuple[hp.Connection[str], ...], kind: str) -> None:
        """gotcha:SO2"""
        one, other = pair
        one.write("é12")
        one.flush()
        reader: hp.Connection[str] | hp.Connection[bytes] = other if kind == "text" else other.as_bytes()
        with reader:
            with pytest.raises(TimeoutError, match="kept"):
                reader.read_exactly(6, timeout=0.05)
            one.write("3456")
            one.flush()
            assert reader.read_exactly(6) == ("é12345" if kind == "text" else "é1234".encode())


class TestDeadlines:
    def test_each_call_has_its_own(self, pair: tuple[hp.Connection[str], ...]) -> None:
        one, _ = pair
        begun = time.monotonic()
        for call in (
            one.read,
            one.readline,
            one.read_some,
            one.read_until_dot,
            lambda timeout: one.read_exactly(1, timeout=timeout),
        ):
            with pytest.raises(TimeoutError, match="a socket pair"):
                call(timeout=0.05)
        assert 0.25 <= time.monotonic() - begun < 20

    def test_the_connection_s_own_is_for_those_without(self) -> None:
        one, other = hp.socket_pair(timeout=0.05)
        with one, other, pytest.raises(TimeoutError):
            one.read()
        with pytest.raises(ValueError, match="timeout must be"):
            hp.socket_pair(timeout=-1)

    def test_no_time_at_all_tries_once(self, pair: tuple[hp.Connection[str], ...]) -> None:
        one, other = pair
        one.write("there\n")
        assert other.readline(timeout=0) == "there\n"
        with pytest.raises(TimeoutError):
            other.readline(timeout=0)

    def test_one_byte_at_a_time_is_no_way_around_it(self) -> None:
        with hostile.dripping_server(b"x" * 1000, interval=0.01) as peer, hp.connect(peer.url) as connection:
            begun = time.monotonic()
            with pytest.raises(TimeoutError):
                connection.readline(timeout=0.2)
            assert time.monotonic() - begun < 8  # of the ten that the drops take

    def test_more_than_can_be_read_is_no_way_around_it(self) -> None:
        with hostile.flooding_server(most=1 << 40) as peer, hp.connect(peer.url, line_limit=None) as connection:
            begun = time.monotonic()
            with pytest.raises(TimeoutError):
                connection.readline(timeout=0.1)
            assert time.monotonic() - begun < 20

    def test_a_peer_that_never_reads_takes_so_much(self) -> None:
        """gotcha:SO2: how much went is told."""
        with hostile.deaf_server() as peer:
            connection = hp.connect(peer.url)
            with pytest.raises(TimeoutError, match=r"\d\d+ bytes had been taken"):
                connection.write("x" * (64 * MIB), timeout=0.1)
            assert 0 < connection.taken < 64 * MIB
            connection.leave()

    def test_the_rest_goes_with_the_next_flush(self, pair: tuple[hp.Connection[str], ...]) -> None:
        """gotcha:SO2"""
        one, other = pair
        with pytest.raises(TimeoutError):
            one.write("x" * MIB, timeout=0.05)
        thread = threading.Thread(target=one.flush)
        thread.start()
        assert other.read_exactly(MIB) == "x" * MIB
        thread.join()


class TestEnds:
    def test_half_a_close_leaves_the_answer_to_come(self, pair: tuple[hp.Connection[str], ...]) -> None:
        """gotcha:SO13"""
        one, other = pair
        one.write("question")
        one.shutdown()
        one.shutdown()
        assert other.read() == "question"
        other.write("answer\n")
        assert one.readline() == "answer\n"
        with pytest.raises(ValueError, match="shut down"):
            one.write("more")

    def test_a_reply_survives_the_close_of_who_did_not_read_everything(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """gotcha:SO12"""
        # Here nobody gives up, however slowly the client is given the processor; that there is an end is seen below.
        monkeypatch.setattr("hornpipe.sockets.descriptor.LINGER", 50)
        monkeypatch.setattr("hornpipe.sockets.descriptor._QUIET", 50)
        with hp_listener() as (listener, url):
            got: list[bytes] = []

            def ask() -> None:
                with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=30) as client:
                    client.sendall(b"GET\n" + b"x" * (8 * MIB))
                    while data := client.recv(65536):
                        got.append(data)

            thread = threading.Thread(target=ask)
            thread.start()
            taken, _ = listener.accept()
            with wrapped_tcp(taken) as connection:
                assert connection.readline() == "GET\n"
                connection.write("400 too much\n")
            thread.join()
            assert b"".join(got) == b"400 too much\n"

    def test_a_close_waits_only_for_who_is_sending(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """gotcha:SO12"""
        monkeypatch.setattr("hornpipe.sockets.descriptor.LINGER", 50)
        with hostile.deaf_server() as peer:
            begun = time.monotonic()
            with hp.connect(peer.url) as connection:
                print("hello", file=connection)
            assert time.monotonic() - begun < 20

    def test_a_close_does_not_wait_for_ever_for_a_flood(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """gotcha:SO12"""
        monkeypatch.setattr("hornpipe.sockets.descriptor.LINGER", 0.3)
        with hostile.flooding_server(most=1 << 40) as peer:
            begun = time.monotonic()
            with hp.connect(peer.url) as connection:
                print("hello", file=connection)
                connection.read(10)
            assert time.monotonic() - begun < 20

    def test_a_peer_that_resets_is_named(self) -> None:
        with hostile.resetting_server() as peer, hp.connect(peer.url, timeout=30) as connection:
            connection.write("hello\n")
            with pytest.raises(ConnectionResetError, match=peer.url):
                connection.read()

    def test_a_peer_that_has_gone_is_a_broken_pipe_that_says_how_much_went(self) -> None:
        """gotcha:SO2"""
        one, other = hp.socket_pair()
        other.close()
        with pytest.raises(BrokenPipeError, match="0 bytes had been taken") as caught:
            one.write("x\n")
        assert isinstance(caught.value, hp.ReaderGone)
        one.close()

    def test_no_signal_comes_of_it(self) -> None:
        """A program that wants to die of PIPE does not want to die of a client."""
        one, other = hp.socket_pair()
        other.close()
        before = signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        try:
            with pytest.raises(BrokenPipeError):
                one.write("x\n")
        finally:
            signal.signal(signal.SIGPIPE, before)
        one.close()

    def test_an_error_in_the_block_drops_what_was_gathered(self) -> None:
        one, other = hp.socket_pair(timeout=30)
        with other:
            with pytest.raises(KeyError), one:
                one.write("half")
                raise KeyError
            assert other.read() == ""

    def test_closing_from_another_thread_ends_a_wait(self) -> None:
        """gotcha:R8"""
        one, other = hp.socket_pair()
        errors: list[BaseException] = []

        def read() -> None:
            try:
                one.read()
            except ValueError as error:
                errors.append(error)

        thread = threading.Thread(target=read)
        thread.start()
        wait_until(lambda: asleep(thread.native_id), what="the reader's sleep")
        one.close()
        thread.join(30)
        assert not thread.is_alive()
        assert len(errors) == 1
        other.close()

    def test_a_number_that_was_closed_with_a_cycle_is_closed_once(self) -> None:
        """gotcha:R8: Python finalizes the parts of a cycle in any order; the number is soon somebody else's."""
        one, other = hp.socket_pair()
        other.close()
        descriptor = one._socket
        number = descriptor.fileno()
        socket.socket(fileno=descriptor.calls.detach()).close()  # as the finalizer of the calls does
        stranger = os.open(os.devnull, os.O_RDONLY)
        if stranger != number:  # the kernel gives the lowest one
            os.dup2(stranger, number, inheritable=False)
            os.close(stranger)
        one.close()
        os.fstat(number)
        os.close(number)

    def test_who_is_forgotten_in_a_cycle_is_closed_in_silence(self) -> None:
        """As any other: from Python 3.12 on the end of its calls could come first, with a ResourceWarning."""
        one, other = hp.socket_pair()
        number = one.fileno()
        ring: dict[str, object] = {"one": one}
        ring["self"] = ring
        del one, ring
        gc.collect()
        assert not Path(f"/proc/self/fd/{number}").exists()
        assert other.read(timeout=20) == ""
        other.close()

    def test_what_is_closed_has_no_end(self) -> None:
        """Also when the end had been read before."""
        one, other = hp.socket_pair()
        other.close()
        assert one.read() == ""
        one.close()
        for call in (one.read, one.readline, one.read_some, lambda: one.read(1)):
            with pytest.raises(ValueError, match="closed"):
                call()

    def test_what_is_closed_says_so(self) -> None:
        one, other = hp.socket_pair()
        other.close()
        one.close()
        one.close()
        for call in (one.read, one.fileno, lambda: one.write("x"), lambda: one.local, one.as_bytes):
            with pytest.raises(ValueError, match="closed"):
                call()


def asleep(task: int | None) -> bool:
    with open(f"/proc/self/task/{task}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] == "S"


@contextlib.contextmanager
def hp_listener() -> Iterator[tuple[socket.socket, str]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener, "tcp://{}:{}".format(*listener.getsockname())


def wrapped_tcp(taken: socket.socket) -> hp.Connection[str]:
    from hornpipe.lines import TEXT
    from hornpipe.sockets.descriptor import Socket

    return hp.Connection(Socket(taken), TEXT, scheme="tcp", peer=None, name="the client", timeout=30)


class TestBothWays:
    def test_one_thread_reads_while_another_writes(self, pair: tuple[hp.Connection[str], ...]) -> None:
        one, other = pair
        size = 8 * MIB

        def echo() -> None:
            while data := other.read_some():
                other.write(data)
                other.flush()
            other.shutdown()

        def send() -> None:
            one.write("x" * size)
            one.shutdown()

        threads = [threading.Thread(target=task) for task in (echo, send)]
        for each in threads:
            each.start()
        assert len(one.read()) == size
        for each in threads:
            each.join()

    def test_a_peer_that_answers_while_it_reads_is_no_deadlock(self, pair: tuple[hp.Connection[str], ...]) -> None:
        """promise 2: the question does not fit, and the answer does not fit either."""
        one, other = pair
        size = 4 * MIB

        def echo() -> None:
            for _ in range(size // 4096):
                other.write(other.read_exactly(4096))
            other.shutdown()

        thread = threading.Thread(target=echo)
        thread.start()
        with pytest.raises(TimeoutError):
            one.write("x" * size, timeout=0.2)
        assert len(one.read()) == size
        thread.join()

    def test_nothing_is_lost_between_a_writer_that_gathers_and_a_reader_that_sends(
        self, pair: tuple[hp.Connection[str], ...]
    ) -> None:
        one, other = pair
        count = 5000

        def gather() -> None:
            for number in range(count):
                one.write(f"{number} ")
            one.write("\n")

        def poke() -> None:
            for _ in range(count):
                other.write("x\n")

        threads = [threading.Thread(target=task) for task in (gather, poke)]
        for each in threads:
            each.start()
        for _ in range(count):
            one.readline()
        assert other.readline().split() == [str(number) for number in range(count)]
        for each in threads:
            each.join()


class TestChildren:
    def test_a_child_has_the_peer_on_its_standard_streams(self, pair: tuple[hp.Connection[str], ...]) -> None:
        """perlipc:N9: a handle used like any file"""
        one, other = pair
        with hp.cmd("tr", "a-z", "A-Z", stdin=one, stdout=one, timeout=30).start() as process:
            one.leave()
            other.write("shout\n")
            other.shutdown()
            assert other.read() == "SHOUT\n"
            process.wait(30)

    def test_the_descriptor_stays_in_blocking_mode(self, pair: tuple[hp.Connection[str], ...]) -> None:
        """gotcha:P5"""
        one, other = pair
        one.write("x\n")
        other.readline()
        assert os.get_blocking(one.fileno())
        with hostile.silent_server() as peer, hp.connect(peer.url, timeout=30) as connection:
            assert os.get_blocking(connection.fileno())

    def test_no_child_inherits_it(self, pair: tuple[hp.Connection[str], ...]) -> None:
        """gotcha:R7"""
        one, _ = pair
        assert not os.get_inheritable(one.fileno())

    def test_poll_sees_it(self, pair: tuple[hp.Connection[str], ...]) -> None:
        one, other = pair
        poll = select.poll()
        poll.register(one, select.POLLIN)
        assert poll.poll(0) == []
        other.write("x\n")
        assert poll.poll(30_000) == [(one.fileno(), select.POLLIN)]


class TestUnix:
    def test_the_kernel_says_who_is_there(self, pair: tuple[hp.Connection[str], ...]) -> None:
        """gotcha:SO9"""
        assert pair[0].credentials == (os.getpid(), os.getuid(), os.getgid())

    def test_a_client_sees_who_listened_and_not_who_accepted(self, tmp_path: Path) -> None:
        """gotcha:SO9"""
        path = tmp_path / "socket"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            listener.listen()

            def accept() -> None:
                taken, _ = listener.accept()
                with taken:
                    taken.recv(1)

            acceptor = hp.fn(accept).with_options(pass_fds=[listener.fileno()]).start()
            with acceptor, hp.connect(f"unix://{path}", timeout=30) as connection:
                assert connection.credentials.pid == os.getpid() != acceptor.pid
                assert connection.peer == hp.Address("unix", path=str(path))
                assert connection.local is None
                connection.write("x\n")
                acceptor.wait(30)

    def test_tcp_has_no_credentials_and_passes_no_descriptors(self) -> None:
        with hostile.silent_server() as peer, hp.connect(peer.url, timeout=30) as connection:
            with pytest.raises(ValueError, match="Unix sockets only"):
                _ = connection.credentials
            with pytest.raises(ValueError, match="Unix sockets only"):
                connection.send_fds([0])


class TestDescriptors:
    @pytest.fixture
    def ends(self) -> Iterator[tuple[hp.Connection[str], hp.Connection[str]]]:
        one, other = hp.socket_pair(timeout=30, receives_fds=True)
        with one, other:
            yield one, other

    def test_a_descriptor_arrives_as_one_of_our_own(self, ends: tuple[hp.Connection[str], ...]) -> None:
        """gotcha:SO10, gotcha:R7, perlipc:N19"""
        one, other = ends
        reader, writer = pipe()
        with reader:
            one.send_fds([writer], b"take this")
            writer.close()
            data, (taken,) = other.receive_fds(9)
            with taken:
                assert data == b"take this"
                assert not os.get_inheritable(taken.fileno())
                os.write(taken.fileno(), b"through it")
            assert os.read(reader.fileno(), 100) == b"through it"

    def test_lines_before_and_after_do_not_lose_it(self, ends: tuple[hp.Connection[str], ...]) -> None:
        """gotcha:SO10: reading ahead goes past where the descriptor is."""
        one, other = ends
        one.write("before\n")
        one.send_fds([0, 1], b"!")
        one.write("after\n")
        assert other.readline() == "before\n"
        data, fds = other.receive_fds()
        for each in fds:
            each.close()
        assert (data, len(fds)) == (b"!", 2)
        assert other.readline() == "after\n"

    def test_what_comes_unasked_goes_nowhere(self, pair: tuple[hp.Connection[str], ...]) -> None:
        """gotcha:SO10"""
        one, other = pair
        before = os.listdir("/proc/self/fd")
        one.send_fds([0, 1, 2], b"surprise\n")
        assert other.readline() == "surprise\n"
        assert os.listdir("/proc/self/fd") == before
        with pytest.raises(ValueError, match="receives_fds=True"):
            other.receive_fds()

    def test_what_nobody_takes_is_closed_with_the_connection(self) -> None:
        """gotcha:SO10; no_leaks sees the rest."""
        one, other = hp.socket_pair(timeout=30, receives_fds=True)
        with one, other:
            one.send_fds([0], b"x\n")
            other.readline()

    def test_a_flood_of_descriptors_is_bounded(self, ends: tuple[hp.Connection[str], ...]) -> None:
        """gotcha:SO10"""
        one, other = ends
        for _ in range(3):
            one.send_fds([0] * 100, b"x\n")
        with pytest.raises(hp.LimitExceeded, match="253"):
            other.readlines()

    def test_a_byte_without_a_descriptor_is_no_descriptor(self, ends: tuple[hp.Connection[str], ...]) -> None:
        one, other = ends
        one.write("x\n")
        with pytest.raises(hp.NoAnswer, match="no descriptor came"):
            other.receive_fds()

    def test_descriptors_that_do_not_fit_are_an_error_and_no_leak(self, ends: tuple[hp.Connection[str], ...]) -> None:
        """gotcha:SO10"""
        one, other = ends
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        one.send_fds([0] * 200)
        resource.setrlimit(resource.RLIMIT_NOFILE, (other.fileno() + 10, hard))
        try:
            with pytest.raises(OSError, match="more descriptors than"):
                other.receive_fds()
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert other.read_exactly(1) == "\0"

    @pytest.mark.parametrize(("fds", "data"), [([], b"x"), ([0], b""), ([0] * 254, b"x")])
    def test_what_cannot_be_sent_is_refused(
        self, pair: tuple[hp.Connection[str], ...], fds: list[int], data: bytes
    ) -> None:
        with pytest.raises(ValueError, match="descriptors"):
            pair[0].send_fds(fds, data)


class TestHostilePeers:
    def test_a_line_without_end_is_bounded_in_memory(self) -> None:
        """gotcha:SO3"""
        with hostile.flooding_server(most=1 << 30) as peer, hp.connect(peer.url, timeout=30) as connection:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            with pytest.raises(hp.LimitExceeded, match="line_limit=1048576") as caught:
                connection.readline()
            assert len(caught.value.data) == MIB
            assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32 * 1024

    def test_a_short_limit_holds_exactly(self) -> None:
        """gotcha:SO3"""
        with saying(b"12345\r\n123456\r\n", line_limit=5) as connection:
            assert connection.readline() == "12345\n"
            with pytest.raises(hp.LimitExceeded, match="line_limit=5"):
                connection.readline()

    def test_text_read_ahead_is_the_next_line_for_every_call(self, pair: tuple[hp.Connection[str], ...]) -> None:
        one, other = pair
        other.write("abc\ndef\n")
        assert one.read(1) == "a"
        other.write("ghi\n")
        assert one.ask("?") == "bc"
        assert next(iter(one)) == "def\n"
        assert one.readline() == "ghi\n"

    def test_text_read_ahead_is_not_bytes_any_more(self, pair: tuple[hp.Connection[str], ...]) -> None:
        one, other = pair
        one.write("abc\n")
        assert other.read(1) == "a"
        with pytest.raises(ValueError, match="read ahead"):
            other.as_bytes()


def test_a_default_timeout_of_the_socket_module_is_no_rule_for_us() -> None:
    """gotcha:SO5"""
    socket.setdefaulttimeout(0.01)
    try:
        one, other = hp.socket_pair(timeout=30)
    finally:
        socket.setdefaulttimeout(None)
    with one, other:
        assert os.get_blocking(one.fileno())
        with pytest.raises(TimeoutError, match="bytes had been taken"):
            one.write("x" * MIB, timeout=0.1)
        one.leave()
