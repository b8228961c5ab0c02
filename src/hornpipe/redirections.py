"""Where a standard stream of a command goes, and the descriptor that this means."""

from __future__ import annotations

import fcntl
import os
from enum import Enum
from typing import Any

from hornpipe import deadline as deadlines
from hornpipe import spawn
from hornpipe.errors import spawn_error
from hornpipe.fd import Descriptor, open_path, owned
from hornpipe.spawn.recipe import Recipe


class Redirect(Enum):
    """Where a standard stream goes, besides files and descriptors."""

    NULL = "NULL"
    """/dev/null."""
    CLOSED = "CLOSED"
    """Nowhere: the program starts with it closed."""
    STDOUT = "STDOUT"
    """For stderr: wherever stdout goes, in the order of writing."""
    TAIL = "TAIL"
    """For stderr: on to ours, and its end is kept for the error."""

    def __repr__(self) -> str:
        return self.value


NULL = Redirect.NULL
CLOSED = Redirect.CLOSED
STDOUT = Redirect.STDOUT
TAIL = Redirect.TAIL

UNCHANGED = (None, None, None)
"""Redirections that say nothing."""


def our_stderr() -> int:
    """The descriptor 2, if it is open; else -1."""
    try:
        os.fstat(2)
    except OSError:
        return -1
    return 2


def open_redirection(
    wanted: Any, flags: int, temporary: list[Descriptor], deadline: int = deadlines.NEVER
) -> int | None:
    """The descriptor that a redirection means; ``TimeoutError`` for a FIFO whose other end does not come in time."""
    if wanted is CLOSED:
        return spawn.SHUT
    if isinstance(wanted, int):
        return wanted
    if wanted is NULL:
        opened: Descriptor | None = owned(os.open, os.devnull, flags & ~(os.O_CREAT | os.O_TRUNC) | os.O_CLOEXEC)
    elif isinstance(wanted, os.PathLike):
        opened = open_path(os.fspath(wanted), flags, 0o666, deadline)
    else:
        theirs: int = wanted.fileno()
        return theirs
    if opened is None:
        raise TimeoutError(f"nobody has opened the other end of {os.fspath(wanted)!r}")
    temporary.append(opened)
    return opened.fileno()


def check_open(recipe: Recipe, redirections: tuple[Any, Any, Any]) -> None:
    """``SpawnError`` for a descriptor that is to be given to the child and is closed.

    Its number would be taken by the next pipe we make, and the child would be given that.
    """
    given = recipe.pass_fds
    for wanted in redirections:
        if isinstance(wanted, int):
            given = (*given, wanted)
    for fd in given:
        try:
            fcntl.fcntl(fd, fcntl.F_GETFD)
        except OSError as error:
            raise spawn_error(
                error.errno or 0,
                f"cannot start {recipe.label!r}: descriptor {fd} is to be given to it, and is not open",
                stage="descriptors",
                argv=recipe.argv,
            ) from None
