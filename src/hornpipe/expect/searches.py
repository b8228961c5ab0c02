"""How one pattern is looked for in what has come: as little of it as possible, and none of it twice (gotcha:TTY12).

``re`` needs some ten nanoseconds for a character, the search for a string one, that for a single character a tenth
of one. So before a regular expression is tried, strings are looked for that each match has, and before these the
character of each that is the most seldom in what programs say.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from hornpipe.expect.analysis import INFINITE, NOTHING_KNOWN, reach_of

WORTH_DEFERRING = 64 * 1024
"""Characters from which on the searches of a pattern without bounds are spread out; below it one takes microseconds."""
_CANDIDATES = 50
"""Places at which a pattern is tried before it is left to re's own scan."""
_SMALL = 4096
"""Characters that are searched for a string sooner than its rarest one is found out."""
_FREQUENT = " \n\retaoinsrhldcumfpgwybvk0123456789.:,-/_xjqz()[]=\"'"
"""Characters of programs' output, the most frequent first; all others are seldom."""


class Found(NamedTuple):
    """A match: which pattern, where in the window, and what."""

    which: int
    start: int
    end: int
    match: Any
    """re's match object, or the exact string."""


class Window:
    """What is looked at, and the same in small letters for those who want it."""

    __slots__ = ("_small", "text")

    def __init__(self, text: Any) -> None:
        self.text = text
        self._small: Any = None

    @property
    def can_be_small(self) -> bool:
        """False beyond ASCII, where small letters may have another length, and re another mind."""
        return isinstance(self.text, bytes) or self.text.isascii()

    def small(self) -> Any:
        """The text in small letters; made once."""
        if self._small is None:
            self._small = self.text.lower()
        return self._small


class Sought:
    """A string that is looked for by its rarest character first."""

    __slots__ = ("_offset", "_rare", "folded", "string")

    def __init__(self, string: Any, folded: bool) -> None:
        self.string = string
        self.folded = folded
        self._offset = -1

    def _choose(self) -> None:
        string = self.string
        offset = max(range(len(string)), key=lambda place: _rarity(string[place : place + 1]), default=0)
        rare = string[offset : offset + 1]
        self._rare = (rare, rare.upper()) if self.folded and rare != rare.upper() else (rare,)
        self._offset = offset  # last, since other threads may search for it as well

    def find(self, window: Window, start: int, end: int | None = None) -> int:
        """Where it is, -1 for nowhere."""
        text = window.text
        first = start
        if len(text) - start > _SMALL:
            if self._offset < 0:
                self._choose()
            first = -1
            for rare in self._rare:
                at = text.find(rare, start + self._offset, end)
                if at >= 0 and (at < first or first < 0):
                    first = at
            if first < 0:
                return -1
            first -= self._offset
        if self.folded:
            text = window.small()
        at = text.find(self.string, first, end)
        return int(at)


def _rarity(character: Any) -> int:
    place = _FREQUENT.find(character.decode("latin-1") if isinstance(character, bytes) else character)
    return place if place >= 0 else len(_FREQUENT)


class Literal:
    """An exact string: only its length less one has to be looked at again."""

    deferrable = False
    behind = 0
    bounded_behind = True

    def __init__(self, index: int, text: Any) -> None:
        self.index = index
        self.text = text
        self._sought = Sought(text, folded=False)
        self.begins = (self._sought,)
        """Strings with one of which each match begins, if they are known."""

    def look(self, window: Window, start: int, best: Found | None) -> Found | int:
        """What is found from ``start`` on, if it begins before the best so far; or from where on to look next time."""
        # What begins at the same place comes later in the list.
        end = None if best is None else best.start + len(self.text) - 1
        at = self._sought.find(window, start, end)
        if at >= 0:
            return Found(self.index, at, at + len(self.text), self.text)
        return max(start, len(window.text) - len(self.text) + 1)

    def heralds(self, window: Window, start: int) -> tuple[Sought, ...]:
        """Strings of which one has to come before there can be a match, ``start`` being what ``look`` has given."""
        return self.begins


class Regex:
    """A regular expression: looked for from where a match could still begin."""

    def __init__(self, index: int, pattern: Any) -> None:
        self.index = index
        self.pattern = pattern
        reach = reach_of(pattern) if isinstance(pattern, re.Pattern) else NOTHING_KNOWN
        self._width, self._newlines = reach.width, reach.newlines
        self.begins = tuple(Sought(string, reach.folded) for string in reach.prefix)
        needed = () if reach.needed == reach.prefix else reach.needed
        self._needed = tuple(Sought(string, reach.folded) for string in needed)
        self._folded = reach.folded
        self._longest = max(map(len, reach.prefix), default=0)
        self.bounded_behind = reach.behind != INFINITE
        """Whether not everything before a match could matter to it."""
        # At least one: where the stream began earlier, `^` must see that this is not its beginning.
        self.behind = max(1, int(reach.behind)) if self.bounded_behind else 0
        self.deferrable = self._width > WORTH_DEFERRING
        self._newline: Any = b"\n" if isinstance(pattern.pattern, bytes) else "\n"

    def look(self, window: Window, start: int, best: Found | None) -> Found | int:
        """What is found from ``start`` on, if it begins before the best so far; or from where on to look next time."""
        begins = start
        strings = not self._folded or window.can_be_small
        if self.begins and strings:
            found, begins = self._look_where_it_begins(window, start, best)
        elif self._needed and strings and not any(sought.find(window, start) >= 0 for sought in self._needed):
            found = None
        else:
            found = self.pattern.search(window.text, start)
        if found is not None and (best is None or found.start() < best.start):
            return Found(self.index, found.start(), found.end(), found)
        return self._next_start(window.text, begins)

    def heralds(self, window: Window, start: int) -> tuple[Sought, ...] | None:
        """Strings of which one has to come before there can be a match; ``None`` where nobody knows."""
        rest = window.text[start:] if self.begins or self._needed else ""
        if self._folded and not Window(rest).can_be_small:
            return None
        for strings in (self.begins, self._needed):
            if strings and not any(sought.find(Window(rest), 0) >= 0 for sought in strings):
                return strings
        return None

    def _look_where_it_begins(self, window: Window, start: int, best: Found | None) -> tuple[Any, int]:
        """A match, and the first place at which one may begin."""
        places = [sought.find(window, start) for sought in self.begins]
        first = at = min((place for place in places if place >= 0), default=-1)
        if at < 0:
            return None, max(start, len(window.text) - self._longest + 1)
        if self._needed and not any(sought.find(window, start) >= 0 for sought in self._needed):
            return None, first
        for _ in range(_CANDIDATES):
            if at < 0 or (best is not None and at >= best.start):
                return None, first
            match = self.pattern.match(window.text, at)
            if match is not None:
                return match, first
            for which, sought in enumerate(self.begins):
                if places[which] == at:
                    places[which] = sought.find(window, at + 1)
            at = min((place for place in places if place >= 0), default=-1)
        return (self.pattern.search(window.text, at) if at >= 0 else None), first

    def _next_start(self, text: Any, start: int) -> int:
        if not self.bounded_behind:
            return 0
        length = len(text)
        if self._width != INFINITE:
            start = max(start, length - int(self._width) + 1)
        if self._newlines < 64:
            # It reaches over so many newlines at most: whatever lies before one more is done with.
            at = length
            for _ in range(int(self._newlines) + 1):
                at = text.rfind(self._newline, start, at)
                if at < 0:
                    return start
            start = max(start, at)
        return min(start, length)
