"""What click would say in its own way, said as Unix programs do: one line, by whom, about what."""

from __future__ import annotations

import math
from typing import Any

import click

from hornpipe.cli import complain, reader_gone, reason


class Quiet(click.Group):
    """Says of which of its commands an error is, and ends as PIPE would end it when nobody reads its output."""

    def invoke(self, ctx: click.Context) -> object:
        """Do what was asked for."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise click.exceptions.Exit(reader_gone()) from None
        except OSError as error:
            complain(f"{ctx.command_path} {ctx.invoked_subcommand}: {reason(error)}")
            raise click.exceptions.Exit(1) from None


class Seconds(click.FloatRange):
    """A time in seconds: more than 0, or with ``zero`` that too; and a number at all, which "nan" is not."""

    name = "number"

    def __init__(self, *, zero: bool = False) -> None:
        super().__init__(min=0, min_open=not zero)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number that a word stands for."""
        seconds: float = super().convert(value, param, ctx)
        if math.isnan(seconds):
            self.fail(f"{value!r} is not a valid number.", param, ctx)
        return seconds


class Number(click.IntRange):
    """A whole number from ``min`` to ``max``; of any other word it is said that it "is not a valid number"."""

    name = "number"
