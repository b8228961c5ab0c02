"""``hornpipe signals``: every signal of this system, and what given processes do with theirs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import click

import hornpipe as hp
from hornpipe.cli import complain, printable
from hornpipe.cli.tables import print_table
from hornpipe.names import signal_name

_MEANINGS = {
    "HUP": "its terminal has gone; for many a daemon: read the configuration again",
    "INT": "Ctrl-C",
    "QUIT": "Ctrl-\\",
    "ILL": "an instruction that the processor does not know",
    "TRAP": "a breakpoint",
    "ABRT": "it gave itself up, by abort(3)",
    "BUS": "memory that is not behind its address, as in a mapped file that was cut",
    "FPE": "arithmetic without a result, as a division by zero",
    "KILL": "the end, and no say in it",
    "USR1": "whatever the program means by it",
    "SEGV": "memory that it may not touch",
    "USR2": "whatever the program means by it",
    "PIPE": "it wrote where nobody reads any more",
    "ALRM": "its alarm(2) or interval timer has run out",
    "TERM": "please end",
    "STKFLT": "nothing: the kernel never sends it; hornpipe keeps it",
    "CHLD": "a child has ended, stopped or gone on",
    "CONT": "go on, if stopped",
    "STOP": "stop, and no say in it",
    "TSTP": "Ctrl-Z",
    "TTIN": "it read from the terminal, in the background",
    "TTOU": "it wrote to the terminal or set it, in the background",
    "URG": "urgent data on a socket",
    "XCPU": "its processor time is used up (RLIMIT_CPU)",
    "XFSZ": "a file was to grow beyond the limit (RLIMIT_FSIZE)",
    "VTALRM": "an interval timer that counts its processor time has run out",
    "PROF": "a profiler's interval timer has run out",
    "WINCH": "its terminal has another size",
    "IO": "a descriptor is ready, for who asked to be told so (O_ASYNC)",
    "PWR": "the power fails",
    "SYS": "a system call that does not exist, or that a filter forbids",
    "RTMAX": "real-time, as those before; hornpipe's own clock",
}
_QUEUED = "real-time: each one arrives, in order, with a value"

_STATUS = {
    "blocked": b"SigBlk",
    "ignored": b"SigIgn",
    "caught": b"SigCgt",
    "pending": b"ShdPnd",
    "thread_pending": b"SigPnd",
}
"""Our words, and those of /proc/PID/status (proc(5))."""


class Kind(NamedTuple):
    """One signal of this system."""

    name: str
    number: int
    default: str
    meaning: str


class Handling(NamedTuple):
    """What a process does with its signals."""

    pid: int
    name: str
    blocked: list[str]
    ignored: list[str]
    caught: list[str]
    pending: list[str]
    thread_pending: list[str]


class NotShown(Exception):
    """Nothing can be said about a process; the text is for the user."""


def kinds() -> list[Kind]:
    """Every signal, by number.

    >>> kinds()[1]
    Kind(name='INT', number=2, default='terminate', meaning='Ctrl-C')
    """
    return [
        Kind(entry.name, entry.number, entry.default, _MEANINGS.get(entry.name, _QUEUED)) for entry in hp.SIG.table()
    ]


def look_at(pid: int) -> Handling:
    """What the kernel tells about a process (or a thread, by its own number); ``NotShown`` if it tells nothing."""
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            fields = dict(line.split(b":\t", 1) for line in file.read().splitlines() if b":\t" in line)
    except OSError:
        if not os.path.exists("/proc/self/status"):
            raise NotShown("nothing is known about processes where /proc is not mounted") from None
        # A /proc that hides other people's processes may deny them or have no trace of them (proc(5), hidepid).
        if hp.alive(pid):
            raise NotShown(f"process {pid} belongs to somebody else, and /proc hides it from us") from None
        raise NotShown(f"there is no process {pid}") from None
    name = printable(fields[b"Name"].decode(errors="backslashreplace"))
    return Handling(pid, name, **{word: _names(int(fields[field], 16)) for word, field in _STATUS.items()})


def _names(mask: int) -> list[str]:
    return [signal_name(number) for number in range(1, 65) if mask >> (number - 1) & 1]


def show_kinds(as_json: bool) -> None:
    """Print every signal."""
    found = kinds()
    if as_json:
        _print_json(found)
    elif sys.stdout.isatty():
        heads = ["signal", "number", "default", "what it means"]
        print_table(heads, [map(str, kind) for kind in found], bold="signal", right={"number"})
    else:
        for name, number, default, meaning in found:
            click.echo(f"{name:9} {number:2}  {default:9}  {meaning}")


def show_processes(pids: Sequence[int], as_json: bool) -> bool:
    """Print what these processes do with their signals; whether something is known about each of them."""
    found = []
    for pid in pids:
        try:
            found.append(look_at(pid))
        except NotShown as error:
            complain(f"hornpipe signals: {error}")
    if as_json:
        _print_json(found)
    elif found and sys.stdout.isatty():
        heads = [word.replace("_", " ") for word in Handling._fields]
        rows = [[str(each.pid), each.name, *(" ".join(names) for names in each[2:])] for each in found]
        print_table(heads, rows, bold="pid")
    else:
        for each in found:
            click.echo(f"{each.pid}  {'name':14}  {each.name}")
            for word in _STATUS:
                click.echo(f"{each.pid}  {word:14}  {' '.join(getattr(each, word)) or '-'}")
    return len(found) == len(pids)


def _print_json(found: Iterable[Kind | Handling]) -> None:
    click.echo(json.dumps([each._asdict() for each in found], indent=2))
