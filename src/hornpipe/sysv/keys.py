"""Keys: the numbers under which unrelated processes find the same object."""

from __future__ import annotations

import os
from typing import Any


def ftok(path: str | bytes | os.PathLike[Any], project: int) -> int:
    """The key that C's function, and Perl's, makes of an existing file and a number from 1 to 255.

    Different files can give the same key: it holds only the lower 16 bits of the inode and the lower 8 of
    the device (gotcha:Y12), so with 300 files of one project two are as likely as not the same. A file that was
    deleted and made anew gives another one. ``ValueError`` for a project outside of the 8 bits that C
    would cut it to. For programs of your own ``key_for`` is the better choice.

    >>> ftok("/", 65) == ftok("/../", 65), ftok("/", 65) == ftok("/", 66)
    (True, False)
    """
    if not isinstance(project, int):
        raise TypeError(f"project must be a number from 1 to 255, not {project!r}; for a letter take its ord()")
    if not 1 <= project <= 255:
        raise ValueError(f"project must be from 1 to 255, not {project}: only its lower 8 bits would count")
    found = os.stat(path)
    return check_key((project << 24) | (found.st_dev & 0xFF) << 16 | found.st_ino & 0xFFFF)


def key_for(name: str | bytes) -> int:
    """The key for a name: the same everywhere and for ever, and another one for another name.

    31 bits of BLAKE2 over the name: of 1,000 names on one machine, two have the same key once in 4,000
    machines. Put something of yours into the name (``"org.example.printer/jobs"``).

    >>> key_for("org.example.printer/jobs") == key_for(b"org.example.printer/jobs")
    True
    """
    from _blake2 import blake2b

    encoded = name.encode() if isinstance(name, str) else name
    if not encoded:
        raise ValueError("an empty name has no key")
    # 0 is IPC_PRIVATE; negative ones are harder to type at ipcrm.
    return int.from_bytes(blake2b(encoded, digest_size=8).digest()) % 0x7FFFFFFF + 1


def check_key(key: int) -> int:
    """A key as C has it, 32 bits with a sign; 0 is refused, since it is IPC_PRIVATE and finds nothing (gotcha:Y12).

    >>> check_key(0xFFFFFFFF)
    -1
    """
    if isinstance(key, bool) or not isinstance(key, int):
        raise TypeError(f"a key is a number (see key_for), not {type(key).__name__}")
    if key == 0:
        raise ValueError("key 0 (IPC_PRIVATE) names no object; create() without a key makes a private one")
    if not -0x80000000 <= key <= 0xFFFFFFFF:
        raise ValueError(f"a key has 32 bits, and {key:#x} has more")
    return key - 0x100000000 if key > 0x7FFFFFFF else key
