"""A single signal at a random microsecond into every call that waits: handled within 50 ms, and the call goes on.

No second signal comes to help (gotcha:SIG17): the handler itself lets the call end. One that was late, or that fell
between the last look and the system call and was never seen, shows in the time between its arrival and its handling.
100,000 of them at full length (``make soak``). That no call is missing here is for ``test_signals_blocking_calls.py``.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import select
import signal
import struct
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import pytest

import hornpipe as hp
import hornpipe.expect as pexpect
from hornpipe._native.sysv import IPC_CREAT, get_set
from hornpipe.expect import popen_spawn, pxssh, replwrap
from hornpipe.fd import pipe
from hornpipe.handle import Handle
from hornpipe.lines import BYTES
from hornpipe.testing.mechanisms import without_pidfd
from hornpipe.testing.patience import wait_until
from hornpipe.testing.processes import look_at

FULL = os.environ.get("HORNPIPE_SOAK") == "1"
IN_ALL = 100_000 if FULL else 2_500
LATE = 0.05 if FULL else 0.4
"""Promised are 50 ms. One that was missed is late by a second; a machine with other things to do is late by what it
does not tell of, such as the time that a child of ours was kept from its exec."""

Shot = tuple[Callable[[], object], Callable[[], object], float]
"""The call, what lets it end, and the seconds until it surely waits: the signal comes at a random time before."""
Scenario = AbstractContextManager[Callable[[], Shot]]


def cat(fd: int) -> Any:
    return hp.cmd("cat", stdin=fd)


def two(fd: int) -> Any:
    return cat(fd) | hp.cmd("cat")


def function(fd: int) -> Any:
    return hp.fn(os.read, 0, 1).with_options(stdin=fd)


def stubborn(fd: int) -> Any:
    """It ends when its stdin does, and not by TERM."""
    return hp.cmd("sh", "-c", 'trap "" TERM; read line', stdin=fd, check=False, grace=60)


def stubborn_two(fd: int) -> Any:
    first = hp.cmd("sh", "-c", 'trap "" TERM; read line', stdin=fd)
    return (first | hp.cmd("cat")).with_options(check=False, grace=60)


def leave(thing: Any) -> None:
    thing.__exit__(None, None, None)


def leave_by_an_error(thing: Any) -> None:
    thing.__exit__(LookupError, LookupError(), None)


@contextmanager
def a_command(make: Callable[[int], Any], verb: str) -> Iterator[Callable[[], Shot]]:
    """From its start to its end, which comes when its stdin ends."""

    def arm() -> Shot:
        reader, writer = pipe()

        def call() -> None:
            with reader:
                getattr(make(reader.fileno()), verb)()

        return call, writer.close, 0.004

    yield arm


@contextmanager
def a_start(make: Callable[[int], Any], verb: str) -> Iterator[Callable[[], Shot]]:
    """The start alone, which is over by itself; what it gave is ended after it."""

    def arm() -> Shot:
        reader, writer = pipe()

        def call() -> None:
            with reader:
                given = getattr(make(reader.fileno()), verb)()
            writer.close()
            with contextlib.ExitStack() as stack:
                if isinstance(given, hp.Detached):
                    given.kill("KILL")
                else:
                    stack.enter_context(given)

        return call, lambda: None, 0.002

    yield arm


@contextmanager
def a_running(make: Callable[[int], Any], verb: str, call: Callable[[Any], object]) -> Iterator[Callable[[], Shot]]:
    """A call of something that was started before."""

    def arm() -> Shot:
        reader, writer = pipe()
        with reader:
            given = getattr(make(reader.fileno()), verb)()
        return lambda: call(given), writer.close, 0.0004

    yield arm


@contextmanager
def an_expiry() -> Iterator[Callable[[], Shot]]:
    """A command that is over its time and does not go by TERM."""

    def arm() -> Shot:
        reader, writer = pipe()

        def call() -> None:
            with reader, contextlib.suppress(TimeoutError):
                stubborn(reader.fileno()).with_options(timeout=0.01).read()

        return call, writer.close, 0.02

    yield arm


@contextmanager
def a_line(call: Callable[[Any], object], verb: str = "") -> Iterator[Callable[[], Shot]]:
    """Something to read a line from, over a pipe alone or with a command between."""
    reader, writer = pipe()
    with writer, reader:
        handle = getattr(cat(reader.fileno()), verb)() if verb else Handle(reader, None, BYTES)
        with handle:
            yield lambda: (lambda: call(handle), lambda: os.write(writer.fileno(), b"line\n"), 0.0003)


@contextmanager
def a_full_pipe(call: Callable[[Any], object]) -> Iterator[Callable[[], Shot]]:
    """A handle with something to send, over a pipe that takes nothing until the handler has emptied it."""

    def arm() -> Shot:
        reader, writer = pipe()
        handle = Handle(None, writer, BYTES)
        fill(writer.fileno())
        handle.write(b"more")

        def shot() -> None:
            with closing(reader), closing(handle):
                call(handle)

        return shot, lambda: os.read(reader.fileno(), 1 << 20), 0.0003

    yield arm


def fill(fd: int) -> None:
    blocking = os.get_blocking(fd)
    os.set_blocking(fd, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(fd, bytes(4096))
    os.set_blocking(fd, blocking)


@contextmanager
def a_partner(
    script: str, verb: str, call: Callable[[Any], object], before: Callable[[Any], object] = lambda child: None
) -> Iterator[Callable[[], Shot]]:
    """A shell that does something whenever it has read a line from descriptor $0."""

    def arm() -> Shot:
        gate, opener = pipe()
        with gate:
            command = hp.cmd("sh", "-c", script, str(gate.fileno()), pass_fds=[gate.fileno()], grace=60, check=False)
            child = getattr(command.as_bytes(), verb)()
        before(child)

        def shot() -> None:
            with opener, child:
                call(child)

        return shot, lambda: os.write(opener.fileno(), b"go\n"), 0.0004

    yield arm


ONCE = "read go </dev/fd/$0; cat >/dev/null"
ANSWER = "read line; read go </dev/fd/$0; echo $line; echo $line >&2; cat >/dev/null"


def overfull(child: Any) -> None:
    fill(child._sink.fileno())
    child.write(b"more")


@contextmanager
def a_signal(call: Callable[[Any], object]) -> Iterator[Callable[[], Shot]]:
    with hp.watch("USR1") as watch:
        yield lambda: (lambda: call(watch), lambda: hp.kill("USR1", os.getpid()), 0.0003)


@contextmanager
def a_blocked_signal() -> Iterator[Callable[[], Shot]]:
    with hp.signals.block("USR1"):
        yield lambda: (lambda: hp.signals.wait("USR1"), lambda: hp.kill("USR1", os.getpid()), 0.0003)


@contextmanager
def a_suspension() -> Iterator[Callable[[], Shot]]:
    with hp.signals.block("ALRM"):
        yield lambda: (lambda: hp.signals.suspend("ALRM"), lambda: None, 0.0003)


@contextmanager
def a_set(call: Callable[[Any], object], after: Callable[[Any], object]) -> Iterator[Callable[[], Shot]]:
    """A set with the values 0 and 1."""
    with hp.sysv.SemaphoreSet.create([0, 1]) as sems:
        yield lambda: (lambda: call(sems), lambda: after(sems), 0.0003)


def lock_and_take(sems: Any) -> None:
    with sems[0]:
        pass
    sems[0].acquire()


def guard_and_take(sems: Any) -> None:
    with hp.sysv.Cell(bytearray(8), "q", guard=sems[0]):
        pass
    sems[0].acquire()


def wait_for_zero(sems: Any) -> None:
    sems[1].wait_for_zero()
    sems[1].release()


@contextmanager
def an_unfinished_set() -> Iterator[Callable[[], Shot]]:
    """One whose maker has not given it its values yet."""
    key = hp.sysv.key_for("org.hornpipe.tests.never_late")

    def arm() -> Shot:
        made = get_set(key, 1, IPC_CREAT | 0o600)
        call = partial(hp.sysv.SemaphoreSet.open_or_create, key, [1])
        return lambda: call().remove(), lambda: setattr(hp.sysv.SemaphoreSet.from_id(made), "values", [1]), 0.0006

    yield arm


@contextmanager
def a_queue(call: Callable[[Any], object], after: Callable[[Any], object], full: bool) -> Iterator[Callable[[], Shot]]:
    """One with room for a single message, and that in it or not."""
    with hp.sysv.MessageQueue.create() as queue:
        queue.set_max_bytes(1)
        if full:
            queue.send(b"1")
        yield lambda: (lambda: call(queue), lambda: after(queue), 0.0003)


def a_child(program: str, *words: str, wait_for: str = "") -> pexpect.spawn:
    child = pexpect.spawn(program, list(words), echo=False, timeout=60)
    child.delayafterclose = child.delayafterterminate = 60
    if wait_for:
        child.expect_exact(wait_for)
    return child


@contextmanager
def a_terminal(call: Callable[[Any], object]) -> Iterator[Callable[[], Shot]]:
    """cat on a terminal, and a line for it."""
    with a_child("cat") as child:
        yield lambda: (lambda: call(child), lambda: os.write(child.child_fd, b"line\n"), 0.0004)


@contextmanager
def a_stopped_reader(call: Callable[[Any], object], full: bool = False) -> Iterator[Callable[[], Shot]]:
    """One that takes nothing until it goes on."""

    def arm() -> Shot:
        child = a_child("sh", "-c", "echo ready; exec cat", wait_for="ready\r\n")
        child.kill(signal.SIGSTOP)
        wait_until(lambda: look_at(child.pid).state == "T")
        if full:
            fill(child.child_fd)

        def shot() -> None:
            with child:
                call(child)
                child.kill(signal.SIGKILL)

        return shot, lambda: child.kill(signal.SIGCONT), 0.0004

    yield arm


@contextmanager
def an_echo() -> Iterator[Callable[[], Shot]]:
    with a_child("cat") as child:

        def arm() -> Shot:
            child.setecho(True)
            return lambda: child.waitnoecho(), lambda: child.setecho(False), 0.0004

        yield arm


STUBBORN = "trap '' HUP INT TERM; echo ready; exec sleep 60"


@contextmanager
def a_stubborn_child(
    call: Callable[[Any], object], kind: Callable[[], Any] | None = None
) -> Iterator[Callable[[], Shot]]:
    """One that goes by KILL only."""

    def arm() -> Shot:
        made = a_child("sh", "-c", STUBBORN, wait_for="ready") if kind is None else kind()
        child = getattr(made, "child", made)

        def shot() -> None:
            call(made)
            child.close()

        return shot, lambda: os.kill(child.pid, signal.SIGKILL), 0.0005

    yield arm


def on_pipes() -> Any:
    child = popen_spawn.PopenSpawn(["sh", "-c", STUBBORN], timeout=60)
    child.delayafterclose = 60
    child.expect_exact("ready")
    return child


@contextmanager
def an_interaction() -> Iterator[Callable[[], Shot]]:
    """With a keyboard that has an end, and a screen that nobody watches."""
    with a_child("cat") as child, open(os.devnull, "wb") as screen:
        child.STDOUT_FILENO = screen.fileno()
        child.stdout = open(screen.fileno(), "w", closefd=False)  # noqa: SIM115  nothing is in it

        def arm() -> Shot:
            keyboard, typist = pipe()
            child.STDIN_FILENO = keyboard.fileno()

            def shot() -> None:
                with keyboard:
                    child.interact()

            return shot, typist.close, 0.001

        yield arm
        child.stdout.close()


@contextmanager
def a_run(run: Callable[..., Any]) -> Iterator[Callable[[], Shot]]:
    def arm() -> Shot:
        gate, opener = pipe()

        def shot() -> None:
            with gate:
                run(f"cat /proc/{os.getpid()}/fd/{gate.fileno()}", timeout=60)

        return shot, opener.close, 0.004

    yield arm


@contextmanager
def an_interpreter(start: Callable[[], Any]) -> Iterator[Callable[[], Shot]]:
    yield lambda: (lambda: start().child.close(), lambda: None, 0.02)


@contextmanager
def a_shell(call: Callable[[Any], object]) -> Iterator[Callable[[], Shot]]:
    """That reads a line when it is asked to."""
    with replwrap.bash() as shell:
        yield lambda: (lambda: call(shell), lambda: os.write(shell.child.child_fd, b"line\n"), 0.0006)


def log_in() -> Any:
    far = pxssh.pxssh(timeout=60, ignore_sighup=False, encoding="utf-8", env={**os.environ, "PS1": "$ "})
    # What ssh would make of these words is no matter to a shell that reads its commands.
    far.login("host", "me", sync_multiplier=0.2, check_local_ip=True, quiet=False, cmd="sh -i -s")
    return far


@contextmanager
def a_log_in() -> Iterator[Callable[[], Shot]]:
    yield lambda: (lambda: log_in().close(), lambda: None, 0.06)


@contextmanager
def a_far_shell(call: Callable[[Any], object]) -> Iterator[Callable[[], Shot]]:
    """That waits for a line before it does as it is told."""
    with log_in() as far:

        def shot() -> None:
            far.sendline("read line")
            call(far)

        yield lambda: (shot, lambda: os.write(far.child_fd, b":\n"), 0.0004)


@contextmanager
def a_log_out() -> Iterator[Callable[[], Shot]]:
    yield lambda: (log_in().logout, lambda: None, 0.001)


@contextmanager
def a_peer(
    call: Callable[[Any], object], after: Callable[[Any], object], receives_fds: bool = False
) -> Iterator[Callable[[], Shot]]:
    """A connection whose peer says something at last."""
    one, other = hp.socket_pair(receives_fds=receives_fds)
    with one, other:
        yield lambda: (lambda: call(one), lambda: after(other), 0.0003)


def say_a_line(other: Any) -> None:
    other.write("line\n")


def answer(other: Any) -> None:
    with contextlib.suppress(TimeoutError):
        other.readline(timeout=0)
    other.write("line\n")


@contextmanager
def a_full_socket(call: Callable[[Any], object], before: str = "more") -> Iterator[Callable[[], Shot]]:
    """A connection with something to send, whose peer reads only after the signal."""

    def arm() -> Shot:
        one, other = hp.socket_pair()
        fill(one.fileno())
        one.write(before)

        def shot() -> None:
            with other:
                call(one)
                one.leave()

        return shot, lambda: read_all_there_is(other.fileno()), 0.0003

    yield arm


def read_all_there_is(fd: int) -> None:
    while select.select([fd], [], [], 0)[0]:
        os.read(fd, 1 << 20)


@contextmanager
def a_listener(call: Callable[[Any], Any]) -> Iterator[Callable[[], Shot]]:
    """Somebody comes at last."""
    with tempfile.TemporaryDirectory() as folder, hp.listen(f"unix://{folder}/name") as listener:
        clients: list[hp.Connection[str]] = []

        def accept() -> None:
            with call(listener):
                clients.pop().close()

        yield lambda: (accept, lambda: clients.append(hp.connect(listener.address)), 0.0003)


def linger(client: hp.Connection[str]) -> None:
    client.read()


@contextmanager
def a_server_that_is_told_to_end() -> Iterator[Callable[[], Shot]]:
    """Once, and not before it listens to TERM, which would be our own end."""

    def arm() -> Shot:
        lacking = ["ready", "shot"]

        def have(what: str) -> None:
            lacking.remove(what)
            if not lacking:
                lacking.append("nothing")
                os.kill(os.getpid(), signal.SIGTERM)

        listener = hp.listen("tcp://127.0.0.1:0")
        return (
            lambda: hp.serve(listener, linger, stop_grace=60, ready=lambda: have("ready")),
            lambda: have("shot"),
            0.05,
        )

    yield arm


@contextmanager
def a_server(call: Callable[[hp.Server], object]) -> Iterator[Callable[[], Shot]]:
    """One in the background, with a client that leaves at last."""

    def arm() -> Shot:
        server = hp.Server("tcp://127.0.0.1:0", linger, stop_grace=60)
        server.start()
        client = hp.connect(server.address)
        client.write("x\n")
        wait_until(lambda: server.counts.begun == 1)
        return lambda: call(server), client.close, 0.001

    yield arm


@contextmanager
def a_start_of_a_server(call: Callable[[hp.Server], object]) -> Iterator[Callable[[], Shot]]:
    """Over by itself."""

    def arm() -> Shot:
        server = hp.Server("tcp://127.0.0.1:0", linger)

        def start() -> None:
            call(server)
            server.stop()

        return start, lambda: None, 0.01

    yield arm


@contextmanager
def a_full_listener() -> Iterator[Callable[[], Shot]]:
    """One who takes in the first only after the signal."""
    with (
        tempfile.TemporaryDirectory() as folder,
        hp.listen(f"unix://{folder}/name", backlog=0) as listener,
        hp.connect(listener.address),
    ):
        yield lambda: (lambda: hp.connect(listener.address).close(), lambda: listener.accept().close(), 0.0003)


@contextmanager
def a_locked_folder(call: Callable[[str], Any]) -> Iterator[Callable[[], Shot]]:
    """Somebody else is just making a name there."""
    with tempfile.TemporaryDirectory() as folder:

        def arm() -> Shot:
            held = os.open(folder, os.O_RDONLY)
            fcntl.flock(held, fcntl.LOCK_EX)
            return lambda: call(f"{folder}/name").close(), lambda: os.close(held), 0.0004

        yield arm


@contextmanager
def a_relay() -> Iterator[Callable[[], Shot]]:
    def arm() -> Shot:
        (user, one), (other, server) = hp.socket_pair(), hp.socket_pair()

        def call() -> None:
            with user, one, other, server:
                hp.relay(one, other)

        return call, lambda: (user.shutdown(), server.shutdown()), 0.0005

    yield arm


@contextmanager
def a_look_up() -> Iterator[Callable[[], Shot]]:
    """It ends by itself."""
    address = hp.Address.parse("tcp://127.0.0.1:80")
    yield lambda: (lambda: hp.host_name(address), lambda: None, 0.0004)


@contextmanager
def a_sender(call: Callable[[Any], object], after: Callable[[Any], object]) -> Iterator[Callable[[], Shot]]:
    """A datagram comes at last."""
    one, other = hp.datagram_pair()
    with one, other:
        yield lambda: (lambda: call(one), lambda: after(other), 0.0003)


def answer_a_datagram(other: Any) -> None:
    with contextlib.suppress(TimeoutError):
        other.receive(timeout=0)
    other.send(b"x")


@contextmanager
def a_full_queue(call: Callable[[Any], object]) -> Iterator[Callable[[], Shot]]:
    """The receiver of datagrams takes some only after the signal."""

    def arm() -> Shot:
        one, other = hp.datagram_pair()
        fill(one.fileno())

        def shot() -> None:
            with one, other:
                call(one)

        return shot, lambda: other.receive_many(1000), 0.0003

    yield arm


@contextmanager
def a_fifo(call: Callable[[Any], object], flags: int) -> Iterator[Callable[[], Shot]]:
    """Somebody opens its other end at last, which does not wait with these flags (fifo(7))."""
    with tempfile.TemporaryDirectory() as folder, hp.Fifo(f"{folder}/name") as fifo:

        def arm() -> Shot:
            others: list[int] = []

            def open_it() -> None:
                others.append(os.open(fifo.path, flags))

            def shot() -> None:
                try:
                    call(fifo)
                finally:
                    while others:
                        os.close(others.pop())

            return shot, open_it, 0.0008

        yield arm


@contextmanager
def an_input(call: Callable[[Any], object]) -> Iterator[Callable[[], Shot]]:
    """Of a command that does not go by TERM."""

    def arm() -> Shot:
        gate, opener = pipe()
        words = f"trap '' TERM; echo line; read line </proc/{os.getpid()}/fd/{gate.fileno()}; :|"

        def shot() -> None:
            with gate, hp.inputs([words], commands=True) as lines:
                next(lines)
                call(lines)

        return shot, opener.close, 0.004

    yield arm


@contextmanager
def an_input_that_is_a_fifo() -> Iterator[Callable[[], Shot]]:
    """Nobody writes to it yet."""
    with tempfile.TemporaryDirectory() as folder, hp.Fifo(f"{folder}/name") as fifo:

        def arm() -> Shot:
            others: list[int] = []

            def say_something() -> None:
                others.append(os.open(fifo.path, os.O_RDWR))
                os.write(others[0], b"line\n")

            def shot() -> None:
                with hp.inputs([os.fsdecode(fifo.path)]) as lines:
                    next(lines)
                    os.close(others.pop())

            return shot, say_something, 0.0004

        yield arm


@contextmanager
def a_lock() -> Iterator[Callable[[], Shot]]:
    """Somebody else holds it."""
    with tempfile.NamedTemporaryFile() as file:

        def arm() -> Shot:
            held = os.open(file.name, os.O_RDONLY)
            fcntl.flock(held, fcntl.LOCK_EX)

            def shot() -> None:
                with hp.lock(file.name):
                    pass

            return shot, lambda: os.close(held), 0.0004

        yield arm


def a_starter(path: Path) -> Shot:
    """Its daemon is ready when the starter has had its signal, which is for that one alone (setitimer(2))."""

    def call() -> None:
        daemon = hp.daemonize()
        os.close(os.open(path, os.O_RDONLY))
        daemon.ready()

    return call, lambda: os.open(path, os.O_RDWR), 0.008


def an_exec(path: Path) -> Shot:
    """Of a program whose stdin is a FIFO that nobody writes to yet."""
    return hp.cmd("true", stdin=path).exec, lambda: os.open(path, os.O_RDWR), 0.001


PROCESSES: dict[tuple[str, ...], Callable[[], Scenario]] = {
    ("Runnable.run", "Job.start", "Job.complete", "Process.wait_until"): partial(a_command, cat, "run"),
    ("Runnable.read",): partial(a_command, cat, "read"),
    ("Runnable.capture",): partial(a_command, cat, "capture"),
    ("Process.wait_for_end",): partial(a_command, two, "run"),
    ("Function.call",): partial(a_command, function, "call"),
    ("Command.start", "Runnable.start"): partial(a_start, cat, "start"),
    ("Function.start",): partial(a_start, function, "start"),
    ("Pipeline.start",): partial(a_start, two, "start"),
    ("Runnable.background",): partial(a_start, cat, "background"),
    ("Runnable.lines",): partial(a_start, cat, "lines"),
    ("Runnable.reader",): partial(a_start, cat, "reader"),
    ("Runnable.writer",): partial(a_start, lambda fd: hp.cmd("cat"), "writer"),
    ("Runnable.duplex",): partial(a_start, lambda fd: hp.cmd("cat"), "duplex"),
    ("Process.wait",): partial(a_running, cat, "start", lambda process: process.wait(60)),
    ("Process.__exit__",): partial(a_running, cat, "start", leave),
    ("Process.terminate",): partial(a_running, stubborn, "start", lambda process: process.terminate(60)),
    ("Job.wait",): partial(a_running, two, "start", lambda job: job.wait()),
    ("Job.__exit__",): partial(a_running, two, "start", leave),
    ("Job.terminate", "Job.end"): partial(a_running, stubborn_two, "start", lambda job: job.terminate(60)),
    ("Job.expire",): an_expiry,
    ("Lines.close", "Job.leave"): partial(a_running, stubborn, "lines", lambda lines: lines.close()),
    ("Lines.__exit__",): partial(a_running, stubborn, "lines", leave),
    ("Reader.close",): partial(a_running, stubborn, "reader", lambda reader: reader.close()),
    ("CommandHandle.__exit__", "Job.abort"): partial(a_running, stubborn, "reader", leave_by_an_error),
    ("Writer.close",): partial(a_partner, ONCE, "writer", lambda writer: writer.close()),
    ("CommandHandle.__exit__", "Writer.close"): partial(a_partner, ONCE, "writer", leave),
    ("Duplex.close",): partial(a_partner, ONCE, "duplex", lambda duplex: duplex.close()),
    ("CommandHandle.__exit__", "Duplex.close"): partial(a_partner, ONCE, "duplex", leave),
}
STREAMS: dict[tuple[str, ...], Callable[[], Scenario]] = {
    ("Handle.read",): partial(a_line, lambda handle: handle.read(5)),
    ("Handle.read_some",): partial(a_line, lambda handle: handle.read_some()),
    ("Handle.readline", "ReadBuffer.await_line"): partial(a_line, lambda handle: handle.readline()),
    ("Handle.readlines",): partial(a_line, lambda handle: handle.readlines(1), "reader"),
    ("Handle.__next__",): partial(a_line, next, "reader"),
    ("Lines.__next__",): partial(a_line, next, "lines"),
    ("Handle.flush",): partial(a_full_pipe, lambda handle: handle.flush()),
    ("Handle.write",): partial(a_full_pipe, lambda handle: handle.write(bytes(65532))),
    ("Handle.writelines",): partial(a_full_pipe, lambda handle: handle.writelines([bytes(65532)])),
    ("Handle.close",): partial(a_full_pipe, lambda handle: handle.close()),
    ("Handle.__exit__",): partial(a_full_pipe, leave),
    ("Duplex.send",): partial(a_partner, ONCE, "duplex", lambda duplex: duplex.send(bytes(200_000))),
    ("Duplex.close_input",): partial(a_partner, ONCE, "duplex", lambda duplex: duplex.close_input(), overfull),
    ("Duplex.ask", "ReadBuffer.exchange"): partial(a_partner, ANSWER, "duplex", lambda duplex: duplex.ask(b"?")),
    ("Duplex.events", "ReadBuffer.fill_when_ready"): partial(
        a_partner, ANSWER, "duplex", lambda duplex: next(duplex.events()), lambda duplex: duplex.send(b"?\n")
    ),
    ("Watch.get", "Watch.get_until"): partial(a_signal, lambda watch: watch.get()),
    ("Watch.__next__",): partial(a_signal, next),
    ("wait",): a_blocked_signal,
    ("suspend",): a_suspension,
    ("Semaphores.op",): partial(a_set, lambda sems: sems.op([(0, -1)]), lambda sems: sems.op([(0, 1)])),
    ("OneSemaphore.acquire",): partial(a_set, lambda sems: sems[0].acquire(), lambda sems: sems[0].release()),
    ("OneSemaphore.__enter__",): partial(a_set, lock_and_take, lambda sems: sems[0].release()),
    ("_Places.__enter__",): partial(a_set, guard_and_take, lambda sems: sems[0].release()),
    ("OneSemaphore.wait_for_zero",): partial(a_set, wait_for_zero, lambda sems: sems[1].acquire()),
    ("SemaphoreSet.open_or_create",): an_unfinished_set,
    ("Queue.send",): partial(a_queue, lambda queue: queue.send(b"2"), lambda queue: queue.receive(), True),
    ("Queue.receive",): partial(a_queue, lambda queue: queue.receive(), lambda queue: queue.send(b"1"), False),
}
MUCH = b"line\n" * 6_000
TERMINALS: dict[tuple[str, ...], Callable[[], Scenario]] = {
    ("SpawnBase.expect", "SpawnBase.expect_list", "SpawnBase.expect_loop"): partial(
        a_terminal, lambda child: child.expect("li(n)e\r\n")
    ),
    ("SpawnBase.expect_exact",): partial(a_terminal, lambda child: child.expect_exact("line\r\n")),
    ("SpawnBase.read",): partial(a_terminal, lambda child: child.read(6)),
    ("SpawnBase.readline",): partial(a_terminal, lambda child: child.readline()),
    ("SpawnBase.read_nonblocking",): partial(a_terminal, lambda child: child.read_nonblocking(100)),
    ("SpawnBase.send",): partial(a_stopped_reader, lambda child: child.send(MUCH)),
    ("SpawnBase.sendline",): partial(a_stopped_reader, lambda child: child.sendline(MUCH)),
    ("SpawnBase.write", "SpawnBase.writelines"): partial(a_stopped_reader, lambda child: child.writelines([MUCH])),
    ("spawn.type_raw",): partial(a_stopped_reader, lambda child: child.type_raw(MUCH)),
    ("OnTerminal.sendcontrol",): partial(a_stopped_reader, lambda child: child.sendcontrol("a"), True),
    ("OnTerminal.sendeof",): partial(a_stopped_reader, lambda child: child.sendeof(), True),
    ("OnTerminal.sendintr",): partial(a_stopped_reader, lambda child: child.sendintr(), True),
    ("OnTerminal.waitnoecho",): an_echo,
    ("spawn.wait", "spawn.wait_for_end"): partial(a_stubborn_child, lambda child: child.wait()),
    ("spawn.terminate",): partial(a_stubborn_child, lambda child: child.terminate()),
    ("spawn.close",): partial(a_stubborn_child, lambda child: child.close()),
    ("SpawnBase.__exit__",): partial(a_stubborn_child, leave),
    ("PopenSpawn.close",): partial(a_stubborn_child, lambda child: child.close(), on_pipes),
    ("PopenSpawn.wait",): partial(a_stubborn_child, lambda child: child.wait(), on_pipes),
    ("spawn.interact",): an_interaction,
    ("run",): partial(a_run, pexpect.run),
    ("runu",): partial(a_run, pexpect.runu),
    ("bash", "REPLWrapper.set_prompt"): partial(an_interpreter, replwrap.bash),
    ("python",): partial(an_interpreter, replwrap.python),
    ("REPLWrapper.run_command",): partial(a_shell, lambda shell: shell.run_command("read line")),
    ("REPLWrapper.__exit__",): partial(
        a_stubborn_child,
        leave,
        lambda: replwrap.REPLWrapper(a_child("sh", "-c", STUBBORN), b"ready", None),
    ),
    ("pxssh.login", "pxssh.sync_original_prompt"): a_log_in,
    ("pxssh.set_unique_prompt",): partial(a_far_shell, lambda far: far.set_unique_prompt()),
    ("pxssh.prompt",): partial(a_far_shell, lambda far: far.prompt()),
    ("pxssh.logout",): a_log_out,
}
SOCKETS: dict[tuple[str, ...], Callable[[], Scenario]] = {
    ("SocketHandle.read",): partial(a_peer, lambda peer: peer.read(5), say_a_line),
    ("SocketHandle.read_some",): partial(a_peer, lambda peer: peer.read_some(), say_a_line),
    ("Connection.readline",): partial(a_peer, lambda peer: peer.readline(), say_a_line),
    ("Connection.read_exactly",): partial(a_peer, lambda peer: peer.read_exactly(5), say_a_line),
    ("Connection.read_until_dot",): partial(
        a_peer, lambda peer: peer.read_until_dot(), lambda other: other.write_until_dot("a\nb\n")
    ),
    ("Connection.ask",): partial(a_peer, lambda peer: peer.ask("?"), answer),
    ("Connection.receive_fds",): partial(
        a_peer, lambda peer: peer.receive_fds()[1][0].close(), lambda other: other.send_fds([0]), True
    ),
    ("StreamSender.write",): partial(a_full_socket, lambda peer: peer.write("line\n")),
    ("StreamSender.flush",): partial(a_full_socket, lambda peer: peer.flush()),
    ("SocketHandle.shutdown",): partial(a_full_socket, lambda peer: peer.shutdown()),
    ("SocketHandle.close",): partial(a_full_socket, lambda peer: peer.close()),
    ("Connection.send_fds",): partial(a_full_socket, lambda peer: peer.send_fds([0]), ""),
    ("Connection.write_until_dot",): partial(a_full_socket, lambda peer: peer.write_until_dot("line")),
    ("Listener.accept",): partial(a_listener, lambda listener: listener.accept()),
    ("Listener.__iter__",): partial(a_listener, lambda listener: next(iter(listener))),
    ("connect",): a_full_listener,
    ("listen",): partial(a_locked_folder, lambda path: hp.listen(f"unix://{path}")),
    ("open_datagram",): partial(a_locked_folder, lambda path: hp.open_datagram(local=f"unixgram://{path}")),
    ("serve", "Server.run"): a_server_that_is_told_to_end,
    ("Server.start",): partial(a_start_of_a_server, hp.Server.start),
    ("Server.__enter__",): partial(a_start_of_a_server, hp.Server.__enter__),
    ("Server.stop",): partial(a_server, hp.Server.stop),
    ("Server.__exit__",): partial(a_server, leave),
    ("relay",): a_relay,
    ("host_name",): a_look_up,
    ("DatagramSocket.receive",): partial(a_sender, lambda peer: peer.receive(), answer_a_datagram),
    ("DatagramSocket.receive_many",): partial(a_sender, lambda peer: peer.receive_many(), answer_a_datagram),
    ("DatagramSocket.ask",): partial(a_sender, lambda peer: peer.ask(b"?"), answer_a_datagram),
    ("Sender.send",): partial(a_full_queue, lambda peer: peer.send(b"x")),
    ("Sender.send_many",): partial(a_full_queue, lambda peer: peer.send_many([b"x"] * 2)),
}
FINAL: dict[tuple[str, ...], Callable[[Path], Shot]] = {
    ("daemonize",): a_starter,
    ("Command.exec",): an_exec,
}
SERVICES: dict[tuple[str, ...], Callable[[], Scenario]] = {
    ("Fifo.reader",): partial(a_fifo, lambda fifo: fifo.reader().close(), os.O_RDWR),
    ("Fifo.writer",): partial(a_fifo, lambda fifo: fifo.writer().close(), os.O_RDWR),
    ("Fifo.serve",): partial(a_fifo, lambda fifo: fifo.serve(lambda: "answer", readers=1), os.O_RDONLY | os.O_NONBLOCK),
    ("Inputs.__next__",): an_input_that_is_a_fifo,
    ("Inputs.skip",): partial(an_input, lambda lines: lines.skip()),
    ("Inputs.__exit__",): partial(an_input, leave),
    ("lock.__enter__",): a_lock,
}
SHOTS = IN_ALL // (2 * len(PROCESSES) + len(STREAMS) + len(SOCKETS) + len(TERMINALS) + len(SERVICES))


def without_processor() -> float:
    """Seconds that this thread was ready to run and the machine had other things to do."""
    with open("/proc/thread-self/schedstat") as file:
        return int(file.read().split()[1]) / 1e9


def shoot(scenario: Callable[[], Scenario], shots: int, names: set[str]) -> None:
    late: list[float] = []
    release: Callable[[], object]
    unseen = set(names)

    def handler(sig: hp.Signal) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        late.append(time.monotonic() - sig.time - (without_processor() - idle))
        frame = sys._getframe(1)
        while frame is not None and unseen:
            unseen.discard(frame.f_code.co_qualname)
            frame = frame.f_back  # type: ignore[assignment]
        release()

    with scenario() as arm, hp.SIG.local(ALRM=handler):
        while len(late) < shots or (unseen and len(late) < 100 * shots):
            call, release, spread = arm()
            count = len(late)
            idle = without_processor()
            # Again after a second: it helps a call that would hang, and the first one is late by then.
            signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-6, spread), 1)
            call()
            wait_until(lambda count=count: len(late) > count)
    assert max(late) < LATE
    assert unseen == set(), "no signal came while these were under way"


def visible(names: tuple[str, ...]) -> set[str]:
    """Those that have frames of Python's."""
    native = ("ReadBuffer.", "Semaphores.", "OneSemaphore.", "Queue.")
    return {name.replace("Lines.__next__", "Lines._refill") for name in names if not name.startswith(native)}


