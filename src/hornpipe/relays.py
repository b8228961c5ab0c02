"""Two ends to each other: both directions at once, until both are done (gotcha:SO13).

The kernel moves the bytes through a pipe of ours (splice(2)) where both ends allow it, else they
are read and written. An end of file is passed on as one, and the other direction goes on.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import termios
from _socket import SHUT_WR
from _socket import socket as Calls
from typing import Literal, NamedTuple

from hornpipe import wait
from hornpipe.deadline import after, passed
from hornpipe.errors import ReaderGone
from hornpipe.fd import PIPE_SIZE, Descriptor, owned, pipe, widen
from hornpipe.handle import Handle
from hornpipe.locks import HasFileno

_READ = 64 * 1024
_PIECES = 8
"""Pieces that are spliced in one direction before the other has its turn."""
_SMALL = 4096
"""Bytes that a writable pipe takes without blocking (PIPE_BUF): for ends that stay in blocking mode."""
_TIOCGPTN = 0x80045430  # ioctl_tty(2): only the master side of a terminal has a number
_NONBLOCK = 2  # SPLICE_F_NONBLOCK; os has splice() but no names for its flags


End = int | HasFileno | tuple[int | HasFileno, int | HasFileno]
"""One end of a relay: what is both read and written, or a pair: what is read, what is written."""


class Relayed(NamedTuple):
    """How many bytes went each way."""

    forth: int
    """From the first end to the second."""
    back: int
    """From the second end to the first."""


def relay(one: End, other: End, *, until: Literal["both", "other"] = "both", timeout: float | None = None) -> Relayed:
    """Pass all that ``one`` sends to ``other`` and the other way round, until both have finished.

    An end is a connection, a socket, a terminal, a handle or a descriptor; or a pair of what is read
    and what is written, such as ``(0, 1)``. Whoever finishes is passed on as a half-close: a socket is
    shut down for writing, the written half of a pair is closed if it is an object; descriptors given
    as numbers stay open. The ends are the relay's for as long as it lasts: sockets and
    our sides of terminals are in non-blocking mode meanwhile.

    ``until="other"`` is over as soon as ``other`` has finished: its user sits at ``one``, and would have
    to end an input that nobody reads any more (perlipc:N11).

    ``TimeoutError`` when it is not over in ``timeout`` seconds. When somebody stops reading, the other
    direction is passed on to its end, and then ``BrokenPipeError`` says how much was taken; what still
    came meanwhile is thrown away.

    >>> import hornpipe as hp
    >>> (user, one), (other, server) = hp.socket_pair(), hp.socket_pair()
    >>> with user, one, other, server:
    ...     user.write("question"); user.shutdown()
    ...     server.write("answer"); server.shutdown()
    ...     relay(one, other, timeout=5), server.read(), user.read()
    8
    6
    (Relayed(forth=8, back=6), 'question', 'answer')
    """
    if until not in ("both", "other"):
        raise ValueError(f"until must be 'both' or 'other', not {until!r}")
    deadline = after(timeout)
    modes = _Modes()
    flows: list[_Flow] = []
    try:
        (source, sink), (back_source, back_sink) = _halves(one), _halves(other)
        for half in (source, sink, back_source, back_sink):
            if isinstance(half, Handle) and half.writable():
                with half._until(deadline):
                    half.flush()
        flows.append(_Flow(source, back_sink, modes, closes=isinstance(other, tuple)))
        flows.append(_Flow(back_source, sink, modes, closes=isinstance(one, tuple)))
        forth, back = flows
        while not (back.settled and (forth.settled or until == "other")):
            wanted: dict[int, int] = {}
            for flow in flows:
                flow.want(wanted)
            ready = {fd for fd, _ in wait.until(list(wanted.items()), deadline)}
            for flow in flows:
                flow.move(ready)
            if passed(deadline) and not (forth.settled and back.settled):
                raise TimeoutError(
                    f"the relay was not over within {timeout:g} s: {forth.moved} bytes went forth, {back.moved} back"
                )
        for flow in flows:
            if flow.error is not None:
                raise flow.error
        return Relayed(forth.moved, back.moved)
    finally:
        for flow in flows:
            flow.close()
        modes.restore()


def _halves(end: End) -> tuple[int | HasFileno, int | HasFileno]:
    if isinstance(end, tuple):
        return end
    return end, end


def _number(half: int | HasFileno) -> int:
    return half if isinstance(half, int) else half.fileno()


def _is_master(fd: int) -> bool:
    """Whether it is our side of a terminal that a program sits at."""
    try:
        fcntl.ioctl(fd, _TIOCGPTN, bytes(4))
    except OSError:
        return False
    return True


class _Modes:
    """Non-blocking mode for descriptors that are not ours, and back."""

    def __init__(self) -> None:
        self._changed: list[int] = []
        self._ours: dict[int, Descriptor] = {}

    def nonblocking(self, fd: int, flags: int) -> tuple[int, bool]:
        """A descriptor of the same thing that does not block, and whether that was possible."""
        if not os.get_blocking(fd):
            return fd, True
        kind = os.fstat(fd).st_mode
        if stat.S_ISREG(kind):
            return fd, True
        # Opened anew, the master of a terminal would be another terminal's.
        if stat.S_ISSOCK(kind) or _is_master(fd):
            os.set_blocking(fd, False)
            self._changed.append(fd)
            return fd, True
        # A pipe or a terminal may be shared with half the system, and so is its mode (gotcha:P5): an open file
        # of our own has a mode of its own.
        try:
            ours = owned(os.open, f"/proc/self/fd/{fd}", flags | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        except OSError:
            return fd, False
        self._ours[ours.fileno()] = ours
        return ours.fileno(), True

    def let_go(self, fd: int) -> None:
        """Close our own one of this, if it is one: a pipe ends when the last of its writers has gone."""
        if fd in self._ours:
            self._ours.pop(fd).close()

    def restore(self) -> None:
        for each in self._ours.values():
            each.close()
        for fd in self._changed:
            try:
                os.set_blocking(fd, True)
            except OSError:
                pass  # closed by the half-close


class _Flow:
    """One direction."""

    def __init__(self, source: int | HasFileno, sink: int | HasFileno, modes: _Modes, *, closes: bool) -> None:
        self.moved = 0
        self._over = False
        self._broken = False
        self.error: OSError | None = None
        self._sink_end = sink
        self._closes = closes
        self._modes = modes
        self._rest = memoryview(source.unread() if isinstance(source, Handle) else b"")
        self._source, source_waits_not = modes.nonblocking(_number(source), os.O_RDONLY)
        self._sink, self._sink_waits_not = modes.nonblocking(_number(sink), os.O_WRONLY)
        self._reader, self._writer = pipe()
        widen(self._writer.fileno())
        self._held = 0
        self._ended = False
        # At a terminal: in the middle of a line the first one sends the line off (gotcha:TTY6); where none was begun
        # nobody is left to type anything for whoever meets the second.
        self._ends_to_type = 2
        # Where a mode cannot be had, one small piece after each poll: never more than surely fits.
        self._splices = source_waits_not and self._sink_waits_not

    @property
    def settled(self) -> bool:
        """Whether nothing more can arrive in this direction."""
        return self._over or self._broken

    def _next(self) -> tuple[int, int]:
        """What has to be waited for: room for what there is to be passed on, or more of it."""
        return (self._sink, wait.WRITE) if self._rest or self._held or self._ended else (self._source, wait.READ)

    def want(self, wanted: dict[int, int]) -> None:
        """Add what has to be waited for."""
        if not self._over:
            fd, events = self._next()
            wanted[fd] = wanted.get(fd, 0) | events

    def move(self, ready: set[int]) -> None:
        """Move what can be moved now, a few pieces of it: the other direction has its turn."""
        if self._over or self._next()[0] not in ready:
            return
        try:
            for _ in range(_PIECES):
                if not (self._rest or self._held):
                    if self._ended:
                        break  # there was no room for its end
                    self._take()
                    if not self._sink_waits_not:
                        break
                self._give()
                # Without asking again who is ready, as long as nobody would have to wait.
                if self._ended or not self._splices:
                    break
        except BlockingIOError:
            pass
        self._finish()

    def _finish(self) -> None:
        if self._ended and not (self._rest or self._held):
            try:
                self._pass_on_the_end()
            except BlockingIOError:
                return  # there is no room for it yet
            self._over = True

    def _take(self) -> None:
        try:
            if self._splices:
                try:
                    self._held = os.splice(self._source, self._writer.fileno(), PIPE_SIZE, flags=_NONBLOCK)
                    self._ended = not self._held
                    return
                except OSError as error:
                    if error.errno != errno.EINVAL:
                        raise
                    self._splices = False
            data = os.read(self._source, _READ)
        except BlockingIOError:
            raise
        except OSError as error:
            if error.errno != errno.EIO:  # a terminal whose other side is closed: its end of file (gotcha:TTY1)
                self.error = error
            data = b""
        self._ended = not data
        if not self._broken:
            self._rest = memoryview(data)

    def _give(self) -> None:
        try:
            if self._held:
                try:
                    count = os.splice(self._reader.fileno(), self._sink, self._held, flags=_NONBLOCK)
                    self._held -= count
                    self.moved += count
                    return
                except OSError as error:
                    if error.errno != errno.EINVAL:
                        raise
                # An end that cannot be spliced to, such as a file that is appended to.
                self._splices = False
                self._rest = memoryview(os.read(self._reader.fileno(), self._held))
                self._held -= len(self._rest)
            if self._rest:
                count = os.write(self._sink, self._rest if self._sink_waits_not else self._rest[:_SMALL])
                self._rest = self._rest[count:]
                self.moved += count
        except BlockingIOError:
            raise
        except OSError as error:
            if error.errno in (errno.EPIPE, errno.ECONNRESET):
                error = ReaderGone(
                    f"an end of the relay reads no more; {self.moved} bytes had been taken", taken=self.moved
                )
            self.error = error
            # What is still to come goes nowhere, but is read while the other direction lasts: whoever writes it may
            # be the one that is to read there, and would wait for us.
            self._broken = True
            self._held = 0
            self._rest = memoryview(b"")
            self._splices = False

    def _pass_on_the_end(self) -> None:
        end = self._sink_end
        try:
            if stat.S_ISSOCK(os.fstat(self._sink).st_mode):
                if isinstance(end, Handle) and hasattr(end, "shutdown"):
                    end.shutdown()
                    return
                calls = Calls(fileno=self._sink)
                try:
                    calls.shutdown(SHUT_WR)
                finally:
                    calls.detach()
            elif _is_master(self._sink):
                settings = termios.tcgetattr(self._sink)
                while settings[3] & termios.ICANON and self._ends_to_type:
                    os.write(self._sink, settings[6][termios.VEOF])
                    self._ends_to_type -= 1
        except BlockingIOError:
            raise
        except (OSError, termios.error):
            pass  # it has gone altogether
        self._modes.let_go(self._sink)
        close = getattr(end, "close", None)
        if self._closes and close is not None and _number(end) > 2:
            close()

    def close(self) -> None:
        self._reader.close()
        self._writer.close()
