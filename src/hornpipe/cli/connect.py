"""``hornpipe connect``: talk to a server, both directions at once (perlipc:N11)."""

from __future__ import annotations

import contextlib
import os
import re
import select
import sys
import termios
import tty
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

import hornpipe as hp
from hornpipe import wait
from hornpipe.cli import complain
from hornpipe.cli.wording import Seconds

if TYPE_CHECKING:
    import ssl


@click.command(
    "connect",
    short_help="Talk to a server.",
    epilog="\b\nExamples:\n  hornpipe connect tcp://localhost:9000\n"
    "  echo hello | hornpipe connect unix:///tmp/catsock\n  hornpipe connect --crlf 'tcp://mail.example:smtp(25)'\n"
    "  hornpipe connect --tls --crlf tcp://www.example.com:443",
)
@click.option("--crlf", is_flag=True, help="End each line that is sent with CR LF, as the Internet's protocols do.")
@click.option(
    "--bytes", "by_byte", is_flag=True, help="Send each key as it is typed and do not show it: the server does."
)
@click.option(
    "--timeout",
    type=Seconds(),
    metavar="S",
    help="Seconds that connecting may take, the look-up of the name included.",
)
@click.option("--tls", is_flag=True, help="Encrypt, and have the server show a certificate that fits.")
@click.option("--ca", metavar="FILE", help="With --tls, trust the authorities (or the certificate) in FILE, no others.")
@click.option(
    "--server-name", metavar="NAME", help="With --tls, whose certificate it has to be.  [default: the host's]"
)
@click.argument("address")
def connect_command(
    address: str,
    crlf: bool,
    by_byte: bool,
    timeout: float | None,
    tls: bool,
    ca: str | None,
    server_name: str | None,
) -> None:
    """Connect to ADDRESS, send it what comes in, and print what it says, as soon as it is there.

    The end of the input is passed on, and the answer is still waited for; when the server closes, all is over. ADDRESS
    is tcp://HOST:PORT or unix:///PATH. The exit status is 1 if there is no connection, or no certificate that fits, or
    if the server did not take all that was sent.
    """
    if crlf and by_byte:
        raise click.UsageError("--crlf is for lines, and --bytes sends none")
    if not tls and (ca is not None or server_name is not None):
        raise click.UsageError("--ca and --server-name are for --tls")
    try:
        connection = hp.connect(address, timeout=timeout, tls=_context(ca) if tls else False, server_name=server_name)
    except ValueError as error:
        if isinstance(error, OSError):
            raise  # a certificate that does not fit is both
        raise click.UsageError(str(error)) from None
    hp.signals.unwind("TERM", "HUP")
    with connection, _moved(connection, tls) as other, _input(crlf) as source, _keys(by_byte):
        if os.isatty(0):
            complain(f"[connected to {address}]")
        try:
            hp.relay((source, 1), other, until="other")
        except BrokenPipeError as error:
            if wait.one(1, wait.WRITE, 0) & select.POLLERR:
                raise  # it is the reader of our own output who has left
            raise ConnectionError(f"{address} closed before it had taken everything: {error}") from None


def _context(ca: str | None) -> ssl.SSLContext:
    from hornpipe.cli.encryption import for_a_client

    return for_a_client(ca)


def _moved(connection: hp.Connection[str], tls: bool) -> contextlib.AbstractContextManager[hp.Connection[str]]:
    """What the relay moves bytes to and from."""
    if not tls:
        return contextlib.nullcontext(connection)
    from hornpipe.cli.encryption import plainly

    connection.timeout = None  # that one was for connecting
    return plainly(connection)


@contextlib.contextmanager
def _input(crlf: bool) -> Iterator[int]:
    """What the relay reads: our stdin, or a child that reads it and changes the ends of its lines."""
    if not crlf:
        yield 0
        return
    # check=False: when the server has closed, it is ended in the middle of its work.
    with hp.fn(_with_cr).with_options(stdin=0, check=False).as_bytes().reader() as lines:
        yield lines.fileno()


def _with_cr() -> None:
    # By read(2) and not by line: a line that is not ended yet is sent all the same.
    before = b""
    while data := os.read(0, 65536):
        sys.stdout.buffer.write(re.sub(rb"(?<!\r)\n", b"\r\n", before + data)[len(before) :])
        sys.stdout.buffer.flush()
        before = b"\r" if data.endswith(b"\r") else b""


@contextlib.contextmanager
def _keys(wanted: bool) -> Iterator[None]:
    """Put the terminal into a mode in which every key is read at once, and back."""
    if not (wanted and os.isatty(0)):
        yield
        return
    before = termios.tcgetattr(0)
    tty.setcbreak(0)
    try:
        # The shell has a mode of its own, and gives us back the terminal in that.
        with hp.SIG.local(CONT=lambda _: tty.setcbreak(0)):
            yield
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)
