"""``hornpipe fifo``, a file whose content a command makes for each reader, and ``hornpipe cat``, Perl's diamond."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence

import click

import hornpipe as hp
from hornpipe.cli import complain
from hornpipe.errors import SpawnError

_NOT_FOUND = 127


def _mode(_ctx: click.Context, _option: click.Parameter, text: str) -> int:
    if not set(text) <= set("01234567") or not 0 < len(text) < 6 or int(text, 8) > 0o777:
        raise click.BadParameter(f"{text!r} is no mode such as 600 or 0644")
    return int(text, 8)


@click.command(
    "fifo",
    short_help="Make a file whose content a command prints for each reader.",
    context_settings={"allow_interspersed_args": False},
    epilog="\b\nExamples:\n  hornpipe fifo ~/.signature -- fortune -s\n  hornpipe fifo --mode 644 /run/load -- uptime",
)
@click.option("--mode", callback=_mode, default="600", metavar="MODE", help="Its permissions.  [default: 600]")
@click.option("--replace", is_flag=True, help="Put it in the place of whatever stands there (but a directory).")
@click.argument("path")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="[--] COMMAND [ARGUMENT]...")
def fifo_command(mode: int, replace: bool, path: str, command: tuple[str, ...]) -> None:
    """Make PATH a file whose content is what COMMAND prints, run anew for each reader.

    Goes on until INT or TERM, and then removes PATH. A command that fails is reported, and its reader gets what it
    printed until then.
    """
    # The parser stops at PATH, and so does not take the -- behind it for what it is.
    command = command[1:] if command[0] == "--" else command
    if not command:
        raise click.UsageError("no command to run")
    # Now, and not only when the first reader comes.
    if shutil.which(command[0]) is None:
        complain(f"hornpipe fifo: {command[0]}: not found, or not executable")
        raise click.exceptions.Exit(_NOT_FOUND)
    program = hp.cmd(*command, check=False).as_bytes()

    def make() -> bytes:
        try:
            with program.reader() as output:
                data = output.read()
        except SpawnError as error:
            complain(f"hornpipe fifo: {error}")
            return b""
        if not output.status:
            complain(f"hornpipe fifo: {command[0]}: {output.status}")
        return data

    hp.signals.unwind("INT", "TERM", "HUP")
    fifo = hp.Fifo(path, mode).as_bytes()
    try:
        fifo.serve(make, replace=replace)
    finally:
        fifo.remove()


@click.command(
    "cat",
    short_help="Print the lines of files, as Perl's <> reads them.",
    epilog="\b\nExamples:\n  hornpipe cat -n access.log -\n  hornpipe cat --commands 'zcat old.gz|' new",
)
@click.option("-n", "--number", is_flag=True, help="Number the lines, over all files.")
@click.option("--commands", is_flag=True, help="A name that ends with | is a command line whose output is read.")
@click.argument("names", nargs=-1, metavar="[FILE]...")
def cat_command(number: bool, commands: bool, names: Sequence[str]) -> None:
    """Print the lines of each FILE; of the input, if there is none, or for -.

    A name is a name, whatever characters it begins or ends with, unless --commands is given. The exit status is 1
    if one could not be read; the rest is printed all the same.
    """
    out = sys.stdout.buffer
    at_once = out.isatty()
    with hp.inputs(names, commands=commands).as_bytes() as lines:
        for line in lines:
            out.write(b"%6d\t%b" % (lines.total, line) if number else line)
            if at_once:
                out.flush()
        out.flush()
        if lines.failed:
            raise click.exceptions.Exit(1)
