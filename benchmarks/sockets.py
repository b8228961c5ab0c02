"""Streams: connecting, talking, reading lines, and passing on what one end sends to another."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from typing import Any

from benchmarks.contest import (
    GIGABYTES_PER_SECOND,
    MIB,
    MICROSECONDS,
    US,
    Measurement,
    ahead_of,
    at_least,
    at_most,
)
from benchmarks.lines import LAST, last_of
from benchmarks.play import Figures, expect
from benchmarks.programs import c, perl

SERVE = c("serve")
LINE = "x" * 63
UNIX = f"{tempfile.gettempdir()}/hornpipe-bench-{os.getuid()}"
START = "my $pid = open my $s, '-|', @args, $size or die; my $where = <$s>; chomp $where;"
END = "kill KILL => $pid; close $s; $? = 0;"


@contextlib.contextmanager
def server(what: str, where: str, size: int) -> Iterator[tuple[str, Any, subprocess.Popen[str]]]:
    """A server in C: its address for hornpipe and for the socket module, and the process."""
    with subprocess.Popen([SERVE, what, where, str(size)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        said = process.stdout.readline().strip()
        if where == "tcp":
            yield f"tcp://127.0.0.1:{said}", ("127.0.0.1", int(said)), process
        else:
            yield f"unix://{said}", said, process
        process.kill()


def connected(address: Any) -> socket.socket:
    """What is written by hand."""
    if isinstance(address, tuple):
        by_hand = socket.create_connection(address)
        by_hand.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return by_hand
    by_hand = socket.socket(socket.AF_UNIX)
    by_hand.connect(address)
    return by_hand


async def opened(address: Any) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """The same for asyncio."""
    if isinstance(address, tuple):
        return await asyncio.open_connection(*address)
    return await asyncio.open_unix_connection(address)


# --- connecting ---

greet = Measurement(
    "greet",
    "connect over TCP, read a greeting to its end and close, on one CPU, {size} times",
    unit=MICROSECONDS,
    size=5_000,
    quick=500,
    peer="socket",
    one_cpu=True,
)
greet.program("C", [c("visit"), "greet", "tcp", "SIZE", SERVE])
greet.program(
    "perl IO::Socket",
    perl(
        START
        + """
        use IO::Socket::INET; start_now();
        for (1 .. $size) {
            my $c = IO::Socket::INET->new(PeerAddr => "127.0.0.1:$where") or die; <$c> eq "hello, client\\n" or die;
        }
        """
        + END,
        SERVE,
        "greet",
        "tcp",
    ),
)


@greet.contender(US)
def greeted_by_hornpipe(figures: Figures, size: int) -> None:
    import hornpipe as hp

    def visit() -> None:
        with hp.connect(url) as connection:
            expect(connection.read(), "hello, client\n")

    with server("greet", "tcp", size) as (url, _, _):
        figures.each(size, visit)


@greet.contender("socket")
def greeted_by_hand(figures: Figures, size: int) -> None:
    def visit() -> None:
        with connected(address) as by_hand, by_hand.makefile("r", encoding="utf-8") as lines:
            expect(lines.read(), "hello, client\n")

    with server("greet", "tcp", size) as (_, address, _):
        figures.each(size, visit)


@greet.contender("asyncio")
def greeted_by_asyncio(figures: Figures, size: int) -> None:
    async def visits() -> None:
        with figures:
            for _ in range(size):
                reader, writer = await opened(address)
                expect(await reader.read(), b"hello, client\n")
                writer.close()
                await writer.wait_closed()

    with server("greet", "tcp", size) as (_, address, _):
        asyncio.run(visits())


# --- talking ---


def echo(name: str, where: str, kind: str) -> Measurement:
    measurement = Measurement(
        name,
        f"a line of 64 bytes and its echo over {kind} on one CPU, {{size}} times",
        unit=MICROSECONDS,
        size=20_000,
        quick=2_000,
        peer="socket",
        targets=[at_most(1.30, "C"), at_most(1.30, "C", ours="hornpipe (text)")],
        one_cpu=True,
    )
    measurement.program("C", [c("visit"), "echo", where, "SIZE", SERVE])
    new = (
        'IO::Socket::INET->new(PeerAddr => "127.0.0.1:$where")'
        if where == "tcp"
        else "IO::Socket::UNIX->new(Peer => $where)"
    )
    measurement.program(
        "perl IO::Socket",
        perl(
            START
            + f"""
            use IO::Socket; my $c = {new} or die; $c->autoflush(1);
            my $line = ('x' x 63) . "\\n"; start_now();
            for (1 .. $size) {{ print $c $line; <$c> eq $line or die }}
            """
            + END,
            SERVE,
            "echo",
            where,
        ),
    )

    @measurement.contender(US)
    def by_hornpipe(figures: Figures, size: int) -> None:
        import hornpipe as hp

        line = LINE.encode()
        with server("echo", where, size) as (url, _, _), hp.connect(url).as_bytes() as connection:
            figures.each(size, lambda: connection.ask(line))
            expect(connection.ask(b"in step"), b"in step")

    @measurement.contender("hornpipe (text)")
    def text_by_hornpipe(figures: Figures, size: int) -> None:
        import hornpipe as hp

        with server("echo", where, size) as (url, _, _), hp.connect(url) as connection:
            figures.each(size, lambda: connection.ask(LINE))
            expect(connection.ask("in step"), "in step")

    @measurement.contender("hornpipe (as a file)")
    def as_a_file(figures: Figures, size: int) -> None:
        import hornpipe as hp

        def chat() -> None:
            connection.write(line)
            connection.readline()

        line = LINE + "\n"
        with server("echo", where, size) as (url, _, _), hp.connect(url) as connection:
            figures.each(size, chat)
            expect(connection.ask("in step"), "in step")

    @measurement.contender("socket")
    def by_hand(figures: Figures, size: int) -> None:
        def chat() -> None:
            by_hand.sendall(line)
            lines.readline()

        line = LINE.encode() + b"\n"
        with (
            server("echo", where, size) as (_, address, _),
            connected(address) as by_hand,
            by_hand.makefile("rb") as lines,
        ):
            figures.each(size, chat)

    @measurement.contender("asyncio (1/4)", share=0.25)
    def by_asyncio(figures: Figures, size: int) -> None:
        async def chat() -> None:
            reader, writer = await opened(address)
            with figures:
                for _ in range(size):
                    writer.write(line)
                    reply = await reader.readline()
            expect(reply, line)
            writer.close()
            await writer.wait_closed()

        line = LINE.encode() + b"\n"
        with server("echo", where, size) as (_, address, _):
            asyncio.run(chat())

    return measurement


echo_unix = echo("echo-unix", UNIX, "a Unix name")
echo_tcp = echo("echo-tcp", "tcp", "TCP")


# --- lines ---


def lines(name: str, where: str, kind: str, *, text: bool) -> Measurement:
    measurement = Measurement(
        name,
        f"read {{size}} of 64-byte lines from {kind}, {'text' if text else 'bytes'}",
        unit=GIGABYTES_PER_SECOND,
        size=256 * MIB,
        quick=32 * MIB,
        peer="makefile",
        targets=[at_least(1.5, "makefile")],
    )
    measurement.program("C", [c("visit"), "lines", where, "SIZE", SERVE])

    @measurement.contender(US)
    def by_hornpipe(figures: Figures, size: int) -> None:
        import hornpipe as hp

        with server("lines", where, size) as (url, _, _), figures, hp.connect(url) as connection:
            line = last_of(connection) if text else last_of(connection.as_bytes()).decode()
        expect(line, LAST + "\n")

    @measurement.contender("makefile")
    def by_hand(figures: Figures, size: int) -> None:
        with server("lines", where, size) as (_, address, _), figures, connected(address) as by_hand:
            if text:
                with by_hand.makefile("r", encoding="utf-8") as file:
                    line = last_of(file)
            else:
                with by_hand.makefile("rb") as binary:
                    line = last_of(binary).decode()
        expect(line, LAST + "\n")

    @measurement.contender("asyncio (1/10)", share=0.1)
    def by_asyncio(figures: Figures, size: int) -> None:
        async def read() -> None:
            reader, writer = await opened(address)
            count = 0
            async for line in reader:
                count += len(line.decode() if text else line)
            expect(count, size)
            writer.close()
            await writer.wait_closed()

        size -= size % 64
        with server("lines", where, size) as (_, address, _), figures:
            asyncio.run(read())

    return measurement


lines_tcp = lines("lines-tcp", "tcp", "TCP", text=False)
lines_tcp_text = lines("lines-tcp-text", "tcp", "TCP", text=True)
lines_unix_text = lines("lines-unix-text", UNIX, "a Unix name", text=True)


# --- passing on ---

passing = Measurement(
    "relay",
    "pass on {size} from one TCP connection to another",
    unit=GIGABYTES_PER_SECOND,
    size=1024 * MIB,
    quick=128 * MIB,
    peer="socat -b 64K",
    targets=[at_least(0.8, "socat -b 64K"), *ahead_of("socat -b 64K", "socat")],
)
passing.program("C", [c("splice"), "SIZE", SERVE])


@contextlib.contextmanager
def two_servers(figures: Figures, size: int) -> Iterator[tuple[Any, Any, Any, Any]]:
    """One that sends and one that takes it: their addresses. The time is over when all has arrived."""
    with (
        server("lines", "tcp", size) as (source, source_name, _),
        server("sink", "tcp", size) as (sink, sink_name, process),
        figures,
    ):
        yield source, sink, source_name, sink_name
        assert process.stdout
        expect(process.stdout.readline(), f"{size}\n")


@passing.contender(US)
def passed_on_by_hornpipe(figures: Figures, size: int) -> None:
    import hornpipe as hp

    with two_servers(figures, size) as (source, sink, _, _), hp.connect(source) as one, hp.connect(sink) as other:
        expect(hp.relay(one, other).forth, size)


def by_socat(figures: Figures, size: int, *options: str) -> None:
    with two_servers(figures, size) as (_, _, source, sink):
        ends = [f"TCP:{host}:{port}" for host, port in (source, sink)]
        subprocess.run(["socat", *options, *ends], check=True)


@passing.contender("socat -b 64K")
def passed_on_by_socat_in_big_pieces(figures: Figures, size: int) -> None:
    by_socat(figures, size, "-b", "65536")


@passing.contender("socat")
def passed_on_by_socat(figures: Figures, size: int) -> None:
    by_socat(figures, size)


@passing.contender("by hand")
def passed_on_by_hand(figures: Figures, size: int) -> None:
    def copy(source: socket.socket, sink: socket.socket) -> None:
        while data := source.recv(256 * 1024):
            sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    with (
        two_servers(figures, size) as (_, _, source_name, sink_name),
        connected(source_name) as source,
        connected(sink_name) as sink,
    ):
        back = threading.Thread(target=copy, args=(sink, source))
        back.start()
        copy(source, sink)
        back.join()


@passing.contender("asyncio (1/4)", share=0.25)
def passed_on_by_asyncio(figures: Figures, size: int) -> None:
    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(256 * 1024):
            writer.write(data)
            await writer.drain()
        with contextlib.suppress(OSError):
            writer.write_eof()

    async def both() -> None:
        (source, to_source), (sink, to_sink) = await opened(source_name), await opened(sink_name)
        await asyncio.gather(copy(source, to_sink), copy(sink, to_source))
        for each in (to_source, to_sink):
            each.close()

    with two_servers(figures, size) as (_, _, source_name, sink_name):
        asyncio.run(both())


MEASUREMENTS = [greet, echo_unix, echo_tcp, lines_tcp, lines_tcp_text, lines_unix_text, passing]
