"""Encrypted connections from both sides: what is checked, who waits for whom, and how they end."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import hornpipe as hp
from hornpipe.sockets.tls import TlsConnection
from hornpipe.testing import hostile
from hornpipe.testing.between_lines import before_each_line
from hornpipe.testing.patience import wait_until


@pytest.fixture
def trusting(certificate: Path) -> ssl.SSLContext:
    """A client's context, which takes our certificate."""
    return ssl.create_default_context(cafile=str(certificate / "cert"))


@pytest.fixture
def serving(certificate: Path) -> ssl.SSLContext:
    """A server's context with that certificate."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate / "cert", certificate / "key")
    return context


@pytest.fixture
def tls_server(certificate: Path) -> Iterator[int]:
    """OpenSSL's own server, which sends every line back reversed."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = hp.cmd(
        "openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-cert", str(certificate / "cert"),
        "-key", str(certificate / "key"), "-rev", "-quiet", stdout=hp.NULL, stderr=hp.NULL, timeout=60,
    ).start()  # fmt: skip
    with server:
        wait_until(lambda: reachable(port), timeout=30)
        yield port
        server.terminate(5)


def fill(connection: hp.Connection[str]) -> None:
    """Leave no room for anything."""
    connection.calls.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    for size in (65536, 1):
        with contextlib.suppress(BlockingIOError):
            while connection.calls.send(bytes(size), socket.MSG_DONTWAIT):
                pass


def drain(connection: hp.Connection[str]) -> None:
    """Take in what fills the other side, which TLS could make nothing of."""
    while select.select([connection], [], [], 0.05)[0]:
        connection.calls.recv(1 << 20, socket.MSG_DONTWAIT)


