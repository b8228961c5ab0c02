"""Programs as handlers: the client is the program's stdin and stdout, as inetd and tcpserver do (perlipc:N5, N18).

The program gets the socket itself, a clean environment with the client's address in it, no other
descriptor, and its arguments as they were given: no shell sees anything of the client (perlipc:N15).
"""

from __future__ import annotations

import errno
import os
import signal
import struct
from _socket import SO_RCVTIMEO, SO_SNDTIMEO, SOL_SOCKET
from typing import Any

from hornpipe import reaper, spawn
from hornpipe.command import Command
from hornpipe.deadline import NEVER, after
from hornpipe.errors import SpawnError
from hornpipe.fd import Descriptor, pipe
from hornpipe.reaper import Child
from hornpipe.redirections import STDOUT, open_redirection
from hornpipe.server import counts
from hornpipe.server.conversing import converse
from hornpipe.server.forked import AFTER_TERM, Forked
from hornpipe.server.journal import WARNING
from hornpipe.server.loop import Loop
from hornpipe.server.service import Service
from hornpipe.sockets import Connection, Listener
from hornpipe.spawn.diagnosis import EXEC, failure
from hornpipe.status import ExitStatus

_REFUSED = ("stdin", "stdout", "input", "pty", "timeout", "contain", "check", "buffer_limit", "line_limit")
_CONNECTION_DECIDES = "the client is its stdin and stdout, and the server's limits are its limits"


class Program:
    """A command, made ready to be started often."""

    def __init__(self, command: Command[Any], idle_timeout: float | None, relays: bool) -> None:
        given = command._options
        for name in _REFUSED:
            if name in given:
                raise ValueError(f"{str(command)!r} serves clients, so it cannot have {name}=: {_CONNECTION_DECIDES}")
        if "env_base" not in given:
            command = command.with_options(env_base="minimal")
        self.command = command
        self.relays = relays
        """Whether somebody has to stand between the program and its client, who translates."""
        self._idle = b"" if idle_timeout is None else struct.pack("ll", int(idle_timeout), int(idle_timeout % 1 * 1e6))
        self._stage = command._stages()[0]
        self._stage.refuse_tail("a server")
        self.recipe = self._stage.recipe
        self.ok_codes = given.get("ok_codes", (0,))
        self.grace = given.get("grace", AFTER_TERM)
        self._opened: list[Descriptor] = []
        self._errors: int | None = None
        self._candidates: list[bytes] = []
        self._environment: list[bytes] = []

    def prepare(self) -> None:
        """What is the same for each client; ``SpawnError`` for a program that is not there."""
        self._candidates = [path for path in self.recipe.candidates() if os.access(path, os.X_OK)]
        if not self._candidates:
            raise failure(self.recipe, errno.ENOENT, EXEC, 0, self.recipe.candidates())
        self._environment = self.recipe.environment_list() or []
        wanted = self._stage.redirections[2]
        if wanted is not None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
            self._errors = 1 if wanted is STDOUT else open_redirection(wanted, flags, self._opened)

    def launch(self, connection: Connection[str], child: Child) -> None:
        """Start it for a client."""
        fd = connection.fileno()
        errors = fd if self._errors == 1 else self._errors
        if self._idle:
            # Nobody is between the program and its client: the kernel gives up waiting in our place (socket(7)).
            connection.calls.setsockopt(SOL_SOCKET, SO_RCVTIMEO, self._idle)
            connection.calls.setsockopt(SOL_SOCKET, SO_SNDTIMEO, self._idle)
        plan = spawn.plan_of(self.recipe, (fd, fd, errors), group=True, terminal=-1, foreground=-1)
        environment = self._environment + variables(connection)
        share = self.recipe.ids is None
        report = Descriptor()
        while True:
            error, stage, which = plan.launch(
                self._candidates, self.recipe.arguments, environment, share, child, reaper.ours, report
            )
            if error != errno.ETIME or not share:
                break
            share = False  # the exec takes long, and is waited for
        reaper.catch_up()
        if not child.pid:
            raise failure(self.recipe, error, stage, which, self._candidates)
        if not report.closed:
            spawn.await_report(self.recipe, child, report, NEVER, self._candidates)

    def attend(self, connection: Connection[str]) -> None:
        """Serve a client with it from beginning to end: a handler."""
        if self.relays:
            self._converse(connection)
        else:
            self._hand_over(connection)

    def _converse(self, connection: Connection[str]) -> None:
        given, theirs = pipe()
        ours, answers = pipe()
        with given, theirs, ours, answers:
            wanted: dict[str, Any] = {"stdin": given.fileno(), "stdout": answers.fileno()}
            if self._errors == 1:
                wanted["stderr"] = answers.fileno()
            command = self.command.with_options(
                **wanted, env={name: value for name, _, value in map(_split, variables(connection))}, new_session=True
            )
            process = command.start()
            given.close()
            answers.close()
            try:
                converse(connection, theirs, ours)
                status = process.wait_until(connection.deadline)
            except BaseException:
                process.terminate(self.grace)
                raise
        if status is None:
            process.terminate(self.grace)
            raise TimeoutError(f"{self.recipe.label!r} had not ended by then")
        self._check(status)

    def _check(self, status: ExitStatus) -> None:
        if status.code not in self.ok_codes:
            raise ChildProcessError(f"{self.recipe.label!r} {status}")

    def _hand_over(self, connection: Connection[str]) -> None:
        child = Child()
        try:
            self.launch(connection, child)
            deadline = connection.deadline
            if not child.wait_for_end(deadline):
                child.signal(signal.SIGTERM, group=True)
                child.wait_for_end(after(self.grace))
                child.signal(signal.SIGKILL, group=True)
                child.wait(NEVER)
                raise TimeoutError(f"{self.recipe.label!r} had not ended by then")
            status = child.wait(NEVER)
        except BaseException:
            child.end(group=True)
            raise
        finally:
            child.close()
        assert status is not None
        self._check(status)


