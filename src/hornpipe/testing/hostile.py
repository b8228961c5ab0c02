"""Ill-behaved clients and servers, on loopback or on a Unix socket, for tests of the other side.

Each is a context manager. A server yields a :class:`Peer` whose ``address`` goes to ``connect`` (and whose ``url`` to
hornpipe); a client takes such an address. All are bounded in time and bytes, and leaving the block ends them, whatever
they were waiting for, and leaves neither thread nor descriptor.

    with hostile.silent_server() as peer, pytest.raises(TimeoutError):
        hp.connect(peer.url).readline(timeout=0.1)
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

Address = tuple[str, int] | str

_SECONDS = 30.0
_MOST = 64 * 1024 * 1024
_CHUNK = b"x" * 65536
# With lingering on and no time for it, close() sends RST instead of FIN (socket(7), SO_LINGER).
_RESET = struct.pack("ii", 1, 0)


class Peer:
    """The hostile side: its address, what it has received and sent, and the moment it shall stop."""

    def __init__(self, address: Address, seconds: float) -> None:
        self.address = address
        self.seconds = seconds
        self.received = bytearray()
        self.sent = 0
        self.stopping = threading.Event()
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []

    @property
    def url(self) -> str:
        """The address in hornpipe's notation."""
        if isinstance(self.address, str):
            return f"unix://{self.address}"
        return "tcp://{}:{}".format(*self.address)

    def send(self, connection: socket.socket, data: bytes) -> None:
        """Send all of *data*, keeping count of what went."""
        view = memoryview(data)
        while view:
            taken = connection.send(view)
            self.sent += taken
            view = view[taken:]

    def read_to_end(self, connection: socket.socket, most: int = _MOST) -> None:
        """Read until the other side has finished, keeping what came."""
        while len(self.received) < most and (data := connection.recv(65536)):
            self.received += data

    def run(self, task: Callable[[socket.socket], None], on: socket.socket) -> None:
        """Run *task* in a thread; :meth:`stop` ends it by shutting the socket down. The socket is closed after it."""
        on.settimeout(self.seconds)
        thread = threading.Thread(target=self._run, args=(task, on), name="hostile peer", daemon=True)
        with self._lock:
            # 1. accept() returns.  2. stop() shuts down all it knows.  3. The new connection is added: too late.
            # So stop() sets the event under this lock, and after that nothing is added.
            if self.stopping.is_set():
                on.close()
                return
            self._sockets.add(on)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """End every thread and close every socket."""
        with self._lock:
            self.stopping.set()
            for each in self._sockets:
                # Closing would not wake a thread that is blocked on it; shutting down does, on Linux even for
                # a listener. ENOTCONN: the other side was quicker.
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(self.seconds)

    def _run(self, task: Callable[[socket.socket], None], on: socket.socket) -> None:
        # The other side may leave at any moment; that is what such tests are about, and no error of the peer's.
        with contextlib.suppress(OSError):
            task(on)
        with self._lock:
            self._sockets.discard(on)
            on.close()


Behaviour = Callable[[Peer, socket.socket], None]


@contextlib.contextmanager
def serving(behaviour: Behaviour, unix: Path | None = None, seconds: float = _SECONDS) -> Iterator[Peer]:
    """Serve each connection with *behaviour* in its own thread: the base of the servers below, and of your own.

    The socket is at *unix*, or on a free port of 127.0.0.1.

        >>> with serving(lambda peer, connection: peer.send(connection, b"hi")) as peer:
        ...     with socket.create_connection(peer.address) as client:
        ...         client.recv(2)
        b'hi'
    """
    listener = _listener(unix, backlog=16)
    peer = Peer(listener.getsockname(), seconds)

    def accept(listener: socket.socket) -> None:
        # After a shutdown TCP's accept() fails, but a Unix listener's says "try again" for ever, which Python obeys
        # until its own timeout. The poll returns in both cases, and then only the event is believed.
        listener.setblocking(False)
        ready = select.poll()
        ready.register(listener, select.POLLIN)
        while ready.poll(seconds * 1000) and not peer.stopping.is_set():
            with contextlib.suppress(BlockingIOError):
                connection, _ = listener.accept()
                peer.run(lambda each: behaviour(peer, each), connection)

    peer.run(accept, listener)
    try:
        yield peer
    finally:
        peer.stop()
        _forget(unix)


