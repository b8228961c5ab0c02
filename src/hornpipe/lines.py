"""Text and bytes: one codec for each kind of handle, and how much of a stream to keep. Pure logic."""

from __future__ import annotations

import codecs
from typing import Any, Generic, TypeVar, cast, final

from hornpipe._native.buffers import ByteSink

Str = TypeVar("Str", bound="str | bytes")
"""What a stream is made of for its user: ``str`` or ``bytes``."""


@final
class Codec(Generic[Str]):
    r"""How the bytes of a stream become what the caller sees, and back.

    ``BYTES`` leaves them alone. ``TEXT`` is UTF-8 with surrogateescape: bytes that are not text
    come back as they were when they are written again, so nothing is ever lost (gotcha:P8).

    >>> TEXT.decode(b"caf\xc3\xa9 \xff"), TEXT.encode("caf\xe9 \udcff")
    ('café \udcff', b'caf\xc3\xa9 \xff')
    """

    __slots__ = ("encoding", "errors", "line_form", "native", "plain_lines")

    def __init__(self, encoding: str | None, errors: str | None) -> None:
        self.encoding = encoding
        self.errors = errors
        # The native room decodes this one itself, several times faster than bytes.decode.
        self.native = encoding == "utf-8" and errors == "surrogateescape"
        # What the native room's ReadBuffer makes of a line: bytes, text, nothing.
        self.line_form = 0 if encoding is None else 1 if self.native else -1
        # Whether a line can be cut out of the bytes and decoded by itself. Not where a newline is more than one byte
        # (UTF-16), another one (EBCDIC), or the start of a text is special (a byte order mark).
        self.plain_lines = encoding is None or self.native or "a\n".encode(encoding) == b"a\n"

    @property
    def is_text(self) -> bool:
        """Whether this makes ``str``."""
        return self.encoding is not None

    def decode(self, data: bytes) -> Str:
        """The whole of ``data`` as the caller sees it."""
        if self.encoding is None:
            return cast(Str, data)
        return cast(Str, data.decode(self.encoding, self.errors or "strict"))

    def encode(self, data: Any) -> bytes:
        """The bytes of ``data``; ``TypeError`` when it is of the other kind."""
        if self.encoding is None:
            if isinstance(data, bytes):
                return data
            if isinstance(data, bytearray | memoryview):
                return bytes(data)
            raise TypeError(f"bytes are wanted here, not {type(data).__name__}; as_text() makes it text")
        if isinstance(data, str):
            return data.encode(self.encoding, self.errors or "strict")
        raise TypeError(f"str is wanted here, not {type(data).__name__}; as_bytes() makes it bytes")

    def decoder(self) -> codecs.IncrementalDecoder:
        """A decoder for pieces: a character may be split over two reads."""
        assert self.encoding is not None
        return codecs.getincrementaldecoder(self.encoding)(self.errors or "strict")

    def check_lines(self) -> None:
        """Refuse an encoding in which lines cannot be found, or in which each by itself would be another text."""
        if not self.plain_lines:
            instead = "utf-8 and mind the mark at its start, " if self.encoding == "utf-8-sig" else ""
            raise ValueError(
                f"lines cannot be decoded one by one in {self.encoding}; use {instead}reader() or as_bytes()"
            )

    @property
    def empty(self) -> Str:
        """Nothing, in the caller's kind."""
        return cast(Str, b"" if self.encoding is None else "")

    @property
    def newline(self) -> Str:
        """A line's end, in the caller's kind."""
        return cast(Str, b"\n" if self.encoding is None else "\n")

    def line_reader_arguments(self, limit: int | None) -> dict[str, Any]:
        """What the native room's LineReader must know."""
        plain = self.encoding is not None and not self.native
        return {
            "text": self.native,
            "limit": -1 if limit is None else limit,
            "decode": self.decode if plain else None,
        }

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Codec) and (self.encoding, self.errors) == (other.encoding, other.errors)

    def __hash__(self) -> int:
        return hash((self.encoding, self.errors))


BYTES: Codec[bytes] = Codec(None, None)
TEXT: Codec[str] = Codec("utf-8", "surrogateescape")


def text_codec(encoding: str, errors: str) -> Codec[str]:
    """A codec for text, checked here and not at the first byte.

    >>> text_codec("no such", "strict")
    Traceback (most recent call last):
    ...
    LookupError: unknown encoding: no such
    """
    name = codecs.lookup(encoding).name
    codecs.lookup_error(errors)
    return Codec(name, errors)


def check_newline(newline: str) -> str:
    r"""What written lines end with; ``ValueError`` for what no protocol ends them with.

    >>> check_newline("crlf")
    '\r\n'
    """
    if newline == "crlf":
        return "\r\n"
    if newline not in ("\n", "\r\n"):
        raise ValueError(f"newline must be '\\n', '\\r\\n' or 'crlf', which is the same, not {newline!r}")
    return newline


@final
class Head(int):
    """A ``buffer_limit`` that keeps the first so many bytes; a plain number means the same."""


@final
class Tail(int):
    """A ``buffer_limit`` that keeps the last so many bytes."""


class Kept:
    """Bytes kept of a stream: all of them, or the head or the tail up to a limit in bytes.

    >>> kept = Kept(Tail(4)); kept.add(b"abcdef"); kept.finish(), kept.truncated
    (b'cdef', True)
    >>> kept = Kept(4); kept.add(b"abc"); kept.add(b"def"); kept.finish(), kept.truncated
    (b'abcd', True)
    """

    __slots__ = ("_limit", "_sink", "_tail", "seen")

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._tail = isinstance(limit, Tail)
        self._sink: ByteSink = ByteSink()
        self.seen = 0
        """Bytes that came, kept or not."""

    @property
    def sink(self) -> ByteSink | None:
        """Where to read into without a copy in between; ``None`` when a limit has to be watched."""
        return self._sink if self._limit is None else None

    @property
    def truncated(self) -> bool:
        """Whether something was dropped."""
        return self._limit is not None and self.seen > self._limit

    def add(self, data: bytes) -> None:
        """Keep what the limit allows of ``data``."""
        self.seen += len(data)
        if self._limit is None:
            self._sink.append(data)
        elif not self._tail:
            room = self._limit - len(self._sink)
            if room > 0:
                self._sink.append(data[:room])
        elif self._limit:
            self._sink.append(data)
            # Cut seldom, so that a flood costs two copies a byte and not one for each read.
            if len(self._sink) > 2 * self._limit + 65536:
                kept = self._sink.finish()[-self._limit :]
                self._sink.append(kept)

    def peek(self) -> bytes:
        """What was kept, which stays."""
        data = self.finish()
        self._sink.append(data)
        return data

    def finish(self) -> bytes:
        """What was kept; it is empty afterwards."""
        data = self._sink.finish()
        if self._tail and self._limit is not None:
            return data[-self._limit :] if self._limit else b""
        return data
