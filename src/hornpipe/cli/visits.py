"""The web as ``hornpipe get`` sees it: URLs, and visits to the servers behind them.

The protocol is the standard library's http.client; the connections are ours, so that one deadline holds for the
look-up, the connecting, TLS and all that is read.
"""

from __future__ import annotations

import http.client
import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import SplitResult, quote, urljoin, urlsplit

import hornpipe as hp
from hornpipe.deadline import seconds_left

if TYPE_CHECKING:
    import ssl

_MOST_REDIRECTS = 20
"""As many as wget follows, and browsers (Fetch standard, 4.4)."""
_REDIRECTS = {301, 302, 303, 307, 308}
_BLOCK = 64 * 1024
_SAFE = "!$%&'()*+,/:;=?@[]~"
"""What stays as it is in a path and a query (RFC 3986); a percent sign says that it is quoted already."""


class Broken(http.client.HTTPException):
    """An answer that is not what the protocol wants; the text is for the user."""


def parse(url: str) -> SplitResult:
    """The parts of a URL that can be visited; ``ValueError`` says why it cannot.

    >>> parse("http://localhost/two words?x=é#there").geturl()
    'http://localhost/two%20words?x=%C3%A9'
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{url!r} is no URL of the web, as in http://localhost/")
    if parts.username is not None:
        # Arguments are public in /proc (gotcha:PR6).
        raise ValueError(f"the URL of {parts.hostname} has a name or password in it, which everybody here could read")
    try:
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname.encode("idna").decode()
        netloc = host if parts.port is None else f"{host}:{parts.port}"
        hp.Address.parse(f"tcp://{host}:{parts.port or 80}")
    except ValueError as error:
        raise ValueError(f"{url!r} names no server: {error}") from None
    return SplitResult(parts.scheme, netloc, quote(parts.path, _SAFE) or "/", quote(parts.query, _SAFE), "")


class Visits:
    """The connections that are open, one for each server."""

    def __init__(self, where: hp.Address | None, trusted: ssl.SSLContext | None = None) -> None:
        self._where = where
        self._trusted = trusted
        self._open: dict[tuple[str, str], Visit] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for visit in self._open.values():
            visit.close()

    def get(self, url: SplitResult, deadline: int) -> http.client.HTTPResponse:
        """The reply for a document, wherever we are sent for it; its body is still to be read."""
        for _ in range(_MOST_REDIRECTS + 1):
            reply = self._ask(url, deadline)
            target = reply.getheader("Location")
            if reply.status not in _REDIRECTS or not target:
                return reply
            try:
                url = parse(urljoin(url.geturl(), target))
            except ValueError as error:
                raise Broken(f"sent to where we do not go: {error}") from None
        raise Broken(f"sent on more than {_MOST_REDIRECTS} times, at last to {url.geturl()}")

    def _ask(self, url: SplitResult, deadline: int) -> http.client.HTTPResponse:
        key = url.scheme, url.netloc
        visit = self._open.get(key)
        if visit is not None:
            try:
                if visit.can_go_on():
                    return visit.ask(url, deadline)
            except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
                pass  # it was kept, and the server has closed it meanwhile, as it may at any time
            visit.close()
        visit = self._open[key] = Visit(url, self._where, self._trusted)
        return visit.ask(url, deadline)


def body(reply: http.client.HTTPResponse) -> Iterator[bytes]:
    """The document, in pieces as they come; ``Broken`` when it ends too early."""
    count = 0
    room = bytearray(_BLOCK)
    # Each in the one way that neither waits for a full block nor forgets to count.
    while piece := reply.read1(_BLOCK) if reply.chunked else room[: reply.readinto(room)]:
        count += len(piece)
        yield bytes(piece)
    # http.client takes an early end for the end, unless the document is chunked.
    if reply.length:
        raise Broken(f"the document was cut short: {count} bytes came, {reply.length} are missing")


def head(reply: http.client.HTTPResponse) -> bytes:
    """The status line and the header fields of a reply, as they were sent."""
    version = "1.0" if reply.version == 10 else "1.1"
    fields = [f"{name}: {value}" for name, value in reply.getheaders()]
    lines = [f"HTTP/{version} {reply.status} {reply.reason}", *fields, ""]
    return "".join(f"{line}\r\n" for line in lines).encode("latin-1", "replace")


class Visit(http.client.HTTPConnection):
    """http.client over a connection of ours."""

    def __init__(self, url: SplitResult, where: hp.Address | None, trusted: ssl.SSLContext | None) -> None:
        self.default_port = 443 if url.scheme == "https" else 80
        super().__init__(url.netloc)
        self._tls = url.scheme == "https" and (trusted or True)
        self._server_name = url.hostname
        self._where = where or hp.Address.parse(
            f"tcp://{url.netloc}" + ("" if url.port is not None else f":{self.port}")
        )
        self._deadline = 0
        self._reply: http.client.HTTPResponse | None = None

    def can_go_on(self) -> bool:
        """Whether the connection was kept, and nothing of the last reply is left on it."""
        return self.sock is not None and self._reply is not None and self._reply.isclosed()

    def ask(self, url: SplitResult, deadline: int) -> http.client.HTTPResponse:
        """Ask for a document; everything until its last byte has to be over by the deadline."""
        self._deadline = deadline
        if isinstance(self.sock, _Wire):
            self.sock.deadline = deadline
        target = url.path + (f"?{url.query}" if url.query else "")
        self.request("GET", target, headers={"Accept": "*/*", "User-Agent": "hornpipe"})
        self._reply = self.getresponse()
        return self._reply

    def connect(self) -> None:
        """What http.client calls when it wants a connection."""
        connection = hp.connect(
            self._where, timeout=seconds_left(self._deadline), tls=self._tls, server_name=self._server_name
        )
        self.sock = _Wire(connection.as_bytes(), self._deadline)


class _Wire:
    """A connection in the shape of a socket, as far as http.client looks."""

    def __init__(self, connection: hp.Connection[bytes], deadline: int) -> None:
        self.connection = connection
        self.deadline = deadline
        self._users = 1

    def sendall(self, data: bytes) -> None:
        """Send it, all of it."""
        self.connection.timeout = seconds_left(self.deadline)
        self.connection.write(data)
        self.connection.flush()

    def makefile(self, *_: Any) -> _Reading:
        """A file to read from; like a socket's, it may outlive the socket's own close()."""
        self._users += 1
        return _Reading(_Source(self))

    def close(self) -> None:
        """One user less. The last one hangs up: what we have asked for we have, and nothing else is of interest."""
        self._users -= 1
        if not self._users:
            self.connection.leave()


class _Source(io.RawIOBase):
    """What comes over a wire."""

    def __init__(self, wire: _Wire) -> None:
        self._wire = wire
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, room: Any) -> int:
        if not self._rest:
            connection = self._wire.connection
            self._rest = memoryview(connection.read_some(timeout=seconds_left(self._wire.deadline)))
        view = memoryview(room).cast("B")
        count = min(len(view), len(self._rest))
        view[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    def close(self) -> None:
        if not self.closed:
            self._wire.close()
        super().close()


class _Reading(io.BufferedReader):
    """Buffered, and without waiting for more than there is where http.client does not ask for a certain count."""

    def __init__(self, source: _Source) -> None:
        super().__init__(source, _BLOCK)

    def readinto(self, room: Any) -> int:
        return self.readinto1(room)