def silent_server(unix: Path | None = None) -> contextlib.AbstractContextManager[Peer]:
    """Reads all it is sent and never says a word.

    >>> with silent_server() as peer:
    ...     peer.url.startswith("tcp://127.0.0.1:")
    True
    """
    return serving(Peer.read_to_end, unix)


def deaf_server(unix: Path | None = None) -> contextlib.AbstractContextManager[Peer]:
    """Accepts and never reads, so that the client's sends come to a stop.

    >>> with deaf_server() as peer:
    ...     socket.create_connection(peer.address).close()
    """
    return serving(lambda peer, connection: _hold(peer), unix)


def flooding_server(unix: Path | None = None, most: int = _MOST) -> contextlib.AbstractContextManager[Peer]:
    """Sends a line that does not end (but after *most* bytes, by closing).

    >>> with flooding_server(most=3) as peer, socket.create_connection(peer.address) as client:
    ...     client.recv(10)
    b'xxx'
    """
    return serving(lambda peer, connection: _flood(peer, connection, most), unix)


def resetting_server(after: bytes = b"") -> contextlib.AbstractContextManager[Peer]:
    """Sends *after* as soon as the client has sent something, then resets the connection. TCP only.

    A reset takes with it what the kernel has not sent yet, so of a long *after* the end may be missing. What has
    arrived can still be read on Linux; elsewhere it may be lost as well.

        >>> with resetting_server() as peer, socket.create_connection(peer.address) as client:
        ...     client.sendall(b"hello")
        ...     try:
        ...         client.recv(10)
        ...     except ConnectionResetError:
        ...         print("reset")
        reset
    """

    def behaviour(peer: Peer, connection: socket.socket) -> None:
        peer.received += connection.recv(65536)
        peer.send(connection, after)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)

    return serving(behaviour)


def dripping_server(
    data: bytes, interval: float = 0.01, unix: Path | None = None
) -> contextlib.AbstractContextManager[Peer]:
    """Sends *data* one byte each *interval* seconds, each in its own packet.

    >>> with dripping_server(b"ab", interval=0) as peer, socket.create_connection(peer.address) as client:
    ...     client.recv(1)
    b'a'
    """
    return serving(lambda peer, connection: _drip(peer, connection, data, interval), unix)


def half_closing_server(data: bytes = b"", unix: Path | None = None) -> contextlib.AbstractContextManager[Peer]:
    """Sends *data* and its end of file at once, and goes on reading until the client has finished too.

    >>> with half_closing_server(b"bye") as peer, socket.create_connection(peer.address) as client:
    ...     client.recv(10), client.recv(10)
    (b'bye', b'')
    """

    def behaviour(peer: Peer, connection: socket.socket) -> None:
        peer.send(connection, data)
        connection.shutdown(socket.SHUT_WR)
        peer.read_to_end(connection)

    return serving(behaviour, unix)


@contextlib.contextmanager
def never_accepting(unix: Path | None = None) -> Iterator[Peer]:
    """Listens with a queue that is full, and never accepts: TCP's connect waits, a Unix socket's says EAGAIN.

    >>> with never_accepting() as peer:
    ...     try:
    ...         socket.create_connection(peer.address, timeout=0.05)
    ...     except TimeoutError:
    ...         print("waited in vain")
    waited in vain
    """
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(_listener(unix, backlog=0))
        stack.callback(_forget, unix)
        address = listener.getsockname()
        for _ in range(16):
            client = stack.enter_context(socket.socket(listener.family))
            # On loopback the handshake is over in microseconds if there is room; what takes this long gets none, or
            # the machine is busy.
            client.settimeout(0.1)
            try:
                client.connect(address)
            except TimeoutError:
                pass
            except BlockingIOError:
                break
            if _has_no_room(listener):
                break
        yield Peer(address, 0)


