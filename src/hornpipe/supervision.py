"""What a service manager and its services tell each other: sd_notify(3), sd_listen_fds(3), without libsystemd."""

from __future__ import annotations

import os
from _socket import AF_UNIX, SOCK_DGRAM
from _socket import socket as _Socket

_FIRST_PASSED = 3
_ours: dict[str, str] = {}
"""What was said to us alone, once it has been taken out of the environment."""


def adopt() -> None:
    """Take what the service manager says to us out of the environment: a child would think that it is meant."""
    for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"):
        value = os.environ.pop(name, None)
        if value is not None:
            _ours[name] = value


def _said(name: str) -> str | None:
    return os.environ.get(name) or _ours.get(name)


def supervised() -> bool:
    """Whether somebody waits for this very process: a service manager, or a container whose first process it is.

    Going to the background would look like the end of the service (gotcha:DM6).

    >>> supervised()
    False
    """
    return bool(_said("NOTIFY_SOCKET") or _listen_pid() == os.getpid() or os.getpid() == 1 or _managed_directly())


def _managed_directly() -> bool:
    # systemd gives each service an id, which its children inherit: only its own child is the service.
    return "INVOCATION_ID" in os.environ and os.getppid() == 1


def notify(**state: str | int) -> bool:
    """Tell the service manager: ``notify(READY=1)``, ``notify(STATUS="loading")``; whether there is one.

    >>> notify(READY=1)
    False
    """
    where = _said("NOTIFY_SOCKET")
    if not where:
        return False
    if where[0] not in "/@":
        raise ValueError(f"NOTIFY_SOCKET is {where!r}, which is neither a path nor an abstract name")
    # An abstract name begins with a NUL, which an environment cannot hold; it is written as @.
    address = "\0" + where[1:] if where[0] == "@" else where
    message = "\n".join(f"{name}={value}" for name, value in state.items()).encode()
    sender = _Socket(AF_UNIX, SOCK_DGRAM)
    try:
        sender.sendto(message, address)
    finally:
        sender.close()
    return True


def watchdog_interval() -> float | None:
    """Seconds within which the service manager wants to hear ``notify(WATCHDOG=1)`` again; ``None``: never.

    >>> watchdog_interval()
    """
    time = _said("WATCHDOG_USEC")
    owner = _said("WATCHDOG_PID")
    if not time or (owner and owner != str(os.getpid())):
        return None
    return int(time) / 1e6


def _listen_pid() -> int:
    value = os.environ.get("LISTEN_PID", "")
    return int(value) if value.isdecimal() else 0


def passed_descriptors() -> dict[int, str]:
    """The sockets that the service manager opened for us, by descriptor, with their names; close-on-exec.

    Its variables are removed from the environment, since they are not for our children.

    >>> passed_descriptors()
    {}
    """
    count = os.environ.get("LISTEN_FDS", "")
    ours = _listen_pid() == os.getpid() and count.isdecimal()
    names = os.environ.get("LISTEN_FDNAMES", "").split(":")
    found = {}
    if ours:
        for place in range(int(count)):
            fd = _FIRST_PASSED + place
            os.set_inheritable(fd, False)
            found[fd] = names[place] if place < len(names) and names[place] else "unknown"
        for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
            os.environ.pop(name, None)
    return found
