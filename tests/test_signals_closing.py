"""A handler closes what the program is just using, before each line of the call in turn.

The numbers that become free are taken at once by somebody else's sockets: whoever still waited on one of them, read it
or wrote to it, would be found out.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

import hornpipe as hp
import hornpipe.expect as pexpect
from hornpipe._native.buffers import ReadBuffer
from hornpipe.deadline import after
from hornpipe.testing.between_lines import before_each_line

Prepared = tuple[Any, Callable[[], object]]
"""What the handler closes, and the call."""

DECOYS = 5


@contextmanager
def a_reader(call: Callable[[hp.Reader[str]], object], stderr: Any = None) -> Iterator[Prepared]:
    with hp.sh("echo a; exec sleep 600", stderr=stderr).reader() as reader:
        yield reader, lambda: call(reader)


@contextmanager
def lines(stderr: Any = None) -> Iterator[Prepared]:
    with hp.sh("echo a; exec sleep 600", stderr=stderr).lines() as found:
        yield found, lambda: next(found, None)


@contextmanager
def a_writer(stderr: Any = None) -> Iterator[Prepared]:
    with hp.cmd("cat", stdout=Path("/dev/null"), stderr=stderr).writer() as writer:
        yield writer, lambda: (writer.write("a\n"), writer.flush())


@contextmanager
def a_duplex(pty: bool = False, stderr: bool = False) -> Iterator[Prepared]:
    with hp.cmd("cat", pty=pty).duplex(stderr=stderr) as cat:
        yield cat, lambda: cat.ask("a", timeout=5)


@contextmanager
def a_connection(call: Callable[[Any], object]) -> Iterator[Prepared]:
    here, there = hp.socket_pair()
    with here, there:
        there.write("a\n")
        there.flush()
        yield here, lambda: call(here)


@contextmanager
def a_listener() -> Iterator[Prepared]:
    with hp.listen("tcp://127.0.0.1:0") as listener, hp.connect(str(listener.address)):
        yield listener, lambda: listener.accept(timeout=5).close()


@contextmanager
def datagrams() -> Iterator[Prepared]:
    here, there = hp.datagram_pair()
    with here, there:
        there.send(b"a")
        yield here, lambda: here.receive(timeout=5)


@contextmanager
def a_watch() -> Iterator[Prepared]:
    # What a watch that is closed has not given out goes to whom it went to before.
    with hp.SIG.local(USR1=lambda sig: None), hp.watch("USR1") as watch:
        os.kill(os.getpid(), signal.SIGUSR1)
        yield watch, lambda: watch.get(timeout=5)


@contextmanager
def a_child(call: Callable[[Any], object]) -> Iterator[Prepared]:
    with pexpect.spawn("cat", timeout=5, echo=False) as child:
        yield child, lambda: call(child)


CALLS: dict[str, Callable[[], contextlib.AbstractContextManager[Prepared]]] = {
    "Lines.__next__": lines,
    "Lines.__next__ beside stderr": lambda: lines(hp.TAIL),
    "Reader.readline": lambda: a_reader(lambda reader: reader.readline()),
    "Reader.read": lambda: a_reader(lambda reader: reader.read(2)),
    "Reader.read_some beside stderr": lambda: a_reader(lambda reader: reader.read_some(), hp.TAIL),
    "Writer.flush": a_writer,
    "Writer.flush beside stderr": lambda: a_writer(hp.TAIL),
    "Duplex.ask": lambda: a_duplex(),
    "Duplex.ask on a terminal": lambda: a_duplex(pty=True),
    "Duplex.ask beside stderr": lambda: a_duplex(stderr=True),
    "Connection.readline": lambda: a_connection(lambda here: here.readline(timeout=5)),
    "Connection.read_some": lambda: a_connection(lambda here: here.read_some(timeout=5)),
    "Connection.flush": lambda: a_connection(lambda here: (here.write("a\n"), here.flush())),
    "Listener.accept": a_listener,
    "Datagram.receive": datagrams,
    "watch.get": a_watch,
    "spawn.sendline spawn.readline": lambda: a_child(lambda child: (child.sendline("a"), child.readline())),
    "spawn.sendeof spawn.wait": lambda: a_child(lambda child: (child.sendeof(), child.wait())),
    "spawn.waitnoecho": lambda: a_child(lambda child: child.waitnoecho()),
}


@pytest.mark.parametrize("name", CALLS)
def test_what_a_handler_closes_is_closed_for_the_call_and_its_number_is_left_alone(name: str):
    """gotcha:SIG17, R7: the call has done its work, or says that it is closed; it neither hangs nor meets others."""
    with ExitStack() as decoys:
        pairs: list[tuple[socket.socket, socket.socket]] = []

        def close() -> None:
            thing.close()
            for _ in range(DECOYS):
                pair = socket.socketpair()
                for end, other in (pair, pair[::-1]):
                    decoys.enter_context(end)
                    end.setblocking(False)
                    other.send(b"decoy")
                pairs.append(pair)

        lines_seen = 0
        for line in before_each_line(close):
            with CALLS[name]() as (thing, call):
                try:
                    with line:
                        call()
                except ValueError:
                    pass
                except OSError as error:
                    if error.errno != errno.EBADF:
                        raise
                lines_seen += line.has_run
            for end in [end for pair in pairs for end in pair]:
                assert end.recv(99) == b"decoy"
                with pytest.raises(BlockingIOError):
                    end.recv(99)
            pairs.clear()
            decoys.close()
        assert lines_seen > 3


def test_a_read_that_a_signal_has_ended_is_not_made_again_before_its_handler_has_been_heard():
    """gotcha:SIG11, R8: the handler may have closed the descriptor, and its number be another file's."""
    reader, writer = os.pipe()
    other, data = os.pipe()
    os.write(data, b"decoy")
    ticks = []

    def tick(number: int, frame: object) -> None:
        ticks.append(number)
        if len(ticks) == 3:  # by then the read is what it comes to: no more than one comes to the line before
            os.dup2(other, reader)

    before = signal.signal(signal.SIGALRM, tick)
    signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
    try:
        buffer = ReadBuffer()
        while not ticks:
            pass
        assert buffer.fill(reader, 10) == -1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        for fd in (reader, writer, other, data):
            os.close(fd)


def test_a_handler_may_read_into_the_buffer_of_the_question_that_it_has_interrupted():
    """gotcha:SIG11: what it reads moves the memory that the answer was about to be read to."""
    questions, asking = os.pipe()
    answers, answering = os.pipe()
    fcntl.fcntl(questions, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(questions, fcntl.F_SETFL, os.O_ASYNC)  # the signal comes with the question, and so before the answer
    buffer = ReadBuffer(0)
    buffer.append(b"be")

    def move(number: int, frame: object) -> None:
        buffer.append(b"-" * 1_000_000)
        os.write(answering, b"gun\n")

    before = signal.signal(signal.SIGIO, move)
    try:
        answer = buffer.exchange(b"?", asking, answers, 64, after(20))
        assert answer == b"be" + b"-" * 1_000_000 + b"gun"
    finally:
        fcntl.fcntl(questions, fcntl.F_SETFL, 0)
        signal.signal(signal.SIGIO, before)
        for fd in (questions, asking, answers, answering):
            os.close(fd)
