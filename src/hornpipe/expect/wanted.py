"""What people say they expect, made into what the matcher searches for; what is no pattern is refused by name."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, NoReturn

from hornpipe.expect.exceptions import EOF, TIMEOUT


def of_kind(given: Any, text: bool) -> Any:
    """A pattern's string as text, or as bytes: pexpect lets people write ASCII in either.

    >>> of_kind("login: ", text=False), of_kind(b"login: ", text=True)
    (b'login: ', 'login: ')
    """
    if text and isinstance(given, bytes):
        return given.decode("ascii")
    if not text and isinstance(given, str):
        return given.encode("ascii")
    return given


def compiled(patterns: Any, text: bool, ignorecase: bool) -> list[Any]:
    """One pattern or a list of them, with strings as regular expressions; ``TypeError`` for what is none.

    >>> compiled(["log(in)?: ", EOF], text=True, ignorecase=False)
    [re.compile('log(in)?: ', re.DOTALL), <class 'hornpipe.expect.exceptions.EOF'>]
    """
    if patterns is None:
        return []
    flags = re.DOTALL | (re.IGNORECASE if ignorecase else 0)
    made: list[Any] = []
    for pattern in patterns if isinstance(patterns, list) else [patterns]:
        if isinstance(pattern, str | bytes):
            made.append(re.compile(of_kind(pattern, text), flags))
        elif isinstance(pattern, re.Pattern):
            made.append(_recompiled(pattern, text))
        elif pattern is EOF or pattern is TIMEOUT or hasattr(pattern, "search"):
            made.append(pattern)
        else:
            _refuse(pattern, text)
    return made


def _recompiled(pattern: re.Pattern[Any], text: bool) -> re.Pattern[Any]:
    if isinstance(pattern.pattern, str) == text:
        return pattern
    return re.compile(of_kind(pattern.pattern, text), pattern.flags if text else pattern.flags & ~re.UNICODE)


def exact(given: Any, text: bool) -> list[Any]:
    """One string or several, as they are; ``TypeError`` for what is none.

    >>> exact("# ", text=False)
    [b'# ']
    """
    if isinstance(given, str | bytes) or given is EOF or given is TIMEOUT:
        given = [given]
    if not isinstance(given, Iterable):
        _refuse(given, text)
    made: list[Any] = []
    for pattern in given:
        if isinstance(pattern, str | bytes):
            made.append(of_kind(pattern, text))
        elif pattern is EOF or pattern is TIMEOUT:
            made.append(pattern)
        else:
            _refuse(pattern, text)
    return made


def _refuse(pattern: object, text: bool) -> NoReturn:
    kinds = "str" if text else "bytes, str"
    raise TypeError(
        f"got {type(pattern)} ({pattern!r}) as pattern, must be one of: {kinds}, pexpect.EOF, pexpect.TIMEOUT"
    )
