"""Leaving in good order when told to go: Perl's ``use sigtrap 'die'`` (perlipc:S22)."""

from __future__ import annotations

import atexit
import os
import weakref

from hornpipe._native import signals as _signals
from hornpipe.endings import run_endings
from hornpipe.signals.arrival import Signal
from hornpipe.signals.mapping import SIG, sigaction

_under_way: weakref.ref[Unwound] | None = None
_registered = False


class Unwound(SystemExit):
    """Raised by a signal that ``unwind`` named. Like any ``SystemExit`` it passes ``except Exception``."""

    signal: Signal
    """The signal."""

    def __init__(self, sig: Signal) -> None:
        super().__init__(128 + sig.number)
        self.signal = sig

    def __str__(self) -> str:
        return f"told to end by {self.signal} from pid {self.signal.pid}"


def unwind(*which: str | int) -> None:
    r"""On these signals, leave in good order: ``finally`` blocks and ``atexit`` run, children are ended, and
    then the process dies *of* the signal, so that whoever waits for it sees why (gotcha:SIG16).

    A second one does not disturb the leaving; KILL is for those who cannot wait. Children that were
    started and neither waited for nor put in the background get TERM, and KILL a second later.
    Off the main thread ``ValueError``, as for ``SIG``.

    >>> import hornpipe as hp
    >>> def server():
    ...     hp.signals.unwind("TERM", "HUP")
    ...     try:
    ...         print("serving", flush=True)
    ...         hp.cmd("sleep", "60").run()
    ...     finally:
    ...         print("cleaned up", flush=True)
    >>> with hp.fn(server).with_options(check=False).reader() as child:
    ...     _ = child.readline()
    ...     hp.kill("TERM", child.pid)
    ...     child.read()
    'cleaned up\n'
    >>> child.status.signal
    <TERM: 15>
    """
    global _registered
    for each in which:
        sigaction(each, _leave)
    if not _registered:
        _registered = True
        atexit.register(_end)
        os.register_at_fork(after_in_child=_not_in_child)


def unwinds(which: str | int) -> bool:
    """Whether ``unwind`` was told of this signal, and nothing has taken its place."""
    return SIG[which] is _leave


def leave(sig: Signal) -> None:
    """What ``unwind`` does when it comes: for those who had something to finish first."""
    _leave(sig)


def _leave(sig: Signal) -> None:
    global _under_way
    if _under_way is not None and _under_way() is not None:
        return
    _signals.die_at_exit(sig.number)
    leaving = Unwound(sig)
    _under_way = weakref.ref(leaving)
    raise leaving


def _end() -> None:
    if _under_way is not None:
        run_endings()


def _not_in_child() -> None:
    global _under_way
    _under_way = None
    _signals.die_at_exit(0)
