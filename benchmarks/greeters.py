"""Servers that greet or echo, each by its own means: `python benchmarks/greeters.py NAME PORT`.

Run as a file, so that each has in memory what it needs and nothing else.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

LINE = "hello from the server\n"
WORKERS = 4


def greet(client: Any) -> None:
    client.write(LINE)


def echo(client: Any) -> None:
    for line in client:
        client.write(line)


def echo_bytes(client: Any) -> None:
    client = client.as_bytes()
    for line in client:
        client.write(line)


def hornpipe(model: str, handler: Callable[[Any], object], **options: Any) -> Callable[[int], None]:
    def serve(port: int) -> None:
        import hornpipe as hp

        hp.serve(f"tcp://127.0.0.1:{port}", handler, model=model, **options)

    return serve


def hornpipe_command(port: int) -> None:
    import hornpipe as hp

    hp.serve(f"tcp://127.0.0.1:{port}", hp.cmd("/bin/echo", LINE.rstrip()))


def socketserver(kind: str) -> Callable[[int], None]:
    def serve(port: int) -> None:
        import socketserver

        class Greeter(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                self.wfile.write(LINE.encode())

        class Server(getattr(socketserver, kind)):
            allow_reuse_address = True
            request_queue_size = 4096
            max_children = 256

        Server(("127.0.0.1", port), Greeter).serve_forever()

    return serve


def loop(policy: str, serve: Callable[[Any, int], Any]) -> Callable[[int], None]:
    def run(port: int) -> None:
        import asyncio

        if policy == "uvloop":
            import uvloop

            uvloop.run(serve(asyncio, port))
        else:
            asyncio.run(serve(asyncio, port))

    return run


async def greet_streams(asyncio: Any, port: int) -> None:
    async def greet(reader: Any, writer: Any) -> None:
        writer.write(LINE.encode())
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", port, backlog=4096) as server:
        await server.serve_forever()


async def echo_streams(asyncio: Any, port: int) -> None:
    async def echo(reader: Any, writer: Any) -> None:
        while line := await reader.readline():
            writer.write(line)

    async with await asyncio.start_server(echo, "127.0.0.1", port, backlog=4096) as server:
        await server.serve_forever()


async def echo_protocol(asyncio: Any, port: int) -> None:
    class Echo(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            self.transport.write(data)

    server = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


SERVERS: dict[str, Callable[[int], None]] = {
    "fork": hornpipe("fork", greet),
    "prefork": hornpipe("prefork", greet, workers=WORKERS),
    "thread": hornpipe("thread", greet),
    "inline": hornpipe("inline", greet),
    "command": hornpipe_command,
    "echo-fork": hornpipe("fork", echo_bytes),
    "echo-thread": hornpipe("thread", echo_bytes),
    "echo-fork-text": hornpipe("fork", echo),
    "socketserver-fork": socketserver("ForkingTCPServer"),
    "socketserver-thread": socketserver("ThreadingTCPServer"),
    "socketserver-one": socketserver("TCPServer"),
    "asyncio": loop("asyncio", greet_streams),
    "uvloop": loop("uvloop", greet_streams),
    "echo-asyncio": loop("asyncio", echo_streams),
    "echo-uvloop": loop("uvloop", echo_streams),
    "echo-asyncio-protocol": loop("asyncio", echo_protocol),
    "echo-uvloop-protocol": loop("uvloop", echo_protocol),
}

if __name__ == "__main__":
    try:
        SERVERS[sys.argv[1]](int(sys.argv[2]))
    except ImportError as error:
        print(error.name or error, file=sys.stderr)
        raise SystemExit(69) from None
