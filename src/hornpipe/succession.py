"""The exec by which a program starts itself again in its process: what the next image is given, and what it is spared.

It has the command line, the directory and the environment of the first start, the descriptors that are to be
kept, and no other; no timer of ours, no handler, and every signal that came too late for us.
"""

from __future__ import annotations

import _thread
import gc
import io
import os
import signal
import stat
import sys
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

from hornpipe import image, reaper
from hornpipe._native import signals as _signals
from hornpipe._native.timed_call import KEPT_SIGNALS
from hornpipe.fd import flush, flush_printed, owned
from hornpipe.signals.watching import send_back

# Python ignores these two from its start. Made deadly for as much as a microsecond, PIPE would end the
# process when another thread writes to a client that has gone.
_PYTHONS_OWN = {signal.SIGPIPE, signal.SIGXFSZ}
_UNCHANGEABLE = {signal.SIGKILL, signal.SIGSTOP}


def same_again() -> list[str]:
    """The command line of this image; ``RuntimeError`` when it cannot be had again."""
    if not sys.executable:
        raise RuntimeError("Python does not know its own program here, so it cannot be started again")
    if sys.argv[:1] in ([], [""], ["-"]):
        raise RuntimeError("this program was read from standard input, so it cannot be started again")
    # Not the name it was called by, which may mean another Python by now, or another environment.
    return [sys.executable, *sys.orig_argv[1:]]


def environment(descriptors: dict[str, int], facts: list[str]) -> dict[bytes, bytes]:
    """The environment of the program's start, with what is left to the next image."""
    made = {**image.environment, image.VARIABLE.encode(): os.fsencode(image.bequest(facts, descriptors))}
    passed = made.get(b"LISTEN_FDS", b"")
    if not passed.isdigit() or not set(range(3, 3 + int(passed))) <= set(descriptors.values()):
        # Not all kept, so there is nothing behind the numbers any more.
        for name in (b"LISTEN_PID", b"LISTEN_FDS", b"LISTEN_FDNAMES"):
            made.pop(name, None)
    return made


def become_again(arguments: list[str]) -> str:
    """Execute this program again (execve(2)). If that fails everything is as it was, and the reason is returned."""
    with _mask(signal.valid_signals()):
        # Signals that have been taken down and not been handled yet would be lost with us: Python calls their
        # handlers now, in the order of their numbers, HUP first. One of them may raise, and we stay.
        _thread.interrupt_main(signal.SIGHUP)
        signal.pthread_sigmask(signal.SIG_BLOCK, ())
        try:
            _exec(arguments)
        except OSError as error:
            return f"the exec failed: {error}"


def _exec(arguments: list[str]) -> NoReturn:
    descriptors = image.to_keep()
    facts = [f"pid {os.getpid()}", *(f"child {pid}" for pid in reaper.children())]
    environment_then = environment(descriptors, facts)
    with _only_these_stay_open({*descriptors.values()}), _started_directory(), _no_timers(), _default_dispositions():
        send_back()
        # Whatever has come since all were blocked meets the default here, as it would a moment later.
        with _mask([signal.SIGHUP]):
            os.execve(arguments[0], arguments, environment_then)


@contextmanager
def _mask(numbers: Iterable[int]) -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, numbers)
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _default_dispositions() -> Iterator[None]:
    """Ignored signals would stay so in the new image, and those with handlers would be taken down by us, who go.

    What whoever started us had made us ignore does stay so (gotcha:SIG16).
    """
    before = {}
    try:
        # Not the clock signal: by the default it ends the process, and a limit may run out at any moment.
        for number in signal.valid_signals() - _PYTHONS_OWN - _UNCHANGEABLE - {signal.SIGHUP, *KEPT_SIGNALS}:
            kind, raw = _signals.look(number)
            inherited = kind == _signals.IGNORED and image.ignored >> (number - 1) & 1
            if kind != _signals.DEFAULT and not inherited:
                _signals.set_simply(number, False, 0)
                before[number] = raw
        yield
    finally:
        for number, raw in before.items():
            _signals.restore(number, raw)


@contextmanager
def _only_these_stay_open(kept: set[int]) -> Iterator[None]:
    changed = []
    try:
        for name in os.listdir("/proc/self/fd"):
            fd = int(name)
            with suppress(OSError):  # the descriptor of the listing itself
                if fd > 2 and os.get_inheritable(fd) != (fd in kept):
                    os.set_inheritable(fd, fd in kept)
                    changed.append(fd)
        yield
    finally:
        for fd in changed:
            with suppress(OSError):  # closed by another thread meanwhile
                os.set_inheritable(fd, fd not in kept)


@contextmanager
def _started_directory() -> Iterator[None]:
    if image.directory is None:
        yield
        return
    with owned(os.open, ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC) as here:
        os.chdir(image.directory)
        try:
            yield
        finally:
            os.fchdir(here.fileno())


@contextmanager
def _no_timers() -> Iterator[None]:
    """Interval timers and alarm(2) would go on, and strike an image that knows nothing of them."""
    kinds = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)
    before = [signal.setitimer(kind, 0) for kind in kinds]
    try:
        yield
    finally:
        for kind, (first, interval) in zip(kinds, before, strict=True):
            signal.setitimer(kind, first, interval)


_lost: weakref.WeakSet[Any] = weakref.WeakSet()
"""File objects whose descriptors were closed by number: what they say is theirs may be another file by now."""


def give_up_files(kept: Iterable[int]) -> None:
    """All descriptors but these are about to be closed by number, whoever thinks they are his."""
    stays = {*kept, 0, 1, 2}
    for stream in _open_files():
        with suppress(OSError, ValueError):
            if stream.fileno() not in stays:
                _lost.add(stream)


def _open_files() -> list[Any]:
    """Every file object that is written to."""
    kinds = (io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom)
    # A server freezes the heap before it forks, and what is frozen is not shown.
    frozen = gc.get_freeze_count()
    if frozen:
        gc.unfreeze()
    found = [each for each in gc.get_objects() if type(each) in kinds]
    if frozen:
        gc.freeze()
    return found


def flush_files() -> bool:
    """What we have written comes before what the next image writes; atexit is not run by an exec.

    False when HUP came in the middle of writing, so that the rest is in nobody's reach.
    """
    whole = flush_printed()
    # Regular files only: a pipe that nobody reads would hold us up for ever.
    for stream in _open_files():
        if stream in _lost:
            continue
        try:
            regular = not stream.closed and stat.S_ISREG(os.fstat(stream.fileno()).st_mode)
        except (OSError, ValueError):
            continue
        if regular:
            whole &= flush(stream)
    return whole
