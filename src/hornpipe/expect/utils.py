"""From what a person types to what is started: the one place of this library that splits a string."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from typing import Any


def split_command_line(command_line: str) -> list[str]:
    r"""Split at blanks, with quotes and backslashes as a person expects them; no shell has a look.

    >>> split_command_line(r"ls -l 'a b' c\ d \"e\"f")
    ['ls', '-l', 'a b', 'c d', '"e"f']
    """
    words: list[str] = []
    word: list[str] | None = None
    quote = ""
    escaped = False
    for character in command_line:
        if escaped or (quote and character != quote):
            word, escaped = [*(word or []), character], False
        elif quote:
            quote = ""
        elif character == "\\":
            word, escaped = word or [], True
        elif character in "'\"":
            word, quote = word or [], character
        elif not character.isspace():
            word = [*(word or []), character]
        elif word is not None:
            words.append("".join(word))
            word = None
    if word is not None:
        words.append("".join(word))
    return words


def is_executable_file(path: str) -> bool:
    """Whether it is a file that we may run.

    >>> is_executable_file("/bin/sh"), is_executable_file("/")
    (True, False)
    """
    real = os.path.realpath(path)
    return os.path.isfile(real) and os.access(real, os.X_OK)


def which(filename: str, env: Mapping[str, str] | None = None) -> str | None:
    """The path of a program, as the PATH of ``env`` (ours, if none is given) has it.

    >>> which("sh", {"PATH": "/bin"})
    '/bin/sh'
    """
    if os.path.dirname(filename):
        return filename if is_executable_file(filename) else None
    return shutil.which(filename, path=(env if env is not None else os.environ).get("PATH") or os.defpath)


def whole_environment(env: Mapping[str, str] | None) -> dict[str, Any] | None:
    """All that a program's environment has, as a recipe wants it, which merges: what is not named is unset."""
    if env is None:
        return None
    return {**dict.fromkeys(os.environ), **env}
