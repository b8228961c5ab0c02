"""Where a socket is: one notation for TCP, UDP and Unix names (perlipc:N1, gotcha:SO6).

    tcp://localhost:80   tcp://[::1]:http   tcp://[fe80::1%eth0]:9000   tcp://:9000 (every interface)
    udp://pool.example:time(37)             a service by name, with the number to use where the name is unknown
    unix:///run/cat.sock  unixgram://log    unixseqpacket:///run/x      unix://@name (abstract)

Every string either parses or raises ``ValueError`` naming the part that is wrong, and printing an
address gives a string that parses to the same one.
"""

from __future__ import annotations

import os
import re
from _socket import AF_INET, AF_INET6, AF_UNIX, SOCK_DGRAM, SOCK_SEQPACKET, SOCK_STREAM, if_indextoname, inet_pton
from typing import Any, NamedTuple

INTERNET = {"tcp": SOCK_STREAM, "udp": SOCK_DGRAM}
UNIX = {"unix": SOCK_STREAM, "unixgram": SOCK_DGRAM, "unixseqpacket": SOCK_SEQPACKET}

LONGEST_PATH = 107
"""Bytes of a Unix name: sun_path is 108, one of which ends a path or begins an abstract name (unix(7))."""

_SERVICES = "/etc/services"
# For machines without that file (containers, mostly): what perlipc and everyday programs ask for by name.
_KNOWN = {
    "echo": 7,
    "discard": 9,
    "daytime": 13,
    "chargen": 19,
    "ftp": 21,
    "ssh": 22,
    "telnet": 23,
    "smtp": 25,
    "time": 37,
    "domain": 53,
    "tftp": 69,
    "finger": 79,
    "http": 80,
    "pop3": 110,
    "ntp": 123,
    "imap2": 143,
    "snmp": 161,
    "ldap": 389,
    "https": 443,
    "syslog": 514,
    "imaps": 993,
    "pop3s": 995,
}

_SERVICE = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9+._-]*)(?:\((?P<number>[0-9]+)\))?", re.ASCII)
_NUMBER = re.compile(r"[0-9]{1,9}", re.ASCII)
_LABEL = re.compile(r"[^\x00-\x20\x7f-\xa0./:?#\[\]@\\%()<>^`{|}\"]{1,63}")
_SCOPE = re.compile(r"[^\x00-\x20/%\[\]\x7f]{1,15}")
_NUMERIC_LABEL = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*", re.ASCII)


_MOST_KEPT = 256
_parsed: dict[str, Address] = {}
"""What was parsed lately: who connects, connects to the same few again and again."""


class Address(NamedTuple):
    """Where a socket is. Made by :meth:`parse`, which also takes what is an address already.

    >>> address = Address.parse("tcp://[::1]:http(80)")
    >>> address.host, address.service, address.port
    ('::1', 'http(80)', 80)
    >>> str(address)
    'tcp://[::1]:http(80)'
    >>> Address.parse("tcp://localhost:99999")
    Traceback (most recent call last):
    ...
    ValueError: the port '99999' of 'tcp://localhost:99999' is not between 0 and 65535
    """

    scheme: str
    """``tcp``, ``udp``, ``unix``, ``unixgram`` or ``unixseqpacket``."""
    host: str = ""
    """The name or number of the host; empty for every interface, and for Unix names."""
    service: str = ""
    """The port as it was given: ``80``, ``http`` or ``http(80)``."""
    path: str = ""
    """The Unix name; an abstract one begins with a NUL."""

    @classmethod
    def parse(cls, text: str | Address) -> Address:
        """The address that ``text`` writes."""
        if isinstance(text, Address):
            return text
        if not isinstance(text, str):
            raise TypeError(f"an address is a string such as 'tcp://localhost:80', not {type(text).__name__}")
        known = _parsed.get(text)
        if known is None:
            known = cls._parse(text)
            if len(_parsed) >= _MOST_KEPT:
                _parsed.clear()
            _parsed[text] = known
        return known

    @classmethod
    def _parse(cls, text: str) -> Address:
        scheme, found, rest = text.partition("://")
        if not found:
            raise ValueError(f"{text!r} is no address: it has no '://', as in 'tcp://localhost:80' or 'unix:///path'")
        if scheme in UNIX:
            return cls(scheme, path=_path(rest, text))
        if scheme not in INTERNET:
            known = ", ".join([*INTERNET, *UNIX])
            raise ValueError(f"the scheme {scheme!r} of {text!r} is none of {known}")
        host, service = _split(rest, text)
        _check_service(service, text)
        return cls(scheme, host, service)

    @classmethod
    def of(cls, scheme: str, name: Any) -> Address | None:
        """The address that the socket module calls ``name``; ``None`` for a Unix socket without one."""
        if scheme in UNIX:
            return cls(scheme, path=os.fsdecode(name)) if name else None
        host = name[0].removeprefix("::ffff:") if "." in name[0] else name[0]  # gotcha:SO6: a dual-stack listener's
        if len(name) == 4 and name[3]:
            host = f"{host.partition('%')[0]}%{_interface_name(name[3])}"
        return cls(scheme, host, str(name[1]))

    def __str__(self) -> str:
        if self.scheme in UNIX:
            return f"{self.scheme}://{'@' + self.path[1:] if self.is_abstract else self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.service}"

    @property
    def is_unix(self) -> bool:
        """Whether it is a name on this machine."""
        return self.scheme in UNIX

    @property
    def is_abstract(self) -> bool:
        """Whether it is a Unix name that is no file (unix(7)); anybody here may connect to it (gotcha:SO8)."""
        return self.path.startswith("\0")

    @property
    def socket_type(self) -> int:
        """``SOCK_STREAM`` and so on."""
        return int(UNIX[self.scheme] if self.is_unix else INTERNET[self.scheme])

    @property
    def family(self) -> int | None:
        """The family where the host says it: ``None`` for a name, and for every interface."""
        if self.is_unix:
            return int(AF_UNIX)
        if ":" in self.host:
            return int(AF_INET6)
        return int(AF_INET) if is_ipv4(self.host) else None

    @property
    def port(self) -> int:
        """The port's number; ``ValueError`` for the name of a service that nobody knows (perlipc:N1).

        From the services file and not from NSS, which may ask the network and wait for it.
        """
        matched = _SERVICE.fullmatch(self.service)
        if matched is None:
            raise ValueError(f"{self} has no port")
        if _NUMBER.fullmatch(matched["name"]):
            return int(matched["name"])
        number = _service_number(matched["name"], self.scheme)
        if number is None and matched["number"]:
            number = int(matched["number"])
        if number is None:
            name = matched["name"]
            raise ValueError(
                f"the service {name!r} of {str(self)!r} is not in {_SERVICES}; {name}(NUMBER) says what to use then"
            )
        return number

    @property
    def unix_name(self) -> bytes:
        """What goes to bind(2) and connect(2)."""
        return os.fsencode(self.path)


