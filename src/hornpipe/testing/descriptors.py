"""The descriptors this process has open."""

from __future__ import annotations

import os


def open_descriptors() -> dict[int, str]:
    """Every open descriptor of this process, with what it leads to.

    The target is the kernel's name for it: a path, ``pipe:[4711]``, ``socket:[4711]``, ``anon_inode:[pidfd]``.

        >>> before = open_descriptors()
        >>> with open("/dev/null") as null:
        ...     new = open_descriptors().keys() - before.keys()
        ...     new == {null.fileno()}
        True
    """
    targets: dict[int, str] = {}
    try:
        numbers = os.listdir("/proc/self/fd")
    except FileNotFoundError:
        return targets
    for number in numbers:
        try:
            targets[int(number)] = os.readlink(f"/proc/self/fd/{number}")
        except FileNotFoundError:
            # The list contains the descriptor that it was read through, which is closed by now.
            continue
    return targets


def new_descriptors(before: dict[int, str], after: dict[int, str]) -> dict[int, str]:
    """Those of *after* which are not in *before*, or lead elsewhere than they did.

    >>> new_descriptors({0: "/dev/null"}, {0: "/dev/null", 3: "pipe:[1]"})
    {3: 'pipe:[1]'}
    """
    return {number: target for number, target in sorted(after.items()) if before.get(number) != target}
