"""Two ends of one Unix socket, for processes or threads of one program (perlipc:B6, N19)."""

from __future__ import annotations

from _socket import AF_UNIX, SOCK_DGRAM, SOCK_STREAM, socketpair

from hornpipe.address import Address
from hornpipe.lines import TEXT
from hornpipe.sockets.connection import Connection
from hornpipe.sockets.datagrams import DatagramSocket
from hornpipe.sockets.descriptor import Socket


def _ends(kind: int) -> list[Socket]:
    return [Socket(end) for end in socketpair(AF_UNIX, kind)]


def socket_pair(*, timeout: float | None = None, receives_fds: bool = False) -> tuple[Connection[str], Connection[str]]:
    r"""Two ends of one stream (socketpair(2)).

    ``timeout`` is the limit in seconds of each call that is given none of its own, over which comes ``TimeoutError``;
    ``receives_fds`` allows ``receive_fds``.

    >>> import os
    >>> one, other = socket_pair()
    >>> with one, other:
    ...     one.write("ping\n"), other.readline(), other.credentials.pid == os.getpid()
    (5, 'ping\n', True)
    """
    one, other = (
        Connection(
            end, TEXT, scheme="unix", peer=None, name="a socket pair", timeout=timeout, receives_fds=receives_fds
        )
        for end in _ends(SOCK_STREAM)
    )
    return one, other


def datagram_pair(*, timeout: float | None = None, receives_fds: bool = False) -> tuple[DatagramSocket, DatagramSocket]:
    """Two sockets that send each other whole messages (socketpair(2)).

    ``timeout`` is the limit in seconds of each call that is given none of its own, over which comes ``TimeoutError``.
    With ``receives_fds`` a message may bring descriptors.

    >>> one, other = datagram_pair()
    >>> with one, other:
    ...     one.send(b"")
    ...     other.receive(timeout=5).data
    b''
    """
    one, other = (
        DatagramSocket(end, "unixgram", Address("unixgram"), timeout=timeout, receives_fds=receives_fds)
        for end in _ends(SOCK_DGRAM)
    )
    return one, other
