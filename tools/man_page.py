"""Print the manual page of the command, from its own help: `man_page.py > docs/hornpipe.1`."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator
from importlib.metadata import version

import click

from hornpipe.cli import run
from hornpipe.cli.app import hornpipe


def escaped(text: str) -> str:
    """For roff: a backslash, a hyphen that stays one, and no request at the start of a line."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return re.sub(r"^(?=[.'])", r"\\&", text, flags=re.MULTILINE)


def paragraphs(text: str) -> Iterator[str]:
    r"""The help of click, in which `\b` keeps the lines of a paragraph as they are."""
    for paragraph in re.split(r"\n\s*\n", text.strip()):
        lines = [line.strip() if not paragraph.startswith("\b") else line for line in paragraph.splitlines()]
        if lines[0].strip() == "\b":
            yield ".PP\n.nf\n" + "\n".join(escaped(line) for line in lines[1:]) + "\n.fi"
        else:
            yield ".PP\n" + "\n".join(map(escaped, lines))


def commands(group: click.Group, path: str) -> Iterator[tuple[str, click.Command]]:
    """Every command with its name, those of groups included."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield f"{path} {name}", command
        if isinstance(command, click.Group):
            yield from commands(command, f"{path} {name}")


def about(path: str, command: click.Command) -> Iterator[str]:
    """One command: what it is called with, does, and takes."""
    context = click.Context(command, info_name=path)
    pieces = " ".join(command.collect_usage_pieces(context))
    yield f".SS {escaped(path)}\n.B {escaped(path)}\n{escaped(pieces)}"
    yield from paragraphs(command.help or "")
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if isinstance(parameter, click.Option) and record is not None and parameter.name != "help":
            yield f".TP\n.B {escaped(record[0])}\n{escaped(record[1])}"
    if command.epilog:
        yield from paragraphs(command.epilog)


def about_run() -> Iterator[str]:
    """`hornpipe run` does without click, and tells of itself."""
    told = io.StringIO()
    with contextlib.redirect_stdout(told):
        run.main(["--help"])
    yield ".SS hornpipe run\n.nf\n" + escaped(told.getvalue().strip()) + "\n.fi"


def page() -> str:
    """The whole page."""
    parts = [
        f'.TH HORNPIPE 1 "" "hornpipe {version("hornpipe")}" "User commands"',
        ".SH NAME\nhornpipe \\- every way Unix processes talk to each other",
        ".SH SYNOPSIS\n.B hornpipe\n[\\-\\-version] [\\-h] COMMAND [ARGUMENTS]...",
        ".SH DESCRIPTION\nRunning, feeding, signalling, serving and ending Unix programs from the shell. "
        "Output that is piped is plain; errors are one line on standard error.",
        ".SH COMMANDS",
    ]
    for path, command in commands(hornpipe, "hornpipe"):
        parts += about_run() if path == "hornpipe run" else about(path, command)
    parts.append(
        ".SH EXIT STATUS\n0 for success, 1 for a failure, 2 for a command line that cannot be understood; "
        "128 + n when signal n ended it. Commands that say otherwise say so above."
    )
    parts.append(".SH SEE ALSO\n.BR perlipc (1),\n.BR signal (7),\n.BR pipe (7),\n.BR sysvipc (7)")
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    print(page(), end="")
