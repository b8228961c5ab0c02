"""``hornpipe clocks``: what time it is at many hosts at once (RFC 868, RFC 867; perlipc:N7, N13)."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import click

import hornpipe as hp
from hornpipe import wait
from hornpipe.cli import printable
from hornpipe.cli.wording import Seconds
from hornpipe.deadline import NEVER, after, seconds_left
from hornpipe.fd import pipe

_FROM_1900 = 2_208_988_800
"""Seconds from the year 1900, where the time protocol begins, to 1970: RFC 868's own number."""
_ERA = 1 << 32
"""Seconds after which its four bytes begin anew, in 2036 for the first time."""
_LONGEST_ANSWER = 256
"""Characters of a daytime answer that are read: it is a line (RFC 867)."""
_AT_ONCE = 200
"""Hosts asked at the same moment: a few descriptors each, and 1024 are all that a program has by default."""


class Question(NamedTuple):
    """How the hosts are asked."""

    scheme: str
    daytime: bool
    timeout: float

    def address(self, host: str) -> hp.Address:
        """Where the clock of HOST, HOST:PORT or a whole address is; ``ValueError`` if it is none of these."""
        if "://" in host:
            found = hp.Address.parse(host)
            if found.scheme != self.scheme:
                raise ValueError(f"{host!r} is not asked over {self.scheme}")
        else:
            try:
                found = hp.Address.parse(f"{self.scheme}://{host}")
            except ValueError:
                bare = f"[{host}]" if ":" in host and not host.startswith("[") else host
                service = "daytime(13)" if self.daytime else "time(37)"
                found = hp.Address.parse(f"{self.scheme}://{bare}:{service}")
        if not found.host:
            raise ValueError(f"{host!r} names no host")
        return found


class Clock(NamedTuple):
    """What became of one host: what it says, or why it says nothing."""

    host: str
    ok: bool
    difference: int | None
    """Seconds that its clock is ahead of ours, as far as whole seconds tell."""
    said: str

    @property
    def columns(self) -> tuple[str, str, str, str]:
        """For a line or a row."""
        difference = "-" if self.difference is None else f"{self.difference:+d}"
        return "ok" if self.ok else "FAIL", self.host, difference, self.said


@click.command(
    "clocks",
    short_help="Show how far the clocks of other hosts differ from ours.",
    epilog="\b\nExamples:\n  hornpipe clocks time.nist.gov ntp.example:3737 '[::1]:37'\n"
    "  hornpipe clocks --udp --json $(cat hosts) | jq -r '.[] | select(.ok | not) | .host'",
)
@click.argument("hosts", nargs=-1, required=True, metavar="HOST[:PORT]...")
@click.option("--udp", is_flag=True, help="Ask by datagrams, each up to three times, and not over TCP.")
@click.option("--daytime", is_flag=True, help="Ask for the line that people read (port 13), not for seconds (port 37).")
@click.option(
    "--timeout",
    type=Seconds(),
    default=10,
    show_default=True,
    metavar="S",
    help="Seconds that each host has, the look-up of its name included.",
)
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list, in the order of the hosts.")
def clocks_command(hosts: Sequence[str], udp: bool, daytime: bool, timeout: float, as_json: bool) -> None:
    """Ask HOSTs for the time, all at once, and show how far their clocks differ from ours, in seconds.

    Each has its own verdict, printed as soon as it is known: nobody waits for a host that is silent. The exit status
    is 1 if one of them did not answer.
    """
    question = Question("udp" if udp else "tcp", daytime, timeout)
    try:
        addresses = [question.address(host) for host in hosts]
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    found: dict[int, Clock] = {}
    with contextlib.ExitStack() as stack:
        if as_json:
            show = None
        elif sys.stdout.isatty():
            show = stack.enter_context(_table(hosts))
        else:
            show = _line
        for index, clock in ask_all(question, hosts, addresses):
            found[index] = clock
            if show is not None:
                show(index, clock)
    if as_json:
        click.echo(json.dumps([found[index]._asdict() for index in sorted(found)], indent=2))
    raise click.exceptions.Exit(0 if all(clock.ok for clock in found.values()) else 1)


