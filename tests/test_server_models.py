"""What every server does, whichever way its clients are served."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

import hornpipe as hp
from hornpipe.testing import hostile
from hornpipe.testing.patience import wait_until

PATIENCE = 30.0


def echo(client: hp.Connection[str]) -> None:
    for line in client:
        client.write(line)


def obey(client: hp.Connection[str]) -> None:
    """A handler that does what it is told, line by line."""
    for line in client:
        match line.split():
            case ["pid"]:
                print(os.getpid(), file=client)
            case ["echo", *words]:
                print(*words, file=client)
            case ["fail"]:
                raise RuntimeError("told to fail")
            case ["write", "and", "fail"]:
                with contextlib.suppress(ConnectionResetError):
                    client.read()
                client.write("last words without a newline")
                raise RuntimeError("told to fail")
            case ["bytes"]:
                raw = client.as_bytes()
                raw.write(b"\xff\xfe\n")
                return
            case ["last"]:
                client.write("last words without a newline")
                return
            case ["die"]:
                os._exit(3)
            case ["spin"]:
                while True:
                    time.sleep(0.01)


def ask(server: hp.Server, line: str, timeout: float = PATIENCE) -> str:
    with hp.connect(server.address, timeout=timeout) as client:
        print(line, file=client)
        return client.readline()


class Behaviour:
    """What holds for each of the models."""

    model: ClassVar[Any]
    options: ClassVar[hp.ServerOptions] = {}

    @contextlib.contextmanager
    def serving(self, handler=obey, address="tcp://127.0.0.1:0", **options) -> Iterator[hp.Server]:
        with hp.Server(address, handler, **{"model": self.model, **self.options, **options}) as server:
            yield server

    def test_a_client_gets_its_answer_and_then_the_end(self) -> None:
        """perlipc:N5"""
        with self.serving() as server, hp.connect(server.address, timeout=PATIENCE) as client:
            print("echo one", file=client)
            print("last", file=client)
            assert client.read() == "one\nlast words without a newline"
        assert server.counts[:4] == (1, 1, 0, 0)
        assert (server.counts.received, server.counts.sent) == (len("echo one\nlast\n"), 32)

    def test_what_its_starter_does_when_told_to_end_is_not_its_own_affair(self) -> None:
        """gotcha:SRV6: stop() tells it to end, and clients that are there are served."""
        hp.signals.unwind("TERM")
        try:
            with self.serving() as server, hp.connect(server.address, timeout=PATIENCE) as client:
                print("echo one", file=client)
                assert client.readline() == "one\n"
                stopping = threading.Thread(target=server.stop)
                stopping.start()
                print("echo two", file=client)
                assert client.readline() == "two\n"
                client.close()
                stopping.join()
            assert server.counts[:3] == (1, 1, 0)
        finally:
            hp.SIG["TERM"] = "DEFAULT"

    def test_many_clients_one_after_the_other(self) -> None:
        with self.serving() as server:
            for number in range(30):
                assert ask(server, f"echo {number}") == f"{number}\n"
        assert server.counts.begun == server.counts.ended == 30

    def test_several_addresses_of_several_kinds(self, tmp_path: Path) -> None:
        wanted = ["tcp://127.0.0.1:0", "tcp://[::1]:0", f"unix://{tmp_path}/name"]
        with self.serving(address=wanted) as server:
            assert [address.scheme for address in server.addresses] == ["tcp", "tcp", "unix"]
            for address in server.addresses:
                with hp.connect(address, timeout=PATIENCE) as client:
                    print("echo here", file=client)
                    assert client.readline() == "here\n"
        assert not (tmp_path / "name").exists()

    def test_a_handler_that_raises_costs_its_own_client_only(self, caplog: pytest.LogCaptureFixture) -> None:
        """gotcha:SRV7"""
        with self.serving() as server:
            with hp.connect(server.address, timeout=PATIENCE) as client:
                print("echo before", file=client)
                assert client.readline() == "before\n"
                print("fail", file=client)
                assert client.read() == ""
            assert ask(server, "echo after") == "after\n"
        assert server.counts.failed == 1

    def test_what_a_handler_raises_is_told_although_its_client_has_gone(self) -> None:
        """gotcha:SRV7: what it wrote last cannot be sent, which is not the news."""
        with self.serving() as server:
            host, port = server.address.host, server.address.port
            hostile.impatient_client((host, port), b"write and fail\n")
        assert (server.counts.failed, server.counts.gone) == (1, 0)

    def test_a_client_that_resets_is_everyday(self) -> None:
        """gotcha:SRV7"""
        with self.serving() as server:
            host, port = server.address.host, server.address.port
            hostile.impatient_client((host, port), b"echo x\n")
            assert ask(server, "echo after") == "after\n"
        assert server.counts.failed == 0

    def test_bytes_are_flushed_and_closed_as_well(self) -> None:
        with self.serving() as server, hp.connect(server.address, timeout=PATIENCE) as client:
            print("bytes", file=client)
            assert client.as_bytes().read() == b"\xff\xfe\n"

    def test_last_words_arrive_although_the_client_is_still_sending(self) -> None:
        """gotcha:SO12"""

        def reply(client: hp.Connection[str]) -> None:
            client.readline()
            client.write("too much\n")

        with (
            self.serving(reply) as server,
            socket.create_connection((server.address.host, server.address.port)) as client,
        ):
            client.settimeout(PATIENCE)
            client.sendall(b"line\n" * 10000)
            assert client.recv(100) == b"too much\n"
            assert client.recv(100) == b""

    def test_a_client_that_says_nothing_is_given_up(self) -> None:
        """gotcha:SRV7"""
        with self.serving(idle_timeout=0.2) as server, hp.connect(server.address, timeout=PATIENCE) as client:
            assert client.read() == ""
            wait_until(lambda: server.counts.ended == 1, PATIENCE)
            assert server.counts.timed_out == 1

    def test_a_client_that_drips_is_given_up(self) -> None:
        """gotcha:SRV7"""
        with self.serving(idle_timeout=5, per_client_timeout=0.3) as server:
            with hostile.slow_client((server.address.host, server.address.port), b"x" * 1000, 0.05):
                wait_until(lambda: server.counts.ended == 1, PATIENCE)
            assert server.counts.timed_out == 1

    def test_who_waits_when_it_is_told_to_end_is_still_served(self) -> None:
        """gotcha:SRV3, gotcha:SRV6"""
        with self.serving(echo) as server, contextlib.ExitStack() as stack:
            clients = [stack.enter_context(hp.connect(server.address, timeout=PATIENCE)) for _ in range(8)]
            for client in clients:
                print("hello", file=client)
            for client in clients:
                client.shutdown()
            server.stop()
            assert [client.read() for client in clients] == ["hello\n"] * 8
        with pytest.raises(ConnectionRefusedError):
            hp.connect(server.address, timeout=PATIENCE)

    def test_the_end_is_bounded(self) -> None:
        """gotcha:SRV6"""
        with self.serving(stop_grace=0.2) as server, hp.connect(server.address, timeout=PATIENCE) as client:
            print("echo x", file=client)
            assert client.readline() == "x\n"
            begun = time.monotonic()
            server.stop()
            assert time.monotonic() - begun < PATIENCE
            assert client.read() == ""

    def test_an_address_that_is_in_use_is_an_error_at_once(self) -> None:
        with self.serving() as server:
            with pytest.raises(OSError) as caught, hp.Server(server.address, obey, model=self.model):
                pass
            assert caught.value.errno == errno.EADDRINUSE

    def test_too_many_from_one_address_are_turned_away(self) -> None:
        with self.serving(max_per_address=2) as server, contextlib.ExitStack() as stack:
            clients = [stack.enter_context(hp.connect(server.address, timeout=PATIENCE)) for _ in range(2)]
            for client in clients:
                print("echo in", file=client)
                assert client.readline() == "in\n"
            assert hp.connect(server.address, timeout=PATIENCE).read() == ""
            # It is counted just after the client has been let go.
            wait_until(lambda: server.counts.refused == 1, PATIENCE)
            clients[0].close()
            wait_until(lambda: server.counts.ended == 1, PATIENCE)
            assert ask(server, "echo again") == "again\n"

    def test_the_log_has_the_beginning_and_the_end(self, tmp_path: Path) -> None:
        log = logging.getLogger(f"test.{self.model}")
        log.setLevel("INFO")
        file = logging.FileHandler(tmp_path / "log")
        file.setFormatter(logging.Formatter("%(event)s %(peer)s %(message)s"))
        log.addHandler(file)
        try:
            with self.serving(log=log) as server:
                with hp.connect(server.address, timeout=PATIENCE) as client:
                    print("echo x", file=client)
                    peer = client.local
                    client.readline()
                wait_until(lambda: server.counts.ended == 1, PATIENCE)
        finally:
            log.removeHandler(file)
            file.close()
        begin, end = (tmp_path / "log").read_text().splitlines()
        assert begin == f"begin {peer} {peer}: connected"
        assert re.fullmatch(rf"end {peer} {peer}: ended after \d+\.\d+ s, 7 bytes received, 2 sent", end)


class TestInline(Behaviour):
    model = "inline"

    test_too_many_from_one_address_are_turned_away = None


class TestFork(Behaviour):
    model = "fork"

    def test_a_start_that_is_interrupted_leaves_no_child(self) -> None:
        server = hp.Server("tcp://127.0.0.1:0", obey, model=self.model, ready=lambda: time.sleep(60))
        with pytest.raises(TimeoutError), hp.alarm(0.05):
            server.start()
        server.stop()


class TestPrefork(Behaviour):
    model = "prefork"
    options: ClassVar = {"workers": 3}


class TestThread(Behaviour):
    model = "thread"

    def test_one_that_cannot_be_hired_is_not_counted_on(self) -> None:
        """gotcha:SRV1: there was no room for it; later there is."""
        # In a child: Python keeps something of each thread that it could not start.
        assert hp.fn(self.serve_with_and_without_room).with_options(timeout=60).call() == ["a\n", "b\n", "c\n"]

    def serve_with_and_without_room(self) -> list[str]:
        with self.serving(stop_grace=PATIENCE) as server:
            before = threading.stack_size((1 << 47) - 4096)  # more than there is of addresses
            answers = [ask(server, "echo a")]
            threading.stack_size(before)
            with hp.connect(server.address, timeout=PATIENCE) as client:
                print("echo b", file=client)
                return [*answers, client.readline(), ask(server, "echo c", timeout=10)]


@pytest.mark.parametrize("option", [{"newline": "\r\n"}, {"tls": ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)}])
def test_what_belongs_to_a_listener_is_given_where_that_is_made(option: dict[str, Any]) -> None:
    with hp.listen("tcp://127.0.0.1:0") as listener, pytest.raises(ValueError, match="where the listener was made"):
        hp.Server(listener, obey, **option)
