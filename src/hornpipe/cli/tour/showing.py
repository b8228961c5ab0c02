"""Rows as they come out: lines for pipes and files, a table for a person."""

from __future__ import annotations

import textwrap
from collections.abc import Callable

import click

from hornpipe.cli.tour.judging import Outcome, Row, perform

_WIDTH = 80
"""Columns of the plain form."""
_INDENT = 13
"""As wide as a verdict and a time."""


def show_plain(rows: list[Row], chapter_of: Callable[[Row], str]) -> list[Outcome]:
    """Each row as soon as it is known, in plain lines: for pipes and files."""
    outcomes = []
    chapter = ""
    for row in rows:
        outcome = perform(row)
        outcomes.append(outcome)
        if chapter != chapter_of(row):
            chapter = chapter_of(row)
            click.echo(f"{chapter}")
        verdict = "ok  " if outcome.ok else "FAIL"
        # Not print: it would keep the lines from a reader that is waiting for them.
        click.echo(f"{verdict} {outcome.seconds * 1000:5.0f} ms {row.name}")
        for text in (row.what, outcome.glimpse if outcome.ok else outcome.problem):
            margin = " " * _INDENT
            click.echo(textwrap.fill(text, _WIDTH, initial_indent=margin, subsequent_indent=margin))
    click.echo(_summary(outcomes))
    return outcomes


def show_table(rows: list[Row], chapter_of: Callable[[Row], str]) -> list[Outcome]:
    """A table for a person, each row as soon as it is known, with what is under way."""
    from rich import box
    from rich.console import Console, Group
    from rich.live import Live
    from rich.table import Table
    from rich.text import Text

    console = Console()
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, caption_justify="left", title="hornpipe, live on this machine")
    table.add_column("row", style="bold", no_wrap=True)
    table.add_column("what was done, and a glimpse of what came")
    table.add_column("", no_wrap=True)
    table.add_column("ms", justify="right", no_wrap=True)
    outcomes = []
    chapter = ""
    # Rich must not touch stdout in between: the rows' programs share the terminal.
    with Live(console=console, redirect_stdout=False, redirect_stderr=False, vertical_overflow="visible") as live:
        for number, row in enumerate(rows):
            live.update(Group(table, Text(f"{number + 1} of {len(rows)}: {row.name}", style="dim")), refresh=True)
            outcome = perform(row)
            outcomes.append(outcome)
            if chapter != chapter_of(row):
                chapter = chapter_of(row)
                table.add_row(Text(chapter, style="cyan"), "", "", "")
            seen = Text(row.what)
            seen.append(f"\n{outcome.glimpse or outcome.problem}", style="dim" if outcome.ok else "red")
            verdict = Text("ok", style="green") if outcome.ok else Text("FAIL", style="bold red")
            table.add_row(row.name, seen, verdict, f"{outcome.seconds * 1000:.0f}")
        live.update(table, refresh=True)
    console.print(_summary(outcomes))
    return outcomes


def _summary(outcomes: list[Outcome]) -> str:
    failed = [outcome.row.name for outcome in outcomes if not outcome.ok]
    seconds = sum(outcome.seconds for outcome in outcomes)
    if failed:
        return f"{len(failed)} of {len(outcomes)} rows failed: {', '.join(failed)}"
    return f"{len(outcomes)} rows, all as they should be, in {seconds:.1f} s"
