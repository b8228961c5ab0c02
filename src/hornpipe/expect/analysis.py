"""How far a regular expression can see: from where on a match may still begin once more text has come.

What re's own parser makes of the pattern is walked once. A search that has failed need not be repeated for a
position at which everything that a match could look at had arrived (gotcha:TTY12).
"""

from __future__ import annotations

import re
from re import _parser  # type: ignore[attr-defined]
from typing import Any, NamedTuple

INFINITE = float("inf")
_NEWLINE = 10
_CATEGORIES_WITH_NEWLINE = {"CATEGORY_SPACE", "CATEGORY_NOT_DIGIT", "CATEGORY_NOT_WORD", "CATEGORY_NOT_LINEBREAK"}


class Reach(NamedTuple):
    """What a match can look at."""

    width: float
    """Characters from its start on, those of look-aheads included."""
    newlines: float
    """Newlines among them."""
    behind: float
    """Characters before its start."""
    prefix: tuple[Any, ...]
    """Strings with one of which it begins; empty where they are not known or too many."""
    needed: tuple[Any, ...]
    """Strings of which one is in every match, as far as that is easily seen: the longest such."""
    folded: bool
    """Whether these are small letters that stand for capital ones as well."""


NOTHING_KNOWN = Reach(INFINITE, INFINITE, INFINITE, (), (), False)


def reach_of(pattern: re.Pattern[Any]) -> Reach:
    r"""The reach of a compiled pattern.

    >>> reach_of(re.compile(r"login: "))
    Reach(width=7, newlines=0, behind=0, prefix=('login: ',), needed=('login: ',), folded=False)
    >>> reach_of(re.compile(r"\w+@.*[$#] $"))
    Reach(width=inf, newlines=1, behind=1, prefix=(), needed=('$ ', '# '), folded=False)
    """
    text: Any = pattern.pattern
    try:
        # The flags of the compiled pattern hold those written inside it as well.
        parsed = _parser.parse(text, pattern.flags & ~re.DEBUG)
    except re.error:
        return NOTHING_KNOWN
    flags = parsed.state.flags | pattern.flags
    width, newlines, behind = _walk(parsed, flags, {})
    folded = bool(flags & re.IGNORECASE)
    prefix, needed = _strings(parsed, folded) if not flags & re.LOCALE else ((), ())
    as_given = (lambda strings: tuple(s.encode("latin-1") for s in strings)) if isinstance(text, bytes) else tuple
    return Reach(width, newlines, behind, as_given(prefix), as_given(needed), folded)


_Strings = tuple[str, ...]
_MOST = 6
"""Strings that are worth looking for in place of the pattern: re's own scan costs as much as some ten of them."""


def _strings(parsed: Any, folded: bool) -> tuple[_Strings, _Strings]:
    """What matches begin with, and what is in each of them."""
    runs: list[_Strings] = []
    run: _Strings = ("",)
    for op, argument in parsed:
        strings, is_all = _beginnings(str(op), argument, folded)
        longer = _joined(run, strings)
        if not longer:
            runs.append(run)
            longer = strings or ("",)
        run = longer
        if not is_all:
            runs.append(run)
            run = ("",)
    runs.append(run)
    needed = max(runs, key=lambda run: (min(map(len, run)), -len(run)))
    return _fewest(runs[0]), _fewest(needed)


def _fewest(strings: _Strings) -> _Strings:
    """Without those that another one stands for: where "ab" begins, "a" does."""
    if "" in strings:
        return ()
    return tuple(one for one in strings if not any(one != other and one.startswith(other) for other in strings))


def _joined(first: _Strings, second: _Strings) -> _Strings:
    if len(first) * len(second) > _MOST:
        return ()
    return tuple(a + b for a in first for b in second)


