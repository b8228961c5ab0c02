"""Names of hosts to numbers and back, under a deadline (gotcha:SO5, perlipc:N16).

getaddrinfo(3) obeys no timeout and cannot be interrupted. So it runs in a thread of its own, which
is left to itself at the deadline: it ends when the resolver gives up, and holds no
descriptor of ours meanwhile (promise 11). Numbers are never looked up.
"""

from __future__ import annotations

from _socket import (
    AF_INET,
    AF_INET6,
    AI_CANONNAME,
    NI_NAMEREQD,
    gaierror,
    getaddrinfo,
    gethostname,
    getnameinfo,
    if_nametoindex,
)
from _thread import allocate_lock
from collections.abc import Callable
from typing import Any, NamedTuple

from hornpipe import wait
from hornpipe._native.signals import Held
from hornpipe.address import Address
from hornpipe.deadline import after
from hornpipe.fd import Descriptor, pipe


class Place(NamedTuple):
    """One numeric address that a socket can be bound or connected to."""

    family: int
    name: Any
    """What the socket module calls it."""


def places(address: Address, deadline: int, *, passive: bool = False) -> list[Place]:
    """The numeric addresses behind ``address``, best first; ``TimeoutError`` at the deadline.

    Every interface, for somebody who listens (``passive``), is ``::`` and ``0.0.0.0``.
    """
    if address.is_unix:
        return [Place(int(address.family or 0), address.unix_name)]
    port = address.port
    if not address.host:
        if not passive:
            raise ValueError(f"{str(address)!r} has no host")
        return [Place(AF_INET6, ("::", port)), Place(AF_INET, ("0.0.0.0", port))]
    if address.family == AF_INET:
        return [Place(AF_INET, (address.host, port))]
    if address.family == AF_INET6:
        number, _, scope = address.host.partition("%")
        return [Place(AF_INET6, (number, port, 0, _interface(scope, address)))]
    found = _in_a_thread(lambda: _look_up(address.host, address.socket_type), f"looking up {address.host!r}", deadline)
    return [Place(family, (name[0], port, *name[2:])) for family, name in found]


def host_name(address: Address | None = None, timeout: float | None = None) -> str:
    """The name of the host at a numeric address, or of this host in full; its number where it has none.

    Never needed to accept or to answer a client, whose own name server it may ask: on request only.
    ``TimeoutError`` after ``timeout`` seconds (getnameinfo(3)).

    >>> host_name(Address.parse("tcp://127.0.0.1:80"), timeout=10) != ""
    True
    """
    if address is None:
        return _own_name(timeout)
    if address.is_unix:
        return gethostname()
    if address.family is None:
        return address.host
    place = places(address, 0)[0]
    return str(_in_a_thread(lambda: _name_of(place, address), f"looking up the name of {address.host}", after(timeout)))


def _own_name(timeout: float | None) -> str:
    name = gethostname()
    if "." in name:
        return name

    def ask() -> Any:
        return getaddrinfo(name, None, 0, 0, 0, AI_CANONNAME)

    try:
        found = _in_a_thread(ask, f"looking up {name!r}", after(timeout))
    except gaierror:
        return name
    return found[0][3] or name


def _look_up(host: str, kind: int) -> list[tuple[int, Any]]:
    try:
        found = getaddrinfo(host, None, 0, kind)
    except gaierror as error:
        raise gaierror(error.errno, f"no address for the host {host!r}: {error.strerror}") from None
    return [(family, name) for family, _, _, _, name in found if family in (AF_INET, AF_INET6)]


def _name_of(place: Place, address: Address) -> str:
    try:
        return getnameinfo(place.name, NI_NAMEREQD)[0]
    except gaierror:
        return address.host


def _interface(scope: str, address: Address) -> int:
    if not scope or scope.isdecimal():
        return int(scope or 0)
    try:
        return if_nametoindex(scope)
    except OSError as error:
        raise OSError(error.errno, f"there is no interface {scope!r}, the scope of {str(address)!r}") from None


class _Question:
    """A call that a thread makes for us, and whether anybody still waits for it."""

    def __init__(self, ask: Callable[[], Any], done: Descriptor) -> None:
        self._ask = ask
        self._done = done
        self._lock = allocate_lock()
        self.answer: Any = None
        self.error: Exception | None = None

    def run(self) -> None:
        """In the thread."""
        try:
            self.answer = self._ask()
        except Exception as error:  # noqa: BLE001 - raised again where the answer is wanted
            self.error = error
        self.close()

    def close(self) -> None:
        """Wake who waits; or, at the deadline, hold no descriptor for a thread that may take minutes."""
        with self._lock:
            self._done.close()


def _in_a_thread(ask: Callable[[], Any], doing: str, deadline: int) -> Any:
    import threading  # a program that needs no look-up has no threads to prepare for

    reader, writer = pipe()
    with reader:
        question = _Question(ask, writer)
        thread = threading.Thread(target=question.run, name="hornpipe-look-up", daemon=True)
        try:
            # It inherits a mask with everything blocked: a signal delivered to it would miss those who wait for it.
            with Held():
                thread.start()
            if not wait.one(reader.fileno(), wait.READ, deadline):
                raise TimeoutError(f"time ran out while {doing}")
        finally:
            question.close()
    if question.error is not None:
        raise question.error
    return question.answer