def ask_all(question: Question, hosts: Sequence[str], addresses: Sequence[hp.Address]) -> Iterator[tuple[int, Clock]]:
    """The clock of each host with its place in the list, in the order in which they answer."""
    todo = list(enumerate(zip(hosts, addresses, strict=True)))[::-1]
    done: list[tuple[int, Clock]] = []
    reader, writer = pipe()

    def work() -> None:
        with contextlib.suppress(IndexError):
            while True:
                index, (host, address) = todo.pop()
                done.append((index, ask(question, host, address)))
                os.write(writer.fileno(), b"!")

    with reader, writer:
        # Threads, and not one loop: connecting has a loop of its own, over all addresses of a host. They take no signal
        # from the main thread, and end with the program: nobody waits for those that still wait.
        with hp.signals.block("INT", "TERM", "HUP"):
            for number in range(min(_AT_ONCE, len(hosts))):
                try:
                    threading.Thread(target=work, name="clock", daemon=True).start()
                except RuntimeError as error:  # no room for more of them: those that there are do it all
                    if not number:
                        raise OSError(errno.EAGAIN, str(error)) from None
                    break
        for _ in hosts:
            wait.one(reader.fileno(), wait.READ, NEVER)
            os.read(reader.fileno(), 1)
            yield done.pop(0)


def ask(question: Question, host: str, address: hp.Address) -> Clock:
    """Ask one host; what goes wrong is its verdict."""
    end = after(question.timeout)
    try:
        if question.scheme == "udp":
            answer = _by_datagram(question, address, end)
        else:
            answer = _by_stream(question, address, end)
    except (OSError, EOFError, ValueError, RuntimeError) as error:  # RuntimeError: no thread for the look-up
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return Clock(host, False, None, printable(why))
    if question.daytime:
        said = printable(answer.decode(errors="replace"))
        return Clock(host, bool(said), None, said or "it answered, with nothing")
    difference = _difference(int.from_bytes(answer, "big"), time.time())
    there = datetime.fromtimestamp(int(time.time()) + difference).astimezone()
    return Clock(host, True, difference, there.isoformat(" "))


def _by_stream(question: Question, address: hp.Address, end: int) -> bytes:
    with hp.connect(address, timeout=question.timeout) as connection:
        bare = connection.as_bytes()
        left = seconds_left(end)
        return bare.read(_LONGEST_ANSWER, timeout=left) if question.daytime else bare.read_exactly(4, timeout=left)


def _by_datagram(question: Question, address: hp.Address, end: int) -> bytes:
    with hp.open_datagram(address, timeout=question.timeout) as clock:
        left = seconds_left(end)
        # Whatever is sent is the question (RFC 868), and an empty message is a message.
        return clock.ask(b"", timeout=left, accept=lambda it: question.daytime or len(it.data) == 4).data


def _difference(said: int, ours: float) -> int:
    """How far a clock is ahead, in the era of the time protocol that makes the least of it.

    >>> _difference((2_208_988_800 + 3_000_000_000 - 7) % 2**32, 3_000_000_000.9)
    -7
    """
    ahead = (said - _FROM_1900 - int(ours)) % _ERA
    return ahead if ahead < _ERA // 2 else ahead - _ERA


def _line(_: int, clock: Clock) -> None:
    verdict, host, difference, said = clock.columns
    # Not print: it would keep the lines from a reader that is waiting for them.
    click.echo(f"{verdict:4}  {host:24} {difference:>8}  {said}")


@contextlib.contextmanager
def _table(hosts: Sequence[str]) -> Iterator[Any]:
    from rich import box
    from rich.console import Console
    from rich.live import Live
    from rich.table import Table
    from rich.text import Text

    rows = [("...", host, "", "") for host in hosts]
    colours = {"ok": "green", "FAIL": "bold red", "...": "dim"}

    def made() -> Table:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        table.add_column("")
        table.add_column("host", style="bold")
        table.add_column("ahead (s)", justify="right")
        table.add_column("what it says")
        for verdict, *rest in rows:
            table.add_row(Text(verdict, style=colours[verdict]), *map(Text, rest))
        return table

    with Live(made(), console=Console(), redirect_stdout=False, redirect_stderr=False) as live:

        def show(index: int, clock: Clock) -> None:
            rows[index] = clock.columns
            live.update(made())

        yield show
