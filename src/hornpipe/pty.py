"""Pseudo-terminals for commands that behave otherwise on a pipe (gotcha:P3)."""

from __future__ import annotations

import fcntl
import os
import struct
import termios
from collections.abc import Iterable, Iterator

from hornpipe.fd import Descriptor, owned_pair

LONGEST_LINE = 4095
"""Bytes that a line of input may have in canonical mode, its newline not counted: the kernel drops
the rest of a longer one in silence (gotcha:TTY4)."""

END_OF_FILE = b"\x04"
_COMMANDS = frozenset(b"\x03\x04\x11\x12\x13\x15\x16\x17\x1a\x1c\x7f")
"""Bytes that a terminal takes as orders, not as input (gotcha:TTY5)."""


def open_pair(rows: int = 24, columns: int = 80) -> tuple[Descriptor, Descriptor]:
    """A terminal: our side and the child's.

    No echo, so that answers are not mixed with questions; and no CR added to newlines, so that
    output comes as through a pipe.

    >>> ours, theirs = open_pair()
    >>> with ours, theirs:
    ...     os.isatty(theirs.fileno())
    True
    """
    ours, theirs = owned_pair(os.openpty)
    modes = termios.tcgetattr(theirs.fileno())
    modes[1] &= ~termios.ONLCR
    modes[3] &= ~(termios.ECHO | termios.ECHONL)
    termios.tcsetattr(theirs.fileno(), termios.TCSANOW, modes)
    # A new terminal is 0 x 0, which programs take for very narrow or divide by.
    fcntl.ioctl(theirs.fileno(), termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    return ours, theirs


def check_input(data: bytes, line: bytes = b"") -> bytes:
    r"""Refuse what a terminal would swallow or obey; what is left of the last line begun.

    >>> check_input(b"one\ntwo")
    b'two'
    >>> check_input(b"a\x03b")
    Traceback (most recent call last):
    ...
    ValueError: a terminal takes the byte 0x03 as an order; send it to a pipe, or quote it with 0x16 in raw mode
    """
    for byte in data:
        if byte in _COMMANDS:
            raise ValueError(
                f"a terminal takes the byte {byte:#04x} as an order; send it to a pipe, "
                "or quote it with 0x16 in raw mode"
            )
    lines = (line + data).split(b"\n")
    for entry in lines:
        if len(entry) > LONGEST_LINE:
            raise ValueError(
                f"a line of {len(entry)} bytes: a terminal takes {LONGEST_LINE} at most, and drops the rest"
            )
    return lines[-1]


def typed(data: Iterable[bytes | memoryview]) -> Iterator[bytes]:
    """Input as it is typed: checked, and with the end of file that closing cannot give a terminal."""
    line = b""
    for piece in data:
        line = check_input(bytes(piece), line)
        yield bytes(piece)
    # The character ends the input at the start of a line; in the middle of one the first sends the
    # line off, and the second ends it (gotcha:TTY6).
    yield END_OF_FILE * (2 if line else 1)


def end_input(ours: Descriptor, data: object) -> None:
    """Say end of file right away, unless there is something to feed first."""
    if data is None:
        os.write(ours.fileno(), END_OF_FILE)
