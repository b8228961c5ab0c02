"""Many datagrams in one system call, where the system has one for that, and one by one elsewhere (gotcha:U5).

The kernel may also take many of one size in one piece and cut them itself (UDP_SEGMENT), and hand over
those that came together as they are (UDP_GRO): most of what a datagram costs is its way through the kernel.
"""

from __future__ import annotations

import struct
from _socket import AF_INET, AF_INET6, AF_UNIX, inet_ntop, inet_pton
from typing import Any

from hornpipe._native.datagrams import AVAILABLE, LONGEST_BATCH, Inbox, send

IN_ONE_CALL = AVAILABLE
"""Whether there are recvmmsg(2) and sendmmsg(2)."""

SOL_UDP, UDP_GRO = 17, 104
"""udp(7); the socket module does not have them."""

_FAMILY = struct.Struct("=H")
_IPV4 = struct.Struct("!H4s8x")
_IPV6 = struct.Struct("!HI16s")
_SCOPE = struct.Struct("=I")


def raw_name(family: int, name: Any) -> bytes:
    r"""What the socket module calls ``name`` as the system calls have it: a struct sockaddr.

    >>> raw_name(AF_INET, ("127.0.0.1", 80))[2:8]
    b'\x00P\x7f\x00\x00\x01'
    """
    start = _FAMILY.pack(family)
    if family == AF_UNIX:
        path: bytes = name
        return start + path + (b"" if path.startswith(b"\0") else b"\0")
    if family == AF_INET:
        return start + _IPV4.pack(name[1], inet_pton(AF_INET, name[0]))
    host, port, flow, scope = (*name, 0, 0)[:4]
    return start + _IPV6.pack(port, flow, inet_pton(AF_INET6, host)) + _SCOPE.pack(scope)


def name_of(raw: bytes) -> Any:
    """The other way round; ``None`` for a Unix socket without a name.

    >>> name_of(raw_name(AF_INET6, ("::1", 80, 0, 0)))
    ('::1', 80, 0, 0)
    """
    (family,) = _FAMILY.unpack_from(raw)
    if family == AF_UNIX:
        name = raw[2:]
        return name if name.startswith(b"\0") else name.rstrip(b"\0") or None
    if family == AF_INET:
        port, host = _IPV4.unpack_from(raw, 2)
        return inet_ntop(AF_INET, host), port
    port, flow, host = _IPV6.unpack_from(raw, 2)
    return inet_ntop(AF_INET6, host), port, flow, _SCOPE.unpack_from(raw, 24)[0]


__all__ = ["IN_ONE_CALL", "LONGEST_BATCH", "SOL_UDP", "UDP_GRO", "Inbox", "name_of", "raw_name", "send"]
