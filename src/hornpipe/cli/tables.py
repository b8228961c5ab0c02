"""A table for a terminal: what other programs have named is shown as it is, and never taken for markup."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set


def print_table(
    heads: Sequence[str],
    rows: Iterable[Iterable[str]],
    *,
    bold: str,
    right: Set[str] = frozenset(),
    whole: bool = False,
) -> None:
    """Print ``rows`` under ``heads``: one column ``bold``, some to the ``right``.

    ``whole`` keeps every column but the last from being wrapped.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for head in heads:
        table.add_column(
            head,
            style="bold" if head == bold else "",
            justify="right" if head in right else "left",
            no_wrap=whole and head != heads[-1],
        )
    for row in rows:
        table.add_row(*map(Text, row))
    Console().print(table)
