"""Connections that are encrypted, by OpenSSL over memory: it never sees the socket, so every deadline holds."""

from __future__ import annotations

import ssl
from typing import Any

from hornpipe import wait
from hornpipe.deadline import passed
from hornpipe.lines import Str
from hornpipe.sockets.connection import Connection
from hornpipe.sockets.descriptor import NO_WAIT

_PIECE = 16 * 1024
"""Bytes encrypted at a time: one TLS record."""


class TlsConnection(Connection[Str]):
    """A connection over TLS. Its descriptor carries what is encrypted, so it is of no use to a child."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls: ssl.SSLObject | None = None
        self._cipher = bytearray()

    def start(self, context: ssl.SSLContext, server_name: str | None, deadline: int, *, server: bool = False) -> None:
        """Shake hands, and check the certificate as ``context`` says."""
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server, None if server else server_name)
        while True:
            try:
                self._tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self._push_cipher(deadline)
                if self._feed(deadline) is None:
                    raise TimeoutError(f"time ran out during the TLS handshake with {self._name}") from None
            except ssl.SSLError:
                self._tell_why()
                raise
        self._push_cipher(deadline)

    def _tell_why(self) -> None:
        """Send the alert that tells the peer what we do not like, if there is room."""
        try:
            self._send_cipher()
        except OSError:
            pass  # it has gone; ours is the better error

    @property
    def tls(self) -> ssl.SSLObject:
        """The session: ``version()``, ``cipher()``, ``getpeercert()``, ..."""
        assert self._tls is not None
        return self._tls

    def _feed(self, deadline: int) -> int | None:
        """Receive what is encrypted: how much, 0 at the end, ``None`` at the deadline."""
        if not wait.one(self._reading_from(), wait.READ, deadline):
            return None
        try:
            data = self._socket.calls.recv(self._read_size * 4, NO_WAIT)
        except BlockingIOError:
            return -1
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()
        return len(data)

    def _receive(self, fd: int, seen: int) -> int | None:
        data = None
        while data is None:
            try:
                with self._sending:
                    data = self.tls.read(self._read_size)
            except ssl.SSLWantReadError:
                self._push_cipher(self._read_by)  # an answer of the protocol's own
                count = self._feed(self._read_by)
                if count is None or (count < 0 and passed(self._read_by)):
                    return None
            except ssl.SSLZeroReturnError:
                data = b""
            except ssl.SSLEOFError:
                raise ConnectionAbortedError(
                    f"{self._name} ended without the end that TLS asks for: what came may have been cut short"
                ) from None
        if data:
            self._buffer.append(data)
        else:
            self._buffer.end_here()
        return len(data)

    def _send_some(self) -> bool:
        # One piece at a time: what is encrypted can no longer be taken back.
        if self._pending and not self._cipher:
            with memoryview(self._pending) as whole, whole[:_PIECE] as part:
                count = self.tls.write(part)
            del self._pending[:count]
            self._taken += count
        self._send_cipher()
        return not self._pending and not self._cipher

    def _send_cipher(self) -> None:
        self._cipher += self._outgoing.read()
        if self._cipher:
            del self._cipher[: self._send_now(self._cipher)]

    def _push_cipher(self, deadline: int) -> None:
        while True:
            with self._sending:
                self._send_cipher()
            if not self._cipher:
                return
            if not wait.one(self._reading_from(), wait.WRITE, deadline) or passed(deadline):
                self._expired("writing to")

    def _shut(self) -> None:
        try:
            with self._sending:
                self.tls.unwrap()
        except ssl.SSLError:
            pass  # it wants the peer's farewell, which is not waited for
        self._push_cipher(self._by(None))

    def _hear_out(self) -> None:
        if not self._finished:
            self._finished = True
            self._shut()
        super()._hear_out()

    def unread(self) -> bytes:
        """There is no telling what is encrypted from what is not."""
        raise ValueError(f"{self._described()} is encrypted: others cannot read its descriptor")
