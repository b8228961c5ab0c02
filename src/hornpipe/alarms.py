"""A time limit for code that cannot be given a timeout: Perl's ``alarm`` around ``flock`` (perlipc:S11).

It stands on a timer of its own that signals the main thread with the clock signal (``RTMAX``), so the
program's SIGALRM and its interval timers are its own.
"""

from __future__ import annotations

import os
from types import FrameType

from hornpipe._native import signals as _signals
from hornpipe._native import timed_call as _timed
from hornpipe._native import wait as _wait
from hornpipe.deadline import NEVER, after, check_timeout

_AGAIN = 100_000_000
"""Nanoseconds until a block that swallowed the exception is interrupted again: cleaning up takes time."""
_SOON = 1_000_000

_running: list[alarm] = []
_clock: _timed.AlarmClock | None = None
_registered = False


class _Expired(BaseException):
    """Not for catching: an ``except TimeoutError`` inside the block is about something else."""

    def __init__(self, owner: alarm) -> None:
        super().__init__(f"alarm({owner.seconds:g})")
        self.owner = owner


class alarm(_signals.Scope):
    """Bound a ``with`` block: after ``seconds`` it is left by ``TimeoutError``.

    For calls that take no timeout, like ``fcntl.flock``; whatever hornpipe offers takes one. Blocks
    nest: each is left at its own time. Whoever swallows the exception inside the block is interrupted
    again 100 ms later, until the block is left. Nothing is raised outside of it. What Python cannot
    interrupt (a long C call that goes on by itself) is bounded by ``fn(...).call()`` with a timeout
    instead. Off the main thread ``ValueError``.

    >>> import hornpipe as hp, time
    >>> try:
    ...     with hp.alarm(0.05):
    ...         time.sleep(60)
    ... except TimeoutError as error:
    ...     print(error)
    the block was not left within 0.05 s
    """

    def __init__(self, seconds: float) -> None:
        checked = check_timeout(seconds, "seconds")
        if checked is None:
            raise TypeError("alarm() takes a number of seconds, not None")
        self.seconds = checked
        """The limit."""
        self._deadline = NEVER
        self._next = NEVER

    def _begin(self, held: _signals.Held) -> None:
        global _clock, _registered
        if not _wait.in_main_thread():
            raise ValueError(
                "alarm() interrupts the main thread, which this is not; use the timeout= of the call itself, "
                "or fn(...).with_options(timeout=...).call()"
            )
        if _clock is None:
            _clock = _timed.AlarmClock(_ring)
            if not _registered:
                _registered = True
                os.register_at_fork(after_in_child=_none_in_child)
        self._deadline = self._next = after(self.seconds)
        _running.append(self)
        _set()

    def _end(self, held: _signals.Held, error: BaseException | None) -> None:
        if self in _running:  # not in a child that was forked inside the block
            _running.remove(self)
        _set()
        if isinstance(error, _Expired) and error.owner is self:
            raise TimeoutError(f"the block was not left within {self.seconds:g} s") from None


def _set() -> None:
    if _clock is not None:
        times = [each._next for each in _running if each._next != NEVER]
        _clock.set(min(times) if times else NEVER)


_OURS = (alarm._begin.__code__, alarm._end.__code__, _set.__code__)


def _ring(_number: int, frame: FrameType | None) -> None:
    now = _wait.now()
    entering = frame
    for _ in range(3):
        if entering is not None and entering.f_code in _OURS:
            # Between two blocks' ends; raised here it would come out of the wrong one.
            if _clock is not None and _running:
                _clock.set(now + _SOON)
            return
        entering = entering.f_back if entering is not None else None
    for each in _running:  # the outermost first: leaving it leaves the others
        if each._next != NEVER and now >= each._next:
            each._next = now + _AGAIN
            _set()
            raise _Expired(each)
    _set()


def _none_in_child() -> None:
    """Timers are not inherited over fork (timer_create(2)); the blocks of the parent are not the child's."""
    global _clock
    _clock = None
    _running.clear()