@contextlib.contextmanager
def visiting(behaviour: Behaviour, address: Address, seconds: float = _SECONDS) -> Iterator[Peer]:
    """Connect to *address* and run *behaviour* in a thread: the base of the clients below, and of your own.

    >>> with silent_server() as server, visiting(Peer.read_to_end, server.address) as client:
    ...     client.sent
    0
    """
    connection = _connected(address, seconds)
    client = Peer(address, seconds)
    client.run(lambda each: behaviour(client, each), connection)
    try:
        yield client
    finally:
        client.stop()


def slow_client(address: Address, data: bytes, interval: float = 0.05) -> contextlib.AbstractContextManager[Peer]:
    """Sends *data* one byte each *interval* seconds, then reads to the end.

    >>> with silent_server() as server, slow_client(server.address, b"GET", interval=0.01) as client:
    ...     client.url == server.url
    True
    """

    def behaviour(client: Peer, connection: socket.socket) -> None:
        _drip(client, connection, data, interval)
        client.read_to_end(connection)

    return visiting(behaviour, address)


def flooding_client(address: Address, most: int = _MOST) -> contextlib.AbstractContextManager[Peer]:
    """Sends a line that does not end, until the server has enough of it (or *most* is reached), and never reads.

    >>> with silent_server() as server, flooding_client(server.address, most=100) as client:
    ...     client.url == server.url
    True
    """
    return visiting(lambda client, connection: _flood(client, connection, most), address)


def deaf_client(address: Address, data: bytes = b"") -> contextlib.AbstractContextManager[Peer]:
    """Sends *data* and never reads an answer, so that the server's sends come to a stop.

    >>> with silent_server() as server, deaf_client(server.address, b"LIST") as client:
    ...     client.url == server.url
    True
    """

    def behaviour(client: Peer, connection: socket.socket) -> None:
        client.send(connection, data)
        _hold(client)

    return visiting(behaviour, address)


def impatient_client(address: Address, data: bytes = b"") -> None:
    """Connects, sends *data* and resets the connection, all before the server can have looked.

    This one has nothing to hold open, so it is a plain function.

        >>> with silent_server() as server:
        ...     impatient_client(server.address, b"GET")
    """
    with _connected(address, _SECONDS) as connection:
        connection.sendall(data)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)


def _listener(unix: Path | None, backlog: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET if unix is None else socket.AF_UNIX)
    try:
        listener.bind(("127.0.0.1", 0) if unix is None else str(unix))
        listener.listen(backlog)
    except BaseException:
        listener.close()
        raise
    return listener


def _has_no_room(listener: socket.socket) -> bool:
    """Whether the queue of a TCP listener is full: Linux tells of it where a connection has its counts of segments."""
    if listener.family == socket.AF_UNIX:
        return False
    waiting, room = struct.unpack_from("II", listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 32), 24)
    return bool(waiting > room)


def _connected(address: Address, seconds: float) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET)
    try:
        connection.settimeout(seconds)
        connection.connect(address)
    except BaseException:
        connection.close()
        raise
    return connection


def _hold(peer: Peer) -> None:
    peer.stopping.wait(peer.seconds)


def _flood(peer: Peer, connection: socket.socket, most: int) -> None:
    while peer.sent < most:
        peer.send(connection, _CHUNK[: most - peer.sent])


def _drip(peer: Peer, connection: socket.socket, data: bytes, interval: float) -> None:
    if not isinstance(peer.address, str):
        # Without this the kernel collects small packets while the first is not acknowledged.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for byte in data:
        peer.send(connection, bytes([byte]))
        if peer.stopping.wait(interval):
            return


def _forget(unix: Path | None) -> None:
    if unix is not None:
        unix.unlink(missing_ok=True)
