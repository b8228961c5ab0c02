"""Servers under many clients, slow clients, and for a long time."""

from __future__ import annotations

import contextlib
import os
import resource
import select
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import hornpipe as hp
from hornpipe.testing.patience import wait_until
from hornpipe.testing.processes import look_at, wait_gone

PATIENCE = 30.0
SOAK = os.environ.get("HORNPIPE_SOAK") == "1"
MODELS = ["fork", "prefork", "thread"]


def greet(client: hp.Connection[str]) -> None:
    client.write("hello\n")


def echo(client: hp.Connection[str]) -> None:
    for line in client:
        client.write(line)


GREETER = """
import sys
import hornpipe as hp
server = hp.Server("tcp://127.0.0.1:0", lambda client: client.write("hello\\n"), model=sys.argv[1],
                   ready=lambda: print(server.address, flush=True))
counts = server.run()
print(counts.ended, "ended,", counts.failed, "failed")
"""


def many_descriptors() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 20_000), hard))


@pytest.fixture(autouse=True)
def _room_for_many() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    many_descriptors()
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def family(pid: int) -> list[int]:
    """It and its children."""
    seen = [look_at(int(name)) for name in os.listdir("/proc") if name.isdigit()]
    return [pid, *(each.pid for each in seen if each is not None and each.parent == pid)]


def memory(pid: int) -> int:
    """What it has in memory. Not its private part, which grows when the process it was forked from writes to a page."""
    with open(f"/proc/{pid}/smaps_rollup") as file:
        return sum(int(line.split()[1]) * 1024 for line in file if line.startswith("Rss:"))


def descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def greeted(address: Any) -> None:
    with socket.create_connection((address.host, address.port), PATIENCE) as client:
        assert client.recv(100) == b"hello\n"
        assert client.recv(100) == b""


@pytest.mark.soak
@pytest.mark.parametrize("model", MODELS)
class TestMany:
    def test_one_after_the_other_leaves_nothing(self, model: Any) -> None:
        """gotcha:SRV2: no descriptor, zombie or memory is left by 100,000."""
        count = 100_000 if SOAK else 200
        # In a process of its own: what a fork takes grows with what the forking one has, and this has all the tests.
        with hp.cmd(sys.executable, "-c", GREETER, model).reader() as program:
            address = hp.Address.parse(program.readline().strip())
            pid = program.pid
            for _ in range(100):
                greeted(address)
            held, used = descriptors(pid), memory(pid)
            for _ in range(count):
                greeted(address)
            wait_until(lambda: descriptors(pid) <= held + (model == "thread") * 20, PATIENCE)
            assert memory(pid) < used + (8 << 20)
            if model == "fork":
                wait_until(lambda: family(pid) == [pid], PATIENCE)
            os.kill(pid, signal.SIGTERM)
            assert program.read() == f"{count + 100} ended, 0 failed\n"

    def test_a_thousand_at_once(self, model: Any) -> None:
        """gotcha:SRV2: whoever is over the limit waits, and is served."""
        count = 1000 if SOAK else 100
        options: dict[str, Any] = {} if model == "prefork" else {"max_clients": count // 2}
        with hp.Server("tcp://127.0.0.1:0", echo, model=model, **options) as server, contextlib.ExitStack() as stack:
            where = server.address.host, server.address.port
            clients = [stack.enter_context(socket.create_connection(where, PATIENCE)) for _ in range(count)]
            for number, client in enumerate(clients):
                client.sendall(b"%d\n" % number)
                client.shutdown(socket.SHUT_WR)
            for number, client in enumerate(clients):
                client.settimeout(PATIENCE)
                received = b""
                while data := client.recv(100):
                    received += data
                assert received == b"%d\n" % number
        assert (server.counts.ended, server.counts.failed) == (count, 0)

    def test_the_slow_do_not_keep_the_others_out(self, model: Any) -> None:
        """gotcha:SRV7: a byte now and then from a thousand, while others are served (slowloris)."""
        count = (1000 if SOAK else 60) if model != "prefork" else 8
        options: dict[str, Any] = {"workers": 12} if model == "prefork" else {"max_clients": count + 8}
        with (
            hp.Server("tcp://127.0.0.1:0", echo, model=model, per_client_timeout=60, **options) as server,
            contextlib.ExitStack() as stack,
        ):
            where = server.address.host, server.address.port
            slow = [stack.enter_context(socket.create_connection(where, PATIENCE)) for _ in range(count)]
            wait_until(lambda: server.counts.active == count, PATIENCE)
            over = threading.Event()

            def drip() -> None:
                while not over.wait(0.2):
                    for each in slow:
                        with contextlib.suppress(OSError):
                            each.send(b"x")

            dripping = threading.Thread(target=drip)
            dripping.start()
            try:
                for number in range(50):
                    with hp.connect(server.address, timeout=PATIENCE) as client:
                        assert client.ask(f"{number}") == f"{number}"
            finally:
                over.set()
                dripping.join(PATIENCE)


def test_workers_wake_up_only_for_clients() -> None:
    """gotcha:SRV4: an idle server uses no processor."""
    with hp.Server("tcp://127.0.0.1:0", greet, model="prefork", workers=4) as server:
        greeted(server.address)
        pids = family(server.pid)

        def switches() -> int:
            lines = [line for pid in pids for line in Path(f"/proc/{pid}/status").read_text().splitlines()]
            return sum(int(line.split()[1]) for line in lines if "_ctxt" in line)

        wait_until(lambda: server.counts.active == 0, PATIENCE)
        before = switches()
        select.select([], [], [], 1.0)
        assert switches() - before < 40


def test_a_worker_is_replaced_after_so_many_clients() -> None:
    with hp.Server(
        "tcp://127.0.0.1:0", lambda c: print(os.getpid(), file=c), model="prefork", workers=1, max_requests=3
    ) as s:
        pids = [hp.connect(s.address, timeout=PATIENCE).read() for _ in range(9)]
    assert [pids.count(each) for each in dict.fromkeys(pids)] == [3, 3, 3]


def test_a_server_in_the_background_ends_with_whoever_started_it() -> None:
    """gotcha:SRV5"""
    source = """
import hornpipe as hp
server = hp.Server("tcp://127.0.0.1:0", lambda client: client.read(), model="prefork").start()
print(server.pid, flush=True)
input()
"""
    import subprocess
    import sys

    with subprocess.Popen([sys.executable, "-c", source], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
        assert program.stdout is not None
        pids = family(int(program.stdout.readline()))
        assert len(pids) > 1
        program.kill()
    assert wait_gone(pids, PATIENCE) == []
