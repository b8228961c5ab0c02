"""Descriptors that travel over Unix sockets: SCM_RIGHTS of unix(7) (gotcha:SO10)."""

from __future__ import annotations

import os
from _socket import CMSG_SPACE, SCM_RIGHTS, SOL_SOCKET
from collections.abc import Iterable
from typing import TYPE_CHECKING

from hornpipe.fd import Descriptor, above_stdio
from hornpipe.locks import HasFileno

if TYPE_CHECKING:
    import array

MOST = 253
"""Descriptors that one message carries (SCM_MAX_FD)."""
ROOM = CMSG_SPACE(MOST * 4)
"""Bytes of control data in which they all fit."""

Message = tuple[int, int, bytes]


def numbers_of(files: Iterable[int | HasFileno]) -> array.array[int]:
    """The numbers to be sent; ``ValueError`` when they are too many for one message."""
    import array  # rare, and a server that forks does better without each module that it does not need

    numbers = array.array("i", [each if isinstance(each, int) else each.fileno() for each in files])
    if len(numbers) > MOST:
        raise ValueError(f"{MOST} descriptors go in one message at most, not {len(numbers)}")
    return numbers


def message(numbers: array.array[int]) -> list[tuple[int, int, array.array[int]]]:
    """The control data that carries them."""
    return [(SOL_SOCKET, SCM_RIGHTS, numbers)]


def arrived(messages: list[Message]) -> list[Descriptor]:
    """What came with control data that was received with MSG_CMSG_CLOEXEC, ours to close."""
    import array

    found = array.array("i")
    for level, kind, data in messages:
        if level == SOL_SOCKET and kind == SCM_RIGHTS:
            found.frombytes(data[: len(data) - len(data) % found.itemsize])
    fds = [Descriptor(above_stdio(each)) for each in found]
    for each in fds:
        os.set_inheritable(each.fileno(), False)  # where that flag is not known (gotcha:R7)
    return fds
