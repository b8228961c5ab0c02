"""``hornpipe run``: any command with a total deadline and containment, from the shell.

It imports neither click nor rich, and where nothing has to be watched it becomes the command.
"""

from __future__ import annotations

import math
import os
import signal
from types import FrameType
from typing import NamedTuple

import hornpipe as hp
from hornpipe.cli import complain, die_of
from hornpipe.errors import SpawnError
from hornpipe.foreground import in_front

# As the shells, env(1) and timeout(1) have them.
_TIMED_OUT, _OUR_FAULT, _NOT_EXECUTABLE, _NOT_FOUND, _SIGNALLED = 124, 125, 126, 127, 128

HELP = """\
Usage: hornpipe run [OPTIONS] [--] COMMAND [ARGUMENT...]

Run a command. Its input, output and terminal are left alone, signals sent to
hornpipe are passed on to it, and its exit status becomes ours.

Options:
  --timeout S   End it, and all that it started, after S seconds.
  --grace S     Wait S seconds between asking (TERM) and ending (KILL).
  --contain     Leave no descendant alive at the end, not even one that made
                itself a daemon, and not even if hornpipe is killed.
  --user USER   Run it as this user (a name or a number).
  --help        Show this and exit.

Exit status: the command's; 128+N if signal N ended it, 124 if the time was
over, 127 if it was not found, 126 if it could not be executed, 125 if hornpipe
itself could not do what was asked.

As PID 1 of a container it also reaps the processes that nobody waits for.

Example: a backup that may take an hour, and leaves nothing running:
  hornpipe run --timeout 3600 --contain -- rsync -a /srv/ backup:/srv/
"""


class Wanted(NamedTuple):
    """What a command line asks for."""

    argv: list[str]
    timeout: float | None = None
    grace: float | None = None
    contain: bool = False
    user: str | int | None = None


class Misused(Exception):
    """A command line that makes no sense; its text is for the user."""


class HelpAsked(Exception):
    """``--help``."""


def parse(arguments: list[str]) -> Wanted:
    """Read a command line. Options end at ``--`` or at the first word that is none.

    >>> parse(["--timeout", "5", "--contain", "make", "--jobs"])
    Wanted(argv=['make', '--jobs'], timeout=5.0, grace=None, contain=True, user=None)
    >>> parse(["--timeout=x", "make"])
    Traceback (most recent call last):
    ...
    hornpipe.cli.run.Misused: --timeout takes a number of seconds, not 'x'
    """
    wanted = Wanted([])
    rest = list(arguments)
    while rest and rest[0].startswith("-") and rest[0] != "-":
        word = rest.pop(0)
        if word == "--":
            break
        if word in {"--help", "-h"}:
            raise HelpAsked
        name, equals, value = word.partition("=")
        if name == "--contain" and not equals:
            wanted = wanted._replace(contain=True)
            continue
        if name not in {"--timeout", "--grace", "--user"}:
            raise Misused(f"no such option: {word}")
        if not equals:
            if not rest:
                raise Misused(f"{name} needs a value")
            value = rest.pop(0)
        if name == "--timeout":
            wanted = wanted._replace(timeout=_seconds(name, value))
        elif name == "--grace":
            wanted = wanted._replace(grace=_seconds(name, value))
        else:
            if not value:
                raise Misused("--user needs a name or a number")
            wanted = wanted._replace(user=int(value) if value.isascii() and value.isdigit() else value)
    if not rest:
        raise Misused("no command to run")
    return wanted._replace(argv=rest)


def main(arguments: list[str]) -> int:
    """Do what a command line asks for; the exit status. Where it can, it becomes the command and never returns."""
    try:
        wanted = parse(arguments)
    except HelpAsked:
        print(HELP, end="")
        return 0
    except Misused as error:
        complain(f"hornpipe run: {error} (see: hornpipe run --help)")
        return _OUR_FAULT
    try:
        return _run(wanted)
    except hp.CommandTimeout as error:
        complain(f"hornpipe run: {_first_line(error)}")
        return _TIMED_OUT
    except SpawnError as error:
        complain(f"hornpipe run: {_first_line(error)}")
        if error.stage != "exec":
            return _OUR_FAULT
        return _NOT_FOUND if isinstance(error, FileNotFoundError) else _NOT_EXECUTABLE
    except KeyboardInterrupt:
        return die_of(signal.SIGINT)
    except (OSError, ValueError, LookupError) as error:
        complain(f"hornpipe run: {_first_line(error)}")
        return _OUR_FAULT


def _run(wanted: Wanted) -> int:
    command = hp.cmd(*wanted.argv)
    if wanted.user is not None:
        command = command.with_options(user=wanted.user)
    first = os.getpid() == 1
    if wanted.timeout is None and not wanted.contain and not first:
        command.exec()
    if wanted.grace is not None:
        command = command.with_options(grace=wanted.grace)
    command = command.with_options(timeout=wanted.timeout, contain=wanted.contain, check=False)
    return _watch(command, first)


def _watch(command: hp.Command[str], first: bool) -> int:
    # The job itself, and not run(): signals have to be passed on while it waits.
    job = command._job()
    early: list[int] = []

    def pass_on(number: int, _: FrameType | None) -> None:
        if not job.processes:
            early.append(number)
            return
        job.kill(number)
        if number == signal.SIGTSTP:
            # Whoever stops us wants to see us stopped; CONT comes the same way as this came.
            os.kill(os.getpid(), signal.SIGSTOP)

    for number in passed_on(on_terminal=in_front(0)):
        signal.signal(number, pass_on)
    job.start(interactive=True)
    for number in early:
        pass_on(number, None)
    if first:
        _adopt()
    status = job.complete()
    if status.signal == int(signal.SIGINT):
        return die_of(signal.SIGINT)
    if status.signal is not None:
        return _SIGNALLED + status.signal
    if status.code is None:
        complain(f"hornpipe run: {status}")
        return _OUR_FAULT
    return status.code


def _adopt() -> None:
    """As PID 1 we are the parent of all orphans: reap them, and only them."""
    from hornpipe import reaper

    def reap(_number: int, _frame: FrameType | None) -> None:
        reaper.reap_strangers()

    signal.signal(signal.SIGCHLD, reap)
    # For those that died before we listened.
    reaper.reap_strangers()


_PASSED_ON = ("HUP", "INT", "QUIT", "TERM", "USR1", "USR2", "ALRM", "WINCH", "PWR", "TSTP", "CONT", "URG", "IO")
_FROM_THE_KEYBOARD = ("INT", "QUIT", "TSTP", "CONT", "WINCH")


def passed_on(on_terminal: bool) -> list[int]:
    """The signals that mean our command rather than us.

    Faults are our own; KILL and STOP cannot be passed on; PIPE, TTIN and TTOU come from what we do. On a terminal the
    command gets what is typed from the kernel, and must not get it twice. What is ignored was made so by whoever
    started us, as nohup does, and stays so (gotcha:SIG16).
    """
    names = [name for name in _PASSED_ON if not (on_terminal and name in _FROM_THE_KEYBOARD)]
    numbers = [int(getattr(signal, f"SIG{name}")) for name in names if hasattr(signal, f"SIG{name}")]
    return [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]


def _seconds(name: str, text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        raise Misused(f"{name} takes a number of seconds, not {text!r}") from None
    if math.isnan(seconds) or seconds < 0:
        raise Misused(f"{name} takes a number of seconds from 0, not {text!r}")
    return seconds


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
