"""A signal's handler runs between two lines of Python, any two: here it is made to run before each in turn."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any


class BeforeLine:
    """In its ``with`` block *handler* runs once, before the line that is the *chosen*-th this thread comes to.

    Lines count in whatever Python code the block calls, not in the function that it stands in.
    """

    def __init__(self, chosen: int, handler: Callable[[], object]) -> None:
        self._left, self._handler = chosen, handler

    @property
    def has_run(self) -> bool:
        """Whether there were so many lines."""
        return self._left <= 0

    def _look(self, frame: FrameType, event: str, arg: object) -> Any:
        if event == "line":
            self._left -= 1
            if self._left == 0:
                # First: what the handler calls has lines as well.
                sys.settrace(None)
                self._handler()
        return self._look

    def __enter__(self) -> BeforeLine:
        sys.settrace(self._look)
        return self

    def __exit__(self, *_: object) -> None:
        sys.settrace(None)


def before_each_line(handler: Callable[[], object]) -> Iterator[BeforeLine]:
    """One :class:`BeforeLine` for each line of what is called in their blocks, the same each time.

    A race with a handler that a storm of signals meets once in a million is met here for certain, where the handler
    does what the storm's would: reap the child, close the descriptor, raise. It sees Python's lines alone, not the
    instants within native code.

        >>> stack = []
        >>> def take():
        ...     if stack:
        ...         return stack.pop()
        >>> for line in before_each_line(stack.clear):
        ...     stack.append("plate")
        ...     with line:
        ...         take()
        Traceback (most recent call last):
        IndexError: pop from empty list
    """
    for chosen in itertools.count(1):
        line = BeforeLine(chosen, handler)
        yield line
        if not line.has_run:
            return
