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
    prefix: Any
    """What it begins with; empty where that is not one string."""
    needed: Any
    """The longest string that is in every match, as far as that is easily seen."""


NOTHING_KNOWN = Reach(INFINITE, INFINITE, INFINITE, "", "")


def reach_of(pattern: re.Pattern[Any]) -> Reach:
    r"""The reach of a compiled pattern.

    >>> reach_of(re.compile(r"login: "))
    Reach(width=7, newlines=0, behind=0, prefix='login: ', needed='login: ')
    >>> reach_of(re.compile(r"\w+@.*[$#] $"))
    Reach(width=inf, newlines=1, behind=1, prefix='', needed='@')
    """
    text: Any = pattern.pattern
    try:
        # The flags of the compiled pattern hold those written inside it as well.
        parsed = _parser.parse(text, pattern.flags & ~re.DEBUG)
    except re.error:
        return NOTHING_KNOWN
    flags = parsed.state.flags | pattern.flags
    width, newlines, behind = _walk(parsed, flags, {})
    runs = _runs(parsed, bool(flags & re.IGNORECASE))
    prefix, needed = runs[0], max(runs, key=len)
    if isinstance(text, bytes):
        return Reach(width, newlines, behind, prefix.encode("latin-1"), needed.encode("latin-1"))
    return Reach(width, newlines, behind, prefix, needed)


def _runs(parsed: Any, ignore_case: bool) -> list[str]:
    """The strings in a sequence that every match has; the first is what it begins with."""
    runs: list[list[str]] = [[]]
    for op, argument in parsed:
        # Without case only what has none is sure; beyond ASCII that is a science of its own.
        if str(op) == "LITERAL" and not (ignore_case and (argument > 127 or chr(argument).isalpha())):
            runs[-1].append(chr(argument))
        else:
            runs.append([])
    return ["".join(run) for run in runs]


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
