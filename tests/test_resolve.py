"""Names of hosts: bounded look-ups, and none for numbers."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable

import pytest

import hornpipe as hp
from hornpipe.deadline import NEVER, after
from hornpipe.resolve import places

SILENT = """
silent = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
silent.bind(("127.0.0.53", 53))
silent.setblocking(False)
"""


def found(text: str, *, passive: bool = False) -> list[object]:
    return [place.name for place in places(hp.Address.parse(text), NEVER, passive=passive)]


def test_a_resolver_that_never_answers_costs_the_timeout_and_nothing_more(in_a_network: Callable[..., str]) -> None:
    """gotcha:SO5, promise 11"""
    source = (
        SILENT
        + """
import signal, threading
from hornpipe.resolve import places
address = hp.Address.parse("tcp://nobody.test:80")
def pipes():
    names = [os.readlink(entry.path) for entry in os.scandir("/proc/self/fd") if os.path.lexists(entry.path)]
    return sorted(name for name in names if name.startswith("pipe:"))  # the resolver's own sockets are not ours
before = pipes()
begun = time.monotonic()
try:
    places(address, after(0.3))
except TimeoutError as error:
    print(error)
print(0.3 <= took(begun) < 20)
print(silent.recv(512)[12:25])
begun = time.monotonic()
try:
    hp.host_name(hp.Address.parse("udp://192.0.2.1:9"), timeout=0.1)
except TimeoutError as error:
    print(error)
print(0.1 <= took(begun) < 20, pipes() == before)
names = [thread.name for thread in threading.enumerate()]
print(names.count("hornpipe-look-up"))
for task in os.listdir("/proc/self/task"):
    if task != str(os.getpid()):
        line = next(line for line in open(f"/proc/self/task/{task}/status") if line.startswith("SigBlk"))
        print(int(line.split()[1], 16) & 1 << signal.SIGTERM - 1 != 0)
"""
    )
    assert in_a_network(source).splitlines() == [
        "time ran out while looking up 'nobody.test'",
        "True",
        r"b'\x06nobody\x04test\x00'",
        "time ran out while looking up the name of 192.0.2.1",
        "True True",
        "2",
        "True",
        "True",
    ]


def test_numbers_are_never_looked_up(in_a_network: Callable[..., str]) -> None:
    """gotcha:SO5"""
    source = (
        SILENT
        + """
from hornpipe.resolve import places
for text in ("tcp://127.0.0.1:80", "tcp://[::1]:http", "udp://[fe80::1%lo]:daytime(13)", "udp://192.0.2.1:nobody(5)"):
    print(places(hp.Address.parse(text), after(0))[0].name)
try:
    print(silent.recv(512))
except BlockingIOError:
    print("nobody asked")
"""
    )
    assert in_a_network(source).splitlines() == [
        "('127.0.0.1', 80)",
        "('::1', 80, 0, 0)",
        "('fe80::1', 13, 0, 1)",
        "('192.0.2.1', 5)",
        "nobody asked",
    ]


def test_a_signal_handler_runs_during_a_look_up(in_a_network: Callable[..., str]) -> None:
    """gotcha:SO5"""
    source = (
        SILENT
        + """
import signal
from hornpipe.resolve import places
def late(number, frame):
    raise InterruptedError("enough")
signal.signal(signal.SIGALRM, late)
signal.setitimer(signal.ITIMER_REAL, 0.05)
try:
    places(hp.Address.parse("tcp://nobody.test:80"), after(5))
except InterruptedError as error:
    print(error)
"""
    )
    assert in_a_network(source) == "enough\n"


def test_a_name_has_all_its_addresses_with_the_port() -> None:
    for name in found("tcp://localhost:http"):
        assert name in [("127.0.0.1", 80), ("::1", 80, 0, 0)]
    assert found("tcp://localhost:http")


def test_every_interface_is_one_of_each_family() -> None:
    """gotcha:SO6"""
    assert found("tcp://:9", passive=True) == [("::", 9), ("0.0.0.0", 9)]
    with pytest.raises(ValueError, match="'tcp://:9' has no host"):
        found("tcp://:9")


def test_an_unknown_host_is_named() -> None:
    with pytest.raises(socket.gaierror, match="no address for the host 'nobody.invalid'"):
        places(hp.Address.parse("tcp://nobody.invalid:80"), after(30))


def test_an_unknown_scope_is_named() -> None:
    """gotcha:SO6"""
    with pytest.raises(OSError, match=r"no interface 'nosuch0', the scope of 'tcp://\[fe80::1%nosuch0\]:80'"):
        found("tcp://[fe80::1%nosuch0]:80")


def test_hosts_have_names_on_request(in_a_network: Callable[..., str]) -> None:
    """perlipc:N16"""
    assert hp.host_name(hp.Address.parse("unix:///tmp/x"), timeout=0) == socket.gethostname()
    assert hp.host_name(hp.Address.parse("tcp://example.test:80"), timeout=0) == "example.test"
    source = SILENT + "print(hp.host_name(hp.Address.parse('tcp://127.0.0.1:1'), 5), hp.host_name(timeout=5))"
    setup = (
        'h=$(uname -n); printf "127.0.0.1 here.example.test here\\n127.0.0.2 $h.example.test $h\\n" > "$0/hosts"'
        ' && mount --bind "$0/hosts" /etc/hosts'
    )
    name, own = in_a_network(source, setup=setup).split()
    assert name == "here.example.test"
    assert own == socket.gethostname() + ".example.test"


def test_look_ups_from_many_threads_have_each_their_answer() -> None:
    answers: list[list[object]] = []
    threads = [threading.Thread(target=lambda: answers.append(found("tcp://localhost:80"))) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(answers) == 8
    assert all(answer == answers[0] for answer in answers)
