"""``hornpipe tour``: every facility live on this machine, each verdict from comparing what really happened.

A row is one function with a docstring, in the module of its subject: the docstring is what the row says, the body does
it with real programs, tells its ``Judge`` what came and what should have come, and returns the glimpse that is shown. A
row that compares nothing fails. The decorator names the programs that the row needs; the tests take each away, put an
impostor in its place, and want to see the row fail.
"""

from __future__ import annotations

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

ROWS = {
    made.name: made
    for subject in (streams, terminals, endings, children, signals, files, daemons, sockets, servers, programs, sysv)
    for made in vars(subject).values()
    if isinstance(made, Row)
}
"""All of them, in the order of the tour."""

__all__ = ["ROWS", "Judge", "Outcome", "Row", "Wrong", "perform", "row", "show_plain", "show_table"]
