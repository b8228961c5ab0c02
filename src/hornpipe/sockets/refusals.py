"""What the network said of an earlier datagram: the error queue of ip(7) (gotcha:U2)."""

from __future__ import annotations

import os
import struct
from _socket import MSG_ERRQUEUE
from _socket import socket as Calls

from hornpipe.address import Address
from hornpipe.sockets.descriptor import NO_WAIT

IP_RECVERR, IPV6_RECVERR = 11, 25
"""ip(7), ipv6(7); the socket module does not have them."""
_FROM_HERE = 1  # SO_EE_ORIGIN_LOCAL: no answer of the network's

# struct sock_extended_err (ip(7)): the error and, behind it, who reported it.
_EXTENDED_ERROR = struct.Struct("=IBBBBII")


def next_refusal(calls: Calls) -> OSError | None:
    """The next error of ICMP, naming whom the datagram was for; ``None`` when there is none."""
    while True:
        try:
            _, messages, _, name = calls.recvmsg(0, 512, MSG_ERRQUEUE | NO_WAIT)
        except BlockingIOError:
            return None
        for _, kind, data in messages:
            if kind in (IP_RECVERR, IPV6_RECVERR) and len(data) >= _EXTENDED_ERROR.size:
                number, origin = _EXTENDED_ERROR.unpack_from(data)[:2]
                if origin != _FROM_HERE:
                    return OSError(number, f"{Address.of('udp', name)}: {os.strerror(number)}")
