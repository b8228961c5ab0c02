"""Timeouts and deadlines.

A *timeout* is what a caller gives, in seconds: ``None`` for ever, 0 tries once. A *deadline* is
the instant inside: CLOCK_MONOTONIC in nanoseconds, since the wall clock jumps, with ``NEVER``
for none. Every call makes its deadline once, at its start, and hands it down, so that the parts
of the call share one limit.
"""

from __future__ import annotations

import time

NEVER = -1

# 2**63 ns would overflow C's arithmetic; thirty years are as good as for ever.
_LONGEST = 1_000_000_000.0


def check_timeout(timeout: float | None, name: str = "timeout") -> float | None:
    """Refuse what cannot be a time in seconds: NaN, negatives, things that are no number.

    >>> check_timeout(1.5)
    1.5
    >>> check_timeout(-1)
    Traceback (most recent call last):
    ...
    ValueError: timeout must be 0 or more seconds, or None for no limit, not -1
    """
    if timeout is None:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, int | float):
        raise TypeError(f"{name} must be a number of seconds or None, not {type(timeout).__name__}")
    if not timeout >= 0:  # false for NaN too
        raise ValueError(f"{name} must be 0 or more seconds, or None for no limit, not {timeout!r}")
    return timeout


def after(timeout: float | None) -> int:
    """The deadline that lies ``timeout`` seconds ahead.

    >>> after(None) == NEVER
    True
    """
    if timeout is None:
        return NEVER
    check_timeout(timeout)
    if timeout >= _LONGEST:
        return NEVER
    # Rounded up: a wait must never be shorter than what was asked for.
    return time.monotonic_ns() + int(timeout * 1e9 + 0.999)


def sooner(one: int, other: int) -> int:
    """The earlier of two deadlines."""
    if one == NEVER:
        return other
    if other == NEVER:
        return one
    return min(one, other)


def passed(deadline: int) -> bool:
    """Whether the deadline lies in the past."""
    return deadline != NEVER and time.monotonic_ns() >= deadline


def seconds_left(deadline: int) -> float | None:
    """Seconds until the deadline, at least 0; ``None`` for ever."""
    if deadline == NEVER:
        return None
    return max(0, deadline - time.monotonic_ns()) / 1e9
