"""Peers that mean no good: bounds and deadlines hold, memory does not grow, whatever the connection is made of."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import hornpipe as hp
from hornpipe.testing import hostile

MIB = 1 << 20
GIB = 1 << 30
RESET = struct.pack("ii", 1, 0)

Behaviour = Callable[[hostile.Peer, Any], None]
Against = Callable[..., contextlib.AbstractContextManager[hp.Connection[str]]]


@pytest.fixture(params=["tcp", "unix", "tls"])
def against(request: pytest.FixtureRequest, tmp_path: Path) -> Against:
    """A connection to somebody who behaves like this."""
    path = tmp_path / "name" if request.param == "unix" else None
    options: dict[str, Any] = {}
    wrap: Callable[[socket.socket], Any] = contextlib.nullcontext
    if request.param == "tls":
        folder = request.getfixturevalue("certificate")
        theirs = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        theirs.load_cert_chain(folder / "cert", folder / "key")
        options["tls"] = ssl.create_default_context(cafile=str(folder / "cert"))
        options["server_name"] = "here.test"

        def wrap(connection: socket.socket) -> Any:
            return theirs.wrap_socket(connection, server_side=True)

    @contextlib.contextmanager
    def meet(behaviour: Behaviour, **more: Any) -> Iterator[hp.Connection[str]]:
        def behave(peer: hostile.Peer, connection: socket.socket) -> None:
            with wrap(connection) as wrapped:
                behaviour(peer, wrapped)

        with hostile.serving(behave, path) as peer, hp.connect(peer.url, **options, **more) as connection:
            yield connection

    return meet


def flood(peer: hostile.Peer, connection: Any) -> None:
    chunk = b"x" * 65536
    while peer.sent < GIB:
        peer.send(connection, chunk)


def drip(peer: hostile.Peer, connection: Any) -> None:
    while not peer.stopping.wait(0.01):
        peer.send(connection, b"x")


def stop_midway(peer: hostile.Peer, connection: Any) -> None:
    peer.send(connection, b"half")
    if isinstance(connection, ssl.SSLSocket):
        with contextlib.suppress(OSError):
            connection.unwrap()


def reset(peer: hostile.Peer, connection: Any) -> None:
    connection.recv(1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)


def read_nothing(peer: hostile.Peer, connection: Any) -> None:
    peer.stopping.wait(peer.seconds)


READS: dict[str, Callable[[hp.Connection[str]], object]] = {
    "readline": lambda connection: connection.readline(),
    "iteration": lambda connection: next(iter(connection)),
    "read_exactly": lambda connection: connection.read_exactly(2 * GIB),
    "read_until_dot": lambda connection: connection.read_until_dot(),
    "ask": lambda connection: connection.ask("?"),
}


@contextlib.contextmanager
def memory_that_does_not_grow(bound: int = 32 * MIB) -> Iterator[None]:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < bound // 1024


@pytest.mark.parametrize("call", READS.keys() - {"read_exactly"})
def test_a_gigabyte_without_a_newline_is_refused_after_a_mebibyte(against: Against, call: str) -> None:
    """gotcha:SO3"""
    with against(flood, timeout=30) as connection, memory_that_does_not_grow():
        with pytest.raises(hp.LimitExceeded, match="longer than") as caught:
            READS[call](connection)
        assert len(caught.value.data) == MIB
        connection.leave()


@pytest.mark.soak
def test_a_gigabyte_passes_through_in_pieces(against: Against) -> None:
    size = GIB if os.environ.get("HORNPIPE_SOAK") == "1" else 32 * MIB
    with against(flood, timeout=30) as connection, memory_that_does_not_grow():
        seen = 0
        while seen < size:
            seen += len(connection.read_some())
        connection.leave()


@pytest.mark.parametrize("call", READS)
@pytest.mark.parametrize("behaviour", [drip, flood, read_nothing])
def test_the_deadline_holds_whatever_comes(against: Against, behaviour: Behaviour, call: str) -> None:
    """gotcha:SO2: and what has come is kept."""
    with against(behaviour, timeout=30, line_limit=None) as connection:
        connection.timeout = 0.1
        begun = time.monotonic()
        with pytest.raises((TimeoutError, hp.LimitExceeded)) as caught:
            READS[call](connection)
        assert time.monotonic() - begun < 20
        if behaviour is not read_nothing and isinstance(caught.value, TimeoutError):
            assert connection.read_some(timeout=30)[0] == "x"
        connection.leave()


@pytest.mark.parametrize("call", READS)
def test_an_end_midway_is_told_with_what_there_was(against: Against, call: str) -> None:
    """gotcha:SO2"""
    with against(stop_midway, timeout=30) as connection:
        if call in ("readline", "iteration"):
            assert READS[call](connection) == "half"
            assert connection.readline() == ""
            return
        # A peer that has gone may be noticed when the question is sent.
        with pytest.raises((hp.NoAnswer, ConnectionError)) as caught:
            READS[call](connection)
        if isinstance(caught.value, hp.NoAnswer):
            assert caught.value.read == "half"
        connection.leave()


@pytest.mark.parametrize("call", READS)
def test_a_reset_is_an_error_with_a_name(against: Against, call: str, request: pytest.FixtureRequest) -> None:
    with against(reset, timeout=30) as connection:
        connection.write("hello\n")
        # A Unix socket knows no reset: an end is what there is, or ECONNRESET with something unread.
        with pytest.raises((ConnectionError, hp.NoAnswer, StopIteration, AssertionError)) as caught:
            assert READS[call](connection) != ""
        if "tcp" in request.node.name:
            assert connection.name in str(caught.value)
        connection.leave()


def test_nothing_is_written_for_ever_to_who_does_not_read(against: Against) -> None:
    """gotcha:SO2: how much went is told."""
    with against(read_nothing, timeout=30) as connection, memory_that_does_not_grow(400 * MIB):
        begun = time.monotonic()
        with pytest.raises(TimeoutError, match=r"\d\d+ bytes had been taken"):
            connection.write("x" * (64 * MIB), timeout=0.15)
        with pytest.raises(TimeoutError):
            connection.shutdown(timeout=0.05)
        with pytest.raises(TimeoutError):
            connection.ask("?", timeout=0.05)
        connection.timeout = 0.05
        with pytest.raises(TimeoutError):
            connection.close()
        assert time.monotonic() - begun < 20
        assert connection.closed
