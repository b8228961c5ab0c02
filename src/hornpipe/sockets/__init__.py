"""Streams and datagrams: one set of words for TCP, TLS, Unix names and UDP (perlipc:N4, N9).

- ``descriptor``: a socket that is owned
- ``socket_handle``: bytes in and out of one under deadlines; ``stream_sender``: how they go out
- ``connection``: a file object with a peer; ``tls``: the same, encrypted
- ``rights``: descriptors that travel; ``pairs``: both ends at once
- ``connecting``: the first of a host's addresses that answers
- ``listening``: taking in who connects; ``listening_sockets``, ``unix_names``, ``holders``: what it needs to be reached
- ``datagrams``: whole messages; ``batches``: many at once; ``opening``: what they are bound to
- ``groups``: multicast; ``refusals``: what the network said of an earlier one
"""

from __future__ import annotations

from hornpipe.sockets.connection import Connection, Credentials
from hornpipe.sockets.listening import Listener, listen
from hornpipe.sockets.unix_names import is_socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hornpipe.sockets.connecting import connect
    from hornpipe.sockets.datagrams import Datagram, DatagramSocket
    from hornpipe.sockets.opening import open_datagram
    from hornpipe.sockets.pairs import datagram_pair, socket_pair

__all__ = [
    "Connection",
    "Credentials",
    "Datagram",
    "DatagramSocket",
    "Listener",
    "connect",
    "datagram_pair",
    "is_socket",
    "listen",
    "open_datagram",
    "socket_pair",
]

_LATER = {"Datagram", "DatagramSocket", "connect", "datagram_pair", "open_datagram", "socket_pair"}
"""What a server does without: it forks the faster the less it has in memory."""


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from hornpipe.sockets import connecting, datagrams, opening, pairs

    for room in (connecting, datagrams, opening, pairs):
        globals().update({each: value for each, value in vars(room).items() if each in _LATER})
    found: object = globals()[name]
    return found