class Programs(Forked):
    """A program for each client, started by the parent itself: nothing of us is copied for it."""

    def __init__(self, loop: Loop, listener: Listener, service: Service, program: Program) -> None:
        super().__init__(loop, listener, service)
        self._program = program

    def make_ahead(self) -> None:
        """Nothing, since nobody is forked."""

    def _taken_in(self) -> None:
        brood = self._brood
        self._start(self.listener.connection(brood.listener, brood.taken, brood.client_name()))

    def _start(self, connection: Connection[str]) -> None:
        child = Child()
        try:
            self._program.launch(connection, child)
        except SpawnError as error:
            # The client has been taken in, and waits here for its program until there is room.
            self._brood.shut()
            self.loop.soon(self._pauses.next(str(error)), lambda: self._start(connection))
            return
        self.service.tell_begin(connection)
        self._brood.adopt(child.pid, child.detach())
        connection.leave()
        self._pauses.over()
        self._brood.open()

    def _end(self, place: int, pid: int) -> None:
        self._brood.kill(place, pid, signal.SIGTERM)
        self.loop.soon(self._program.grace, lambda: self._brood.kill(place, pid, signal.SIGKILL))

    def _failed(self, pid: int, status: ExitStatus) -> None:
        if status.code not in self._program.ok_codes:
            self.numbers.add(counts.FAILED, 1)
            self.log.say(WARNING, "process %d, %r, %s", pid, self._program.recipe.label, status)


def _split(variable: bytes) -> tuple[str, str, str]:
    name, _, value = os.fsdecode(variable).partition("=")
    return name, "", value


def variables(connection: Connection[str]) -> list[bytes]:
    """What a program learns of its client: tcpserver's words, and those of inetd's heirs."""
    peer, local = connection.peer, connection.local
    if connection.is_unix:
        who = connection.credentials
        path = local.path if local is not None else ""
        return [
            b"PROTO=UNIX",
            b"UNIXLOCALPATH=" + path.replace("\0", "@").encode("utf-8", "surrogateescape"),
            b"UNIXREMOTEPID=%d" % who.pid,
            b"UNIXREMOTEEUID=%d" % who.uid,
            b"UNIXREMOTEEGID=%d" % who.gid,
        ]
    assert peer is not None
    assert local is not None
    host, port = peer.host.encode(), peer.service.encode()
    our_host, our_port = local.host.encode(), local.service.encode()
    return [
        b"PROTO=TCP",
        b"TCPREMOTEIP=" + host,
        b"TCPREMOTEPORT=" + port,
        b"TCPLOCALIP=" + our_host,
        b"TCPLOCALPORT=" + our_port,
        b"REMOTE_ADDR=" + host,
        b"REMOTE_PORT=" + port,
        b"SERVER_ADDR=" + our_host,
        b"SERVER_PORT=" + our_port,
    ]
