"""Connections that are encrypted, by OpenSSL over memory: it never sees the socket, so every deadline holds."""

from __future__ import annotations

import ssl
from typing import Any

from hornpipe import wait
from hornpipe.deadline import after, passed, sooner
from hornpipe.lines import Str
from hornpipe.sockets.connection import Connection
from hornpipe.sockets.descriptor import LINGER, NO_WAIT

_PIECE = 16 * 1024
"""Bytes encrypted or decrypted at a time: one TLS record."""
_LONGEST_HANDSHAKE = 10.0
"""Seconds that a client has for its part of the handshake, whatever else is allowed to take for ever."""
_LOOK = 0.05
"""Seconds after which a thread that waits for the handshake looks whether another one has done it."""


class TlsConnection(Connection[Str]):
    """A connection over TLS. Its descriptor carries what is encrypted, so it is of no use to a child."""

    def __init__(self, *arguments: Any, context: ssl.SSLContext, server_name: str | None, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._plain = False
        self._buffer.source = self._buffer.sink = -1
        self._context = context
        # Who is asked for a name is a client; the listening side has none to ask for.
        self._server_name = server_name
        self._session: ssl.SSLObject | None = None
        self._shaken = False
        self._refused = False
        self._cipher = bytearray()
        self._decrypted = b""

    def _begin(self) -> None:
        super()._begin()
        self._cipher = bytearray()
        self._decrypted = b""

    # --- the handshake ---

    def handshake(self, *, timeout: float | None = None) -> None:
        """Agree on keys and check certificates, as ``Connection.handshake`` says."""
        self.shake(self._by(timeout))

    def shake(self, deadline: int) -> None:
        """``handshake`` until a deadline."""
        if self._shaken:
            return
        if self._server_name is None:
            deadline = sooner(deadline, after(_LONGEST_HANDSHAKE))
        while True:
            with self._sending:
                done = self._go_on_with_the_handshake()
            self._push_cipher(deadline)
            if done:
                return
            # Two threads may be here: what comes is for either, and the other one has to hear of it.
            if self._feed(sooner(deadline, after(_LOOK)), handshaking=True) is None and passed(deadline):
                raise TimeoutError(f"time ran out during the TLS handshake with {self._name}")

    def _go_on_with_the_handshake(self) -> bool:
        if self._shaken:
            return True
        if self._session is None:
            # Made here, for a server's sake: accepting costs the same with and without TLS.
            self._incoming = ssl.MemoryBIO()
            self._outgoing = ssl.MemoryBIO()
            self._session = self._context.wrap_bio(
                self._incoming, self._outgoing, self._server_name is None, self._server_name
            )
        try:
            self._session.do_handshake()
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLEOFError:
            raise ConnectionAbortedError(f"{self._name} ended during the TLS handshake") from None
        except ssl.SSLError as error:
            self._refused = True
            self._tell_why()
            error.add_note(f"during the TLS handshake with {self._name}")
            raise
        self._shaken = True
        return True

    def _tell_why(self) -> None:
        """Send the alert that tells the peer what we do not like, if there is room."""
        try:
            self._send_cipher()
        except OSError:
            pass  # it has gone; ours is the better error

    @property
    def tls(self) -> ssl.SSLObject:
        """The session; ``ValueError`` before the handshake."""
        if not self._shaken or self._session is None:
            raise ValueError(f"{self._described()} has not shaken hands yet: handshake() does")
        return self._session

    # --- reading ---

    def _feed(self, deadline: int, *, handshaking: bool = False) -> int | None:
        """Receive what is encrypted: how much, 0 at the end, ``None`` when nothing has come."""
        if not wait.on(self._reading_from, wait.READ, deadline):
            return None
        with self._sending:
            if handshaking and self._shaken:
                return None  # another thread has done it, and what comes now is for whoever reads
            try:
                data = self._socket.calls.recv(self._read_size * 4, NO_WAIT)
            except BlockingIOError:
                return None
            except ConnectionResetError:
                self._reset()
            if data:
                self._incoming.write(data)
            else:
                self._incoming.write_eof()
        return len(data)

    def _receive(self, fd: int, seen: int) -> int | None:
        self.shake(self._read_by)
        data = None
        while data is None:
            try:
                with self._sending:
                    data, self._decrypted = self._decrypted or self.tls.read(self._read_size), b""
            except ssl.SSLWantReadError:
                # An answer of the protocol's own, another thread's words, or those of a handler that interrupted us.
                self._push_cipher_until_readable() if not self._pending else self._push_until_readable()
                if self._feed(self._read_by) is None and passed(self._read_by):
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
        if self._left_to_others:
            self._push_once()
        return len(data)

    def _decrypt_all(self) -> bytes:
        """What has come and nobody has read; ``_sending`` is held."""
        pieces = []
        try:
            while piece := self.tls.read(_PIECE):
                pieces.append(piece)
        except ssl.SSLError:
            pass  # no more yet, or the end: whoever reads on is told which
        return b"".join(pieces)

    # --- writing ---

    def _push(self, deadline: int) -> None:
        self.shake(deadline)
        super()._push(deadline)

    def _push_until_readable(self) -> None:
        self.shake(self._read_by)
        # What poll(2) does not see comes first. Else a read with a timeout of 0 could say that nothing is there while
        # another thread is writing, and whoever then polls for more would wait for ever.
        if not (self._decrypted or self._incoming.pending or self.tls.pending()):
            super()._push_until_readable()

    def _send_at_once(self, data: bytes) -> int:
        return 0

    def flush(self, *, timeout: float | None = None) -> None:
        """Send what was gathered, and what is encrypted already, as ``Connection.flush`` says."""
        super().flush(timeout=timeout)
        if self._cipher and not self._finished:  # what was left when the time of an earlier call had run out
            self._push_cipher(self._by(timeout))

    def _has_unsent(self) -> bool:
        return bool(self._pending or self._cipher)

    def _send_some(self) -> None:
        # One piece at a time: what is encrypted can no longer be taken back.
        if self._pending and not self._cipher:
            count = self.tls.write(self._pending[:_PIECE])
            del self._pending[:count]
            self._buffer.taken += count
        self._send_cipher()

    def _send_cipher(self) -> None:
        self._cipher += self._outgoing.read()
        if self._cipher:
            del self._cipher[: self._send_now(self._cipher)]

    def _cipher_is_sent(self) -> bool:
        """Send what is encrypted, as far as there is room; whether that was all."""
        with self._sending:
            try:
                self._send_cipher()
            except (BrokenPipeError, ConnectionResetError):
                self._gone()
        return not self._cipher

    def _push_cipher(self, deadline: int) -> None:
        while not self._cipher_is_sent():
            if not wait.on(self._reading_from, wait.WRITE, deadline) or passed(deadline):
                self._expired("writing to")

    def _push_cipher_until_readable(self) -> None:
        # Not all of it first, as with _push_until_readable (promise 2).
        while not self._cipher_is_sent():
            bits = wait.on(self._reading_from, wait.READ | wait.WRITE, self._read_by)
            if not bits or wait.readable(bits) or passed(self._read_by):
                return

    # --- the end ---

    def _shut(self, deadline: int) -> None:
        self._say_farewell(deadline)

    def _say_farewell(self, deadline: int) -> None:
        if not self._shaken:
            self._socket.finish()
            return
        with self._sending:
            # SSL_shutdown(3) reads as well. What has come and is not read yet it takes for a breach of the protocol;
            # afterwards nothing can be read any more (gotcha:SO13).
            self._decrypted += self._decrypt_all()
            try:
                self.tls.unwrap()
            except ssl.SSLError:
                pass  # it wants the peer's farewell, which is not waited for
        self._push_cipher(deadline)

    def _hear_out(self) -> None:
        if self._shaken and (self._cipher or not self._finished):
            self._finish()
            try:
                self._say_farewell(sooner(self._by(None), after(LINGER)))
            except (TimeoutError, BrokenPipeError):
                pass  # whoever reads no more needs no farewell
        super()._hear_out()

    def _has_spoken(self) -> bool:
        # The alert that says why we refused it would be destroyed as well.
        return self._refused or super()._has_spoken()

    def _only_unix(self, what: str) -> None:
        super()._only_unix(what)
        if what == "descriptors":
            raise ValueError(f"{self._described()} is encrypted: descriptors cannot go with what it carries")

    def unread(self) -> bytes:
        """There is no telling what is encrypted from what is not."""
        raise ValueError(f"{self._described()} is encrypted: others cannot read its descriptor")
