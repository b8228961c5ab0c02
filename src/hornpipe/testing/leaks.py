"""Comparing before and after: what a piece of code has left behind.

Looking is cheap (about a millisecond) and done without a garbage collection. Only when something seems left are
garbage cycles collected, since dropping a handle ends its child, and only then is there a wait, with a bound, for
what is just being tidied up in the background.
"""

from __future__ import annotations

import contextlib
import gc
import mmap
import os
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple, NoReturn

from hornpipe._native import timed_call, wait
from hornpipe.testing import sysv_objects
from hornpipe.testing.descriptors import new_descriptors, open_descriptors
from hornpipe.testing.mark import Mark
from hornpipe.testing.processes import Seen, children, end, wait_for_a_death
from hornpipe.testing.surroundings import changes, restore, surroundings

PATIENCE = 1.0
"""Seconds given to what is being tidied up in the background."""

_ROUND = 0.02


class LeaksFound(AssertionError):
    """Something was left behind; ``leaks`` has a sentence for each thing.

    >>> LeaksFound(["descriptor 7 is open: /dev/null"]).leaks
    ['descriptor 7 is open: /dev/null']
    """

    def __init__(self, leaks: list[str]) -> None:
        super().__init__(leaks)
        self.leaks = leaks

    def __str__(self) -> str:
        return "left behind:\n" + "\n".join(f"  - {leak}" for leak in self.leaks)


@contextlib.contextmanager
def leak_check(patience: float = PATIENCE) -> Iterator[None]:
    """Raise :class:`LeaksFound` if the block leaves a process, a descriptor, a thread or a changed setting behind.

    What was left is also ended or undone, so that one fault is seen once. An exception from the block is not replaced:
    the leaks become a note on it.

        >>> with leak_check():
        ...     os.close(os.open("/dev/null", os.O_RDONLY))
    """
    watch = LeakWatch()
    try:
        yield
    except BaseException as error:
        if leaks := watch.finish(patience):
            error.add_note(str(LeaksFound(leaks)))
        raise
    if leaks := watch.finish(patience):
        raise LeaksFound(leaks)


class _Leak(NamedTuple):
    sentence: str
    may_settle: bool
    undo: Callable[[], object]


class LeakWatch:
    """Looks at the process now, and again at :meth:`finish`; :func:`leak_check` is the comfortable form.

    >>> watch = LeakWatch()
    >>> watch.finish()
    []
    """

    def __init__(self) -> None:
        self._pid = os.getpid()
        # A page that forked children share with us, and that is no descriptor. See _walked_on.
        self._shared = mmap.mmap(-1, 1)
        self._mark = Mark()
        self._children = {child.identity for child in children()}
        self._threads = set(threading.enumerate())
        self._sysv = sysv_objects.sysv_objects()
        self._surroundings = surroundings()
        # A thread that waits for the first time makes a pipe, which stays for as long as the thread; the main thread
        # makes a second one.
        wait.prepare()
        timed_call.prepare()
        self._descriptors = open_descriptors()
        self._processes: list[Seen] = []

    def finish(self, patience: float = PATIENCE) -> list[str]:
        """A sentence for each thing that was left, after ending or undoing what can be."""
        if os.getpid() != self._pid:
            self._walked_on()
        leaks = self._look()
        if leaks:
            gc.collect()
            leaks = self._look()
        deadline = time.monotonic() + patience
        # What is neither a process, a descriptor nor a thread does not change by waiting.
        while any(leak.may_settle for leak in leaks) and (left := deadline - time.monotonic()) > 0:
            # A death is an event; that somebody reaps the dead, or closes a descriptor in another thread, is not.
            # Hence the short rounds.
            wait_for_a_death(self._processes, min(left, _ROUND))
            leaks = self._look()
        for leak in leaks:
            leak.undo()
        self._mark.remove()
        self._shared.close()
        return [leak.sentence for leak in leaks]

    def _walked_on(self) -> NoReturn:
        """We are a forked child that came back into its parent's code, and would run the rest of the tests."""
        # 1. The test forks.  2. The child raises, or simply returns, and leaves the test like its parent.  3. Here it
        # is stopped.  4. The parent reads the mark in the shared page, if the child got here first; if not, it finds
        # the child still running. Either way the test fails.
        self._shared[0] = 1
        os._exit(70)

    def _look(self) -> list[_Leak]:
        return [
            *self._look_for_processes(),
            *self._look_for_descriptors(),
            *self._look_for_threads(),
            *self._look_for_sysv_objects(),
            *self._look_for_changes(),
        ]

    def _look_for_processes(self) -> Iterator[_Leak]:
        if self._shared[0]:
            yield _Leak("a forked child returned into the code of its parent", False, _nothing)
        ours = [child for child in children() if child.identity not in self._children]
        numbers = {child.pid for child in ours}
        strays = [process for process in self._mark.bearers() if process.pid not in numbers]
        self._processes = ours + strays
        for process in ours:
            fate = "has ended and nobody waited for it" if process.is_zombie else "is still running"
            yield _Leak(f"child {process.pid} {fate}: {_shorten(process.command)}", True, partial(end, process))
        for process in strays:
            sentence = (
                f"process {process.pid} is still running, under parent {process.parent}: {_shorten(process.command)}"
            )
            yield _Leak(sentence, True, partial(end, process))

    def _look_for_descriptors(self) -> Iterator[_Leak]:
        # Not closed: some Python object may believe it owns the number, and would later close a stranger's.
        for number, target in new_descriptors(self._descriptors, open_descriptors()).items():
            yield _Leak(f"descriptor {number} is open: {target}", True, _nothing)
        for number in sorted({0, 1, 2} & (self._descriptors.keys() - open_descriptors().keys())):
            # Closing more than one opened is no leak in general, but the next open() gets this number, and with it
            # whatever anybody prints.
            yield _Leak(f"descriptor {number} is closed", False, _nothing)

    def _look_for_threads(self) -> Iterator[_Leak]:
        for thread in set(threading.enumerate()) - self._threads:
            # hornpipe's reaper outlives the call that needed it, by design.
            if not thread.daemon and not thread.name.startswith("hornpipe-"):
                yield _Leak(f"thread {thread.name} is still running", True, _nothing)

    def _look_for_sysv_objects(self) -> Iterator[_Leak]:
        for found in sorted(sysv_objects.sysv_objects()):
            if found not in self._sysv and sysv_objects.may_be_ours(found):
                # Removed only when it is certainly ours; a wrong guess would pull it from under another program.
                undo = partial(sysv_objects.remove, found) if found.creator_pid == self._pid else _nothing
                yield _Leak(f"{found} exists; remove it with: {found.removal}", True, undo)

    def _look_for_changes(self) -> Iterator[_Leak]:
        undo = partial(restore, self._surroundings)
        for sentence in changes(self._surroundings, surroundings()):
            yield _Leak(sentence, False, undo)


def _shorten(command: str, most: int = 160) -> str:
    """One line of bounded length; the end stays, because it tells one ``sh -c`` or ``python -c`` from another."""
    line = " ".join(command.split())
    return line if len(line) <= most else f"{line[: most // 2]} ... {line[-most // 2 :]}"


def _nothing() -> None:
    """For what cannot, or must not, be undone from outside."""
