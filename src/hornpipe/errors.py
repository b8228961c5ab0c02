"""What can go wrong: built-in exceptions, subclassed only to carry facts.

Messages show the command as a line for a shell, its status and the end of its stderr; never the
environment, which holds secrets (gotcha:PR6). All of them survive pickling.
"""

from __future__ import annotations

import errno
import os
from typing import Any, cast

from hornpipe.status import ExitStatus

_SHOWN = 2000
"""Characters of output in a message: enough for a compiler's last words, short enough to read."""


def _rebuild(kind: type[Exception], args: tuple[object, ...], facts: dict[str, Any]) -> Exception:
    error = kind.__new__(kind, *args)
    # Not kind.__init__, which wants the facts as arguments; OSError fills errno from its own.
    (OSError if isinstance(error, OSError) else Exception).__init__(error, *args)
    error.__dict__.update(facts)
    return error


def _rebuild_spawn_error(args: tuple[Any, ...], facts: dict[str, Any], filename: object) -> Exception:
    error: Any = _rebuild(_BY_ERRNO.get(args[0], SpawnError), args, facts)
    error.filename = filename
    return cast("Exception", error)


class _Facts(Exception):
    """An exception whose attributes travel with it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args, self.__dict__.copy())


class _Said(_Facts, OSError):
    """An error of the system whose text is a whole sentence, in place of ``[Errno 2] ...``."""

    message: str
    """The sentence."""

    def __init__(self, error: int, message: str) -> None:
        super().__init__(error, message)
        self.message = message

    def __str__(self) -> str:
        return self.message


class SpawnError(_Said):
    """A program could not be started; raised where it was to be started, with nothing left behind.

    It is also the built-in class of its ``errno``: ``FileNotFoundError``, ``PermissionError``,
    ``NotADirectoryError`` or ``BlockingIOError``.
    """

    stage: str
    """The step that failed: ``"exec"``, ``"cwd"``, ``"uid"``, ``"fork"``, ..."""
    argv: tuple[str | bytes, ...]
    """What was to be run."""

    def __init__(
        self, error: int, message: str, *, stage: str, filename: object = None, argv: tuple[str | bytes, ...] = ()
    ) -> None:
        super().__init__(error, message)
        self.filename = filename
        self.stage = stage
        self.argv = argv

    def __reduce__(self) -> tuple[Any, ...]:
        # Its class is found by the errno again: those below cannot be found by the name that they show.
        return _rebuild_spawn_error, (self.args, self.__dict__.copy(), self.filename)


class _NotFound(SpawnError, FileNotFoundError):
    pass


class _Refused(SpawnError, PermissionError):
    pass


class _NotADirectory(SpawnError, NotADirectoryError):
    pass


class _TryAgain(SpawnError, BlockingIOError):
    pass


_BY_ERRNO: dict[int, type[SpawnError]] = {
    errno.ENOENT: _NotFound,
    errno.EACCES: _Refused,
    errno.EPERM: _Refused,
    errno.ENOTDIR: _NotADirectory,
    errno.EAGAIN: _TryAgain,
}
for _kind in _BY_ERRNO.values():
    _kind.__name__ = _kind.__qualname__ = "SpawnError"


def spawn_error(
    error: int, message: str, *, stage: str, filename: object = None, argv: tuple[str | bytes, ...] = ()
) -> SpawnError:
    """The ``SpawnError`` that is also the built-in class for this ``errno``.

    >>> isinstance(spawn_error(2, "cannot start 'x'", stage="exec"), FileNotFoundError)
    True
    """
    kind = _BY_ERRNO.get(error, SpawnError)
    return kind(error, message, stage=stage, filename=filename, argv=argv)


class CommandFailed(_Facts, ChildProcessError):
    """A command ended with a status that is not among its ``ok_codes``."""

    command: str
    """The command as a line that can be pasted into a shell."""
    argv: tuple[str | bytes, ...]
    """Of the stage that failed."""
    status: ExitStatus
    """Of the stage that failed."""
    statuses: tuple[ExitStatus, ...]
    """One for each stage."""
    stage: int
    """Which stage of the pipeline failed, from 0."""
    stdout: str | bytes | None
    """What it wrote, where that was captured."""
    stderr: str | bytes | None
    """The same for stderr (its end, under ``TAIL``); ``None`` when it was not ours to see."""

    def __init__(
        self,
        message: str,
        *,
        command: str,
        argv: tuple[str | bytes, ...],
        status: ExitStatus,
        statuses: tuple[ExitStatus, ...] = (),
        stage: int = 0,
        stdout: str | bytes | None = None,
        stderr: str | bytes | None = None,
    ) -> None:
        super().__init__(message)
        self.command = command
        self.argv = argv
        self.status = status
        self.statuses = statuses or (status,)
        self.stage = stage
        self.stdout = stdout
        self.stderr = stderr

    def __str__(self) -> str:
        return str(self.args[0]) + indented("stderr", self.stderr)


class CommandTimeout(_Facts, TimeoutError):
    """A command did not finish in time, and was ended."""

    command: str
    """The command as a line that can be pasted into a shell."""
    timeout: float | None
    """The limit that was in force, in seconds."""
    status: ExitStatus | None
    """How the (last) process ended; ``None`` if it had not when the call returned."""
    stdout: str | bytes | None
    """What had been read of its output until then."""
    stderr: str | bytes | None
    """The same for stderr, where that was captured."""
    survivors: tuple[int, ...]
    """Processes that outlived a KILL so far (in uninterruptible sleep), by pid."""

    def __init__(
        self,
        message: str,
        *,
        command: str,
        timeout: float | None,
        status: ExitStatus | None = None,
        stdout: str | bytes | None = None,
        stderr: str | bytes | None = None,
        survivors: tuple[int, ...] = (),
    ) -> None:
        super().__init__(message)
        self.command = command
        self.timeout = timeout
        self.status = status
        self.stdout = stdout
        self.stderr = stderr
        self.survivors = survivors

    def __str__(self) -> str:
        return str(self.args[0]) + indented("read so far", self.stdout) + indented("stderr", self.stderr)


class ReaderGone(_Said, BrokenPipeError):
    """Nobody reads what we write any more."""

    taken: int
    """Bytes that the kernel took of everything written to this handle; the reader may have read fewer."""
    status: ExitStatus | None
    """How the program on the other end ended, if there is one and it has."""

    def __init__(self, message: str, *, taken: int, status: ExitStatus | None = None) -> None:
        super().__init__(errno.EPIPE, message)
        self.taken = taken
        self.status = status


class NoAnswer(_Facts, EOFError):
    """A program's output ended where an answer was expected."""

    read: str | bytes
    """What came before the end."""
    status: ExitStatus | None
    """How the program ended; ``None`` if it still runs with its output closed."""

    def __init__(self, message: str, *, read: str | bytes, status: ExitStatus | None) -> None:
        super().__init__(message)
        self.read = read
        self.status = status