def _beginnings(op: str, argument: Any, folded: bool) -> tuple[_Strings, bool]:
    """Strings with one of which this item begins (none: nobody knows), and whether that is all of it."""
    match op:
        case "LITERAL":
            # Which characters beyond ASCII are the same without case is a science of its own.
            if folded and argument > 127:
                return (), False
            return (chr(argument).lower() if folded else chr(argument),), True
        case "IN":
            found = [_beginnings(str(kind), code, folded) for kind, code in argument]
            if len(found) > _MOST or not all(strings and is_all for strings, is_all in found):
                return (), False
            return tuple(dict.fromkeys(strings[0] for strings, _ in found)), True
        case "SUBPATTERN":
            _, added, removed, inner = argument
            return ((), False) if added or removed else _beginnings_of_all(inner, folded)
        case "BRANCH":
            branches = [_beginnings_of_all(branch, folded) for branch in argument[1]]
            strings = tuple(dict.fromkeys(string for some, _ in branches for string in some))
            if len(strings) > _MOST or not all(some for some, _ in branches):
                return (), False
            return strings, all(is_all for _, is_all in branches)
        case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
            least, most, inner = argument
            strings, is_all = _beginnings_of_all(inner, folded) if least else ((), False)
            return strings, is_all and most == 1
        case "AT" | "ASSERT" | "ASSERT_NOT":
            return ("",), True  # it has no width
    return (), False


def _beginnings_of_all(parsed: Any, folded: bool) -> tuple[_Strings, bool]:
    run: _Strings = ("",)
    for op, argument in parsed:
        strings, is_all = _beginnings(str(op), argument, folded)
        longer = _joined(run, strings)
        if not longer:
            return run, False
        run = longer
        if not is_all:
            return run, False
    return run, True


_Sum = tuple[float, float, float]


def _walk(parsed: Any, flags: int, groups: dict[int, _Sum]) -> _Sum:
    """Width, newlines and look-behind of a sequence."""
    width = newlines = behind = 0.0
    for op, argument in parsed:
        w, n, b = _one(str(op), argument, flags, groups)
        width += w
        newlines += n
        behind = max(behind, b)
    return _whole(width), _whole(newlines), _whole(behind)


def _whole(number: float) -> float:
    return number if number == INFINITE else int(number)


def _one(op: str, argument: Any, flags: int, groups: dict[int, _Sum]) -> _Sum:
    match op:
        case "LITERAL":
            # With IGNORECASE a character can match another one, but never one of another length.
            return 1, argument == _NEWLINE, 0
        case "NOT_LITERAL":
            return 1, argument != _NEWLINE, 0
        case "ANY":
            return 1, bool(flags & re.DOTALL), 0
        case "IN":
            return 1, _set_has_newline(argument), 0
        case "BRANCH":
            return _widest([_walk(branch, flags, groups) for branch in argument[1]])
        case "SUBPATTERN":
            group, added, removed, inner = argument
            found = _walk(inner, (flags | added) & ~removed, groups)
            if group is not None:
                groups[group] = found
            return found
        case "ATOMIC_GROUP":
            return _walk(argument, flags, groups)
        case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
            _, most, inner = argument
            times = INFINITE if most == _parser.MAXREPEAT else most
            w, n, b = _walk(inner, flags, groups)
            return (times * w if w else 0), (times * n if n else 0), b
        case "ASSERT" | "ASSERT_NOT":
            direction, inner = argument
            w, n, b = _walk(inner, flags, groups)
            return (w, n, b) if direction > 0 else (0, 0, w + b)
        case "AT":
            # A boundary looks at the character before it and the one after it; `$` also at a newline's next.
            return 2, 1, 1
        case "GROUPREF":
            # A group that is still open cannot be referred to, so its width is known by now.
            return groups.get(argument, (INFINITE, INFINITE, 0.0))
        case "GROUPREF_EXISTS":
            _, yes, no = argument
            return _widest([_walk(branch, flags, groups) for branch in (yes, no) if branch])
        case "FAILURE":
            return 0, 0, 0
    return INFINITE, INFINITE, INFINITE


def _widest(found: list[_Sum]) -> _Sum:
    return max(f[0] for f in found), max(f[1] for f in found), max(f[2] for f in found)


def _set_has_newline(items: Any) -> bool:
    has, negated = False, False
    for op, argument in items:
        match str(op):
            case "NEGATE":
                negated = True
            case "LITERAL":
                has |= argument == _NEWLINE
            case "RANGE":
                has |= argument[0] <= _NEWLINE <= argument[1]
            case "CATEGORY":
                has |= str(argument) in _CATEGORIES_WITH_NEWLINE
    return has != negated
