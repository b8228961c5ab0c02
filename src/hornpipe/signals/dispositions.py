"""What each signal means to this process, and how its handlers are called.

The C handler takes a signal down at once, whatever the interpreter is doing; the interpreter
calls ``_deliver`` at its next safe point, which hands out everything that has come by then, in
order. As POSIX has it, a handler is not interrupted by its own signal, but by others.
"""

from __future__ import annotations

import signal
import struct
import sys
import warnings
from _thread import RLock
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol

from hornpipe._native import signals as _signals
from hornpipe._native.timed_call import KEPT_SIGNALS
from hornpipe._native.wait import in_main_thread
from hornpipe.errors import SignalWarning
from hornpipe.names import signal_name, signal_number
from hornpipe.signals.arrival import Signal

Handler = Callable[[Signal], object]

_FAULTS = frozenset(map(int, (signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE)))
_CERTAIN = frozenset(map(int, (signal.SIGKILL, signal.SIGSTOP)))
_POINTER = struct.calcsize("P")


class Foreign:
    """A disposition that somebody else installed. Assigned to ``SIG`` again, it is restored exactly."""

    __slots__ = ("handler", "number", "raw")

    def __init__(self, number: int, handler: Any, raw: bytes) -> None:
        self.number = number
        self.handler = handler
        """What ``signal.signal`` was given; ``None`` for a handler that is not Python's."""
        self.raw = raw
        """The kernel's struct sigaction."""

    def put_back(self, number: int) -> None:
        """Restore it, flags and all."""
        python = signal.SIG_DFL if self.handler is None else self.handler
        put(number, python, lambda: _signals.restore(number, self.raw))

    def __repr__(self) -> str:
        return f"<foreign handler of {signal_name(self.number)}: {self.handler!r}>"


class Armed(NamedTuple):
    """A handler of ours with its circumstances."""

    call: Handler
    late: int
    """The signals whose handlers wait until this one is done, as bits."""
    handler: Handler
    flags: int

    def put_back(self, number: int) -> None:
        """Install it."""
        arm(number, self)


class Saved(Protocol):
    """A disposition that can be put back."""

    def put_back(self, number: int) -> None:
        """Install it."""


_ring = -1
_deliver: _signals.Delivery | None = None
"""What Python's table holds for our signals."""
_armed: dict[int, Armed] = {}
immediate: dict[int, Saved] = {}
"""Signals that act by themselves; see ``Immediate``."""
_base: dict[int, bytes] = {}
"""What is to be in force on a watched signal once nobody watches it."""
_watchers: dict[int, int] = {}
_reported: set[int] = set()
lock = RLock()
_signals.guard(lock)


def number_of(which: str | int, *, settable: bool = True) -> int:
    """The number of a signal that may be handled; ``ValueError`` for one that may not, saying why."""
    number = signal_number(which)
    if settable and number in KEPT_SIGNALS:
        raise ValueError(f"{signal_name(number)} is a signal by which hornpipe bounds calls; take another one")
    if settable and number in _CERTAIN:
        raise ValueError(f"{signal_name(number)} cannot be caught, blocked or ignored: the kernel keeps it for itself")
    return number


def check_catchable(number: int) -> None:
    """Refuse faults: the handler would return into the instruction that failed, for ever (gotcha:SIG4)."""
    if number in _FAULTS:
        raise ValueError(
            f"{signal_name(number)} means that an instruction failed, which after a Python handler would fail again, "
            "for ever; faulthandler.enable() shows where it was"
        )


def check_main_thread(what: str) -> None:
    """Python runs handlers in the main thread alone, and changes them only there (gotcha:SIG1)."""
    if not in_main_thread():
        raise ValueError(
            f"{what} is for the main thread, where Python runs its handlers; any thread can use watch() instead"
        )


def put(number: int, python: Any, native: Callable[[], object] | None) -> None:
    """Change Python's table and the kernel's. What had come for the old handler is for the new disposition."""
    with _signals.Held(), lock:
        signal.signal(number, python)
        if native is not None:
            native()
        if _watchers.get(number):
            _base[number] = _signals.look(number)[1]
            _signals.install(number, 0)
        _armed.pop(number, None)
        immediate.pop(number, None)
        if _ring >= 0:
            _signals.route(_ring, number, False)
        _reported.discard(number)


def armed_with(handler: Handler, flags: int, mask: Iterable[int]) -> Armed:
    """A handler that waits for itself (but for ``NODEFER``), and for which others wait."""
    late = sum(1 << (other - 1) for other in set(mask))

    def once(sig: Signal) -> None:
        simply(sig.number, ignore=False)  # the kernel has done so already; Python's table follows
        handler(sig)

    return Armed(once if flags & _signals.RESETHAND else handler, late, handler, flags)


