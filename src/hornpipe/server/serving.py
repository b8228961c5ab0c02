"""Serving until it is over, in this thread: what the signals mean, and what happens in which order."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from hornpipe import supervision
from hornpipe._native.wait import in_main_thread
from hornpipe.deadline import after, passed
from hornpipe.server.forked import Forked
from hornpipe.server.loop import Loop
from hornpipe.server.model import Model
from hornpipe.server.options import Settings
from hornpipe.server.service import Service
from hornpipe.signals import SIG, Signal, Watch
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
        self._stopping = False
        self._hurried = False
        self.interrupted = False
        """Whether INT has ended it."""

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
                return Preforked(loop, listener, service, loop.close, settings.workers, settings.max_requests)
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
            supervision.notify(READY=1)
            while not self._model.over():
                self._model.step()

    def _heed_signals(self, stack: ExitStack) -> None:
        if self._model.in_this_thread:
            # The handler has the thread: only a signal's own handler gets through to it.
            stack.enter_context(SIG.local(TERM=self._interrupt_inline, HUP=lambda sig: None))
            return
        # A shell has its background jobs ignore INT, and means it.
        names = ("TERM", "HUP") if SIG["INT"] == "IGNORE" else ("TERM", "HUP", "INT")
        watch = stack.enter_context(Watch(*names, inherit=False))
        self.loop.watch(watch.fileno(), lambda: self._hear(watch))

    def _interrupt_inline(self, sig: Signal) -> None:
        self.loop.ask(self.terminate)
        if self._settings.stop_grace is not None:
            self._model.hurry(self._settings.stop_grace)

    def _hear(self, watch: Watch) -> None:
        try:
            while True:
                sig = watch.get(0)
                if str(sig) == "TERM":
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
        supervision.notify(STOPPING=1)
        self._model.stop()
        self.loop.at(after(self._settings.stop_grace), self._hurry)

    def _hurry(self) -> None:
        self._stopping = True
        if not self._hurried:
            self._hurried = True
            self._model.end()

    def renew(self) -> None:
        """Replace what lives longer than a client."""
        # restart_on_hup() has its own handler of HUP, which executes the whole program anew.
        reexec: Any = sys.modules.get("hornpipe.reexec")
        if not self._stopping and not (reexec is not None and isinstance(SIG["HUP"], reexec.Restart)):
            self._model.restart()

    def _end_all(self) -> None:
        """Whatever has ended the loop: nobody is left behind."""
        if not self._model.over():
            self._hurry()
        deadline = after(LAST)
        self.loop.at(deadline, lambda: None)
        while not (self._model.over() or passed(deadline)):
            self._model.step()
