"""What is looked for in a stream, and the stream as far as it is still of interest. Knows no transport.

The earliest match in what has arrived wins; among those that begin at one place the first of the list. Cost is
linear in what arrives: no position is searched again once all that a match there could see has come (gotcha:TTY12).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, Generic, cast

from hornpipe.expect.exceptions import EOF, TIMEOUT
from hornpipe.expect.searches import WORTH_DEFERRING, Found, Literal, Regex, Sought, Window
from hornpipe.lines import Str


class Patterns:
    """A list of patterns: compiled regular expressions, exact strings, ``EOF`` and ``TIMEOUT``.

    >>> import re
    >>> wanted = Patterns([re.compile("b+"), "cc", EOF])
    >>> wanted.eof_index, wanted.timeout_index
    (2, -1)
    >>> stream = Stream(""); stream.feed("abcc")
    >>> stream.begin(wanted, None); stream.search()
    (0, 'a', 'b')
    >>> stream.begin(wanted, None); stream.search()
    (1, '', 'cc')
    """

    def __init__(self, patterns: Sequence[Any]) -> None:
        self.all = tuple(patterns)
        self.eof_index = self.timeout_index = -1
        self.searched: list[Literal | Regex] = []
        for index, pattern in enumerate(self.all):
            if pattern is EOF:
                self.eof_index = index
            elif pattern is TIMEOUT:
                self.timeout_index = index
            elif isinstance(pattern, str | bytes):
                self.searched.append(Literal(index, pattern))
            else:
                self.searched.append(Regex(index, pattern))
        self.behind = max((entry.behind for entry in self.searched), default=0)
        self.whole = not all(entry.bounded_behind for entry in self.searched)
        """Whether one of them has to see everything, always."""
        self.deferrable = any(entry.deferrable for entry in self.searched)
        self.exact = bool(self.searched) and all(isinstance(entry, Literal) and entry.text for entry in self.searched)
        """Whether all are strings, none of which is found in nothing."""

    def listed(self) -> str:
        """All of them, for a message."""
        words = []
        for pattern in self.all:
            if pattern is EOF or pattern is TIMEOUT:
                words.append(pattern.__name__)
            else:
                text = getattr(pattern, "pattern", pattern)
                words.append(f"/{text}/" if isinstance(text, str) and text is not pattern else repr(text))
        return ", ".join(words) or "nothing"

    def __str__(self) -> str:
        lines = [f"{type(self).__name__}:"]
        for index, pattern in enumerate(self.all):
            if pattern is EOF or pattern is TIMEOUT:
                lines.append(f"{index}: {pattern.__name__}")
            elif isinstance(pattern, str | bytes):
                lines.append(f"{index}: {pattern!r}")
            else:
                lines.append(f"{index}: re.compile({pattern.pattern!r})")
        return "\n    ".join(lines)


@lru_cache(maxsize=128)
def _analysed(kinds: tuple[type, ...], patterns: tuple[Any, ...]) -> Patterns:
    return Patterns(patterns)


def patterns_of(patterns: Iterable[Any]) -> Patterns:
    """``Patterns`` of what was made of the user's words; what is expected again and again is analysed once."""
    given = tuple(patterns)
    try:
        # A string and bytes may not be compared (python -b), and with their kinds before them they never are.
        return _analysed(tuple(map(type, given)), given)
    except TypeError:  # something that searches, and has no hash
        return Patterns(given)


class searcher_re(Patterns):
    """pexpect's name for a list of regular expressions, ``EOF`` and ``TIMEOUT``, for ``expect_loop``."""


class searcher_string(Patterns):
    """The same for exact strings."""


_NO_PATTERNS = Patterns([])


