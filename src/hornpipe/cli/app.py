"""The commands for people, on click and rich."""

from __future__ import annotations

import json
import signal
import sys

import click

from hornpipe.cli import closed_stdout, complain, die_of, reason
from hornpipe.cli.wording import Number, Quiet

_ELSEWHERE = ("cat", "clocks", "completion", "connect", "daemon", "fifo", "get", "ipcrm", "ipcs", "serve")


def _from_elsewhere(name: str) -> click.Command:
    """A command with a module of its own, loaded when it is asked for: that halves the time of a start."""
    match name:
        case "cat":
            from hornpipe.cli.files import cat_command as command
        case "clocks":
            from hornpipe.cli.clocks import clocks_command as command
        case "completion":
            from hornpipe.cli.completion import completion_command as command
        case "connect":
            from hornpipe.cli.connect import connect_command as command
        case "daemon":
            from hornpipe.cli.daemon import daemon_group as command
        case "fifo":
            from hornpipe.cli.files import fifo_command as command
        case "get":
            from hornpipe.cli.get import get_command as command
        case "ipcrm":
            from hornpipe.cli.sysv import ipcrm_command as command
        case "ipcs":
            from hornpipe.cli.sysv import ipcs_command as command
        case _:
            from hornpipe.cli.serve import serve_command as command
    return command


class Commands(Quiet):
    """Knows of commands that are not loaded yet."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names of all, loaded or not."""
        return sorted({*self.commands, *_ELSEWHERE})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of this name."""
        if cmd_name in _ELSEWHERE and cmd_name not in self.commands:
            self.add_command(_from_elsewhere(cmd_name))
        return super().get_command(ctx, cmd_name)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]}, epilog="Try it: hornpipe tour")
@click.version_option(package_name="hornpipe", message="hornpipe %(version)s")
def hornpipe() -> None:
    """Every way Unix processes talk to each other."""


@hornpipe.command(
    "run",
    add_help_option=False,
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
    short_help="Run a command with a deadline and containment.",
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def run_command(arguments: tuple[str, ...]) -> None:
    """Listed here for its line in the help; the entry point goes there without this module."""
    from hornpipe.cli import run

    raise click.exceptions.Exit(run.main(list(arguments)))


@hornpipe.command(
    "tour",
    short_help="Show every facility live on this machine.",
    epilog="\b\nExamples:\n  hornpipe tour\n  hornpipe tour signals containment\n  hornpipe tour --json | jq .",
)
@click.argument("names", nargs=-1, metavar="[CHAPTER|ROW]...")
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list instead of a table.")
def tour_command(names: tuple[str, ...], as_json: bool) -> None:
    """Show every facility live on this machine, or only those of the CHAPTERs and ROWs named.

    Each row runs real programs and compares what they did with what they should have done. The exit status is 1 if
    any row fails.
    """
    from hornpipe.cli import tour

    try:
        rows = tour.named(names)
    except KeyError as error:
        import difflib

        close = difflib.get_close_matches(error.args[0], [*tour.CHAPTERS, *tour.ROWS], 1)
        raise click.UsageError(
            f"there is no chapter or row {error.args[0]!r}; "
            + (f"did you mean {close[0]!r}?" if close else f"the chapters are {', '.join(tour.CHAPTERS)}")
        ) from None
    if as_json:
        outcomes = [tour.perform(row) for row in rows]
        found = [{"chapter": tour.chapter_of(each.row), **each.as_dict()} for each in outcomes]
        click.echo(json.dumps(found, indent=2))
    elif sys.stdout.isatty():
        outcomes = tour.show_table(rows, tour.chapter_of)
    else:
        outcomes = tour.show_plain(rows, tour.chapter_of)
    raise click.exceptions.Exit(0 if all(outcome.ok for outcome in outcomes) else 1)


@hornpipe.command(
    "signals",
    short_help="List every signal, or what processes do with theirs.",
    epilog="\b\nExamples:\n  hornpipe signals\n  hornpipe signals $$\n"
    "  hornpipe signals --json $(pgrep python) | jq -r '.[] | select(.blocked != []) | .pid'",
)
@click.argument("pids", nargs=-1, metavar="[PID]...", type=Number(1, 0x7FFF_FFFF))
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list instead of a table.")
def signals_command(pids: tuple[int, ...], as_json: bool) -> None:
    """List every signal: its number, what it does by default, and what it means.

    With PIDs, show what these processes block, ignore, catch and have pending. What is blocked and what is pending
    for a thread is that of the main thread; another thread's number is as good as a PID.

    The exit status is 1 if there is no such process, or if it is hidden from us.
    """
    from hornpipe.cli import signals

    if not pids:
        signals.show_kinds(as_json)
    elif not signals.show_processes(pids, as_json):
        raise click.exceptions.Exit(1)


def main(arguments: list[str]) -> int:
    """Do what a command line asks for; the exit status. Errors are one line."""
    if sys.stdout is None:
        sys.stdout = closed_stdout()
    try:
        # Without click's own mode, which says "Aborted!".
        code = hornpipe.main(arguments, prog_name="hornpipe", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except click.exceptions.NoArgsIsHelpError as error:
        complain(error.format_message())
        return error.exit_code
    except click.ClickException as error:
        path = error.ctx.command_path if isinstance(error, click.UsageError) and error.ctx else "hornpipe"
        complain(f"{path}: {' '.join(error.format_message().split())} (see: {path} --help)")
        return error.exit_code
    except (KeyboardInterrupt, click.Abort):
        return die_of(signal.SIGINT)
    except OSError as error:
        complain(f"hornpipe: {reason(error)}")
        return 1