class LimitExceeded(_Facts, BufferError):
    """More data than the limit that was asked for (``line_limit``, ``buffer_limit``)."""

    limit: int
    """The limit, in bytes."""
    data: str | bytes
    """What had come until then."""

    def __init__(self, message: str, *, limit: int, data: str | bytes) -> None:
        super().__init__(message)
        self.limit = limit
        self.data = data


class RemoteError(_Facts):
    """An exception of a forked child, as text.

    From a child with other credentials it is raised as it is, since unpickling what such a child
    sends would hand it our own; elsewhere it is the ``__cause__`` of the real exception and shows
    the child's traceback.
    """

    type_name: str
    """The exception's class, with its module."""
    text: str
    """Its message."""
    traceback: str
    """The child's traceback."""

    def __init__(self, type_name: str, text: str, traceback: str) -> None:
        super().__init__(type_name, text, traceback)
        self.type_name = type_name
        self.text = text
        self.traceback = traceback

    def __str__(self) -> str:
        return f"{self.type_name}: {self.text}\n\nin the child:\n{self.traceback.rstrip()}"


class ObjectRemoved(_Said, FileNotFoundError):
    """A System V object that was in use has been removed by somebody (EIDRM, or EINVAL for its old id)."""

    id: int
    """The id it had."""

    def __init__(self, message: str, *, id: int) -> None:  # noqa: A002 (its own word)
        super().__init__(errno.EIDRM, message)
        self.id = id


class SystemLimit(_Said):
    """A limit of the system on System V objects was met.

    It is also the built-in class for what was asked: ``ValueError`` for something too large, ``OverflowError``
    for a semaphore's value.
    """

    name: str
    """The limit, by its name in svipc(7): ``"MSGMAX"``, ``"SEMMNI"``, ..."""
    value: int | None
    """What it is now; ``None`` where the system does not tell."""
    knob: str
    """Where it is set."""

    def __init__(self, error: int, message: str, *, name: str, value: int | None, knob: str) -> None:
        super().__init__(error, message)
        self.name = name
        self.value = value
        self.knob = knob

    def __reduce__(self) -> tuple[Any, ...]:
        return _system_limit, (self.errno, self.message, self.name, self.value, self.knob)


class _TooLarge(SystemLimit, ValueError):
    pass


class _TooHigh(SystemLimit, OverflowError):
    pass


_LIMITS: dict[int, type[SystemLimit]] = {errno.EINVAL: _TooLarge, errno.E2BIG: _TooLarge, errno.ERANGE: _TooHigh}
for _limit in _LIMITS.values():
    _limit.__name__ = _limit.__qualname__ = "SystemLimit"


def _system_limit(error: int, message: str, name: str, value: int | None, knob: str) -> SystemLimit:
    return _LIMITS.get(error, SystemLimit)(error, message, name=name, value=value, knob=knob)


def system_limit(error: int, message: str, *, name: str, value: int | None, knob: str) -> SystemLimit:
    """The ``SystemLimit`` that is also the built-in class for this ``errno``.

    >>> isinstance(system_limit(errno.EINVAL, "too long", name="MSGMAX", value=8192, knob="msgmax"), ValueError)
    True
    """
    return _system_limit(error, message, name, value, knob)


class SignalWarning(RuntimeWarning):
    """A handler or watch of ours was replaced by somebody else."""


class ForkWarning(RuntimeWarning):
    """A Python callable was forked while other threads were alive."""


def brief(line: str) -> str:
    """A command for a message: a very long one loses its middle.

    >>> len(brief("x" * 100_000))
    503
    """
    return line if len(line) <= 500 else f"{line[:400]}...{line[-100:]}"


def indented(what: str, output: str | bytes | None) -> str:
    """The end of a program's output, set off for a message; empty if there is none."""
    if not output:
        return ""
    text = output if isinstance(output, str) else os.fsdecode(output)
    end = text[-_SHOWN:].rstrip("\n")
    mark = f"{what} (its end)" if len(text) > _SHOWN else what
    return f"\n{mark}:\n" + "\n".join("  " + line for line in end.split("\n"))
