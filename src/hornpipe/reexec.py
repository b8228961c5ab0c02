"""HUP: executing oneself again (perlipc:D1), or only reading the configuration again (perlipc:D2).

The process stays: its pid, its children, the descriptors it was told to keep. The program is started
anew, as it was at first. Two things make it safe. A rehearsal: the new program is first started beside
the old one, which gives way only when that has come up (gotcha:H3). And HUP stays blocked from before
the exec until the new program has a handler for it: one that comes in between waits (gotcha:H1).
"""

from __future__ import annotations

import atexit
import os
import signal
from collections.abc import Callable, Mapping
from typing import Any

from hornpipe import image, reaper, supervision
from hornpipe._native import signals as _signals
from hornpipe.command import Command
from hornpipe.deadline import NEVER, after, check_timeout, passed
from hornpipe.locks import HasFileno
from hornpipe.rehearsal import Rehearsal, come_up
from hornpipe.signals import SIG, Signal, Unwound
from hornpipe.signals.dispositions import check_main_thread
from hornpipe.succession import become_again, flush_files, same_again

_HELD_UP = 2.0
"""Seconds that it waits for the rest of a line, if nobody reads it."""
_POLLED = range(1, 7)
"""``si_code`` of a signal that a descriptor sent: POLL_IN to POLL_HUP (sigaction(2))."""
# What ends the program: nobody wants a restart of it then.
_LEAVING = (KeyboardInterrupt, SystemExit)


def restart_on_hup(
    *, check: bool | Command[Any] = True, keep: Mapping[str, int | HasFileno] | None = None, timeout: float = 30
) -> None:
    """On HUP, start this program again in this process: the same arguments, directory and environment as at first.

    To be called when everything is set up, ``daemonize()`` included. The descriptors in ``keep``, by name,
    stay open, and ``kept_descriptors()`` gives them to the new program; all others are closed.

    Before the old program gives way, the new one is started beside it, with the kept descriptors, and has
    to reach its own ``restart_on_hup()`` within ``timeout`` seconds; it ends there, and tidies nothing up.
    Meanwhile service goes on; and if it does not come up for good: the log (``"hornpipe"``) says why.
    ``check`` can be another command to succeed in its place, or ``False``: then HUPs that keep coming faster than the
    program starts leave it no time for service, and what has come waits at the kept listeners.

    A restart comes wherever the main thread is, between two words of a ``print`` for one, as any handler of
    Python's may: ``with hp.signals.block("HUP")`` holds it back. In the new program HUP is blocked until it calls
    this or ``on_hup()``; what ``subprocess`` starts before that inherits the block, what hornpipe starts does not.
    Forked children do not restart, and neither does a program that is ending. ``ValueError`` off the main thread;
    ``RuntimeError`` if the program was read from stdin, and is gone.
    """
    if image.rehearsal is not None:
        come_up(image.rehearsal)
    check_timeout(timeout)
    if not isinstance(check, bool | Command):
        raise TypeError(f"check must be true, false or a cmd(), not {check!r}")
    check_main_thread("restart_on_hup()")
    arguments = same_again()
    for name, thing in (keep or {}).items():
        os.fstat(thing if isinstance(thing, int) else thing.fileno())
        image.keep(name, thing)
    SIG["HUP"] = Restart(arguments, check, timeout)
    _take_over()


def on_hup(reload: Callable[[], object]) -> None:
    """On HUP, call ``reload``, which reads the configuration again; an exception leaves service as it is.

    The log (``"hornpipe"``) then has the traceback. ``sys.exit()`` in ``reload`` counts as an exception
    as well. So that the old configuration stays whole, ``reload`` puts the new one in place at its end.

    >>> import hornpipe as hp, os
    >>> hp.on_hup(lambda: print("read again"))
    >>> hp.kill("HUP", os.getpid())
    read again
    >>> hp.SIG["HUP"] = "DEFAULT"
    """
    SIG["HUP"] = ReadAgain(reload)
    _take_over()


def _take_over() -> None:
    """After a restart: the children of the image before are reaped when they end, and HUP can come."""
    if image.restarted():
        while image.children:
            reaper.adopt(image.children.pop())
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGHUP])


def _tell_reloading() -> None:
    # The time is what tells the manager which reload a READY belongs to (sd_notify(3)).
    _tell(RELOADING=1, MONOTONIC_USEC=after(0) // 1000)


def _tell(**state: str | int) -> None:
    """Tell the service manager; that it does not listen is no reason to break off what a handler of HUP interrupted."""
    try:
        supervision.notify(**state)
    except (OSError, ValueError) as error:
        _log(f"the service manager was not told: {error}")


def _log(text: str, trace: bool = False) -> None:
    import logging

    logging.getLogger("hornpipe").error(text, exc_info=trace)


class Restart(_signals.Insistent):
    """The handler of HUP."""

    def __init__(self, arguments: list[str], check: bool | Command[Any], timeout: float) -> None:
        super().__init__(_LEAVING)
        self._arguments = arguments
        self._check = check
        self._timeout = timeout
        self._owner = os.getpid()
        self._rehearsal: Rehearsal | None = None
        self._again = False
        self._due = NEVER
        atexit.register(self._retire)

    def _retire(self) -> None:
        self._owner = 0

    def act(self, sig: Signal) -> None:
        """Somebody wants a restart, or there is news of the rehearsal."""
        # A worker's HUP is its parent's business. Who has been told to end (unwind), or has ended but for what
        # atexit does, is not brought back to life.
        if os.getpid() != self._owner or _signals.told_to_die():
            return
        if self._due != NEVER:
            self._go()
        elif sig.raw_code not in _POLLED:
            if self._rehearsal is None:
                self._begin()
            else:
                self._again = True  # what it is about may have changed since the rehearsal read it
        while self._rehearsal is not None and self._rehearsal.over():
            self._judge(self._rehearsal)

    def _begin(self) -> None:
        _tell_reloading()
        if self._check is False:
            self._go()
            return
        try:
            self._rehearsal = Rehearsal(self._arguments, self._check, self._timeout)
        except OSError as error:
            self._stay(str(error))

    def _judge(self, rehearsal: Rehearsal) -> None:
        self._rehearsal = None
        again, self._again = self._again, False
        reason = rehearsal.end()
        if reason is None:
            self._go()
        else:
            self._stay(reason)
        if again:
            self._begin()

    def _go(self) -> None:
        """Give way, but not in the middle of a line: what has not been written yet would be lost with us."""
        if not flush_files():
            if self._due == NEVER:
                self._due = after(_HELD_UP)
            if not passed(self._due):
                os.kill(self._owner, signal.SIGHUP)  # as soon as the interrupted call has returned, or been at it
                return
        self._due = NEVER
        self._stay(become_again(self._arguments))

    def _stay(self, reason: str) -> None:
        _log(f"not restarted, and going on as before: {reason}")
        _tell(READY=1, STATUS=f"not restarted: {reason.splitlines()[0]}")


class ReadAgain(_signals.Insistent):
    """The handler of HUP that only reads the configuration."""

    def __init__(self, reload: Callable[[], object]) -> None:
        super().__init__(_LEAVING)
        self._reload = reload

    def act(self, sig: Signal) -> None:
        """Do it."""
        _tell_reloading()
        try:
            self._reload()
        except Unwound:
            raise
        except (Exception, SystemExit):  # noqa: BLE001 (whatever it is, service goes on; the log has it all)
            _log("the configuration stays as it was: reading it again failed", trace=True)
            _tell(READY=1, STATUS="the configuration stays as it was: reading it again failed")
        else:
            _tell(READY=1)
