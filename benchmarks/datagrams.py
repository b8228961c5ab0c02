"""Datagrams in bursts, as a name server or a log collector has them."""

from __future__ import annotations

import socket
import time

from benchmarks.contest import MICROSECONDS, US, Measurement, ahead_of, at_least
from benchmarks.play import Figures, expect
from benchmarks.programs import c, perl

BURST = 100
DATA = b"x" * 64

PERL = """
use Socket; my $burst = $args[0]; socket(my $r, PF_INET, SOCK_DGRAM, 0); socket(my $s, PF_INET, SOCK_DGRAM, 0);
bind($r, pack_sockaddr_in(0, INADDR_LOOPBACK)) or die; my $to = getsockname $r; my $data = 'x' x 64; my $spent = 0;
for (1 .. $size / $burst) {
    my $begun = clock_gettime(CLOCK_MONOTONIC);
    for (1 .. $burst) { defined send($s, $data, 0, $to) or die }
    my $sent = clock_gettime(CLOCK_MONOTONIC);
    my $got; for (1 .. $burst) { defined recv($r, $got, 2048, 0) or die }
    $spent += TIMED;
}
$start = clock_gettime(CLOCK_MONOTONIC) - $spent;
"""

receiving = Measurement(
    "datagrams-in",
    f"receive {{size}} datagrams of 64 bytes with their senders, in bursts of {BURST}",
    unit=MICROSECONDS,
    size=200_000,
    quick=20_000,
    peer="recvfrom",
    targets=[at_least(2.0, "recvfrom"), *ahead_of("perl recv")],
)
receiving.program("C recvmmsg", [c("datagrams"), "receive-mmsg", "SIZE", str(BURST)])
receiving.program("C recvfrom", [c("datagrams"), "receive", "SIZE", str(BURST)])
receiving.program("perl recv", perl(PERL.replace("TIMED", "clock_gettime(CLOCK_MONOTONIC) - $sent"), str(BURST)))


def two_sockets() -> tuple[socket.socket, socket.socket]:
    """A sender, and a receiver that it is connected to."""
    receiver, sender = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    receiver.bind(("127.0.0.1", 0))
    sender.connect(receiver.getsockname())
    return sender, receiver


@receiving.contender(US)
def received_by_hornpipe(figures: Figures, size: int) -> None:
    import hornpipe as hp

    with hp.open_datagram(local="udp://127.0.0.1:0") as receiver, hp.open_datagram(receiver.local) as sender:
        for _ in range(size // BURST):
            for _ in range(BURST):
                sender.send(DATA)
            got, start = 0, time.perf_counter()
            while got < BURST:
                found = receiver.receive_many(BURST)
                got += len(found)
            figures.seconds += time.perf_counter() - start
        expect((found[-1].data, found[-1].sender), (DATA, sender.local))


@receiving.contender("recvfrom")
def received_by_hand(figures: Figures, size: int) -> None:
    sender, receiver = two_sockets()
    with sender, receiver:
        for _ in range(size // BURST):
            for _ in range(BURST):
                sender.send(DATA)
            start = time.perf_counter()
            for _ in range(BURST):
                found = receiver.recvfrom(2048)
            figures.seconds += time.perf_counter() - start
        expect(found, (DATA, sender.getsockname()))


sending = Measurement(
    "datagrams-out",
    f"send {{size}} equal datagrams of 64 bytes to one peer, in bursts of {BURST}",
    unit=MICROSECONDS,
    size=200_000,
    quick=20_000,
    peer="sendto",
    targets=[at_least(4.0, "sendto"), *ahead_of("perl send")],
)
sending.program("C UDP_SEGMENT", [c("datagrams"), "send-gso", "SIZE", str(BURST)])
sending.program("C sendto", [c("datagrams"), "send", "SIZE", str(BURST)])
sending.program("perl send", perl(PERL.replace("TIMED", "$sent - $begun"), str(BURST)))


@sending.contender(US)
def sent_by_hornpipe(figures: Figures, size: int) -> None:
    import hornpipe as hp

    with hp.open_datagram(local="udp://127.0.0.1:0") as receiver, hp.open_datagram(receiver.local) as sender:
        for _ in range(size // BURST):
            start = time.perf_counter()
            sender.send_many([DATA] * BURST)
            figures.seconds += time.perf_counter() - start
            expect(sum(len(receiver.receive().data) for _ in range(BURST)), BURST * len(DATA))


@sending.contender("sendto")
def sent_by_hand(figures: Figures, size: int) -> None:
    sender, receiver = two_sockets()
    to = receiver.getsockname()
    with sender, receiver, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as free:
        for _ in range(size // BURST):
            start = time.perf_counter()
            for _ in range(BURST):
                free.sendto(DATA, to)
            figures.seconds += time.perf_counter() - start
            for _ in range(BURST):
                receiver.recv(2048)


MEASUREMENTS = [receiving, sending]