@pytest.mark.soak
@pytest.mark.parametrize("mechanism", ["pidfd", "no pidfd"])
@pytest.mark.parametrize("names", PROCESSES, ids=" ".join)
def test_a_signal_during_a_process(names, mechanism):
    """perlipc:S13, gotcha:SIG11, SIG17"""
    with without_pidfd() if mechanism == "no pidfd" else contextlib.nullcontext():
        shoot(PROCESSES[names], SHOTS, visible(names))


@pytest.mark.soak
@pytest.mark.parametrize("names", TERMINALS, ids=" ".join)
def test_a_signal_while_expecting(names):
    """perlipc:S13, gotcha:SIG17, TTY7"""
    shoot(TERMINALS[names], SHOTS, visible(names))


@pytest.mark.soak
@pytest.mark.parametrize("names", STREAMS, ids=" ".join)
def test_a_signal_during_a_stream(names):
    """perlipc:S13, gotcha:SIG11, SIG17"""
    shoot(STREAMS[names], SHOTS, visible(names))


@pytest.mark.soak
@pytest.mark.parametrize("names", SOCKETS, ids=" ".join)
def test_a_signal_during_a_socket(names):
    """perlipc:S13, gotcha:SIG11, SIG17, SO5"""
    shoot(SOCKETS[names], SHOTS, visible(names))


