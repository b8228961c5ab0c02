"""What is done before a process that was told to end does so: a list that rooms above this one add to."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

endings: list[Callable[[], object]] = []
"""Called in order; what one raises keeps none of the others from being called."""


def run_endings() -> None:
    """Call them all; what they raise is raised in the end.

    >>> run_endings()
    """
    with contextlib.ExitStack() as stack:  # the last one pushed is called first, and each is called
        for ending in reversed(endings):
            stack.callback(ending)
