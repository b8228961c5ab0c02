"""Making the sockets that listen: one port in every family, Unix names, and what was passed to us (perlipc:N17)."""

from __future__ import annotations

import errno
from _socket import (
    AF_INET6,
    AF_UNIX,
    IPPROTO_IPV6,
    IPV6_V6ONLY,
    SO_ACCEPTCONN,
    SO_REUSEADDR,
    SO_TYPE,
    SOCK_STREAM,
    SOL_SOCKET,
)
from _socket import socket as Calls

from hornpipe import image, wait
from hornpipe.address import Address
from hornpipe.deadline import after
from hornpipe.resolve import Place, places
from hornpipe.sockets.descriptor import Socket
from hornpipe.sockets.holders import holders
from hornpipe.sockets.unix_names import BoundName, bind, is_socket
from hornpipe.supervision import passed_descriptors

_TRIES = 20
"""Free ports that are tried until one is free in every family."""
_NO_SUCH_FAMILY = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL}

_KEPT = "hornpipe: listener"
_passed: dict[int, str] = {}


class Made:
    """The sockets and names of a listener in the making."""

    def __init__(self, backlog: int, mode: int, reuse: bool) -> None:
        self._backlog = backlog
        self._mode = mode
        self._reuse = reuse
        self.sockets: list[tuple[Socket, Address]] = []
        self.names: list[BoundName] = []
        self._kept = 0
        self.passed = False
        """Whether some came from a service manager, who goes on listening at them."""

    def undo(self) -> None:
        """Leave nothing behind."""
        try:
            for name in self.names:
                name.remove()
        finally:
            for socket, _ in self.sockets:
                socket.close()

    def take_kept(self, wanted: Address) -> bool:
        """Take the sockets for this address that the image before this one has left, if it has (gotcha:H4)."""
        beginning = f"{_KEPT} {wanted} "
        found = [name for name in image.kept_descriptors() if name.startswith(beginning)]
        for name in found:
            fd = image.claim(name)
            assert fd is not None
            self._take(fd, name)
        if found and wanted.is_unix and not wanted.is_abstract and is_socket(wanted.path):
            self.names.append(BoundName(wanted.path))  # ours to remove, as it was the last image's
        return bool(found)

    def keep(self, wanted: Address) -> None:
        """Leave those that were made last to the image that comes after this one."""
        for number, (socket, _) in enumerate(self.sockets[self._kept :]):
            image.keep(f"{_KEPT} {wanted} {number}", socket)
        self._kept = len(self.sockets)

    def adopt(self, name: str) -> None:
        """Take the sockets of this name that were passed to us."""
        _passed.update(passed_descriptors())
        for fd in [fd for fd, each in _passed.items() if each == name]:
            del _passed[fd]
            self._take(fd, name)
            self.passed = True

    def _take(self, fd: int, name: str) -> None:
        try:
            socket = Socket(Calls(fileno=fd))
        except OSError as error:
            wait.close(fd)
            raise ValueError(f"what was passed as {name!r} is no socket: {error.strerror}") from None
        calls = socket.calls
        if calls.getsockopt(SOL_SOCKET, SO_TYPE) != SOCK_STREAM or not calls.getsockopt(SOL_SOCKET, SO_ACCEPTCONN):
            raise ValueError(f"the passed socket {name!r} is not one that listens for streams")
        scheme = "unix" if calls.family == AF_UNIX else "tcp"
        address = Address.of(scheme, calls.getsockname())
        assert address is not None
        self.sockets.append((socket, address))

    def make(self, address: Address) -> None:
        """Make one, or one for each of the host's addresses."""
        found = places(address, after(None), passive=True)
        if address.is_unix:
            self._add(found[0], address)
            return
        if not address.host:
            # One socket for both families, with one port (gotcha:SO6); IPv4 alone where there is no IPv6.
            self._first_that_can_be(found, address)
            return
        for _ in range(_TRIES):
            if self._make_all(found, address):
                return
        raise self._in_use(found[0], address)

    def _first_that_can_be(self, found: list[Place], address: Address) -> None:
        for place in found:
            try:
                self._add(place, address)
                return
            except OSError as error:
                if place == found[-1] or error.errno not in _NO_SUCH_FAMILY:
                    raise

    def _make_all(self, found: list[Place], address: Address) -> bool:
        """All with one port; false when the free port of the first was not free for another."""
        count = len(self.sockets)
        port = found[0].name[1]
        failure: OSError | None = None
        for place in dict.fromkeys(found):
            try:
                self._add(Place(place.family, (place.name[0], port, *place.name[2:])), address)
            except OSError as error:
                if error.errno in _NO_SUCH_FAMILY:
                    failure = error
                    continue
                if found[0].name[1] == 0 and port and error.errno == errno.EADDRINUSE:
                    for socket, _ in self.sockets[count:]:
                        socket.close()
                    del self.sockets[count:]
                    return False
                raise
            port = self.sockets[-1][0].calls.getsockname()[1]
        if len(self.sockets) == count and failure is not None:
            raise failure
        return True

    def _add(self, place: Place, address: Address) -> None:
        socket = Socket(Calls(place.family, SOCK_STREAM, 0))
        try:
            self._bind(socket, place, address)
        except OSError as error:
            socket.close()
            if error.errno == errno.EADDRINUSE:
                raise self._in_use(place, address) from None
            if isinstance(error, FileExistsError | TimeoutError):
                raise
            raise OSError(error.errno, f"cannot listen at {address}: {error.strerror}") from None
        except BaseException:
            socket.close()
            raise

    def _bind(self, socket: Socket, place: Place, address: Address) -> None:
        calls = socket.calls

        def listen() -> None:
            calls.listen(self._backlog)

        if place.family == AF_UNIX:
            name = bind(socket, address, self._mode, listen)
            if name is not None:
                self.names.append(name)
            self.sockets.append((socket, address))
            return
        if self._reuse:
            # For the generation after this one: it needs the option on both (gotcha:SO1).
            calls.setsockopt(SOL_SOCKET, SO_REUSEADDR, 1)
        if place.family == AF_INET6:
            calls.setsockopt(IPPROTO_IPV6, IPV6_V6ONLY, int(bool(address.host)))
        calls.bind(place.name)
        listen()
        bound = calls.getsockname()
        where = Address.of(address.scheme, bound)
        assert where is not None
        self.sockets.append((socket, where if address.host else Address("tcp", "", str(bound[1]))))

    def _in_use(self, place: Place, address: Address) -> OSError:
        return OSError(errno.EADDRINUSE, f"{address} is in use{holders(place)}")
