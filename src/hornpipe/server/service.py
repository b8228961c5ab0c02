"""One client from its beginning to its end: its limits, its log, and what its handler raises (gotcha:SRV7)."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from hornpipe._native.shared import Numbers
from hornpipe._native.wait import now
from hornpipe.deadline import after
from hornpipe.server import counts
from hornpipe.server.counts import RECEIVED, SENT
from hornpipe.server.journal import DEBUG, ERROR, INFO, Journal
from hornpipe.sockets import Connection

Handler = Callable[[Connection[str]], object]


class Limits:
    """What a client may take. Times in seconds; ``None`` is no limit."""

    __slots__ = ("idle_timeout", "max_clients", "max_per_address", "per_client_timeout")

    def __init__(
        self,
        max_clients: int,
        per_client_timeout: float | None,
        idle_timeout: float | None,
        max_per_address: int | None,
    ) -> None:
        self.max_clients = max_clients
        self.per_client_timeout = per_client_timeout
        self.idle_timeout = idle_timeout
        self.max_per_address = max_per_address


class Service:
    """A handler with its limits, its counts and its log."""

    def __init__(self, handler: Handler, limits: Limits, numbers: Numbers, log: Journal) -> None:
        self.handler = handler
        self.limits = limits
        self.numbers = numbers
        self.log = log

    def attend(self, connection: Connection[str]) -> bool:
        """Serve one client, and close its connection; whether it ended well.

        What the handler raises is logged with the peer, and nobody else's affair; all but
        ``KeyboardInterrupt`` and its like, which are about the whole program.
        """
        # Asked in so many words, for the sake of forked children, who copy a page for each function that they call.
        told = "logging" in sys.modules and self.log.wants(INFO)
        begun = now() if told else 0
        if told:
            self.tell_begin(connection)
        verdict = "ended"
        try:
            if self.limits.per_client_timeout is not None:
                connection.limit(after(self.limits.per_client_timeout))
            returned = False
            try:
                self.handler(connection)
                returned = True
            finally:
                if connection._successor is not None:
                    connection = connection.latest
                try:
                    connection.close()
                except OSError:
                    if returned:  # else what the handler has raised is what is told
                        raise
        except ConnectionError as error:
            verdict = "gone"
            self.numbers.add(counts.GONE, 1)
            self.log.say(DEBUG, "%s has gone: %s", connection.name, error)
        except TimeoutError as error:
            verdict = "timed out"
            self.numbers.add(counts.TIMED_OUT, 1)
            self.log.say(INFO, "%s was given up: %s", connection.name, error)
        except Exception as error:  # noqa: BLE001 (whatever it is, it costs this client alone; the log has it all)
            verdict = self._failed(connection, error)
        finally:
            buffer = connection._buffer
            if buffer.received or connection._received_before:
                self.numbers.add(RECEIVED, connection.received)
            if buffer.taken:
                self.numbers.add(SENT, buffer.taken)
            if told:
                self.tell_end(connection, verdict, begun)
        return verdict != "failed"

    def _failed(self, connection: Connection[Any], error: Exception) -> str:
        ssl: Any = sys.modules.get("ssl")
        if ssl is not None and isinstance(error, ssl.SSLError):
            # Whoever cannot shake hands, or does not want to, is no failure of the handler's.
            self.numbers.add(counts.GONE, 1)
            self.log.say(INFO, "%s and we do not agree on TLS: %s", connection.name, error)
            return "gone"
        self.numbers.add(counts.FAILED, 1)
        self.log.say(ERROR, "the handler failed for %s", connection.name, trace=True, **_facts(connection, "fail"))
        return "failed"

    def tell_begin(self, connection: Connection[str]) -> None:
        """The line for the beginning."""
        self.log.say(INFO, "%s: connected", connection.name, **_facts(connection, "begin"))

    def tell_end(self, connection: Connection[Any], verdict: str, begun: int) -> None:
        """The line for the end."""
        duration = (now() - begun) / 1e9
        received, sent = connection.received, connection.taken
        self.log.say(
            INFO,
            "%s: %s after %.3f s, %d bytes received, %d sent",
            connection.name,
            verdict,
            duration,
            received,
            sent,
            **_facts(connection, "end"),
            verdict=verdict,
            duration=duration,
            received=received,
            sent=sent,
        )


def _facts(connection: Connection[Any], event: str) -> dict[str, Any]:
    return {"event": event, "peer": str(connection.peer) if connection.peer is not None else None}


def address_key(connection: Connection[Any]) -> int:
    """Whom ``max_per_address`` counts: a host, or at a Unix name a user; never 0."""
    peer = connection.peer
    who: object = peer.host if peer is not None and not peer.is_unix else ("uid", connection.credentials.uid)
    return hash(who) or 1
