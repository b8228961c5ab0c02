"""``hornpipe tour``: every facility live on this machine, each verdict from comparing what really happened.

A row is one function with a docstring, in the module of its subject: the docstring is what the row says, the body does
it with real programs, tells its ``Judge`` what came and what should have come, and returns the glimpse that is shown. A
row that compares nothing fails. The decorator names the programs that the row needs; the tests take each away, put an
impostor in its place, and want to see the row fail.
"""

from __future__ import annotations

from types import ModuleType

from hornpipe.cli.tour import (
    children,
    daemons,
    endings,
    files,
    programs,
    servers,
    signals,
    sockets,
    streams,
    sysv,
    terminals,
)
from hornpipe.cli.tour.judging import Judge, Outcome, Row, Wrong, perform, row
from hornpipe.cli.tour.showing import show_plain, show_table

_SUBJECTS: dict[str, tuple[ModuleType, ...]] = {
    "signals": (signals,),
    "files": (files, daemons),
    "open": (streams, endings, children),
    "bidirectional": (terminals,),
    "sockets": (sockets, servers, programs),
    "sysv": (sysv,),
}

CHAPTERS = {
    chapter: {made.name: made for subject in subjects for made in vars(subject).values() if isinstance(made, Row)}
    for chapter, subjects in _SUBJECTS.items()
}
"""The rows by the chapters of the manual page, in its order."""

ROWS = {name: made for rows in CHAPTERS.values() for name, made in rows.items()}
"""All of them, in the order of the tour."""


def chapter_of(row: Row) -> str:
    """Where the manual page speaks of it."""
    return next(chapter for chapter, rows in CHAPTERS.items() if row.name in rows)


def named(names: tuple[str, ...]) -> list[Row]:
    """The rows that these names of rows and chapters mean, each once, in the order of the tour; all, if there are none.

    ``KeyError`` for a name that is neither.
    """
    wanted: set[str] = set()
    for name in names:
        wanted |= set(CHAPTERS[name]) if name in CHAPTERS else {ROWS[name].name}
    return [made for made in ROWS.values() if not names or made.name in wanted]


__all__ = [
    "CHAPTERS",
    "ROWS",
    "Judge",
    "Outcome",
    "Row",
    "Wrong",
    "chapter_of",
    "named",
    "perform",
    "row",
    "show_plain",
    "show_table",
]