def reachable(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class TestClient:
    def test_openssl_s_server_is_talked_to(self, trusting: ssl.SSLContext, tls_server: int) -> None:
        """perlipc:N9"""
        with hp.connect(
            f"tcp://127.0.0.1:{tls_server}", tls=trusting, server_name="here.test", timeout=10
        ) as connection:
            for word in ("stressed", "draw " * 1000):
                print(word, file=connection)
                assert connection.readline() == word[::-1] + "\n"
            assert connection.tls.version() == "TLSv1.3"
            with pytest.raises(TimeoutError):
                connection.readline(timeout=0.05)

    def test_a_certificate_of_nobody_s_is_refused(self, tls_server: int) -> None:
        with pytest.raises(ssl.SSLCertVerificationError) as caught:
            hp.connect(f"tcp://127.0.0.1:{tls_server}", tls=True, server_name="here.test", timeout=30)
        assert f"while connecting to tcp://127.0.0.1:{tls_server} as 'here.test'" in caught.value.__notes__

    def test_a_certificate_of_another_name_is_refused(self, trusting: ssl.SSLContext, tls_server: int) -> None:
        with pytest.raises(ssl.SSLCertVerificationError, match="mismatch"):
            hp.connect(f"tcp://127.0.0.1:{tls_server}", tls=trusting, timeout=30)

    def test_a_handshake_that_never_ends_costs_the_timeout(self) -> None:
        """gotcha:SO4: one deadline for all."""
        with hostile.silent_server() as peer:
            begun = time.monotonic()
            with pytest.raises(TimeoutError, match="TLS handshake"):
                hp.connect(peer.url, tls=True, timeout=0.2)
            assert time.monotonic() - begun < 20

    @pytest.mark.parametrize("how", ["ends", "resets"])
    def test_who_leaves_during_the_handshake_is_named(self, how: str) -> None:
        peers = {"ends": hostile.half_closing_server, "resets": hostile.resetting_server}
        with peers[how]() as peer, pytest.raises(ConnectionError, match=peer.url):
            hp.connect(peer.url, tls=True, timeout=30)

    def test_an_end_without_a_farewell_is_no_end(self, serving: ssl.SSLContext, trusting: ssl.SSLContext) -> None:
        """Whoever cuts the wire must not be taken for the server's last word."""

        def behaviour(peer: hostile.Peer, connection: socket.socket) -> None:
            encrypted = serving.wrap_socket(connection, server_side=True, suppress_ragged_eofs=False)
            encrypted.sendall(b"half")
            os.close(encrypted.detach())

        with (
            hostile.serving(behaviour) as peer,
            hp.connect(peer.url, tls=trusting, server_name="here.test", timeout=30) as connection,
        ):
            assert connection.read_exactly(4) == "half"
            with pytest.raises(ConnectionAbortedError, match="cut short"):
                connection.read()

    def test_half_a_close_leaves_the_answer_to_come(self, serving: ssl.SSLContext, trusting: ssl.SSLContext) -> None:
        """gotcha:SO13"""

        def behaviour(peer: hostile.Peer, connection: socket.socket) -> None:
            encrypted = serving.wrap_socket(connection, server_side=True)
            asked = b""
            while data := encrypted.recv(65536):
                asked += data
            encrypted.sendall(b"%d bytes\n" % len(asked))
            encrypted.unwrap().close()

        with (
            hostile.serving(behaviour) as peer,
            hp.connect(peer.url, tls=trusting, server_name="here.test", timeout=30) as connection,
        ):
            connection.write("x" * 1_000_000)
            connection.shutdown()
            assert connection.read() == "1000000 bytes\n"


@pytest.fixture
def listener(serving: ssl.SSLContext) -> Iterator[hp.Listener]:
    with hp.listen("tcp://127.0.0.1:0", tls=serving, timeout=30) as listener:
        yield listener


Dial = Callable[[], hp.Connection[str]]


@pytest.fixture
def dialled(listener: hp.Listener, trusting: ssl.SSLContext) -> Iterator[Dial]:
    """A client of the listener in another thread, as both sides have to talk for either to come in: what it makes."""
    clients: list[hp.Connection[str]] = []

    def dial() -> None:
        clients.append(hp.connect(listener.address, tls=trusting, server_name="here.test", timeout=30))

    thread = threading.Thread(target=dial)
    thread.start()

    def client() -> hp.Connection[str]:
        thread.join()
        return clients[0]

    yield client
    client().leave()


@contextlib.contextmanager
def talking(listener: hp.Listener, dialled: Dial) -> Iterator[tuple[hp.Connection[str], hp.Connection[str]]]:
    with listener.accept(timeout=30) as connection:
        print("welcome", file=connection)
        with dialled() as client:
            assert client.readline() == "welcome\n"
            yield client, connection


class TestListening:
    def test_both_sides_talk(self, listener: hp.Listener, dialled: Dial) -> None:
        """perlipc:N9: one set of words, encrypted or not."""
        with listener.accept(timeout=30) as connection:
            print("welcome", file=connection)
            with dialled() as client:
                assert client.readline() == "welcome\n"
                client.write("x" * 300_000 + "\n")
                client.shutdown()
                assert connection.readline() == "x" * 300_000 + "\n"
                assert connection.read() == ""
                connection.write("bye")
                connection.shutdown()
                assert client.read() == "bye"

    def test_a_question_has_its_limit_and_its_answer_may_come_later(self, listener: hp.Listener, dialled: Dial) -> None:
        with talking(listener, dialled) as (client, connection):
            begun = time.monotonic()
            with pytest.raises(TimeoutError):
                client.ask("one", timeout=0.05)
            assert time.monotonic() - begun < 20
            assert connection.readline() == "one\n"
            print("here it is", file=connection)
            assert client.readline() == "here it is\n"

    def test_half_a_close_leaves_what_has_come_and_was_not_read(self, listener: hp.Listener, dialled: Dial) -> None:
        """gotcha:SO13: OpenSSL's end of a session reads, and takes what it finds for a breach of the protocol."""
        with listener.accept(timeout=30) as connection:
            connection.write("a" + "x" * 50_000)
            connection.flush()
            with dialled() as client:
                assert client.read(1) == "a"
                client.shutdown()
                connection.shutdown()
                assert client.read() == "x" * 50_000

    def test_half_a_close_has_a_limit_and_goes_on_afterwards(self, listener: hp.Listener, dialled: Dial) -> None:
        """gotcha:SO13: also where there is no room for the farewell alone."""
        with talking(listener, dialled) as (client, connection):
            connection.timeout = None
            with hp.alarm(20):
                fill(connection)
                with pytest.raises(TimeoutError, match="writing to"):
                    connection.shutdown(timeout=0.01)
                drain(client)
                connection.shutdown(timeout=20)
            assert not connection._cipher
            client.leave()

    def test_what_is_encrypted_and_was_not_taken_in_time_goes_with_the_next_flush(
        self, listener: hp.Listener, dialled: Dial
    ) -> None:
        """gotcha:SO2"""
        with talking(listener, dialled) as (client, connection):
            fill(connection)
            with pytest.raises(TimeoutError, match="writing to"):
                connection.write("x" * 100 + "\n", timeout=0.01)
            drain(client)
            connection.flush(timeout=20)
            assert not connection._cipher
            client.leave()

    def test_a_handler_may_write_between_any_two_lines(self, listener: hp.Listener, dialled: Dial) -> None:
        """gotcha:SIG15: of a write and of a read; it does not wait for itself, and each line comes whole and once."""
        with talking(listener, dialled) as (client, connection):
            for call, said in ((lambda: client.write("main\n"), ["main\n"]), (client.readline, [])):
                for line in before_each_line(lambda: client.write("handler\n")):
                    print("answer", file=connection)
                    with hp.alarm(20), line:
                        call()
                    wanted = ["handler\n"] * line.has_run + said
                    assert sorted(connection.readline(timeout=10) for _ in wanted) == wanted

    def test_descriptors_do_not_go_with_what_is_encrypted(
        self, tmp_path: Path, serving: ssl.SSLContext, trusting: ssl.SSLContext
    ) -> None:
        path = f"unix://{tmp_path}/name"
        with hp.listen(path, tls=serving) as listener, socket.socket(socket.AF_UNIX) as client:
            client.connect(f"{tmp_path}/name")
            with listener.accept(timeout=30) as connection, pytest.raises(ValueError, match="is encrypted"):
                connection.send_fds([0])

    def test_what_has_come_is_read_at_once_whatever_is_still_to_be_written(
        self, listener: hp.Listener, dialled: Dial
    ) -> None:
        """gotcha:SO13: poll(2) does not see what has been received and not been decrypted."""
        with listener.accept(timeout=30) as connection:
            connection.handshake(timeout=30)
            with dialled() as client:
                connection.calls.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
                client.calls.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
                with pytest.raises(TimeoutError):
                    connection.write("x" * 20_000_000, timeout=0.5)
                client.write("y" * 40_000)
                client.flush()
                came = connection.read_some(timeout=30)
                while len(came) < 40_000:
                    try:
                        came += connection.read_some(timeout=0)
                    except TimeoutError:
                        assert select.select([connection], [], [], 10)[0], f"{len(came)} characters have come"
                assert came == "y" * 40_000
                # And more than fits on the way, of a peer that reads nothing until it is taken (promise 2).
                thread = threading.Thread(target=client.write, args=("z" * 5_000_000,))
                thread.start()
                assert connection.read(5_000_000, timeout=30) == "z" * 5_000_000
                thread.join()
            connection.leave()

    def test_accepting_waits_for_no_client_s_handshake(self, listener: hp.Listener) -> None:
        """One that says nothing is accepted at once, and costs whoever serves it and nobody else."""
        with (
            socket.create_connection(("127.0.0.1", listener.address.port)),
            listener.accept(timeout=30) as connection,
        ):
            assert isinstance(connection, TlsConnection)
            with pytest.raises(ValueError, match="not shaken hands"):
                _ = connection.tls
            begun = time.monotonic()
            for use in (
                connection.readline,
                lambda timeout: connection.write("x\n", timeout=timeout),
                connection.handshake,
            ):
                with pytest.raises(TimeoutError, match=f"the TLS handshake with {connection.peer}"):
                    use(timeout=0.1)
            assert 0.3 <= time.monotonic() - begun < 20
            connection.leave()

    def test_a_handshake_is_bounded_where_nothing_else_is(
        self, serving: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("hornpipe.sockets.tls._LONGEST_HANDSHAKE", 0.1)
        with (
            hp.listen("tcp://127.0.0.1:0", tls=serving) as listener,
            socket.create_connection(("127.0.0.1", listener.address.port)),
            listener.accept() as connection,
            pytest.raises(TimeoutError, match="TLS handshake"),
        ):
            connection.readline()

    def test_one_byte_at_a_time_is_no_way_around_it(self, listener: hp.Listener, trusting: ssl.SSLContext) -> None:
        hello = client_hello(trusting)
        with (
            hostile.slow_client(("127.0.0.1", listener.address.port), hello, interval=0.02),
            listener.accept(timeout=30) as connection,
        ):
            begun = time.monotonic()
            with pytest.raises(TimeoutError, match="TLS handshake"):
                connection.handshake(timeout=0.2)
            assert time.monotonic() - begun < 20
            connection.leave()

    def test_a_handshake_that_ran_out_of_time_goes_on(self, listener: hp.Listener, trusting: ssl.SSLContext) -> None:
        with (
            socket.create_connection(("127.0.0.1", listener.address.port)) as raw,
            listener.accept(timeout=30) as connection,
        ):
            with pytest.raises(TimeoutError):
                connection.handshake(timeout=0)
            thread = threading.Thread(target=connection.handshake)
            thread.start()
            with trusting.wrap_socket(raw, server_hostname="here.test") as client:
                thread.join()
                client.sendall(b"late\n")
                assert connection.readline() == "late\n"
                connection.leave()

    def test_two_threads_shake_hands_once(self, listener: hp.Listener, trusting: ssl.SSLContext) -> None:
        """One reads while another writes, and neither has been told who is first."""
        with (
            socket.create_connection(("127.0.0.1", listener.address.port)) as raw,
            listener.accept(timeout=30) as connection,
        ):
            heard: list[str] = []
            threads = [
                threading.Thread(target=lambda: heard.append(connection.readline())),
                threading.Thread(target=connection.write, args=("to you\n",)),
            ]
            for each in threads:
                each.start()
            with trusting.wrap_socket(raw, server_hostname="here.test") as client:
                client.sendall(b"to me\n")
                assert client.recv(100) == b"to you\n"
                for each in threads:
                    each.join()
                assert heard == ["to me\n"]
                connection.leave()

    @pytest.mark.parametrize(
        ("noise", "alert"),
        # OpenSSL has no alert for who does not speak TLS at all.
        [(b"GET / HTTP/1.0\r\n\r\n", b""), (b"\x16\x03\x01\xff\xff" + b"\0" * 300_000, b"\x15\x03")],
    )
    def test_what_is_no_handshake_is_refused_and_the_client_is_told(
        self, listener: hp.Listener, noise: bytes, alert: bytes
    ) -> None:
        """gotcha:SO12: unread input must not destroy the alert."""
        with socket.create_connection(("127.0.0.1", listener.address.port), timeout=30) as raw:
            raw.sendall(noise)
            with listener.accept(timeout=30) as connection:
                with pytest.raises(ssl.SSLError) as caught:
                    connection.readline()
                assert caught.value.__notes__ == [f"during the TLS handshake with {connection.peer}"]
            assert raw.recv(100)[:2] == alert
            assert raw.recv(100) == b""

    def test_a_client_without_a_certificate_is_refused_where_one_is_wanted(
        self, serving: ssl.SSLContext, trusting: ssl.SSLContext
    ) -> None:
        serving.verify_mode = ssl.CERT_REQUIRED
        with hp.listen("tcp://127.0.0.1:0", tls=serving, timeout=30) as listener:
            refused: list[BaseException] = []

            def serve() -> None:
                with listener.accept(timeout=30) as connection:
                    try:
                        connection.readline()
                    except ssl.SSLError as error:
                        refused.append(error)

            thread = threading.Thread(target=serve)
            thread.start()
            # With TLS 1.3 the client has finished before the server has looked at its certificate.
            with (
                hp.connect(listener.address, tls=trusting, server_name="here.test", timeout=30) as client,
                pytest.raises(ssl.SSLError, match=r"(?i)certificate.required"),
            ):
                client.read()
            thread.join()
        assert "certificate" in str(refused[0])

    @pytest.mark.parametrize("how", ["ends", "resets"])
    def test_who_leaves_before_the_handshake_is_named(self, listener: hp.Listener, how: str) -> None:
        if how == "ends":
            socket.create_connection(("127.0.0.1", listener.address.port)).close()
        else:
            hostile.impatient_client(("127.0.0.1", listener.address.port), b"x")
        with listener.accept(timeout=30) as connection:
            with pytest.raises(ConnectionError, match=str(connection.peer)):
                connection.readline()
            connection.leave()

    def test_it_is_closed_without_a_handshake_that_nobody_wanted(self, listener: hp.Listener) -> None:
        begun = time.monotonic()
        with socket.create_connection(("127.0.0.1", listener.address.port)) as raw:
            listener.accept(timeout=30).close()
            assert raw.recv(1) == b""
        with (
            socket.create_connection(("127.0.0.1", listener.address.port)) as raw,
            listener.accept(timeout=30) as connection,
        ):
            connection.shutdown()
            assert raw.recv(1) == b""
        assert time.monotonic() - begun < 20

    def test_poll_sees_the_client(self, listener: hp.Listener, dialled: Dial) -> None:
        with listener.accept(timeout=30) as connection:
            assert select.select([connection], [], [], 30)[0] == [connection]
            connection.handshake()
            assert connection.tls.version() == "TLSv1.3"
            dialled().close()

    def test_a_unix_name_can_be_encrypted_as_well(
        self, tmp_path: Path, serving: ssl.SSLContext, trusting: ssl.SSLContext
    ) -> None:
        path = f"unix://{tmp_path}/name"
        with hp.listen(path, tls=serving, timeout=30) as listener:
            said: list[str] = []

            def ask() -> None:
                with hp.connect(path, tls=trusting, server_name="here.test", timeout=30) as client:
                    said.append(client.readline())

            thread = threading.Thread(target=ask)
            thread.start()
            with listener.accept(timeout=30) as connection:
                print("hello", file=connection)
                assert connection.credentials.pid == os.getpid()
                thread.join()
            assert said == ["hello\n"]

    def test_what_is_no_server_s_context_is_refused(self, tmp_path: Path, trusting: ssl.SSLContext) -> None:
        with pytest.raises(ValueError, match="for clients"):
            hp.listen(f"unix://{tmp_path}/name", tls=trusting)
        with pytest.raises(TypeError, match="SSLContext"):
            hp.listen(f"unix://{tmp_path}/name", tls=True)  # type: ignore[arg-type]
        assert not (tmp_path / "name").exists()


def client_hello(context: ssl.SSLContext) -> bytes:
    """What a client says first."""
    sent = ssl.MemoryBIO()
    hello = context.wrap_bio(ssl.MemoryBIO(), sent, server_hostname="here.test")
    with pytest.raises(ssl.SSLWantReadError):
        hello.do_handshake()
    return sent.read()


def test_openssl_s_client_is_served(listener: hp.Listener, certificate: Path) -> None:
    """perlipc:N9"""
    client = hp.cmd(
        "openssl", "s_client", "-connect", f"127.0.0.1:{listener.address.port}", "-CAfile", str(certificate / "cert"),
        "-servername", "here.test", "-verify_return_error", "-verify_hostname", "here.test", "-quiet",
        stderr=hp.NULL, timeout=30,
    ).duplex()  # fmt: skip
    with client:
        client.send("hello\n")
        with listener.accept(timeout=30) as connection:
            assert connection.readline() == "hello\n"
            print("welcome", file=connection)
        assert client.readline() == "welcome\n"
        client.close_input()
