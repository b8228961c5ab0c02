"""``hornpipe get``: documents of the web (perlipc:N10)."""

from __future__ import annotations

import contextlib
import enum
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple
from urllib.parse import SplitResult

import click

import hornpipe as hp
from hornpipe.cli import complain, printable
from hornpipe.cli.wording import Seconds
from hornpipe.deadline import after

if TYPE_CHECKING:
    import ssl

    from hornpipe.cli.visits import Visits


class Code(enum.IntEnum):
    """Exit codes, those of wget(1): who has scripts for that one need not change them."""

    FILE = 3
    NETWORK = 4
    TLS = 5
    PROTOCOL = 7
    REFUSED = 8


class Failed(Exception):
    """A document that is not to be had; the text is for the user."""

    def __init__(self, code: Code, why: str) -> None:
        super().__init__(why)
        self.code = code


class Wanted(NamedTuple):
    """What is to be written, and where."""

    include: bool
    into: Path | None
    timeout: float | None


@click.command(
    "get",
    short_help="Print documents of the web.",
    epilog="\b\nExamples:\n  hornpipe get http://localhost:8080/motd\n"
    "  hornpipe get --into pages https://www.perl.org/{about,docs}.html\n"
    "  hornpipe get --unix /run/docker.sock http://localhost/info | jq .",
)
@click.argument("urls", nargs=-1, required=True, metavar="URL...")
@click.option("-i", "--include", is_flag=True, help="Print the head of each reply too, and refusals as they come.")
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="Write to FILE, not to stdout.")
@click.option(
    "--into",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Write each document to a file there, named as in its URL.",
)
@click.option("--unix", metavar="PATH", help="Connect to this Unix socket, whatever host the URLs name.")
@click.option("--ca", metavar="FILE", help="For https, trust the authorities (or the certificate) in FILE, no others.")
@click.option(
    "--timeout",
    type=Seconds(),
    metavar="S",
    help="Seconds for each document, from the look-up to its last byte.",
)
def get_command(
    urls: Sequence[str],
    include: bool,
    output: Path | None,
    into: Path | None,
    unix: str | None,
    ca: str | None,
    timeout: float | None,
) -> None:
    """Print the document of each URL, one after another: http and https, redirects followed.

    A connection is used again for the next document of the same host. Exit codes are wget's: 3 a file could not be
    written, 4 the network (no such host, no connection, time ran out), 5 TLS (a certificate that does not fit), 7 an
    answer that is no HTTP or was cut short, 8 a refusal by the server. The other documents are fetched all the same;
    of several codes, the smallest counts.
    """
    from hornpipe.cli.visits import Visits, parse

    if output is not None and into is not None:
        raise click.UsageError("--output is for one file and --into for many: which is it?")
    try:
        parsed = [parse(url) for url in urls]
        where = None if unix is None else hp.Address.parse(f"unix://{unix}")
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    wanted = Wanted(include, into, timeout)
    codes = []
    with contextlib.ExitStack() as stack:
        visits = stack.enter_context(Visits(where, _trusted(ca)))
        try:
            out = sys.stdout.buffer if output is None else stack.enter_context(_writing(output))
        except Failed as error:
            complain(f"hornpipe get: {error}")
            raise click.exceptions.Exit(error.code) from None
        for url in parsed:
            try:
                _fetch(visits, url, wanted, out)
            except Failed as error:
                complain(f"hornpipe get: {url.geturl()}: {error}")
                codes.append(error.code)
    raise click.exceptions.Exit(min(codes, default=0))


def _trusted(ca: str | None) -> ssl.SSLContext | None:
    if ca is None:
        return None
    from hornpipe.cli.encryption import for_a_client

    return for_a_client(ca)


def _fetch(visits: Visits, url: SplitResult, wanted: Wanted, out: IO[bytes]) -> None:
    from hornpipe.cli.visits import body, head

    with _explained(), contextlib.ExitStack() as stack:
        reply = visits.get(url, after(wanted.timeout))
        refused = reply.status >= 400
        if not refused or wanted.include:
            if wanted.into is not None:
                out = stack.enter_context(_writing(wanted.into / _name_of(url)))
            if wanted.include:
                _write(out, head(reply))
            for piece in body(reply):
                _write(out, piece)
        if refused:
            raise Failed(Code.REFUSED, f"{reply.status} {printable(reply.reason)}")


def _name_of(url: SplitResult) -> str:
    """The file for a document: never a path that a URL has thought of.

    >>> from urllib.parse import urlsplit
    >>> _name_of(urlsplit("http://localhost/a/b.html?c")), _name_of(urlsplit("http://localhost/a/.."))
    ('b.html', 'index.html')
    """
    name = url.path.rpartition("/")[2]
    return name if name not in ("", ".", "..") else "index.html"


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[IO[bytes]]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("wb")
    except OSError as error:
        raise Failed(Code.FILE, f"{path}: {error.strerror}") from None
    try:
        yield file
    finally:
        # All was flushed when it was written; what could not be is told of already.
        with contextlib.suppress(OSError):
            file.close()


def _write(out: IO[bytes], data: bytes) -> None:
    # Flushed each time: what has come is to be seen, also from a document that is made slowly.
    try:
        out.write(data)
        out.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise Failed(Code.FILE, f"writing failed: {error.strerror}") from None


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Whatever goes wrong with a document becomes a ``Failed``; but not what becomes of our own output."""
    import http.client
    import ssl

    try:
        yield
    except (hp.ReaderGone, TimeoutError) as error:
        raise Failed(Code.NETWORK, str(error)) from None
    except BrokenPipeError:
        raise
    except ssl.SSLError as error:
        raise Failed(Code.TLS, getattr(error, "verify_message", "") or str(error.reason or error)) from None
    except http.client.RemoteDisconnected:
        raise Failed(Code.NETWORK, "the server closed the connection without an answer") from None
    except http.client.BadStatusLine as error:
        raise Failed(Code.PROTOCOL, f"what it answers is no HTTP: {printable(str(error))[:60]}") from None
    except http.client.IncompleteRead:
        raise Failed(Code.PROTOCOL, "the document was cut short, in the middle of a chunk") from None
    except (ConnectionAbortedError, http.client.HTTPException) as error:
        raise Failed(Code.PROTOCOL, str(error) or type(error).__name__) from None
    except OSError as error:
        raise Failed(Code.NETWORK, error.strerror or str(error)) from None
