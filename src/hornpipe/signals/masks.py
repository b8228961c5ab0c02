"""Holding signals back, and waiting for them (perlipc:S14)."""

from __future__ import annotations

import signal

from hornpipe import wait as waiting
from hornpipe._native import signals as _signals
from hornpipe.deadline import after, check_timeout
from hornpipe.names import signal_name
from hornpipe.signals.arrival import Signal
from hornpipe.signals.dispositions import check_main_thread, number_of
from hornpipe.signals.watching import Watch


class block(_signals.Scope):
    """Hold signals back in this thread inside a ``with`` block; they arrive at its end (sigprocmask(2)).

    The mask is the thread's own: while another thread has the signal open, that one gets it
    (gotcha:SIG14).

    >>> import hornpipe as hp, os
    >>> hp.SIG["USR1"] = lambda sig: print("handled")
    >>> with hp.signals.block("USR1"):
    ...     hp.kill("USR1", os.getpid())
    ...     print(hp.signals.pending())
    ('USR1',)
    handled
    >>> hp.SIG["USR1"] = "DEFAULT"
    """

    def __init__(self, *which: str | int) -> None:
        self._numbers = [number_of(each) for each in which]
        self._changed: list[list[int]] = []

    def _begin(self, held: _signals.Held) -> None:
        self._changed.append(held.change(self._numbers, True))

    def _end(self, held: _signals.Held, error: object) -> None:
        held.change(self._changed.pop(), False)


def pending() -> tuple[str, ...]:
    """The signals that are held back now, by name (sigpending(2)).

    >>> import hornpipe as hp, os
    >>> with hp.SIG.local(USR1="IGNORE"), block("USR1"):
    ...     hp.kill("USR1", os.getpid())
    ...     pending()
    ('USR1',)
    """
    return tuple(signal_name(int(number)) for number in sorted(signal.sigpending()))


def suspend(*which: str | int, timeout: float | None = None) -> None:
    """Open these signals, which were blocked, until a handler has run; then block them again (sigsuspend(2)).

    Nothing can come between the opening and the waiting. What the handler raises comes out of here.
    ``TimeoutError`` after ``timeout`` seconds; ``ValueError`` off the main thread.

    >>> import hornpipe as hp, os
    >>> hp.SIG["USR1"] = lambda sig: print("now")
    >>> with hp.signals.block("USR1"):
    ...     hp.kill("USR1", os.getpid())
    ...     hp.signals.suspend("USR1", timeout=5)
    ...     print("and only now")
    now
    and only now
    >>> hp.SIG["USR1"] = "DEFAULT"
    """
    numbers = [number_of(each) for each in which]
    deadline = after(timeout)
    check_main_thread("suspend()")
    if not waiting.suspend(numbers, deadline):
        raise TimeoutError(f"no signal was handled within {timeout:g} s")


def wait(which: str | int, timeout: float | None = None) -> Signal:
    """Wait for one signal and take it: it is not handled otherwise (sigtimedwait(2)).

    Works in any thread, whether the signal is blocked there or open. ``TimeoutError`` after
    ``timeout`` seconds.

    >>> import hornpipe as hp, os
    >>> with hp.signals.block("USR2"):
    ...     hp.kill("USR2", os.getpid())
    ...     print(hp.signals.wait("USR2", timeout=5))
    USR2
    """
    number = number_of(which)
    check_timeout(timeout)
    # What is there already is taken by one system call; only waiting for it costs more.
    taken = _signals.take_blocked(number, 0, Signal)
    if taken is not None:
        return taken
    if not _signals.blocked(number):
        with Watch(number) as watch:
            return watch.get_until(after(timeout), timeout)
    # Blocked by the caller, so it stays in the kernel, and those that are queued behind it do.
    taken = _signals.take_blocked(number, after(timeout), Signal)
    if taken is None:
        raise TimeoutError(f"{signal_name(number)} did not come within {timeout:g} s")
    return taken


__all__ = ["block", "pending", "suspend", "wait"]
