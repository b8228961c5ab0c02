"""Streams and datagrams: one set of words for TCP, TLS, Unix names and UDP (perlipc:N4, N9).

- ``descriptor``: a socket that is owned
- ``connection``: a file object with a peer; ``tls``: the same, encrypted
- ``connecting``: the first of a host's addresses that answers
"""

from __future__ import annotations

from hornpipe.sockets.connecting import connect
from hornpipe.sockets.connection import Connection, Credentials, socket_pair

__all__ = ["Connection", "Credentials", "connect", "socket_pair"]