@pytest.mark.soak
@pytest.mark.parametrize("names", SERVICES, ids=" ".join)
def test_a_signal_during_a_service(names):
    """perlipc:S13, gotcha:SIG17"""
    shoot(SERVICES[names], SHOTS, visible(names))


@pytest.mark.soak
@pytest.mark.parametrize("names", FINAL, ids=" ".join)
def test_a_signal_during_a_call_that_never_returns(names, tmp_path):
    """perlipc:S13, C7, D3, gotcha:SIG17: each is made in a child, which tells what it saw."""
    path = tmp_path / "fifo"
    os.mkfifo(path)
    seen = 0
    while seen < SHOTS:
        told, telling = pipe()
        child = os.fork()
        if not child:
            be_shot_at(*FINAL[names](path), telling.fileno())
        telling.close()
        with told:
            late = b"".join(iter(partial(os.read, told.fileno(), 64), b""))
        assert os.waitpid(child, 0)[1] == 0
        found = struct.unpack(f"{len(late) // 8}d", late)
        assert max(found) < LATE
        seen += len(found)


def be_shot_at(call: Callable[[], object], release: Callable[[], object], spread: float, telling: int) -> NoReturn:
    status = 70
    try:

        def handler(sig: hp.Signal) -> None:
            signal.setitimer(signal.ITIMER_REAL, 0)
            os.write(telling, struct.pack("d", time.monotonic() - sig.time - (without_processor() - idle)))
            release()

        hp.SIG["ALRM"] = handler
        idle = without_processor()
        signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-6, spread), 1)
        call()
        status = 0
    finally:
        os._exit(status)
