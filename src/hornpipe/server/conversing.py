"""Between a client and a program that cannot talk to it directly: one is encrypted, or ends its lines otherwise.

Programs write bare line feeds, and network protocols want CR LF (perlipc:N18); what a client sends is
taken either way. Two threads, one for each direction, so that nobody waits for the other (promise 2).
"""

from __future__ import annotations

import threading
from typing import Any

from hornpipe import wait
from hornpipe.deadline import NEVER
from hornpipe.fd import Descriptor, nonblocking, pipe
from hornpipe.handle import Handle
from hornpipe.lines import BYTES
from hornpipe.sockets import Connection


def converse(connection: Connection[str], to_program: Descriptor, from_program: Descriptor) -> None:
    """Pass on what the client says and what the program answers, until the program has closed its output."""
    translates = connection.newline == "\r\n"
    client = connection.as_bytes()
    # Not the bare descriptor: 1. The thread has looked up its number.  2. The client fails at once, and we close it.
    # 3. Another client gets the number.  4. The thread waits for that one, and we for the thread.
    source = Handle(from_program, None, BYTES, deadline=client.deadline_of_life)
    answered, answering = pipe()
    failures: list[BaseException] = []

    def answer() -> None:
        try:
            _answer(client, source, translates)
        except BaseException as error:  # noqa: BLE001 (it is raised where the program is waited for)
            failures.append(error)
        finally:
            answering.close()

    thread = threading.Thread(target=answer, name="hornpipe-answers", daemon=True)
    thread.start()
    with answered:
        try:
            _ask(client, to_program, answered, translates)
            to_program.close()
            if not wait.one(answered.fileno(), wait.READ, client.deadline_of_life):
                raise TimeoutError(f"the answer to {client.name} was not over in time")
        finally:
            if not wait.one(answered.fileno(), wait.READ, 0):
                source.close()  # ends the other thread's wait
                client.cut()
                wait.one(answered.fileno(), wait.READ, NEVER)
    if failures:
        raise failures[0]


def _answer(client: Connection[bytes], source: Handle[bytes], translates: bool) -> None:
    after_cr = False
    while data := source.read_some():
        if translates:
            start = b"\n" if after_cr and data[:1] == b"\n" else b""
            after_cr = data[-1:] == b"\r"
            data = start + data[len(start) :].replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        client.write(data)
        client.flush()


def _ask(client: Connection[bytes], sink: Descriptor, answered: Descriptor, translates: bool) -> None:
    """Until the client has finished, or nobody is there who listens."""
    nonblocking(sink.fileno())
    held = b""
    while True:
        try:
            data: Any = client.read_some(timeout=0)
        except TimeoutError:
            ready = wait.until([(client.fileno(), wait.READ), (answered.fileno(), wait.READ)], client.deadline)
            if not ready:
                raise TimeoutError(f"{client.name} has said nothing for too long") from None
            if any(fd == answered.fileno() for fd, _ in ready):
                return
            continue
        over = not data
        if translates:
            # Of a CR at the end of a piece, the line feed may be in the next one.
            data = (held + data).replace(b"\r\n", b"\n")
            held = b"\r" if data[-1:] == b"\r" and not over else b""
            data = data[: len(data) - len(held)]
        if not _write(sink, data, answered, client.deadline) or over:
            return


def _write(sink: Descriptor, data: bytes, answered: Descriptor, deadline: int) -> bool:
    """False when the program reads no more, or has ended."""
    rest = memoryview(data)
    while rest:
        try:
            count = wait.write_some(sink.fileno(), rest)
        except BrokenPipeError:
            return False
        rest = rest[count:]
        if rest and count == 0:
            ready = wait.until([(sink.fileno(), wait.WRITE), (answered.fileno(), wait.READ)], deadline)
            if not ready:
                raise TimeoutError("the program has taken nothing of what its client says for too long")
            if any(fd == answered.fileno() for fd, _ in ready):
                return False
    return True