def arm(number: int, armed: Armed) -> None:
    """Let our handler take this signal down, and Python call ``armed`` for it."""
    global _ring, _deliver
    if _deliver is None:
        _ring = _signals.open_ring(-1)
        _deliver = _signals.Delivery(_ring, _armed, Signal, _nobody)
    if not armed.flags & _signals.NODEFER:
        armed = armed._replace(late=armed.late | 1 << (number - 1))
    with _signals.Held(), lock:
        signal.signal(number, _deliver)
        immediate.pop(number, None)
        _armed[number] = armed
        _signals.route(_ring, number, True)
        _signals.install(number, armed.flags)
        _reported.discard(number)


def simply(number: int, ignore: bool, flags: int = 0) -> None:
    """The kernel's own dispositions."""
    python = signal.SIG_IGN if ignore else signal.SIG_DFL
    put(number, python, (lambda: _signals.set_simply(number, ignore, flags)) if flags else None)


def snapshot(number: int) -> Saved:
    """What is in force now, as the kernel has it, for putting it back: flags included, also of DEFAULT and IGNORE."""
    if number in immediate:
        return immediate[number]
    kind, raw = _signals.look(number)
    if kind == _signals.OURS:
        if number in _armed:
            return _armed[number]
        with lock:
            raw = _base.get(number, raw)
    return Foreign(number, signal.getsignal(number), raw)


def current(number: int) -> Saved | str:
    """The same for telling it: DEFAULT and IGNORE by their names."""
    found = snapshot(number)
    if isinstance(found, Foreign):
        if displaced(number):
            report(number)
        # struct sigaction begins with the handler's address; SIG_DFL and SIG_IGN are 0 and 1.
        address = int.from_bytes(found.raw[:_POINTER], sys.byteorder)
        if address <= 1:
            return "IGNORE" if address else "DEFAULT"
    return found


# --- watched signals: from any thread, so Python's table stays as it is ---


def begin_watch(number: int) -> None:
    """One more watch of this signal."""
    with _signals.Held(), lock:
        if not _watchers.get(number):
            kind, raw = _signals.look(number)
            if kind != _signals.OURS:
                _base[number] = raw
                _signals.install(number, 0)
        _watchers[number] = _watchers.get(number, 0) + 1


def end_watch(number: int) -> bool:
    """One less; whether somebody else is left who gets the signal."""
    with _signals.Held(), lock:
        left = _watchers.get(number, 1) - 1
        _watchers[number] = left
        if left or number in _armed:
            return True
        base = _base.pop(number, None)
        if base is not None and _signals.look(number)[0] == _signals.OURS:
            _signals.restore(number, base)
        return False


def has_handler(number: int) -> bool:
    """Whether a handler gets this signal, beside those who watch it."""
    return number in _armed


# --- handlers that somebody replaced behind our back ---


def displaced(number: int) -> bool:
    """Whether a handler or watch of ours was replaced, by ``signal.signal`` for example (gotcha:SIG18)."""
    ours = number in _armed or _watchers.get(number)
    if not ours or _signals.look(number)[0] == _signals.OURS:
        return False
    armed = _armed.get(number)
    return armed is None or not armed.flags & _signals.RESETHAND


def report(number: int) -> None:
    """Say so, once."""
    if number not in _reported:
        _reported.add(number)
        warnings.warn(
            f"the handling of {signal_name(number)} was replaced by {signal.getsignal(number)!r}; "
            "SIG.rearm() puts ours back",
            SignalWarning,
            stacklevel=4,
        )


def all_displaced() -> list[int]:
    """Every signal that it happened to."""
    return [number for number in sorted({*_armed, *_watchers}) if displaced(number)]


def rearm(number: int) -> None:
    """Put ours back."""
    if number in _armed:
        arm(number, _armed[number])
    else:
        with _signals.Held(), lock:
            _base[number] = _signals.look(number)[1]
            _signals.install(number, 0)
            _reported.discard(number)


# --- delivery, in the main thread ---


def _nobody(sig: Signal) -> None:
    """Its handler was taken away after it had arrived: what is in force now applies to it."""
    if _signals.look(sig.number)[0] != _signals.OURS:
        sig.send_again()


def abandon() -> None:
    """In a forked child that starts from the default dispositions: handlers and watches are the parent's."""
    _signals.abandon(_ring)
    for table in (_armed, immediate, _base, _watchers):
        table.clear()
    _reported.clear()
    if _deliver is not None:
        _deliver.abandon()
