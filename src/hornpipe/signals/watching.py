"""Signals as a stream, in any thread (perlipc:S18)."""

from __future__ import annotations

import os
from _thread import RLock
from typing import Self
from weakref import WeakSet

from hornpipe import wait
from hornpipe._native import signals as _signals
from hornpipe.deadline import after
from hornpipe.fd import nonblocking, pipe
from hornpipe.names import signal_name
from hornpipe.signals import dispositions
from hornpipe.signals.arrival import Signal
from hornpipe.wait import finalizer

_open: WeakSet[Watch] = WeakSet()


class Watch:
    """The signals of some kinds, as they come: a context manager and an iterator, for any thread.

    They are taken down the moment they arrive, whatever the main thread is doing. Several watches of
    one signal each get it, and so does a handler in ``SIG``; without a handler nothing else happens
    while it is watched. ``fileno()`` is readable while there is something to ``get``. What nobody has
    taken when the watch is closed is delivered again, to whatever is in force then. A forked child has a
    watch of its own in its place, or with ``inherit=False`` none: the signals do nothing there.
    """

    def __init__(self, *which: str | int, inherit: bool = True) -> None:
        numbers = []
        for each in which:
            number = dispositions.number_of(each)
            dispositions.check_catchable(number)
            if number not in numbers:
                numbers.append(number)
        if not numbers:
            raise TypeError("watch() takes the signals to watch")
        self._closed = True
        self._inherit = inherit
        self._reader, self._writer = pipe()
        nonblocking(self._reader.fileno())
        nonblocking(self._writer.fileno())
        self._lock = RLock()  # a handler may use what it has interrupted
        with _signals.Held():
            try:
                self._ring = _signals.open_ring(self._writer.fileno(), not inherit)
            except OSError as error:
                raise OSError(error.errno, "no more than 64 watches can be open at once; close some") from None
            self._numbers = numbers
            self._closed = False
            _open.add(self)
            if inherit:
                _renew_in_children()
            for number in numbers:
                _signals.route(self._ring, number, True)
                dispositions.begin_watch(number)

    def fileno(self) -> int:
        """Readable while there is a signal to get; for poll, asyncio and trio."""
        return self._reader.fileno()

    @property
    def closed(self) -> bool:
        """Whether it has been closed."""
        return self._closed

    def get(self, timeout: float | None = None) -> Signal:
        """The next signal; ``TimeoutError`` after ``timeout`` seconds (0 asks only)."""
        return self.get_until(after(timeout), timeout)

    def get_until(self, deadline: int, timeout: float | None) -> Signal:
        """The same with a deadline; ``timeout``, in seconds, is for the message of ``TimeoutError``."""
        while True:
            taken = self._take()
            if taken is not None:
                return taken
            for number in self._numbers:
                if dispositions.displaced(number):
                    dispositions.report(number)
            if not wait.on(self.fileno, wait.READ, deadline):
                names = ", ".join(map(signal_name, self._numbers))
                raise TimeoutError(f"none of {names} came within {timeout:g} s")

    def _take(self) -> Signal | None:
        with self._lock:
            if self._closed:
                raise ValueError("the watch is closed")
            # The numbers in one step: a function between them would let handlers in, which may close us.
            return _signals.take_and_rest(self._ring, self._reader._fd, self._writer._fd, Signal)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Signal:
        try:
            return self.get()
        except ValueError:
            if self._closed:  # by another thread, or by the loop's own body
                raise StopIteration from None
            raise

    def close(self) -> None:
        """Stop watching. What was not taken, and nobody else got, is delivered again."""
        left = []
        with _signals.Held(), self._lock:
            if self._closed:
                return
            self._closed = True
            _open.discard(self)
            # Put back first, so that from here on nothing is taken down for us alone.
            shared = {number: dispositions.end_watch(number) for number in self._numbers}
            _signals.close_ring(self._ring)
            while (taken := _signals.take(self._ring, Signal)) is not None:
                left.append(taken)
            self._reader.close()
            self._writer.close()
            for taken in left:
                if not shared[taken.number]:
                    taken.send_again()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _left_alone(self) -> None:
        if not getattr(self, "_closed", True):
            self.close()

    __del__ = finalizer(_left_alone)

    def __repr__(self) -> str:
        names = ", ".join(map(signal_name, self._numbers))
        return f"<Watch of {names}{', closed' if self._closed else ''}>"

    def _send_back(self) -> None:
        # Without the lock, which the main thread may hold where a handler interrupted it: the ring can bear it.
        while (taken := _signals.take(self._ring, Signal)) is not None:
            if not dispositions.has_handler(taken.number):
                taken.send_again()

    def _renew_in_child(self) -> None:
        """A pipe of the child's own behind the same numbers: the parent's must not be woken by us."""
        self._lock = RLock()
        reader, writer = pipe()
        for new, old in ((reader, self._reader), (writer, self._writer)):
            nonblocking(new.fileno())
            os.dup2(new.fileno(), old.fileno(), inheritable=False)
            new.close()

    def _abandon(self) -> None:
        self._closed = True
        self._reader.detach()  # closed already, and the numbers may be anybody's
        self._writer.detach()


def watch(*which: str | int) -> Watch:
    """Watch signals, in any thread, as a stream.

    >>> import hornpipe as hp, os
    >>> with hp.watch("HUP", "TERM") as signals:
    ...     hp.kill("HUP", os.getpid())
    ...     for sig in signals:
    ...         print(sig, sig.pid == os.getpid())
    ...         break
    HUP True
    """
    return Watch(*which)


def abandon() -> None:
    """In a forked child that has closed every descriptor: the watches are the parent's."""
    for opened in list(_open):
        opened._abandon()
    _open.clear()


def send_back() -> None:
    """Send again what no watch has handed out and no handler got: for who blocks all signals and will not be here."""
    for opened in list(_open):
        opened._send_back()


def _renew_in_child() -> None:
    for opened in list(_open):
        if opened._inherit:
            opened._renew_in_child()


_registered = False


def _renew_in_children() -> None:
    """From the first one on: hooks cost a forked child more than the fork."""
    global _registered
    if not _registered:
        _registered = True
        os.register_at_fork(after_in_child=_renew_in_child)
