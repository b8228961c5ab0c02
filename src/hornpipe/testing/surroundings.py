"""Everything a process has but one of: mask, handlers, umask, directory, environment, limits, timers.

Reading them changes nothing, not even for an instant: the umask comes from /proc, because ``os.umask`` could only read
it by setting it while other threads create files.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
from collections.abc import Iterator
from typing import NamedTuple

from hornpipe._native.timed_call import KEPT_SIGNALS

_TIMERS = {
    "ITIMER_REAL": signal.ITIMER_REAL,
    "ITIMER_VIRTUAL": signal.ITIMER_VIRTUAL,
    "ITIMER_PROF": signal.ITIMER_PROF,
}
# OFILE is BSD's word for NOFILE; one change should be one sentence.
_LIMITS: dict[str, int] = {
    name: number for name, number in vars(resource).items() if name.startswith("RLIMIT_") and name != "RLIMIT_OFILE"
}
_DEFAULT, _IGNORED, _CAUGHT = "default", "ignored", "caught"


class Surroundings(NamedTuple):
    """A snapshot; take it with :func:`surroundings`."""

    blocked: frozenset[int]
    handlers: dict[int, object]
    dispositions: dict[int, str]
    umask: int | None
    directory: str
    environment: dict[str, str]
    limits: dict[str, tuple[int, int]]
    timers: frozenset[str]


# Without those which hornpipe keeps for itself: their handlers stay once they were needed, and they are opened then.
_NUMBERS = sorted(int(number) for number in signal.valid_signals() if number not in KEPT_SIGNALS)


def surroundings() -> Surroundings:
    """The state of this process now; the mask is the calling thread's.

    >>> surroundings() == surroundings()
    True
    """
    status = _status()
    ignored, caught = _signals(status.get("SigIgn")), _signals(status.get("SigCgt"))
    return Surroundings(
        blocked=frozenset(signal.pthread_sigmask(signal.SIG_BLOCK, [])).difference(KEPT_SIGNALS),
        handlers={number: signal.getsignal(number) for number in _NUMBERS},
        dispositions={
            number: _IGNORED if number in ignored else _CAUGHT if number in caught else _DEFAULT for number in _NUMBERS
        },
        umask=int(status["Umask"], 8) if "Umask" in status else None,
        directory=_directory(),
        # pytest tells the world in such variables which test runs, so they do change.
        environment={name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
        limits={name: resource.getrlimit(number) for name, number in sorted(_LIMITS.items())},
        timers=frozenset(name for name, number in _TIMERS.items() if signal.getitimer(number)[0] > 0),
    )


def changes(before: Surroundings, after: Surroundings) -> Iterator[str]:
    """A sentence for each thing that is not as it was.

    >>> here = surroundings()
    >>> list(changes(here, here._replace(umask=0o77)))[0][:17]
    'the umask is 0077'
    """
    for number in sorted(after.blocked - before.blocked):
        yield f"signal {_name(number)} is blocked, it was not"
    for number in sorted(before.blocked - after.blocked):
        yield f"signal {_name(number)} is not blocked any more"
    for number, old in before.handlers.items():
        new = after.handlers[number]
        if new != old:
            yield f"the handler of {_name(number)} is {_say(new)}, it was {_say(old)}"
        elif after.dispositions[number] != before.dispositions[number]:
            # Python's table and the kernel's can differ: C code sets handlers too.
            yield (
                f"signal {_name(number)} is {after.dispositions[number]} in the kernel, it was"
                f" {before.dispositions[number]}; Python was not told"
            )
    if after.umask != before.umask and after.umask is not None and before.umask is not None:
        yield f"the umask is {after.umask:04o}, it was {before.umask:04o}"
    if after.directory != before.directory:
        yield f"the working directory is {after.directory}, it was {before.directory}"
    for name in sorted(before.environment.keys() | after.environment.keys()):
        # Only the name: a value may be a secret, and test reports are read by many.
        if name not in after.environment:
            yield f"the environment variable {name} is gone"
        elif name not in before.environment:
            yield f"the environment variable {name} is new"
        elif before.environment[name] != after.environment[name]:
            yield f"the environment variable {name} has another value"
    for name, limit in before.limits.items():
        if after.limits[name] != limit:
            yield f"the limit {name} is {after.limits[name]}, it was {limit}"
    # A timer that has run out since is no leak: only new ones go off in somebody else's test.
    for name in sorted(after.timers - before.timers):
        yield f"the timer {name} is running"


def restore(before: Surroundings) -> None:
    """Make everything as it was in *before*, as far as a process can."""
    now = surroundings()
    for name in now.timers - before.timers:  # first, since it may go off at any time
        signal.setitimer(_TIMERS[name], 0)
    for number, handler in before.handlers.items():
        if now.handlers[number] != handler and (callable(handler) or isinstance(handler, int)):
            # ValueError outside the main thread. A handler that is None was set by C code: not ours to make again.
            with contextlib.suppress(ValueError):
                signal.signal(number, handler)
    if now.blocked != before.blocked:
        signal.pthread_sigmask(signal.SIG_SETMASK, before.blocked)
    if before.umask is not None and now.umask != before.umask:
        os.umask(before.umask)
    if now.directory != before.directory:
        with contextlib.suppress(OSError):
            os.chdir(before.directory)
    for name in now.environment.keys() - before.environment.keys():
        del os.environ[name]
    os.environ.update(before.environment)
    for name, limit in before.limits.items():
        if now.limits[name] != limit:
            with contextlib.suppress(OSError, ValueError):  # a hard limit, once lowered, stays so without privileges
                resource.setrlimit(_LIMITS[name], limit)


def _status() -> dict[str, str]:
    try:
        with open("/proc/self/status") as status:
            pairs = (line.partition(":") for line in status)
            return {name: value.strip() for name, _, value in pairs}
    except FileNotFoundError:
        return {}


def _signals(mask: str | None) -> frozenset[int]:
    """The members of a signal set as /proc writes it: hexadecimal, signal 1 the lowest bit."""
    bits = int(mask or "0", 16)
    return frozenset(number for number in range(1, bits.bit_length() + 1) if bits >> (number - 1) & 1)


def _directory() -> str:
    try:
        # Unlike getcwd this also answers when the directory has been removed.
        return os.readlink("/proc/self/cwd")
    except FileNotFoundError:
        return os.getcwd()


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name.removeprefix("SIG")
    except ValueError:
        return f"RTMIN+{number - signal.SIGRTMIN}"


def _say(handler: object) -> str:
    if handler is None:
        return "one set by C code"
    if isinstance(handler, signal.Handlers):
        return "the default" if handler is signal.SIG_DFL else "to ignore it"
    return repr(handler)
