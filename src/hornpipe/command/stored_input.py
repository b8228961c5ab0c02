"""Input for a process that nobody will feed: stored in memory, read by the process itself."""

from __future__ import annotations

import os
from typing import Any

from hornpipe.fd import Descriptor, owned
from hornpipe.lines import Codec
from hornpipe.pump import as_bytes


def as_file(verb: str, data: object, codec: Codec[Any]) -> Descriptor:
    """A descriptor from which ``data`` (str or bytes) can be read."""
    if not isinstance(data, str | bytes | bytearray | memoryview):
        raise ValueError(
            f"{verb}() returns at once, so nobody could feed input={type(data).__name__}; "
            "give it str or bytes, stdin=an open file, or use writer() or duplex()"
        )
    file = owned(os.memfd_create, "hornpipe-input", os.MFD_CLOEXEC)
    rest = memoryview(as_bytes(data, codec))
    while rest:
        rest = rest[os.write(file.fileno(), rest) :]
    os.lseek(file.fileno(), 0, os.SEEK_SET)
    return file
