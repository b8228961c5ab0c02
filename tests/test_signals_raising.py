"""A handler raises, at each instant in turn at which Python would run it: whatever was begun is over by then.

A storm of signals meets such an instant once in many thousand calls.
"""

from __future__ import annotations

import itertools
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import FrameType

import pytest

import hornpipe as hp
from hornpipe import fd
from hornpipe.testing.patience import wait_until
from hornpipe.testing.processes import children

FULL = os.environ.get("HORNPIPE_SOAK") == "1"


class Raised(KeyboardInterrupt):
    """What the handler raises."""


class AtInstant:
    """In its ``with`` block a handler raises at the *chosen*-th instant: the entry of a function, or a return from C.

    There the interpreter looks for handlers that are due (and at jumps back in loops), unless their signals are
    blocked.
    """

    def __init__(self, chosen: int) -> None:
        self._left = chosen

    @property
    def has_come(self) -> bool:
        return self._left <= 0

    def _look(self, frame: FrameType, event: str, arg: object) -> None:
        if event in ("call", "c_return") and signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ()):
            self._left -= 1
            if self._left == 0:
                sys.setprofile(None)
                raise Raised

    def __enter__(self) -> AtInstant:
        sys.setprofile(self._look)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)


def at_each_instant() -> Iterator[AtInstant]:
    for chosen in itertools.count(1):
        instant = AtInstant(chosen)
        yield instant
        if not instant.has_come:
            return


def descriptors() -> list[str]:
    return os.listdir("/proc/self/fd")


def lock(path: Path) -> None:
    with hp.lock(path):
        pass


def lines(path: Path) -> None:
    assert list(hp.cmd("cat", stdin=path).lines()) == ["text"]


def reader(path: Path) -> None:
    with hp.cmd("cat", path).reader() as cat:
        assert cat.read() == "text\n"


def writer(path: Path) -> None:
    with hp.cmd("cat", stdout=hp.NULL).writer() as cat:
        cat.write("text\n")


def duplex(path: Path) -> None:
    with hp.cmd("cat").duplex() as cat:
        assert cat.ask("text") == "text"


def read(path: Path) -> None:
    assert hp.cmd("cat", path, timeout=20).read() == "text\n"


def capture_of_input(path: Path) -> None:
    assert hp.cmd("cat", input="text").capture().stdout == "text"


def read_from_a_terminal(path: Path) -> None:
    assert hp.cmd("cat", path, pty=True).read() == "text\n"


def pipeline(path: Path) -> None:
    assert (hp.cmd("cat", path) | hp.cmd("cat")).read() == "text\n"


def call(path: Path) -> None:
    assert hp.fn(int, "7").call() == 7


def with_ids(path: Path) -> None:
    assert hp.cmd("cat", path, user=os.getuid()).read() == "text\n"


def segment(path: Path) -> None:
    with hp.sysv.SharedMemory.create(10) as shm:
        shm.write(b"text")


def semaphores(path: Path) -> None:
    with hp.sysv.SemaphoreSet.create([1]) as sems, sems[0]:
        pass


def queue(path: Path) -> None:
    with hp.sysv.MessageQueue.create() as messages:
        messages.send(b"text")


def connection(path: Path) -> None:
    with hp.listen("tcp://127.0.0.1:0") as listener, hp.connect(str(listener.address)) as one:
        with listener.accept(timeout=20) as other:
            other.write("text\n")
        assert one.readline() == "text\n"


OFTEN = [lock, read, lines, writer, segment, semaphores, queue, connection]
AT_LEISURE = [reader, duplex, capture_of_input, read_from_a_terminal, pipeline, call, with_ids]


@pytest.mark.soak
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # of a file of Python's own that is closed by being forgotten
@pytest.mark.parametrize("begun", OFTEN + (AT_LEISURE if FULL else []))
def test_what_was_begun_is_over_when_a_handler_has_raised(begun: Callable[[Path], None], tmp_path: Path):
    """gotcha:SIG11, R4, Y11: no child runs on or is a zombie, no descriptor is open, no System V object has stayed."""
    path = tmp_path / "text"
    path.write_text("text\n")
    begun(path)
    before = descriptors()
    instants = 0
    for instant in at_each_instant():
        with suppress(Raised), instant:
            begun(path)
        assert (children(), descriptors()) == ([], before), f"at instant {instants}"
        instants += instant.has_come
    assert instants > 5


def test_a_child_that_is_forgotten_is_reaped_though_a_handler_raises_meanwhile():
    """gotcha:R4: whoever forgets it is told of that, and the reaper all the same."""
    for instant in at_each_instant():
        stdin, writer = fd.pipe()
        with stdin:
            process: hp.Process | None = hp.cmd("cat", stdin=stdin).start()
        with suppress(Raised), warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            with instant:
                process = None
                len("what a handler raises in a finalizer is raised here at the latest")
        assert process is None
        writer.close()
        wait_until(lambda: children() == [])
