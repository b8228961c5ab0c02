"""TLS for the commands: certificates from files, and what is said when they are no good."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import click

import hornpipe as hp


def for_a_server(certificate: str, key: str | None) -> ssl.SSLContext:
    """What a server shows its clients."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    with _explained(certificate if key is None else f"{certificate} and {key}"):
        # Without a password, which would be asked for at the terminal.
        context.load_cert_chain(certificate, key, password=_refuse)
    return context


def for_a_client(authorities: str | None) -> ssl.SSLContext:
    """Whom a client trusts: the system's authorities, or those of a file."""
    if authorities is None:
        return ssl.create_default_context()
    with _explained(authorities):
        return ssl.create_default_context(cafile=authorities)


def _refuse() -> str:
    raise click.UsageError("the key is encrypted; a server that is left alone has nobody to ask for its password")


@contextmanager
def _explained(files: str) -> Iterator[None]:
    try:
        yield
    except ssl.SSLError as error:
        raise click.UsageError(
            f"{files}: not what is wanted, a certificate (and its key) as PEM: {error.reason}"
        ) from None
    except OSError as error:
        raise click.UsageError(f"{files}: {error.strerror}") from None


@contextmanager
def plainly(connection: hp.Connection[str]) -> Iterator[hp.Connection[str]]:
    """A socket that stands for an encrypted connection: what is moved there goes there encrypted, and back."""
    near, far = hp.socket_pair()
    secret, plain = connection.as_bytes(), far.as_bytes()
    over = threading.Event()
    failures: list[OSError] = []

    def pass_on(source: hp.Connection[bytes], sink: hp.Connection[bytes]) -> None:
        try:
            while data := source.read_some():
                sink.write(data)
                sink.flush()
            sink.shutdown()
        except OSError as error:
            if not over.is_set():
                failures.append(error)
            plain.cut()
            secret.cut()

    threads = [threading.Thread(target=pass_on, args=ends, daemon=True) for ends in ((plain, secret), (secret, plain))]
    for thread in threads:
        thread.start()
    try:
        with near:
            yield near
    finally:
        over.set()
        plain.cut()
        secret.cut()
        for thread in threads:
            thread.join()
        plain.leave()
        secret.leave()
    if failures:
        raise failures[0]
