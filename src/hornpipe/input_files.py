"""The lines of the files that a program was given: Perl's ``<>`` without its surprises (perlipc:O6)."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from typing import Any, Generic, Self

from hornpipe.command import sh
from hornpipe.deadline import NEVER
from hornpipe.errors import CommandFailed, SpawnError
from hornpipe.fd import open_path, owned
from hornpipe.handle import Handle
from hornpipe.lines import BYTES, TEXT, Codec, Str


class Inputs(Generic[Str]):
    """Lines with their terminators, from one file after the other; a context manager."""

    def __init__(self, names: Iterable[str | os.PathLike[str]], commands: bool, codec: Codec[Str]) -> None:
        self._names = iter(names)
        self._commands = commands
        self._codec = codec
        self._lines: Any = None
        self.filename = ""
        """The file that the last line came from; ``-`` is stdin."""
        self.lineno = 0
        """How many lines have come from it."""
        self.total = 0
        """How many lines have come from all."""
        self.failed: list[Exception] = []
        """What could not be read: each was reported on stderr, and the rest goes on."""

    def as_bytes(self) -> Inputs[bytes]:
        """The same, giving bytes; before the first line is read."""
        return Inputs(self._names, self._commands, BYTES)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Str:
        while True:
            if self._lines is None:
                name = os.fspath(next(self._names))
                self.filename, self.lineno = name, 0
                try:
                    self._lines = self._opened(name)
                except (OSError, SpawnError) as error:
                    self._report(error)
                    continue
            try:
                line: Str = next(self._lines)
            except StopIteration:
                self._leave()
            except (OSError, CommandFailed) as error:
                self._report(error)
                self._leave()
            else:
                self.lineno += 1
                self.total += 1
                return line

    def _opened(self, name: str) -> Iterator[Str]:
        if name == "-":
            return Handle(owned(os.dup, 0), None, self._codec, name="stdin")
        if self._commands and name.endswith("|"):
            command = sh(name[:-1])
            return (command if self._codec is TEXT else command.as_bytes()).reader()  # type: ignore[return-value]
        # The name is a name: no leading "<", ">" or "|" and no blank means anything.
        descriptor = open_path(name, os.O_RDONLY, 0, NEVER)  # it may be a FIFO that nobody has opened yet
        assert descriptor is not None
        try:
            os.read(descriptor.fileno(), 0)  # a directory opens, and says only now that it is one
        except OSError:
            descriptor.close()
            raise
        return Handle(descriptor, None, self._codec, name=name)

    def _report(self, error: Exception) -> None:
        self.failed.append(error)
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        if sys.stderr is not None:  # else print would say it on stdout
            print(f"{self.filename}: {reason}", file=sys.stderr)

    def _leave(self) -> None:
        lines, self._lines = self._lines, None
        if lines is not None:
            try:
                lines.close()
            except CommandFailed as error:
                self._report(error)

    def skip(self) -> None:
        """Leave the rest of this file and go on with the next: Perl's ``close ARGV``."""
        self._leave()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._leave()
        self._names = iter(())


def inputs(names: Iterable[str | os.PathLike[str]] | None = None, *, commands: bool = False) -> Inputs[str]:
    r"""The lines of the files named, or of those on our command line, or of stdin if there are none.

    ``-`` is stdin. With ``commands=True`` a name that ends with ``|`` is a line for the shell, whose output is
    read; without it, no name is ever anything but a name. What cannot be read is reported on stderr and
    kept in ``.failed``, and the rest is read.

    >>> import hornpipe as hp
    >>> lines = hp.inputs(["printf 'a\nb\n'|", "echo c|"], commands=True)
    >>> [(lines.filename, lines.lineno, line) for line in lines]
    [("printf 'a\nb\n'|", 1, 'a\n'), ("printf 'a\nb\n'|", 2, 'b\n'), ('echo c|', 1, 'c\n')]
    """
    if isinstance(names, str | bytes):
        raise TypeError(f"inputs() takes a list of names, not one: inputs([{names!r}])")
    given = sys.argv[1:] if names is None else list(names)
    return Inputs(given or ["-"], commands, TEXT)
