"""The options of a server, typed once and checked before anything happens."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack

from hornpipe.address import Address
from hornpipe.deadline import check_timeout
from hornpipe.lines import check_newline
from hornpipe.server.journal import Journal
from hornpipe.sockets import Listener

if TYPE_CHECKING:
    import logging
    import ssl

Addresses = str | Address | Listener | Iterable[str | Address]
ModelName = Literal["inline", "fork", "prefork", "thread"]
MODELS = ("inline", "fork", "prefork", "thread")
IDLE = 300.0
"""Seconds for which a client may be silent, unless told otherwise."""
MOST = 256
"""Clients at once, unless told otherwise."""
GRACE = 10.0
"""Seconds that clients have at the end, unless told otherwise."""


class ServerOptions(TypedDict, total=False):
    """How clients are served. Times are in seconds; ``None`` is no limit."""

    model: ModelName
    """``fork`` (a process for each client, what is meant without it), ``prefork`` (workers that live for many),
    ``thread``, or ``inline`` (one after the other)."""
    workers: int | None
    """Of ``prefork``: how many there are (twice the processors, 4 at least)."""
    max_requests: int | None
    """Of ``prefork``: clients after which a worker is replaced by a fresh one."""
    max_clients: int | None
    """Of ``fork`` and ``thread``: clients at once (256); more of them wait, and are not refused."""
    max_per_address: int | None
    """Clients at once from one host, or at a Unix name from one user; more of them are turned away."""
    per_client_timeout: float | None
    """For a client altogether, however busy it is."""
    idle_timeout: float | None
    """For each thing that a client is waited for (300)."""
    stop_grace: float | None
    """How long clients are still served once the server has been told to end (10)."""
    user: str | int | None
    group: str | int | None
    """Whom to become for good once the addresses are bound."""
    tls: ssl.SSLContext | None
    """Encrypt, with this context for servers."""
    newline: str
    r"""What a line that is written ends with: ``\n``, or ``\r\n``, which is also called ``crlf``. A program's lines
    are translated, both ways."""
    ready: Callable[[], object] | None
    """Called once clients are served, as ``Daemon.ready``; a service manager is told in any case."""
    log: logging.Logger | None
    """Instead of the logger ``hornpipe.server``."""


class Settings:
    """The options, checked and complete."""

    def __init__(self, addresses: Addresses, handler: Any, **given: Unpack[ServerOptions]) -> None:
        unknown = set(given) - ServerOptions.__annotations__.keys()
        if unknown:
            raise TypeError(f"there is no option {sorted(unknown)[0]!r}; there are {', '.join(_NAMES)}")
        self.model = given.get("model", "fork")
        if self.model not in MODELS:
            raise ValueError(f"model must be one of {', '.join(MODELS)}, not {self.model!r}")
        self.workers = _count(given, "workers") or max(4, 2 * (os.cpu_count() or 1))
        self.max_requests = _count(given, "max_requests")
        self.max_clients = _count(given, "max_clients") or MOST
        self.max_per_address = _count(given, "max_per_address")
        self.per_client_timeout = check_timeout(given.get("per_client_timeout"), "per_client_timeout")
        self.idle_timeout = check_timeout(given.get("idle_timeout", IDLE), "idle_timeout")
        self.stop_grace = check_timeout(given.get("stop_grace", GRACE), "stop_grace")
        self.user, self.group = given.get("user"), given.get("group")
        self.tls, self.newline = given.get("tls"), check_newline(given.get("newline", "\n"))
        self.ready = given.get("ready")
        self.log = Journal(given.get("log"))
        self._check_model(given)
        if isinstance(addresses, Listener) and (self.tls is not None or self.newline != "\n"):
            raise ValueError("tls= and newline= are given to listen(), where the listener was made")
        self.is_program = _is_program(handler)
        if not self.is_program and not callable(handler):
            raise TypeError(f"a handler is a callable that takes a connection, or a cmd(), not {handler!r}")
        self.handler = handler
        self.listener = addresses if isinstance(addresses, Listener) else None
        self.addresses = [] if isinstance(addresses, Listener) else _parsed(addresses)

    def _check_model(self, given: ServerOptions) -> None:
        for name, models, hint in (
            ("workers", ("prefork",), "there are no workers that live on"),
            ("max_requests", ("prefork",), "there are no workers that live on"),
            ("max_clients", ("fork", "thread"), "workers= says it" if self.model == "prefork" else "it serves one"),
        ):
            if given.get(name) is not None and self.model not in models:
                raise ValueError(f"{name}= is not for model={self.model!r}: {hint}")


_NAMES = tuple(ServerOptions.__annotations__)


def _count(given: ServerOptions, name: str) -> int | None:
    value: Any = given.get(name)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise ValueError(f"{name} must be a number, 1 or more, or None, not {value!r}")
    return None if value is None else int(value)


def _is_program(handler: object) -> bool:
    command: Any = sys.modules.get("hornpipe.command")  # who has a command has it loaded
    return command is not None and isinstance(handler, command.Command)


def _parsed(given: Any) -> list[Address]:
    found = [Address.parse(each) for each in ([given] if isinstance(given, str | Address) else given)]
    if not found:
        raise ValueError("a server needs an address")
    return found
