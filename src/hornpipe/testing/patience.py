"""Waiting, with a bound, for a fact that has no event of its own."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_FIRST_PAUSE = 0.001
_LONGEST_PAUSE = 0.02


def wait_until(predicate: Callable[[], T], timeout: float = 20.0, what: str = "") -> T:
    """Call *predicate* until it is true and return what it returned, or raise ``TimeoutError`` naming *what*.

    This is for facts the kernel does not announce: a file that appears, a zombie that its parent reaps. Where there is
    an event (a line, an end of file, a pidfd), wait for the event.

        >>> wait_until(lambda: "a fact", timeout=1)
        'a fact'
    """
    deadline = time.monotonic() + timeout
    pause = _FIRST_PAUSE
    while True:
        # The clock is read before the fact: a fact that came true just before the deadline counts, even if
        # this thread was not given the processor in time to see it.
        late = time.monotonic() >= deadline
        result = predicate()
        if result:
            return result
        if late:
            raise TimeoutError(f"waited {timeout:g} s in vain for {what or repr(predicate)}")
        time.sleep(max(0.0, min(pause, deadline - time.monotonic())))
        pause = min(2 * pause, _LONGEST_PAUSE)