class Stream(Generic[Str]):
    r"""What has come and is not consumed yet, and how much of it the current patterns have seen.

    ``limit`` bounds what is kept of the part in which no match can begin any more: its end.

    >>> stream = Stream(b"", limit=4)
    >>> stream.begin(Patterns([b"$ "]), None)
    >>> for piece in (b"0123456789", b"abc$", b" rest"):
    ...     stream.feed(piece)
    ...     found = stream.search()
    >>> found, stream.match, stream.rest()
    ((0, b'9abc', b'$ '), b'$ ', b'rest')
    """

    def __init__(self, empty: Str, limit: int | None = None) -> None:
        self._empty: Any = empty
        self.limit = limit
        self.match: Any = None
        self._past: list[Any] = []
        """Pieces in which no match can begin any more."""
        self._past_length = 0
        self._window: Any = empty
        self._fresh: list[Any] = []
        """Arrived and not searched yet."""
        self._fresh_length = 0
        self._patterns = _NO_PATTERNS
        self._starts: list[int] = []
        """Where in the window each pattern goes on."""
        self.search_window: int | None = None
        """How far before the end of what has come a match may begin; ``None``: anywhere."""
        self._first = True
        self._overlap = -1
        """How many characters of what is passed over a match may begin in; -1 where that is not known."""

    def __len__(self) -> int:
        return self._past_length + len(self._window) + self._fresh_length

    def feed(self, piece: Str) -> None:
        """It has arrived."""
        if piece:
            self._fresh.append(piece)
            self._fresh_length += len(piece)

    def rest(self) -> Str:
        """All that is not consumed."""
        return cast(Str, self._empty.join([*self._past, self._window, *self._fresh]))

    def replace(self, text: Str) -> None:
        """Let this be the rest."""
        self._past, self._past_length = [], 0
        self._fresh, self._fresh_length = [], 0
        self._window = text
        self._patterns = _NO_PATTERNS

    def begin(self, patterns: Patterns, search_window: int | None) -> None:
        """Look for these from now on; where they were looked for before, that goes on where it stopped."""
        if patterns.all == self._patterns.all and search_window == self.search_window and not self._first:
            return
        if len(self):
            self.replace(self.rest())
        self._patterns, self.search_window = patterns, search_window
        self._first = not patterns.exact or len(self) > 0
        self._starts = [0] * len(patterns.searched)

    @property
    def deferrable(self) -> bool:
        """Whether it is cheaper to wait for more before searching, and only the caller's patience forbids it.

        A pattern that may stretch over everything has to look at everything each time: as long as data keeps coming,
        that is done whenever the amount has grown by a half.
        """
        if not self._patterns.deferrable or len(self._window) < WORTH_DEFERRING:
            return False
        return self._fresh_length * 2 < len(self._window) - min(self._starts, default=0)

    def heralds(self) -> list[Sought] | None:
        """Strings of which one has to come before any pattern can match; ``None`` where nobody knows.

        As long as none does, what comes need not be looked at. Empty where nothing can match any more.
        """
        if self._fresh or self._first:
            return None
        shown, found, known = Window(self._window), list[Sought](), not self._patterns.whole
        for entry, start in zip(self._patterns.searched, self._starts, strict=True):
            strings = entry.heralds(shown, start)
            if strings is None:
                return None
            found += strings
            known = known and strings is entry.begins
        self._overlap = max((len(sought.string) for sought in found), default=1) - 1 if known else -1
        return found

    def pass_over(self, piece: Str) -> bool:
        """It has arrived, and none of the heralds with it: whether that is all there is to do, else it is to be fed."""
        start = len(piece) - self._overlap
        if self._overlap < 0 or start < self._patterns.behind:
            return False
        self._past.append(self._window)
        self._past_length += len(self._window)
        self._window = piece
        self._starts = [start] * len(self._starts)
        self._trim()
        return True

    def tail(self, length: int) -> Str:
        """The last characters, as far as a match may begin there."""
        return cast(Str, self._window[-length:])

    def search(self) -> tuple[int, Str, Str] | None:
        """Which pattern matches first, what came before it, and the match; these are consumed then."""
        if not self._fresh and not self._first:
            return None
        patterns, starts, size = self._patterns, self._starts, self.search_window
        window = self._window
        if self._fresh:
            if window or len(self._fresh) > 1:
                window = self._empty.join([window, *self._fresh])
            else:
                window = self._fresh[0]
            self._window, self._fresh, self._fresh_length = window, [], 0
        least = 0
        if size is not None:
            least = max(0, len(window) - size)
        self._first = False
        shown = Window(window)
        best: Found | None = None
        for place, entry in enumerate(patterns.searched):
            start = starts[place]
            found = entry.look(shown, start if start > least else least, best)
            if isinstance(found, int):
                starts[place] = found
            else:
                best = found
        if best is not None:
            return self._consume(best)
        settled = min(starts, default=len(window))
        if size is not None:
            settled = max(settled, len(window) - size)
        if not patterns.whole:
            self._settle(settled - patterns.behind)
        return None

    def _settle(self, count: int) -> None:
        # Each cut copies the window's rest: so it is done only where that is the smaller part.
        if count <= 0 or count * 2 < len(self._window):
            return
        window = self._window
        self._past.append(window[:count])
        self._past_length += count
        self._window = window[count:]
        self._starts = [max(0, start - count) for start in self._starts]
        self._trim()

    def _trim(self) -> None:
        if self.limit is None:
            return
        while self._past and self._past_length - len(self._past[0]) >= self.limit:
            self._past_length -= len(self._past.pop(0))
        # Cut seldom, so that a flood costs two copies of a character and not one for each read.
        if self._past_length > 2 * self.limit + 65536:
            kept = self._empty.join(self._past)[max(0, self._past_length - self.limit) :]
            self._past, self._past_length = [kept], len(kept)

    def _consume(self, found: Found) -> tuple[int, Str, Str]:
        window = self._window
        before = window[: found.start]
        if self._past:
            before = self._empty.join([*self._past, before])
        before = self._cut(before)
        self.match = found.match
        after = window[found.start : found.end]
        self.replace(window[found.end :])
        return found.which, before, after

    def _cut(self, before: Any) -> Any:
        if self.limit is None or len(before) <= self.limit:
            return before
        return before[len(before) - self.limit :]

    def take_all(self) -> Str:
        """All that is left, consumed."""
        rest = self._cut(self.rest())
        self.replace(self._empty)
        return cast(Str, rest)

    def seen(self) -> Str:
        """What ``before`` says when time ran out: it stays where it is."""
        return cast(Str, self._cut(self.rest()))
