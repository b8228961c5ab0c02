"""``hornpipe daemon``: any program made a daemon, and its end made sure.

What goes to the background is a keeper: the pidfile is its lock, the program is its contained child, and signals are
passed on. So neither a program that closes its descriptors nor a worker that outlives it can make the pidfile lie,
and KILL for the keeper is the end of all.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import click

import hornpipe as hp
from hornpipe import wait
from hornpipe.cli import complain, run
from hornpipe.cli.wording import Quiet, Seconds
from hornpipe.deadline import after
from hornpipe.fd import Descriptor
from hornpipe.pidfile import AlreadyRunning, PidFile, running

# The Linux Standard Base's codes for init scripts.
_FAILED, _NOT_RUNNING = 1, 7
_DEAD_WITH_PIDFILE, _STOPPED, _UNKNOWN = 1, 3, 4
_NOT_FOUND = 127
_AFTER_KILL = 5.0


class Wanted(NamedTuple):
    """The program and its surroundings."""

    command: tuple[str, ...]
    stdout: Path | None
    stderr: Path | None
    chdir: Path
    user: str | None


@click.group(
    "daemon",
    cls=Quiet,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="\b\nExamples:\n  hornpipe daemon start --pidfile /run/web.pid -- python3 -m http.server\n"
    "  hornpipe daemon status --pidfile /run/web.pid\n  hornpipe daemon stop --pidfile /run/web.pid",
)
def daemon_group() -> None:
    """Make any program a daemon: start it, stop it, ask for it.

    Whether it runs is known by the lock on its pidfile, not by the number in it.
    """


_pidfile = click.option(
    "--pidfile", required=True, type=click.Path(path_type=Path), metavar="P", help="Its pidfile, which names it."
)
_grace = click.option(
    "--grace",
    type=Seconds(zero=True),
    default=10,
    show_default=True,
    metavar="S",
    help="Seconds from TERM to KILL.",
)
_START: dict[str, Any] = {"context_settings": {"allow_interspersed_args": False}}


def _program(function: Callable[..., None]) -> Callable[..., None]:
    path = click.Path(path_type=Path)
    for option in (
        click.argument(
            "command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="[--] COMMAND [ARGUMENT]..."
        ),
        click.option("--user", metavar="USER", help="Run it as this user."),
        click.option("--chdir", type=path, default="/", show_default=True, metavar="DIR", help="Where it works."),
        click.option("--stderr", type=path, metavar="FILE", help="Append its errors to FILE."),
        click.option("--stdout", type=path, metavar="FILE", help="Append its output to FILE."),
    ):
        function = option(function)
    return function


@daemon_group.command(
    "start", epilog="\b\nExample:\n  hornpipe daemon start --pidfile /run/web.pid -- python3 -m http.server", **_START
)
@_pidfile
@_program
def start_command(
    pidfile: Path, command: tuple[str, ...], stdout: Path | None, stderr: Path | None, chdir: Path, user: str | None
) -> None:
    """Start COMMAND in the background. If the daemon runs already, that is said, and is no failure.

    Signals for the daemon are passed on to COMMAND. When COMMAND ends, nothing that it started is left.
    """
    _start(pidfile, Wanted(command, stdout, stderr, chdir, user))


@daemon_group.command("stop")
@_pidfile
@_grace
def stop_command(pidfile: Path, grace: float) -> None:
    """End it: TERM, and KILL after the grace. Returns when it is gone; if there was none, that is no failure."""
    _stop(pidfile, grace)


@daemon_group.command("restart", **_START)
@_pidfile
@_grace
@_program
def restart_command(
    pidfile: Path,
    grace: float,
    command: tuple[str, ...],
    stdout: Path | None,
    stderr: Path | None,
    chdir: Path,
    user: str | None,
) -> None:
    """Stop it if it runs, and start COMMAND."""
    wanted = Wanted(command, stdout, stderr, chdir, user)
    _found(command[0])
    _stop(pidfile, grace)
    _start(pidfile, wanted)


@daemon_group.command("reload", short_help="Send it HUP: read the configuration again.")
@_pidfile
def reload_command(pidfile: Path) -> None:
    """Send it HUP, by which most daemons read their configuration again. The exit status is 7 if it is not running."""
    found = _holder(pidfile)
    if found is None:
        complain(f"hornpipe daemon: {pidfile}: not running")
        raise click.exceptions.Exit(_NOT_RUNNING)
    with found.pidfd:
        signal.pidfd_send_signal(found.pidfd.fileno(), signal.SIGHUP)


@daemon_group.command("status")
@_pidfile
def status_command(pidfile: Path) -> None:
    """Say whether it runs.

    The exit status is 0 if it does, 1 if it has died and left its pidfile, 3 if it is not running, 4 if that
    cannot be known.
    """
    try:
        pid = running(pidfile)
        there = pidfile.is_file()  # later: one that has ended just now in good order has removed it before it let go
    except OSError as error:
        complain(f"hornpipe daemon: {pidfile}: {error.strerror}")
        raise click.exceptions.Exit(_UNKNOWN) from None
    if pid is not None:
        click.echo(f"running: process {pid}")
    elif there:
        click.echo("dead, and its pidfile is left")
        raise click.exceptions.Exit(_DEAD_WITH_PIDFILE)
    else:
        click.echo("not running")
        raise click.exceptions.Exit(_STOPPED)


class Holder(NamedTuple):
    """Who holds a pidfile; the descriptor is that process for good."""

    pid: int
    pidfd: Descriptor


def _holder(pidfile: Path) -> Holder | None:
    while True:
        pid = running(pidfile)
        if pid is None:
            return None
        try:
            found = Holder(pid, Descriptor(os.pidfd_open(pid)))
        except ProcessLookupError:
            continue  # it ended just now
        # 1. The file is read.  2. The daemon dies.  3. Its number goes to a stranger.  4. We open the stranger.
        # But then the lock is free, or somebody else's who has written another number.
        if running(pidfile) == pid:
            return found
        found.pidfd.close()


def _stop(pidfile: Path, grace: float) -> None:
    found = _holder(pidfile)
    if found is None:
        click.echo("not running")
        return
    with found.pidfd as pidfd:
        for name, seconds in (("TERM", grace), ("KILL", _AFTER_KILL)):
            try:
                signal.pidfd_send_signal(pidfd.fileno(), getattr(signal, f"SIG{name}"))
            except ProcessLookupError:
                break
            if wait.one(pidfd.fileno(), wait.READ, after(seconds)):
                break
        else:
            complain(f"hornpipe daemon: process {found.pid} survives KILL so far")
            raise click.exceptions.Exit(_FAILED)
    try:
        # A keeper that was killed could not tidy up.
        left = PidFile(pidfile)
        left.hold()
        left.remove()
    except AlreadyRunning as error:
        complain(f"hornpipe daemon: {error.strerror}: somebody has started it meanwhile")
        raise click.exceptions.Exit(_FAILED) from None
    click.echo(f"stopped: process {found.pid}")


def _found(program: str) -> str:
    """Where it is; what cannot be started is complained about before anything is stopped."""
    path = shutil.which(program)
    if path is None:
        complain(f"hornpipe daemon: {program}: not found, or not executable")
        raise click.exceptions.Exit(_NOT_FOUND)
    return os.path.abspath(path)


def _start(pidfile: Path, wanted: Wanted) -> None:
    program, *arguments = wanted.command
    command = hp.cmd(_found(program), *arguments, stdin=hp.NULL, contain=True, check=False)
    if wanted.user is not None:
        command = command.with_options(user=wanted.user)
    logs = [_open(path) for path in (wanted.stdout, wanted.stderr)]
    out, err = ((hp.NULL if log is None else log) for log in logs)
    try:
        daemon = hp.daemonize(
            pidfile, chdir=wanted.chdir, stdout=logs[0], stderr=logs[1], keep=[log for log in logs if log is not None]
        )
    except AlreadyRunning as error:
        click.echo(f"running already: process {error.pid}")
        return
    with daemon:
        code = _keep(command.with_options(stdout=out, stderr=err), daemon.ready)
    raise click.exceptions.Exit(code)


def _open(path: Path | None) -> int | None:
    return None if path is None else os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)


def _keep(command: hp.Command[str], ready: Callable[[], None]) -> int:
    """The life of the keeper; the exit code."""
    job = command._job()
    early: list[int] = []

    def pass_on(number: int, _frame: FrameType | None) -> None:
        if job.processes:
            job.kill(number)
        else:
            early.append(number)

    for number in run.passed_on(on_terminal=False):
        signal.signal(number, pass_on)
    job.start()
    for number in early:
        pass_on(number, None)
    ready()
    status = job.complete()
    return status.code if status.code is not None else 128 + (status.signal or 0)
