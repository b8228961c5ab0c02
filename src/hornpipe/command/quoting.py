"""Commands as lines that can be pasted into a shell. For the reader only: no shell ever sees them."""

from __future__ import annotations

import re

_unsafe = re.compile(r"[^\w@%+=:,./-]", re.ASCII).search


def quote(word: str | bytes) -> str:
    r"""One word, quoted where a shell needs it.

    >>> print(quote("plain"), quote("two words"), quote(""), quote("it's"), quote(b"\xff"))
    plain 'two words' '' 'it'"'"'s' $'\xff'
    """
    text = word.decode("utf-8", "surrogateescape") if isinstance(word, bytes) else word
    if text and not _unsafe(text):
        return text
    if all(char.isprintable() for char in text):
        return "'" + text.replace("'", "'\"'\"'") + "'"
    # Control characters and bytes that are no text: the $'...' of bash, ksh and zsh.
    made = []
    for char in text:
        if char in "'\\":
            made.append("\\" + char)
        elif char.isprintable():
            made.append(char)
        else:
            made.extend(f"\\x{byte:02x}" for byte in char.encode("utf-8", "surrogateescape"))
    return "$'" + "".join(made) + "'"


_RESERVED = frozenset(
    [
        *("!", "case", "coproc", "do", "done", "elif", "else", "esac", "fi", "for", "function", "if", "in"),
        *("select", "then", "time", "until", "while", "{", "}", "[[", "]]"),
    ]
)


def line_of(argv: tuple[str | bytes, ...]) -> str:
    """A whole command.

    >>> print(line_of(("grep", "-e", "a b")))
    grep -e 'a b'
    >>> print(line_of(("if", "A=b")), line_of(("A=b",)))
    'if' A=b 'A=b'
    """
    words = [quote(word) for word in argv]
    # In front, a shell would take these for its own.
    if words[0] in _RESERVED or (words[0] == argv[0] and "=" in words[0]):
        words[0] = f"'{words[0]}'"
    return " ".join(words)
