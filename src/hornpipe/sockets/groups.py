"""Groups that datagrams are sent to: ip(7), ipv6(7) (perlipc:N14)."""

from __future__ import annotations

import errno
import struct
from _socket import (
    AF_INET,
    AF_INET6,
    IP_ADD_MEMBERSHIP,
    IP_DROP_MEMBERSHIP,
    IP_MULTICAST_IF,
    IP_MULTICAST_LOOP,
    IP_MULTICAST_TTL,
    IPPROTO_IP,
    IPPROTO_IPV6,
    IPV6_JOIN_GROUP,
    IPV6_LEAVE_GROUP,
    IPV6_MULTICAST_HOPS,
    IPV6_MULTICAST_IF,
    IPV6_MULTICAST_LOOP,
    if_nametoindex,
    inet_pton,
)
from _socket import socket as Calls

_MEMBERSHIP = struct.Struct("4s4si")
"""struct ip_mreqn (ip(7)): the group, an address of ours, an interface."""
_INDEX = struct.Struct("i")


def join(calls: Calls, group: str, interface: str | None) -> None:
    """Hear a group, from an interface or the default one."""
    _change(calls, group, interface, IP_ADD_MEMBERSHIP, IPV6_JOIN_GROUP)


def leave(calls: Calls, group: str, interface: str | None) -> None:
    """Hear it no longer."""
    _change(calls, group, interface, IP_DROP_MEMBERSHIP, IPV6_LEAVE_GROUP)


def _change(calls: Calls, group: str, interface: str | None, ipv4: int, ipv6: int) -> None:
    family = AF_INET if calls.family == AF_INET else AF_INET6
    try:
        address = inet_pton(family, group)
    except (OSError, ValueError):
        kind = "IPv4" if family == AF_INET else "IPv6"
        raise OSError(errno.EINVAL, f"the group {group!r} is no {kind} address, as the socket's are") from None
    index = _index_of(interface)
    try:
        if family == AF_INET:
            calls.setsockopt(IPPROTO_IP, ipv4, _MEMBERSHIP.pack(address, bytes(4), index))
        else:
            calls.setsockopt(IPPROTO_IPV6, ipv6, address + _INDEX.pack(index))
    except OSError as error:
        where = interface or "the default interface"
        raise OSError(error.errno, f"the group {group!r} on {where}: {error.strerror}") from None


def _index_of(interface: str | None) -> int:
    if not interface:
        return 0
    try:
        return if_nametoindex(interface)
    except OSError:
        raise OSError(errno.ENODEV, f"there is no interface {interface!r}") from None


def set_outgoing(calls: Calls, ttl: int | None, loop: bool | None, interface: str | None) -> None:
    """How far ours go, whether we hear them, and where they leave."""
    ipv4 = calls.family == AF_INET
    level = IPPROTO_IP if ipv4 else IPPROTO_IPV6
    if ttl is not None:
        calls.setsockopt(level, IP_MULTICAST_TTL if ipv4 else IPV6_MULTICAST_HOPS, ttl)
    if loop is not None:
        calls.setsockopt(level, IP_MULTICAST_LOOP if ipv4 else IPV6_MULTICAST_LOOP, int(loop))
    if interface is not None:
        index = _index_of(interface)
        where = _MEMBERSHIP.pack(bytes(4), bytes(4), index) if ipv4 else _INDEX.pack(index)
        calls.setsockopt(level, IP_MULTICAST_IF if ipv4 else IPV6_MULTICAST_IF, where)