def _interface_name(number: int) -> str:
    try:
        return if_indextoname(number)
    except OSError:  # it has gone meanwhile
        return str(number)


def is_ipv4(host: str) -> bool:
    """Whether it is four numbers with dots.

    >>> is_ipv4("127.0.0.1"), is_ipv4("127.1")
    (True, False)
    """
    return _is_number(AF_INET, host)


def _is_number(family: int, host: str) -> bool:
    try:
        inet_pton(family, host)
    except (OSError, ValueError):  # ValueError: it has a NUL, or a lone surrogate
        return False
    return True


def _path(rest: str, text: str) -> str:
    if rest in ("", "@"):
        raise ValueError(f"{text!r} has no name after '://'")
    try:
        size = len(os.fsencode(rest))
    except UnicodeEncodeError as error:
        raise ValueError(f"the name {rest!r} of {text!r} has {rest[error.start]!r}, which is no character") from None
    if rest.startswith("@"):
        size -= 1
        path = "\0" + rest[1:]
    else:
        path = rest
        if "\0" in path:
            raise ValueError(f"the path {path!r} of {text!r} has a NUL in it")
    if size > LONGEST_PATH:
        raise ValueError(f"the name {rest!r} of {text!r} is {size} bytes long; {LONGEST_PATH} fit (unix(7))")
    return path


def _split(rest: str, text: str) -> tuple[str, str]:
    if rest.startswith("["):
        host, found, after = rest[1:].partition("]")
        if not found:
            raise ValueError(f"the bracket before {rest[1:]!r} of {text!r} is not closed")
        _check_ipv6(host, text)
        if not after.startswith(":"):
            raise ValueError(f"{text!r} has {after!r} after its bracket, where ':' and the port belong")
        return host, after[1:]
    host, found, service = rest.rpartition(":")
    if not found:
        raise ValueError(f"{text!r} has no port after {rest!r}, as in ':80' or ':http'")
    if ":" in host:
        raise ValueError(f"the host {host!r} of {text!r} has colons: an IPv6 address belongs in brackets")
    if host:
        _check_host(host, text)
    return host, service


def _check_ipv6(host: str, text: str) -> None:
    number, found, scope = host.partition("%")
    if not _is_number(AF_INET6, number):
        raise ValueError(f"{number!r} in brackets in {text!r} is no IPv6 address")
    if found and not _SCOPE.fullmatch(scope):
        raise ValueError(f"the scope {scope!r} of {text!r} is neither an interface's name nor its number")


def _check_host(host: str, text: str) -> None:
    labels = host.removesuffix(".").split(".")
    for label in labels:
        if not _LABEL.fullmatch(label):
            raise ValueError(f"the part {label!r} of the host {host!r} of {text!r} cannot be in a name")
    # 127.1 and 0x7f000001 are numbers for some programs and names for others: nobody means them.
    if _NUMERIC_LABEL.fullmatch(labels[-1]):
        if not is_ipv4(host):
            raise ValueError(f"the host {host!r} of {text!r} is no IPv4 address: those are four numbers up to 255")
        return
    try:
        size = len(host.encode("idna"))
    except UnicodeError as error:
        raise ValueError(f"the host {host!r} of {text!r} cannot be written in ASCII (IDNA): {error}") from None
    if size > 253:
        raise ValueError(f"the host {host!r} of {text!r} is longer than the 253 bytes of a name")


def _check_service(service: str, text: str) -> None:
    matched = _SERVICE.fullmatch(service)
    if matched is None:
        raise ValueError(
            f"the port {service!r} of {text!r} is neither a number nor a service, as in 80, http, http(80)"
        )
    name, number = matched["name"], matched["number"]
    if name.isdecimal() and number is not None:
        raise ValueError(f"the port {service!r} of {text!r} has two numbers")
    digits = name if name.isdecimal() else number
    if digits is not None and not (_NUMBER.fullmatch(digits) and int(digits) <= 65535):
        raise ValueError(f"the port {digits!r} of {text!r} is not between 0 and 65535")


def _service_number(name: str, protocol: str) -> int | None:
    try:
        with open(_SERVICES, encoding="utf-8", errors="replace") as file:
            for line in file:
                words = line.partition("#")[0].split()
                if len(words) >= 2 and name in (words[0], *words[2:]):
                    number, _, of = words[1].partition("/")
                    if of == protocol and number.isdecimal():
                        return int(number)
    except OSError:
        pass  # the table below is for just that
    return _KNOWN.get(name)
