"""Programs that need something done in the child before they start, which is what a fork is for."""

from __future__ import annotations

import builtins
import os
import signal
from collections.abc import Callable
from typing import Any

from hornpipe import wait
from hornpipe.deadline import NEVER
from hornpipe.expect.exceptions import ExceptionPexpect
from hornpipe.fd import pipe
from hornpipe.process import Process
from hornpipe.spawn import start
from hornpipe.spawn.recipe import Recipe


def start_with_preparation(
    label: str,
    argv: tuple[Any, ...],
    options: dict[str, Any],
    ends: tuple[int, int, int],
    terminal: int,
    ignore_hangup: bool,
    prepare: Callable[[], object] | None,
    deadline: int,
) -> Process:
    """Start ``argv``, whose first is a path, after ``prepare`` was called in the child.

    What that raises is raised here. No exception walks on in the child.
    """
    reader, writer = pipe()
    with reader:
        with writer:
            report = writer.fileno()

            def become() -> None:
                try:
                    os.set_inheritable(report, False)  # its end says that the program runs
                    if ignore_hangup:
                        signal.signal(signal.SIGHUP, signal.SIG_IGN)
                    if prepare is not None:
                        prepare()
                    os.execv(argv[0], argv)
                except BaseException as error:  # noqa: BLE001  the parent raises it
                    number = getattr(error, "errno", None) or 0
                    text = error.strerror if isinstance(error, OSError) and number else str(error)
                    os.write(report, f"{type(error).__name__}\n{number}\n{text}"[:4000].encode(errors="replace"))
                finally:
                    os._exit(127)

            recipe = Recipe(label, argv, function=become, pass_fds=(report,), **options)
            process = start(recipe, ends, terminal=terminal, deadline=deadline)
        told = b""
        while wait.one(reader.fileno(), wait.READ, deadline) and (piece := os.read(reader.fileno(), 4096)):
            told += piece
    if told:
        process.wait_until(NEVER)
        process.release()
        raise _rebuilt(told.decode(errors="replace"), label)
    return process


def _rebuilt(told: str, label: str) -> BaseException:
    name, number, text = told.split("\n", 2)
    kind = getattr(builtins, name, None)
    if not (isinstance(kind, type) and issubclass(kind, Exception)):
        return ExceptionPexpect(f"{label} could not be started: {name}: {text}")
    if issubclass(kind, OSError) and int(number):
        return OSError(int(number), text)
    try:
        error: Exception = kind(text)
    except TypeError:  # one that wants more than a message
        error = ExceptionPexpect(f"{label} could not be started: {name}: {text}")
    return error
