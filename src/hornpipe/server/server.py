"""The face: a server in the foreground or in the background, stopped, renewed and counted."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any, NoReturn, Self, Unpack

from hornpipe import wait
from hornpipe._native.shared import Numbers
from hornpipe.address import Address
from hornpipe.deadline import NEVER, after
from hornpipe.fd import Descriptor, flush_printed, pipe
from hornpipe.reaper import Child
from hornpipe.server import counts
from hornpipe.server.counts import Counts
from hornpipe.server.model import lived
from hornpipe.server.options import Addresses, ServerOptions, Settings
from hornpipe.server.service import Handler, Limits, Service
from hornpipe.server.serving import LAST, Serving
from hornpipe.signals import SIG
from hornpipe.sockets import Listener, listen

if TYPE_CHECKING:
    from hornpipe.command import Command
    from hornpipe.server.programs import Program


class Server:
    r"""A server as an object: in the background inside a ``with`` block, or by ``start()`` and ``stop()``.

    The parameters are those of ``serve``. In the background ``thread`` and ``inline`` serve in threads of
    this process; ``fork`` and ``prefork`` in children of a child, so that nothing is forked beside threads.

    >>> import hornpipe as hp
    >>> def greet(client):
    ...     print("hello", client.readline(), end="", file=client)
    >>> with hp.Server("tcp://127.0.0.1:0", greet) as server:
    ...     with hp.connect(server.address) as connection:
    ...         print("world", file=connection)
    ...         connection.readline(timeout=5)
    'hello world\n'
    >>> server.counts.begun, server.counts.active
    (1, 0)
    """

    def __init__(self, addresses: Addresses, handler: Handler | Command[Any], **options: Unpack[ServerOptions]) -> None:
        self._settings = Settings(addresses, handler, **options)
        self._program = self._make_program(handler) if self._settings.is_program else None
        self._numbers = Numbers(counts.FIELDS)
        settings = self._settings
        self._service = Service(
            settings.handler if self._program is None else self._program.attend,
            Limits(settings.max_clients, settings.per_client_timeout, settings.idle_timeout, settings.max_per_address),
            self._numbers,
            settings.log,
        )
        self._listener: Listener | None = None
        self._addresses: list[Address] = []
        self._serving: Serving | None = None
        self._child: Child | None = None
        self._life: Descriptor | None = None
        self._done: Descriptor | None = None

    def _make_program(self, command: Any) -> Program:
        from hornpipe.server.programs import Program  # who has none forks faster without it

        settings = self._settings
        return Program(command, settings.idle_timeout, settings.tls is not None or settings.newline == "\r\n")

    @property
    def addresses(self) -> list[Address]:
        """Where it listens, with the ports that the system chose; empty before it does."""
        return self._addresses

    @property
    def address(self) -> Address:
        """Where it listens, the first if there are several."""
        if not self._addresses:
            raise ValueError("the server has not been started")
        return self._addresses[0]

    @property
    def counts(self) -> Counts:
        """What it has done so far, in all of its processes; from any thread, and after its end."""
        return counts.read(self._numbers)

    @property
    def pid(self) -> int:
        """The process that TERM and HUP are for."""
        return self._child.pid if self._child is not None else os.getpid()

    def __repr__(self) -> str:
        where = " and ".join(map(str, self._addresses or self._settings.addresses)) or "a listener"
        return f"<Server at {where}, {self._settings.model}>"

    def run(self) -> Counts:
        """Serve until it is told to end, as ``serve`` does."""
        listener = self._listen()
        try:
            self._serving = Serving(self._settings, self._service, listener, self._program)
        except BaseException:
            listener.close()
            raise
        self._serving.run(self._tell_ready)
        if self._serving.interrupted:
            raise KeyboardInterrupt
        return self.counts

    def _listen(self) -> Listener:
        if self._listener is not None:
            raise RuntimeError("the server has been started already")
        if self._program is not None:
            self._program.prepare()
        given = self._settings.listener
        self._listener = (
            listen(*self._settings.addresses, tls=self._settings.tls, newline=self._settings.newline, keep=True)
            if given is None
            else given
        )
        self._addresses = self._listener.addresses
        return self._listener

    def _tell_ready(self) -> None:
        if self._settings.ready is not None:
            self._settings.ready()

    # --- in the background ---

    def start(self) -> Self:
        """Serve in the background; returns once clients are served. ``OSError`` when an address cannot be had."""
        in_child = self._settings.model in ("fork", "prefork")
        if not in_child and not (self._settings.user is None and self._settings.group is None):
            raise ValueError("user= and group= change the whole process: with threads they are for run() and serve()")
        listener = self._listen()
        try:
            if in_child:
                self._start_child(listener)
            else:
                self._start_thread(listener)
        except BaseException:
            if self._serving is not None:
                self._serving.loop.ask(self._serving.terminate)
            listener.close()
            raise
        return self

    def _start_child(self, listener: Listener) -> None:
        from hornpipe import spawn
        from hornpipe.spawn.recipe import Recipe

        child = Child()
        life, self._life = pipe()
        told, telling = pipe()
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        flush_printed()
        try:
            with told:
                with life, telling:
                    spawn.fork_child(
                        Recipe("a server", ()), lambda: self._be_child(listener, life, telling, mask), NEVER, child
                    )
                listener.leave()
                wait.one(told.fileno(), wait.READ, NEVER)
                if not os.read(told.fileno(), 1):
                    status = child.wait(after(LAST))
                    raise ChildProcessError(f"the server ended at its start: it {status}; its stderr says why")
        except BaseException:
            child.end(group=True)
            child.close()
            self._life.close()
            raise
        self._child = child

    def _be_child(self, listener: Listener, life: Descriptor, telling: Descriptor, mask: set[int]) -> NoReturn:
        os._exit(lived(self._live, listener, life, telling, mask))

    def _live(self, listener: Listener, life: Descriptor, telling: Descriptor, mask: set[int]) -> None:
        assert self._life is not None
        self._life.close()
        os.setpgid(0, 0)
        # What our starter does when it is told to end is no affair of ours: TERM and INT are for the server's loop.
        SIG["TERM"] = SIG["INT"] = "DEFAULT"
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        serving = self._serving = Serving(self._settings, self._service, listener, self._program)

        def orphaned() -> None:
            serving.loop.forget(life.fileno())
            serving.terminate()

        def ready() -> None:
            self._tell_ready()
            # Its end is our starter's end (gotcha:SRV5).
            serving.loop.watch(life.fileno(), orphaned)
            os.write(telling.fileno(), b"\1")
            telling.close()

        serving.run(ready)

    def _start_thread(self, listener: Listener) -> None:
        self._settings.max_clients = self._service.limits.max_clients = (
            1 if self._settings.model == "inline" else self._settings.max_clients
        )
        import threading  # its hooks at a fork cost as much as the fork: who has no threads does without

        told, telling = pipe()
        self._done, done = pipe()
        failed: list[BaseException] = []

        def main() -> None:
            def ready() -> None:
                self._tell_ready()
                telling.close()

            try:
                self._serving = Serving(self._settings, self._service, listener, self._program)
                self._serving.run(ready)
            except BaseException as error:  # noqa: BLE001 (it is raised where the server was started)
                failed.append(error)
            finally:
                telling.close()
                done.close()

        threading.Thread(target=main, name="hornpipe-server", daemon=True).start()
        with told:
            wait.one(told.fileno(), wait.READ, NEVER)
        if failed:
            raise failed[0]

    def stop(self) -> Counts:
        """End it in good order: who is there is served, for ``stop_grace`` seconds at most; once more, nothing.

        The counts at its end.
        """
        grace = self._settings.stop_grace
        child = self._child
        if child is not None and child.status is None:
            child.signal(signal.SIGTERM)
            if child.wait(NEVER if grace is None else after(grace + LAST)) is None:
                child.signal(signal.SIGKILL)
                child.wait(after(LAST))
            child.close()
        elif self._done is not None and not self._done.closed and self._serving is not None:
            self._serving.loop.ask(self._serving.terminate)
            wait.one(self._done.fileno(), wait.READ, NEVER)
            self._done.close()
        if self._life is not None:
            self._life.close()
        if self._listener is not None:
            self._listener.close()
        return self.counts

    def restart(self) -> None:
        """Renew its workers, as HUP does."""
        if self._child is not None:
            self._child.signal(signal.SIGHUP)
        elif self._serving is not None:
            self._serving.loop.ask(self._serving.renew)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


def serve(addresses: Addresses, handler: Handler | Command[Any], **options: Unpack[ServerOptions]) -> Counts:
    r"""Serve clients until told to end (perlipc:N5): the counts at the end.

    ``handler`` is called with each client's ``Connection``, which is closed when it returns; or it is a
    ``cmd()``, whose stdin and stdout the client becomes. What a handler raises is logged (in the log
    ``"hornpipe.server"``) with the client's address, and costs that client alone. ``addresses`` is one or several
    of ``tcp://host:port`` and ``unix:///path``, or what ``listen()`` gave; it belongs to the server from then on.

    TERM ends it in good order: nobody new is taken in, who is there is served, for ``stop_grace`` seconds
    at most; a second one, and INT (which raises ``KeyboardInterrupt``), at once. HUP replaces ``prefork``'s
    workers, the new ones first; after ``restart_on_hup()`` it executes the whole program anew. In either
    case no client is refused. A signal that ``unwind()`` was told of ends it in good order, and then unwinds the
    program. Off the main thread signals are left alone.

    A service manager is told when clients are served, when that ends, of renewals and, if it wants to know, that all
    is well (sd_notify(3)); an ``inline`` server is silent while it has a client.

    >>> import hornpipe as hp
    >>> hp.serve("tcp://127.0.0.1:0", hp.cmd("fortune"), model="forks")
    Traceback (most recent call last):
    ...
    ValueError: model must be one of inline, fork, prefork, thread, not 'forks'
    """
    return Server(addresses, handler, **options).run()
