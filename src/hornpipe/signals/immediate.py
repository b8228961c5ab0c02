"""What a signal can do at once, even while the interpreter is stuck in a C call (perlipc:S21).

A closed list, since nothing of Python can run there: the interrupted code may hold any lock and
may be in the middle of changing any object. Whatever needs Python waits for the next safe point.
"""

from __future__ import annotations

import os
from typing import Self

from hornpipe._native import signals as _signals
from hornpipe.names import signal_name, signal_number
from hornpipe.signals import dispositions


class Immediate:
    r"""Actions done by the signal itself, in order. Assigned to ``SIG`` like a handler; ``+`` joins them.

    >>> import hornpipe as hp
    >>> action = hp.signals.Immediate.write(2, b"stuck, giving up\n") + hp.signals.Immediate.exit(3)
    >>> def stuck():
    ...     hp.SIG["TERM"] = action
    ...     print("ready", flush=True)
    ...     sum(range(10**12))              # one long C call: no handler in Python would come through
    >>> with hp.fn(stuck).with_options(check=False).reader() as child:
    ...     _ = child.readline()
    ...     hp.kill("TERM", child.pid)
    ...     child.read()
    ''
    >>> child.status.code
    3
    """

    __slots__ = ("_actions", "_dump", "_words")

    def __init__(self, actions: list[tuple[int, int, bytes]], words: str, dump: int = -1) -> None:
        self._actions = actions
        self._words = words
        self._dump = dump

    @classmethod
    def exit(cls, code: int) -> Self:
        """End at once (_exit(2)): no buffer is flushed and no ``finally`` runs."""
        if not 0 <= code <= 255:
            raise ValueError(f"an exit code is between 0 and 255, not {code}")
        return cls([(_signals.EXIT, code, b"")], f"exit({code})")

    @classmethod
    def write(cls, fd: int, data: bytes) -> Self:
        """Write some bytes, once (write(2))."""
        return cls([(_signals.WRITE, fd, bytes(data))], f"write({fd}, {data!r})")

    @classmethod
    def kill_group(cls, which: str | int) -> Self:
        """Signal our own process group, ourselves included."""
        number = signal_number(which)
        return cls([(_signals.KILL_GROUP, number, b"")], f"kill_group({signal_name(number)!r})")

    @classmethod
    def dump_traceback(cls, fd: int = 2) -> Self:
        """Where each thread is, written by ``faulthandler``; before the other actions."""
        return cls([], f"dump_traceback({fd})", fd)

    def __add__(self, other: Immediate) -> Immediate:
        if not isinstance(other, Immediate):
            raise TypeError(
                f"{other!r} cannot be done at once: what the signal interrupts may hold any lock, and Python needs "
                "some; SIG calls a callable at the next safe point"
            )
        actions = self._actions + other._actions
        if len(actions) > _signals.MOST_ACTIONS:
            raise ValueError(f"a signal does at most {_signals.MOST_ACTIONS} things at once")
        return Immediate(actions, f"{self._words} + {other._words}", max(self._dump, other._dump))

    def put_back(self, number: int) -> None:
        """Install it."""
        import signal

        def install() -> None:
            _signals.act(number, self._actions)
            _signals.install(number, 0)
            if self._dump >= 0:
                import faulthandler

                faulthandler.register(number, self._dump, all_threads=True, chain=True)

        if self._dump >= 0:
            os.fstat(self._dump)  # refused while nothing has happened
        dispositions.put(number, signal.SIG_DFL, install)
        dispositions.immediate[number] = self

    def take_away(self, number: int) -> None:
        """Before something else is installed."""
        if self._dump >= 0:
            import faulthandler

            faulthandler.unregister(number)
        _signals.act(number, [])

    def __repr__(self) -> str:
        return f"<Immediate {self._words}>"
