"""``hornpipe serve``: a program for each client, left alone (perlipc:N5, N18)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

import hornpipe as hp
from hornpipe.cli import complain
from hornpipe.cli.wording import Seconds

_SECONDS = Seconds()
_COUNT = click.IntRange(min=1)


@click.command(
    "serve",
    short_help="Run a program for each client who connects.",
    epilog="\b\nExamples:\n  hornpipe serve tcp://:9000 -- fortune\n"
    "  hornpipe serve --crlf --max-clients 50 'tcp://localhost:daytime(13)' -- date\n"
    "  hornpipe serve --model prefork unix:///run/upper.sock tcp://127.0.0.1:9001 -- tr a-z A-Z\n"
    "  hornpipe serve --cert /etc/ssl/here.pem tcp://:9443 -- fortune",
)
@click.option(
    "--model",
    type=click.Choice(["fork", "prefork", "thread", "inline"]),
    default="fork",
    show_default=True,
    help="Who waits for clients and their programs: see above.",
)
@click.option("--workers", type=_COUNT, metavar="N", help="Of prefork: how many there are.")
@click.option("--max-requests", type=_COUNT, metavar="N", help="Of prefork: clients until a worker is replaced.")
@click.option(
    "--max-clients", type=_COUNT, metavar="N", help="Of fork and thread: at once; others wait.  [default: 256]"
)
@click.option("--max-per-address", type=_COUNT, metavar="N", help="At once from one host; others are turned away.")
@click.option("--timeout", type=_SECONDS, metavar="S", help="Seconds for each client.")
@click.option(
    "--idle",
    "idle_timeout",
    type=_SECONDS,
    default=300,
    show_default=True,
    metavar="S",
    help="Seconds that a client may be silent, or not read, while it is waited for.",
)
@click.option(
    "--grace",
    type=Seconds(zero=True),
    default=10,
    show_default=True,
    metavar="S",
    help="Seconds that clients still have after TERM.",
)
@click.option("--crlf", is_flag=True, help="Translate the ends of lines, to the Internet's CR LF and back.")
@click.option("--cert", metavar="FILE", help="Encrypt (TLS), with the certificate in FILE (PEM), and those above it.")
@click.option("--key", metavar="FILE", help="The certificate's key.  [default: in the same file]")
@click.option("--user", metavar="USER", help="Become this user for good, once the addresses are bound.")
@click.option("--group", metavar="GROUP", help="And this group.")
@click.option("-q", "--quiet", is_flag=True, help="Log failures only, not each client.")
@click.argument("words", nargs=-1, required=True, metavar="ADDRESS... [--] COMMAND [ARGUMENT]...")
def serve_command(
    words: Sequence[str],
    timeout: float | None,
    grace: float,
    crlf: bool,
    quiet: bool,
    cert: str | None,
    key: str | None,
    **options: Any,
) -> None:
    """Listen at each ADDRESS, and run COMMAND for each client: what it says is COMMAND's input, and it
    gets COMMAND's output.

    ADDRESS is tcp://HOST:PORT, tcp://:PORT for every interface, or unix:///PATH. COMMAND gets a clean environment with
    the client's address in TCPREMOTEIP and its like, as from tcpserver and inetd, and no shell sees anything of
    the client.

    fork starts COMMAND from here, prefork from workers that are there already, thread from threads; inline serves one
    client after the other. TERM ends it when those who are there have been served, INT at once; HUP renews the
    workers, and no client is refused meanwhile.
    """
    import logging

    addresses, command = _split(words)
    if key is not None and cert is None:
        raise click.UsageError("--key is for --cert")
    if cert is not None:
        from hornpipe.cli.encryption import for_a_server

        options["tls"] = for_a_server(cert, key)
    level = logging.WARNING if quiet else logging.INFO
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%Y-%m-%d %H:%M:%S", level=level)
    try:
        server = hp.Server(
            addresses,
            hp.cmd(*command),
            per_client_timeout=timeout,
            stop_grace=grace,
            newline="crlf" if crlf else "\n",
            ready=lambda: complain(f"hornpipe serve: at {' and '.join(map(str, server.addresses))}"),
            **{name: value for name, value in options.items() if value is not None},
        )
        server.run()
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    except hp.SpawnError as error:
        complain(f"hornpipe serve: {error}")
        raise click.exceptions.Exit(127) from None


def _split(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """The addresses, which look like nothing else, and the command."""
    count = next((place for place, word in enumerate(words) if "://" not in word), len(words))
    if not count:
        raise click.UsageError(f"{words[0]!r} is no address such as tcp://:9000 or unix:///run/name")
    if count == len(words):
        raise click.UsageError("no command to run")
    return list(words[:count]), list(words[count:])
