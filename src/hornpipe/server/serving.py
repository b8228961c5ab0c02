"""Serving until it is over, in this thread: what the signals mean, and what happens in which order."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from hornpipe import supervision
from hornpipe._native.wait import in_main_thread, now
from hornpipe.deadline import after, passed
from hornpipe.server.forked import Forked
from hornpipe.server.journal import WARNING
from hornpipe.server.loop import Loop
from hornpipe.server.model import Model
from hornpipe.server.options import Settings
from hornpipe.server.service import Service
from hornpipe.signals import SIG, Signal, Watch, unwinding
from hornpipe.sockets import Listener

if TYPE_CHECKING:
    from hornpipe.server.programs import Program

LAST = 2.0
"""Seconds for those who have been killed to be gone."""


class Serving:
    """One run of a server.

    TERM ends it in good order: who waits is still taken in, who is there is served, for ``stop_grace``
    seconds at most; a second TERM hurries (gotcha:SRV6). INT ends it at once, HUP renews the workers.
    """

    def __init__(self, settings: Settings, service: Service, listener: Listener, program: Program | None) -> None:
        self._settings = settings
        self._service = service
        self._listener = listener
        self.loop = Loop()
        self._model = self._make_model(program)
        self._model.renewed = lambda: self._tell(READY=1)
        self._stopping = False
        self._hurried = False
        self.interrupted = False
        """Whether INT has ended it."""
        self._unwinding: list[str] = []
        self._leaving: Signal | None = None

    def _make_model(self, program: Program | None) -> Model:
        loop, listener, service = self.loop, self._listener, self._service

        match self._settings.model:
            case "fork" if program is not None and not program.relays:
                from hornpipe.server.programs import Programs

                return Programs(loop, listener, service, program)
            case "fork":
                return Forked(loop, listener, service)
            case "prefork":
                from hornpipe.server.preforked import Preforked

                settings = self._settings
                return Preforked(loop, listener, service, loop.leave, settings.workers, settings.max_requests)
            case "inline" if in_main_thread():
                from hornpipe.server.inline import Inline

                return Inline(loop, listener, service)
        from hornpipe.server.threaded import Threaded  # see Server._start_thread

        return Threaded(loop, listener, service)

    def run(self, ready: Callable[[], object]) -> None:
        """Serve until it is over; ``ready`` is called once clients are."""
        with ExitStack() as stack:
            stack.callback(self._model.close)
            stack.callback(self.loop.close)
            if self._settings.user is not None or self._settings.group is not None:
                from hornpipe.privileges import drop_privileges

                drop_privileges("the server", self._settings.user, self._settings.group)
            if in_main_thread():
                self._heed_signals(stack)
            stack.callback(self._end_all)
            self._model.begin()
            while not (self._model.ready() or self._stopping):
                self._model.step()
            ready()
            self._tell(READY=1)
            self._watch_over(supervision.watchdog_interval())
            while not self._model.over():
                self._model.step()
        if self._leaving is not None:
            unwinding.leave(self._leaving)

    def _tell(self, **state: str | int) -> None:
        """Tell the service manager; that it does not listen is no reason to serve nobody."""
        try:
            supervision.notify(**state)
        except (OSError, ValueError) as error:
            self._service.log.say(WARNING, "the service manager was not told: %s", error)

    def _watch_over(self, interval: float | None) -> None:
        """Say that we go on, twice in the time after which a service manager takes us for dead."""
        if interval is not None:
            self._tell(WATCHDOG=1)
            self.loop.soon(interval / 2, lambda: self._watch_over(interval))

    def _heed_signals(self, stack: ExitStack) -> None:
        self._put_off(stack)
        if self._model.in_this_thread:
            # The handler has the thread: only a signal's own handler gets through to it.
            stack.enter_context(SIG.local(TERM=self._interrupt_inline))
            if "HUP" in self._unwinding:
                stack.enter_context(SIG.local(HUP=self._interrupt_inline))
            elif not _reexecs():
                stack.enter_context(SIG.local(HUP=lambda sig: self.loop.ask(self.renew)))
            return
        # A shell has its background jobs ignore INT, and means it.
        names = ("TERM", "HUP") if SIG["INT"] == "IGNORE" else ("TERM", "HUP", "INT")
        watch = stack.enter_context(Watch(*names, inherit=False))
        self.loop.watch(watch.fileno(), lambda: self._hear(watch))

    def _put_off(self, stack: ExitStack) -> None:
        """Where ``unwind`` was told of a signal: the clients are served first, and then the program leaves."""
        self._unwinding = [name for name in ("TERM", "HUP") if unwinding.unwinds(name)]
        if self._unwinding:
            stack.enter_context(SIG.local({name: lambda sig: None for name in self._unwinding}))

    def _interrupt_inline(self, sig: Signal) -> None:
        if str(sig) in self._unwinding:
            self._leaving = sig
        self.loop.ask(self.terminate)
        if self._settings.stop_grace is not None:
            self._model.hurry(self._settings.stop_grace)

    def _hear(self, watch: Watch) -> None:
        try:
            while True:
                sig = watch.get(0)
                if str(sig) in self._unwinding:
                    self._leaving = sig
                if str(sig) == "TERM" or self._leaving is sig:
                    self.terminate()
                elif str(sig) == "INT":
                    self.interrupted = True
                    self._hurry()
                else:
                    self.renew()
        except TimeoutError:
            pass  # those were all

    def terminate(self) -> None:
        """End in good order; a second time, at once."""
        if self._stopping:
            self._hurry()
            return
        self._stopping = True
        self._tell(STOPPING=1)
        self._model.stop()
        self.loop.at(after(self._settings.stop_grace), self._hurry)

    def _hurry(self) -> None:
        self._stopping = True
        if not self._hurried:
            self._hurried = True
            self._model.end()

    def renew(self) -> None:
        """Replace what lives longer than a client."""
        if not self._stopping and not _reexecs():
            # The time is what tells the manager which reload a READY belongs to (sd_notify(3)).
            self._tell(RELOADING=1, MONOTONIC_USEC=now() // 1000)
            if self._model.restart():
                self._tell(READY=1)

    def _end_all(self) -> None:
        """Whatever has ended the loop: nobody is left behind."""
        if not self._model.over():
            self._hurry()
        deadline = after(LAST)
        self.loop.at(deadline, lambda: None)
        while not (self._model.over() or passed(deadline)):
            self._model.step()


def _reexecs() -> bool:
    """Whether restart_on_hup() has its own handler of HUP, which executes the whole program anew."""
    reexec: Any = sys.modules.get("hornpipe.reexec")
    return reexec is not None and isinstance(SIG["HUP"], reexec.Restart)
